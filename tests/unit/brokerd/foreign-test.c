/* SPDX-License-Identifier: MIT */
/*
 * Groups that another program has through VFIO: a claim finds that before anything is changed, goes
 * on to another device where it may, or waits. A worker's look at a group is the test's. Without a
 * state directory each claim that gets further fails when its lease is to be recorded. Also nodes
 * that others than root may open.
 */
#include "config.h"

#include "brokerd/claim/foreign.h"
#include "brokerd/lease/ending.h"
#include "client/library/refusal.h"
#include "tests/unit/brokerd/real-worker.h"
#include "tests/unit/brokerd/skip-clock.h"
#include "tests/unit/brokerd/world.h"
#include "tests/tap.h"

#define TAKEN 1 /* the bus of the function that another program has */
#define FREE 2	/* one that nobody has */
#define HOSTS 3 /* one that has its host driver */

static struct policy_rule rule;
static int taken_says = -EBUSY; /* the result of a look at its group */

int __wrap_kernel_group_probe_in(int directory, uint32_t group);
int __wrap_kernel_group_probe_in(int directory, uint32_t group)
{
	(void)directory;
	return group == 10 + TAKEN ? taken_says : 0;
}

static void make_function(unsigned bus, const char *driver)
{
	char address[24], path[160], text[48];

	snprintf(address, sizeof(address), "0000:%02x:00.0", bus);
	add_function(address, "0x030000\n", 10 + (int)bus);
	snprintf(path, sizeof(path), "%s/sys/bus/pci/devices/%s/driver", scratch_path, address);
	snprintf(text, sizeof(text), "../../drivers/%s", driver);
	need(!symlink(text, path));
	add_device((uint8_t)bus, 0, 0x030000, 10 + bus);
	strcpy(broker.devices.list[broker.devices.n - 1].record.driver, driver);
}

static void set_enabled(unsigned bus, const char *text)
{
	char path[96];

	snprintf(path, sizeof(path), "sys/bus/pci/devices/0000:%02x:00.0/enable", bus);
	scratch_write(path, text);
}

static unsigned n_shown; /* claims that a watcher or a listing was shown as waiting */
static unsigned n_seen;	 /* looks at the queue with a claim in it */

static void on_shown(void *userdata, const struct waiting *waiting)
{
	(void)userdata;
	(void)waiting;
	n_shown++;
}

static const struct queue_events shows = { .waits = on_shown, .left = on_shown };

static void look_at_queue(void)
{
	const struct queue *queue = &broker.claims.queue;

	n_seen += !TAILQ_EMPTY(&queue->list);
	n_shown += queue_find_from(queue, 0) != NULL;
}

/*
 * Lets the core run, and sets its clock forward. While a worker is at work, whose time is limited,
 * it waits instead. Returns the milliseconds that are over for the core's timers.
 */
static unsigned let_pass(void)
{
	for (int i = 0; i < TURNS; i++) {
		turn(1);
		look_at_queue();
	}
	if (broker.workers.busy) {
		poll(NULL, 0, 1);
		return 0;
	}
	skip_ms(10);
	return 10;
}

/*
 * Lets the core run for two minutes of the machine's time at most. A worker that only looks is not
 * counted as busy, and has to get its turn of a busy machine all the same.
 */
static bool wait_until(bool (*is)(void *userdata), void *userdata)
{
	const time_t end = time(NULL) + 120;

	while (!is(userdata)) {
		if (time(NULL) > end)
			return false;
		let_pass();
		poll(NULL, 0, 1);
	}
	return true;
}

struct hearing {
	int fd;
	union answer *answer;
};

static bool has_heard(void *userdata)
{
	const struct hearing *hearing = userdata;

	return hear(hearing->fd, hearing->answer) > 0 && hearing->answer->type != MESSAGE_STEP;
}

static bool hears_soon(int fd, union answer *answer)
{
	return wait_until(has_heard, &(struct hearing){ fd, answer });
}

/* The answer to a claim of one selector. */
static struct message_refusal refusal_to(enum selector_kind kind, unsigned bus, uint32_t flags)
{
	struct message_claim claim = claim_by(kind);
	int fd = dial_in(0);
	union answer answer = { 0 };

	claim.flags = flags;
	claim.selectors[0].address.bus = (uint8_t)bus;
	say(fd, &claim, sizeof(claim));
	need(hears_soon(fd, &answer));
	hang_up(fd);
	return answer.type == MESSAGE_REFUSAL ? answer.refusal : (struct message_refusal){ 0 };
}

static bool is_foreign(const struct message_refusal *r, unsigned bus)
{
	return r->reason == GPUBROKER_REFUSED_BUSY && r->detail == REFUSAL_FOREIGN &&
	       r->has_address && r->address.bus == bus;
}

/* Nothing else could be done to it: there is no state directory. */
static bool got_on(const struct message_refusal *r, unsigned bus)
{
	return r->reason == GPUBROKER_REFUSED_FAILED && r->address.bus == bus &&
	       strstr(r->text, "recording");
}

static enum gpubroker_status status_of(unsigned bus)
{
	int fd = dial_in(0);
	enum gpubroker_status status = 0;
	union answer answer;

	say_plain(fd, MESSAGE_LIST);
	while (hears_soon(fd, &answer) && answer.type == MESSAGE_DEVICE)
		if (answer.device.address.bus == bus)
			status = (enum gpubroker_status)answer.device.status;
	hang_up(fd);
	return status;
}

static void forget(void)
{
	foreign_done(&broker.claims);
}

static void test_claims(void)
{
	struct message_refusal r = refusal_to(SELECT_ADDRESS, TAKEN, 0);
	char text[512];

	refusal_format(&r, NULL, text, sizeof(text));
	tap_ok(is_foreign(&r, TAKEN) && strstr(text, "in use by somebody else") &&
		       strstr(text, "--wait"),
	       "what another program has is busy: %s", text);
	tap_ok(!broker.leases.table.n && TAILQ_EMPTY(&broker.claims.queue.list),
	       "... and nothing is left of the claim");
	tap_ok(status_of(TAKEN) == GPUBROKER_IN_USE && status_of(FREE) == GPUBROKER_VFIO_READY,
	       "... and listed so");
	forget();
	n_shown = n_seen = 0;
	broker.claims.queue.events = &shows;
	r = refusal_to(SELECT_ANY, 0, 0);
	tap_ok(got_on(&r, FREE), "any goes on to the next");
	/* On a busy machine no look may have come while it waited. */
	if (!n_seen)
		printf("# the claim was not seen in the queue\n");
	tap_ok(!n_shown, "... and no listing or event shows it as a claim that waits");
	broker.claims.queue.events = NULL;
	forget();
	taken_says = KERNEL_ATTACHED;
	r = refusal_to(SELECT_ADDRESS, TAKEN, 0);
	tap_ok(is_foreign(&r, TAKEN), "so is one with a device in use by an iommufd");
	taken_says = -EIO;
	forget();
	r = refusal_to(SELECT_ADDRESS, TAKEN, 0);
	tap_ok(r.reason == GPUBROKER_REFUSED_FAILED && r.error == EIO,
	       "another error is told as it is");
	taken_says = 0;
	r = refusal_to(SELECT_ADDRESS, TAKEN, 0);
	tap_ok(got_on(&r, TAKEN), "what nobody has any more is lent");
	r = refusal_to(SELECT_ADDRESS, HOSTS, 0);
	tap_ok(got_on(&r, HOSTS), "what has a host driver is not looked at");
	taken_says = -EBUSY;
}

static void test_hint(void)
{
	struct message_refusal r;

	forget();
	set_enabled(TAKEN, "0\n");
	tap_ok(status_of(TAKEN) == GPUBROKER_VFIO_READY,
	       "what the kernel has not enabled is ready");
	r = refusal_to(SELECT_ADDRESS, TAKEN, CLAIM_ASK);
	tap_ok(!r.reason, "... by a question, too");
	set_enabled(TAKEN, "1\n");
	tap_ok(status_of(TAKEN) == GPUBROKER_IN_USE,
	       "what it has enabled is in use, before any claim");
	r = refusal_to(SELECT_ADDRESS, TAKEN, CLAIM_ASK);
	tap_ok(!r.reason, "... but not busy by a question: a driver may have left it so");
	taken_says = 0;
	r = refusal_to(SELECT_ADDRESS, TAKEN, 0);
	tap_ok(got_on(&r, TAKEN), "a claim asks the kernel, and not the hint");
	taken_says = -EBUSY;
	set_enabled(TAKEN, "0\n");
}

static bool remembers_nothing(void *unused)
{
	(void)unused;
	return TAILQ_EMPTY(&broker.claims.foreign);
}

static void test_waiting(void)
{
	struct message_claim claim = claim_by(SELECT_ADDRESS);
	int fd = dial_in(0);
	union answer answer;

	forget();
	claim.flags = CLAIM_WAIT;
	claim.selectors[0].address.bus = TAKEN;
	say(fd, &claim, sizeof(claim));
	tap_ok(hears_soon(fd, &answer) && answer.type == MESSAGE_QUEUED && answer.queued.place == 1,
	       "who waits for it is queued");
	for (unsigned ms = 0; ms < 4000;)
		ms += let_pass();
	tap_ok(hear(fd, &answer) == -1 && !broker.leases.table.n,
	       "... and stays so, without a lease, while the program has it");
	taken_says = 0;
	tap_ok(hears_soon(fd, &answer) && answer.type == MESSAGE_REFUSAL &&
		       got_on(&answer.refusal, TAKEN),
	       "... until it lets go");
	hang_up(fd);
	taken_says = -EBUSY;
	tap_ok(wait_until(remembers_nothing, NULL),
	       "nothing is remembered, and nothing is looked at, when nobody waits");
}

static void test_interrupts(void)
{
	static const char type1[] = "sys/module/vfio_iommu_type1/parameters/"
				    "allow_unsafe_interrupts",
			  iommufd[] = "sys/module/iommufd/parameters/allow_unsafe_interrupts";

	broker.kernel.no_remapping = true;
	scratch_write(type1, "N\n");
	scratch_write(iommufd, "N\n");
	tap_ok(status_of(FREE) == GPUBROKER_NOT_VIABLE,
	       "nothing can be lent on a host that does not remap interrupts");
	scratch_write(iommufd, "Y\n");
	tap_ok(status_of(FREE) == GPUBROKER_NOT_VIABLE,
	       "... and iommufd's parameter is nothing to one without devices' own nodes");
	broker.kernel.cdevs = true;
	tap_ok(status_of(FREE) == GPUBROKER_VFIO_READY,
	       "... but with those it is one of the ways that a claim can take");
	scratch_write(iommufd, "N\n");
	tap_ok(status_of(FREE) == GPUBROKER_NOT_VIABLE, "... if root has set it");
	scratch_write(type1, "Y\n");
	tap_ok(status_of(FREE) == GPUBROKER_VFIO_READY, "VFIO's own parameter is the other way");
	broker.kernel.no_remapping = broker.kernel.cdevs = false;
}

/* A node of /dev/vfio that a rule of udev's gives away. */
static void test_nodes(void)
{
	struct message_refusal r;
	char path[128], text[512];

	forget();
	taken_says = 0;
	scratch_write("dev/vfio/11", "");
	snprintf(path, sizeof(path), "%s/dev/vfio/11", scratch_path);
	need(!chmod(path, 0660));
	r = refusal_to(SELECT_ADDRESS, TAKEN, 0);
	refusal_format(&r, NULL, text, sizeof(text));
	tap_ok(r.reason == GPUBROKER_REFUSED_NODE && strstr(text, "/dev/vfio/11") &&
		       strstr(text, "0660") && strstr(text, "udev"),
	       "a node that a group may open: %s", text);
	need(!chmod(path, 0604));
	r = refusal_to(SELECT_ADDRESS, TAKEN, 0);
	tap_ok(r.reason == GPUBROKER_REFUSED_NODE, "... or everybody");
	need(!chmod(path, 0600));
	if (geteuid()) {
		r = refusal_to(SELECT_ADDRESS, TAKEN, 0);
		tap_ok(r.reason == GPUBROKER_REFUSED_NODE, "one that is not root's");
	} else {
		need(!chown(path, 1234, 0));
		r = refusal_to(SELECT_ADDRESS, TAKEN, 0);
		tap_ok(r.reason == GPUBROKER_REFUSED_NODE && r.holder_uid == 1234,
		       "one that is not root's");
		need(!chown(path, 0, 0));
		r = refusal_to(SELECT_ADDRESS, TAKEN, 0);
		tap_ok(got_on(&r, TAKEN), "one that only root may open is lent");
	}
	taken_says = -EBUSY;
	need(!unlink(path));
}

int main(void)
{
	char path[128];

	broker_make_with_workers(&rule);
	make_function(TAKEN, "vfio-pci");
	make_function(FREE, "vfio-pci");
	make_function(HOSTS, "bochs-drm");
	scratch_write("dev/vfio/vfio", "");
	snprintf(path, sizeof(path), "%s/dev", scratch_path);
	broker.kernel.dev = open(path, O_PATH | O_DIRECTORY | O_CLOEXEC);
	need(broker.kernel.dev >= 0);
	fds_at_start = open_descriptors();
	test_claims();
	test_hint();
	test_interrupts();
	test_waiting();
	test_nodes();
	tap_ok(quiet(), "no descriptor is left, and no claim");
	broker_drop();
	return tap_done();
}
