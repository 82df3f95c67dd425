/* SPDX-License-Identifier: MIT */
/*
 * Leases of mediated devices and vGPUs, beside a kernel of files. It does the steps of
 * brokerd/lease/mdev.c and brokerd/lease/vgpu.c here, in their order, so that the daemon can die,
 * or a step fail, at any of them. tests/vm/cases/35-mdev.t and 36-vendor.t run the same on a real
 * kernel.
 */
#include "config.h"

#include "brokerd/claim/claim.h"
#include "brokerd/lease/ending.h"
#include "brokerd/lease/recover.h"
#include "brokerd/lease/mdev.h"
#include "brokerd/record/lease-record.h"
#include "brokerd/process/worker.h"
#include "tests/unit/brokerd/fake-worker.h"
#include "tests/unit/brokerd/last-log.h"
#include "tests/unit/brokerd/mdev-kernel.h"
#include "tests/unit/brokerd/skip-clock.h"
#include "tests/unit/brokerd/world.h"
#include "tests/unit/policy/parse.h"
#include "tests/tap.h"

#include <poll.h>

#define SOMEBODY 5000 /* another user than the one who runs the test */

/* ---- in place of the kernel ---- */

int __wrap_kernel_group_open(const struct kernel *kernel, uint32_t group);
int __wrap_kernel_group_open(const struct kernel *kernel, uint32_t group)
{
	int error = sim_open(group);

	(void)kernel;
	if (error)
		return -error;
	return open("/dev/null", O_RDWR | O_CLOEXEC);
}

static uint64_t memlock_raised;

int __wrap_kernel_memlock_raise(const struct kernel *kernel, int pidfd, int pid, uint64_t bytes);
int __wrap_kernel_memlock_raise(const struct kernel *kernel, int pidfd, int pid, uint64_t bytes)
{
	(void)kernel;
	(void)pidfd;
	(void)pid;
	memlock_raised = bytes;
	return 0;
}

static bool open_to_others; /* others than root may open the nodes of groups */

bool __wrap_kernel_node_is_open(int fd, struct kernel_node *ret_node);
bool __wrap_kernel_node_is_open(int fd, struct kernel_node *ret_node)
{
	(void)fd;
	*ret_node = (struct kernel_node){ .uid = 1234, .mode = 0640 };
	return open_to_others;
}

int __wrap_kernel_group_viable(int fd);
int __wrap_kernel_group_viable(int fd)
{
	(void)fd;
	return 0;
}

int __wrap_kernel_group_watch(const struct kernel *kernel, uint32_t group);
int __wrap_kernel_group_watch(const struct kernel *kernel, uint32_t group)
{
	(void)kernel;
	return by_group(group) < 0 && vf_of_group(group) < 0 ? -ENOENT : (int)group + 1000;
}

void __wrap_kernel_group_unwatch(const struct kernel *kernel, int watch);
void __wrap_kernel_group_unwatch(const struct kernel *kernel, int watch)
{
	(void)kernel;
	(void)watch;
}

/* ---- its workers ---- */

/* Runs until no worker is at work, or the daemon dies. */
static void work_on(void)
{
	fake_run_all();
	turn(TURNS);
}

/* ---- the daemon ---- */

static struct parsed parsed;
static struct event *wake; /* the queue's event, deleted from its loop: see try_queue() */

static void allow(const char *text)
{
	broker.policy.policy = (struct policy){ 0 };
	if (parsed.policy.rules)
		parse_done(&parsed);
	parse_right(text, &parsed);
	broker.policy.policy = parsed.policy;
	broker.policy.good = true;
}

static bool no_records(void)
{
	char path[200];

	path_of(path, "state");
	return !count_entries(path);
}

/*
 * Returns true if everything is as before the test: nothing of ours, and the mdev of somebody else.
 */
static bool as_before(void)
{
	bool right = no_records() && !broker.leases.table.n && sim.left == 3 && find(OTHER) >= 0 &&
		     units_left() == 2 && TAILQ_EMPTY(&broker.claims.list) && !fake_first() &&
		     !broker.workers.busy && !sim.unrecorded;

	if (!right)
		printf("# %s, %zu leases, %u and %u left, the other is %s%s%s\n",
		       no_records() ? "no records" : "records", broker.leases.table.n, sim.left,
		       units_left(), find(OTHER) >= 0 ? "there" : "gone",
		       fake_first() ? ", a worker" : "",
		       sim.unrecorded ? ", one was made unrecorded" : "");
	return right;
}

/* Sends a claim. Its workers wait for fake_run(fake_first()). */
static void send_claim(int fd, enum selector_kind kind, const char *device, const char *profile,
		       const char *second)
{
	struct message_claim claim = claim_by(kind);

	if (kind == SELECT_ADDRESS)
		need(!pci_address_parse(device, &claim.selectors[0].address));
	else
		strcpy(claim.selectors[0].name, device);
	strcpy(claim.selectors[0].profile, profile);
	if (second) {
		claim.selectors[claim.n_selectors] = claim.selectors[0];
		strcpy(claim.selectors[claim.n_selectors++].profile, second);
	}
	fake.n_steps = 0;
	need(say(fd, &claim, sizeof(claim)));
	turn(TURNS);
}

static void ask_two(int fd, enum selector_kind kind, const char *device, const char *profile,
		    const char *second)
{
	send_claim(fd, kind, device, profile, second);
	work_on();
}

static void ask(int fd, enum selector_kind kind, const char *device, const char *profile)
{
	ask_two(fd, kind, device, profile, NULL);
}

/* The answer after all steps. It has room for every message; hear_answer() closes descriptors. */
static union {
	uint32_t type;
	struct message_refusal refusal;
	struct message_grant grant;
	struct message_plain end;
	struct message_queued queued;
	char all[PROTOCOL_MESSAGE_MAX];
} answer;

static bool hear_answer(int fd)
{
	int fds[PROTOCOL_SELECTORS_MAX];
	size_t n_fds = 0;
	ssize_t n;

	do {
		memset(&answer, 0, sizeof(answer));
		n = passfd_receive(fd, &answer, sizeof(answer), fds, ARRAY_SIZE(fds), &n_fds);
	} while (n > 0 && answer.type == MESSAGE_STEP);
	for (size_t i = 0; i < n_fds; i++)
		close(fds[i]);
	return n > 0;
}

/* Reads the answer after all messages of the queue. */
static bool hear_end(int fd)
{
	bool heard;

	while ((heard = hear_answer(fd)) && answer.type == MESSAGE_QUEUED)
		;
	return heard;
}

static bool refused(int fd, uint32_t reason)
{
	bool right = hear_end(fd) && answer.type == MESSAGE_REFUSAL &&
		     answer.refusal.reason == reason;

	if (!right)
		printf("# answer %u, reason %u\n", answer.type, answer.refusal.reason);
	return right;
}

/* Returns true if the claim was granted, and then holds what it got. */
static bool granted(int fd, uint32_t n)
{
	if (!hear_end(fd) || answer.type != MESSAGE_GRANT || answer.grant.n_groups != n) {
		printf("# answer %u, reason %u, %s\n", answer.type, answer.refusal.reason,
		       answer.refusal.text);
		return false;
	}
	for (uint32_t i = 0; i < n; i++) {
		int mdev = find(answer.grant.groups[i].uuid);
		int vf = vf_of_group(answer.grant.groups[i].group);

		if (vf >= 0 && !answer.grant.groups[i].uuid[0] &&
		    answer.grant.groups[i].address.function == vf + 1) {
			sim.vfs[vf].held = true;
			continue;
		}
		if (mdev < 0 || sim.mdevs[mdev].group != answer.grant.groups[i].group)
			return false;
		sim.mdevs[mdev].held = true;
	}
	return true;
}

/* The holder of an mdev lets go. */
static void let_go(const char *uuid)
{
	int i = find(uuid);
	struct lease *lease;

	need(i >= 0);
	sim.mdevs[i].held = false;
	lease = lease_find_watch(&broker.leases.table, (int)sim.mdevs[i].group + 1000);
	if (lease)
		lease_closed(lease);
	work_on();
}

static void let_go_vf(int vf)
{
	struct lease *lease = lease_find_watch(&broker.leases.table, vf + 1030);

	sim.vfs[vf].held = false;
	if (lease)
		lease_closed(lease);
	work_on();
}

static void settle(void);

static void all_let_go(void)
{
	for (int i = 0; i < VFS; i++)
		if (sim.vfs[i].held)
			let_go_vf(i);
	for (int i = 0; i < MDEVS_MAX; i++)
		if (sim.mdevs[i].uuid[0] && sim.mdevs[i].held)
			let_go(sim.mdevs[i].uuid);
}

/*
 * Forgets everything, as the daemon's death does: only the kernel's state and the records are left.
 */
static void die(int *fd)
{
	while (!TAILQ_EMPTY(&broker.claims.list))
		claim_free(TAILQ_FIRST(&broker.claims.list));
	while (!TAILQ_EMPTY(&broker.leases.table.list)) {
		struct lease *lease = TAILQ_FIRST(&broker.leases.table.list);

		if (lease->timer)
			event_free(lease->timer);
		if (lease->expiry)
			event_free(lease->expiry);
		lease_free(lease);
	}
	fake_forget();
	hang_up(*fd);
	*fd = dial_in(0);
	lease_table_init(&broker.leases.table, broker.leases.table.events,
			 broker.leases.table.userdata);
	need(!mdev_seed(&broker.leases));
}

/* Waits while a start still looks for mdevs that may appear. */
static void settle(void)
{
	for (int n = 0; n < 400; n++) {
		const struct lease *lease;
		bool open = fake_first();

		work_on();
		TAILQ_FOREACH(lease, &broker.leases.table.list, link)
			open = open || lease->state != GPUBROKER_LEASE_LEASED;
		if (!open)
			return;
		skip_ms(10);
	}
}

static void start_again(void)
{
	need(!recover_leases(&broker.leases));
	settle();
}

/* ---- tests ---- */

static void test_lends(int fd)
{
	char uuid[PROTOCOL_UUID];

	ask(fd, SELECT_NAME, "card", "card-2");
	tap_ok(granted(fd, 1), "a profile of what is no PCI function is made and lent");
	strcpy(uuid, answer.grant.groups[0].uuid);
	tap_ok(!strcmp(answer.grant.groups[0].parent, "card") && strlen(uuid) == 36 &&
		       !sim.unrecorded && record_has(uuid),
	       "... recorded before it was made, and named to who asked");
	tap_ok(strstr(last_log, "device=- ") && strstr(last_log, "name=card-2 ") &&
		       strstr(last_log, uuid),
	       "... and in the journal");
	let_go(uuid);
	tap_ok(as_before(), "let go, it is removed and forgotten");

	open_to_others = true;
	ask(fd, SELECT_NAME, "card", "card-2");
	tap_ok(refused(fd, GPUBROKER_REFUSED_NODE) && answer.refusal.holder_uid == 1234 &&
		       answer.refusal.limit == 0640 && as_before(),
	       "not if others than root may open its group, and nothing is left of it");
	open_to_others = false;

	ask(fd, SELECT_NAME, "card", "A part");
	tap_ok(granted(fd, 1) && sim.left == 2, "by what its driver calls it");
	all_let_go();
	ask(fd, SELECT_ADDRESS, GPU, "gpu-1");
	tap_ok(granted(fd, 1) && !strcmp(answer.grant.groups[0].parent, GPU) &&
		       answer.grant.groups[0].address.bus == 1,
	       "of a PCI function too");
	all_let_go();
	ask(fd, SELECT_NAME, "slice", "");
	tap_ok(granted(fd, 1) && sim.left == 1, "by a name of the policy that means a profile");
	all_let_go();
	ask(fd, SELECT_ANY, "", "card-1");
	tap_ok(granted(fd, 1), "of any device");
	all_let_go();
	ask_two(fd, SELECT_NAME, "card", "card-1", "card-2");
	tap_ok(granted(fd, 2) && sim.left == 0 &&
		       strcmp(answer.grant.groups[0].uuid, answer.grant.groups[1].uuid) != 0,
	       "two by one claim, each with a number of its own");
	all_let_go();
	tap_ok(as_before(), "and nothing is left of all that");
}

static void test_refusals(int fd)
{
	ask(fd, SELECT_NAME, "card", "card-3");
	tap_ok(refused(fd, GPUBROKER_REFUSED_NO_PROFILE) &&
		       !strcmp(answer.refusal.parent, "card") &&
		       !strcmp(answer.refusal.profile, "card-3"),
	       "no such profile");
	ask(fd, SELECT_ADDRESS, "0000:02:00.0", "card-1");
	tap_ok(refused(fd, GPUBROKER_REFUSED_NO_MDEVS) && answer.refusal.address.bus == 2,
	       "a device that makes none");
	ask(fd, SELECT_ADDRESS, "0000:09:00.0", "card-1");
	tap_ok(refused(fd, GPUBROKER_REFUSED_NO_DEVICE), "no such device");
	ask(fd, SELECT_NAME, "cardx", "card-1");
	tap_ok(refused(fd, GPUBROKER_REFUSED_NO_NAME), "neither a name nor a parent");
	ask(fd, SELECT_NAME, "..", "card-1");
	tap_ok(refused(fd, GPUBROKER_REFUSED_NO_NAME),
	       "what leads out of a directory is no parent");

	sim.left = 1;
	ask(fd, SELECT_NAME, "card", "card-2");
	tap_ok(refused(fd, GPUBROKER_REFUSED_NONE_LEFT) && !answer.refusal.error &&
		       !strcmp(answer.refusal.text, "card-1: 1") && !answer.refusal.limit,
	       "none is left, and what is left there is told");
	sim.left = 0;
	ask(fd, SELECT_NAME, "card", "card-1");
	tap_ok(refused(fd, GPUBROKER_REFUSED_NONE_LEFT) && answer.refusal.limit == 1 &&
		       !answer.refusal.text[0],
	       "... and how many there are, whoever has them");
	sim.left = 3;
	sim.create_error = ENOSPC;
	ask(fd, SELECT_NAME, "card", "card-1");
	tap_ok(refused(fd, GPUBROKER_REFUSED_NONE_LEFT) && answer.refusal.error == ENOSPC &&
		       as_before(),
	       "somebody else was faster between the look and the making");
	sim.create_error = EIO;
	ask(fd, SELECT_NAME, "card", "card-1");
	tap_ok(refused(fd, GPUBROKER_REFUSED_FAILED) && answer.refusal.error == EIO && as_before(),
	       "another fault is told as one");
	sim.create_error = 0;

	sim.left = 4; /* the driver reports room for two, and then refuses the second */
	ask_two(fd, SELECT_NAME, "card", "card-2", "card-2");
	tap_ok(granted(fd, 2), "two of two");
	all_let_go();
	sim.left = 3;
	ask_two(fd, SELECT_NAME, "card", "card-2", "card-2");
	tap_ok(refused(fd, GPUBROKER_REFUSED_NONE_LEFT) && as_before(),
	       "all or none: what was made for a claim goes where another one is not");

	allow("allow any claim any\nallow any claim profile card-2\ndeny any claim profile gpu-1");
	ask(fd, SELECT_NAME, "card", "card-1");
	tap_ok(refused(fd, GPUBROKER_REFUSED_POLICY), "who may have devices may not have parts");
	ask(fd, SELECT_NAME, "card", "card-3");
	tap_ok(refused(fd, GPUBROKER_REFUSED_POLICY), "... nor learns which there are");
	ask(fd, SELECT_ADDRESS, GPU, "gpu-1");
	tap_ok(refused(fd, GPUBROKER_REFUSED_POLICY) && answer.refusal.rule[0],
	       "... and a deny is told by its rule");
	allow("allow any claim profile card-1 limit 1");
	ask_two(fd, SELECT_NAME, "card", "card-1", "card-1");
	tap_ok(refused(fd, GPUBROKER_REFUSED_LIMIT) && as_before(),
	       "a limit counts within a claim");
	ask(fd, SELECT_NAME, "card", "card-1");
	need(granted(fd, 1));
	ask(fd, SELECT_NAME, "card", "card-1");
	tap_ok(refused(fd, GPUBROKER_REFUSED_LIMIT), "... and across claims");
	all_let_go();
}

/* The UUID is in use, so that mdev belongs to somebody else, and stays. */
static void test_taken_number(int fd)
{
	struct lease lease = { .table = &broker.leases.table };
	uint8_t seed[sizeof(broker.leases.uuid_seed)];
	char path[200];

	memcpy(seed, broker.leases.uuid_seed, sizeof(seed));
	mdev_new_uuid(&lease);
	memcpy(broker.leases.uuid_seed, seed, sizeof(seed));
	path_of(path, "sys/class/mdev_bus/card/mdev_supported_types/card-1");
	need(!sim_create(path, lease.mdev.uuid));
	ask(fd, SELECT_NAME, "card", "card-1");
	tap_ok(refused(fd, GPUBROKER_REFUSED_FAILED) && answer.refusal.error == EEXIST &&
		       find(lease.mdev.uuid) >= 0 && no_records(),
	       "an mdev that has our number already is not ours to remove");
	sim_remove(lease.mdev.uuid);
	tap_ok(as_before(), "... and nothing else is left");
}

/* Root allots a card that a claim has as its second candidate while a worker asks the drivers. */
static void test_allotted_meanwhile(int fd)
{
	struct allotment allotment = { .label = "job", .uid = 1001, .n_devices = 1 };
	struct allotment *added;

	need(!pci_address_parse(GPU, &allotment.devices[0].address));
	allotment.devices[0].group = 20;
	send_claim(fd, SELECT_ADDRESS, GPU, "gpu-1", NULL);
	need(fake_first());
	added = allotments_add(&broker.allotments, &allotment);
	need(added);
	work_on();
	tap_ok(refused(fd, GPUBROKER_REFUSED_NONE_LEFT) && as_before(),
	       "nor is a part made of a card that was allotted meanwhile");
	allotments_remove(&broker.allotments, added);
}

/*
 * While a card has mdevs the broker does not lend it whole; while it is lent whole, it gets no
 * mdevs.
 */
static void test_whole(int fd)
{
	struct message_claim whole = claim_by(SELECT_ADDRESS);
	struct lease *lease;

	need(!pci_address_parse(GPU, &whole.selectors[0].address));
	ask(fd, SELECT_ADDRESS, GPU, "gpu-1");
	need(granted(fd, 1));
	need(say(fd, &whole, sizeof(whole)));
	turn(TURNS);
	tap_ok(refused(fd, GPUBROKER_REFUSED_IN_USE) &&
		       !strcmp(answer.refusal.text, "it has mediated devices"),
	       "a card of which a part is lent is not lent whole");
	all_let_go();
	fake.dies_at = 2; /* after the driver was asked, before the mdev is created */
	ask(fd, SELECT_ADDRESS, GPU, "gpu-1");
	{
		int other = dial_in(0);

		need(say(other, &whole, sizeof(whole)));
		turn(TURNS);
		tap_ok(refused(other, GPUBROKER_REFUSED_BUSY),
		       "... nor while a part is on its way");
		hang_up(other);
	}
	die(&fd);
	start_again();
	tap_ok(as_before(), "and all is as before");
	for (size_t part = 0; part < 2; part++) {
		struct message_claim both = whole;

		both.n_selectors = 2;
		both.selectors[1] = both.selectors[0];
		strcpy(both.selectors[part].profile, "gpu-1");
		need(say(fd, &both, sizeof(both)));
		turn(TURNS);
		tap_ok(refused(fd, GPUBROKER_REFUSED_NOT_VIABLE) &&
			       answer.refusal.detail == REFUSAL_WHOLE_AND_PART && as_before(),
		       "nor whole and in part by one claim, the part %s", part ? "last" : "first");
	}
	/*
	 * A claim of a whole device that is another candidate begins while a worker asks the
	 * drivers: the lease of the part does not stand for that candidate.
	 */
	send_claim(fd, SELECT_ADDRESS, GPU, "gpu-1", NULL);
	need(fake_first());
	lease = lease_new(&broker.leases.table, 0, 20);
	need(lease);
	work_on();
	tap_ok(refused(fd, GPUBROKER_REFUSED_NONE_LEFT),
	       "nor is a part made of a card that is being lent whole meanwhile");
	lease_free(lease);
	tap_ok(as_before(), "... and nothing was made");
	test_allotted_meanwhile(fd);
	hang_up(fd);
}

static void ask_wait(int fd, const char *device, const char *profile)
{
	struct message_claim claim = claim_by(SELECT_NAME);

	claim.flags = CLAIM_WAIT;
	strcpy(claim.selectors[0].name, device);
	strcpy(claim.selectors[0].profile, profile);
	need(say(fd, &claim, sizeof(claim)));
	turn(TURNS);
	work_on();
}

/* Does what the loop does once something may be free, but only when a test calls it. */
static void try_queue(void)
{
	event_get_callback(wake)(-1, EV_TIMEOUT, event_get_callback_arg(wake));
}

/* Runs the queue as often as needed, and once more. */
static void run_queue(void)
{
	for (int i = 0; i < 8; i++) {
		try_queue();
		work_on();
	}
}

/* Returns the last message of the queue; its place is 0 if there was none. */
static struct message_queued waits(int fd)
{
	struct message_queued last = { 0 };

	while (hear_answer(fd) && answer.type == MESSAGE_QUEUED)
		last = answer.queued;
	return last;
}

static void test_wait(void)
{
	int first = dial_in(0), large, small, late;
	struct message_queued q;
	unsigned left;

	last_is_user(SOMEBODY);
	large = dial_in(0);
	small = dial_in(0);
	late = dial_in(0);
	ask(first, SELECT_NAME, "card", "card-2");
	need(granted(first, 1));
	ask_wait(large, "card", "card-2");
	run_queue();
	q = waits(large);
	tap_ok(q.place == 1 && !strcmp(q.parent, "card") && q.lease &&
		       q.lease == TAILQ_FIRST(&broker.leases.table.list)->id,
	       "who would rather wait for a profile does, and is told for whom");
	tap_ok(broker.leases.table.n == 1 && TAILQ_EMPTY(&broker.claims.list),
	       "... with no lease meanwhile");
	fake.n_steps = 0;
	run_queue();
	tap_ok(!fake.n_steps, "... and no driver is asked again before something has ended");
	ask_wait(small, "card", "card-1");
	run_queue();
	q = waits(small);
	tap_ok(q.place == 2 && sim.left == 1,
	       "what is left waits for who came first, also where it is too little for him");
	ask(late, SELECT_NAME, "card", "card-1");
	tap_ok(refused(late, GPUBROKER_REFUSED_BUSY) && answer.refusal.detail == REFUSAL_RESERVED,
	       "... and is refused to who does not wait");
	ask(late, SELECT_NAME, "card", "card-9");
	tap_ok(refused(late, GPUBROKER_REFUSED_NO_PROFILE), "... as is what there is not");
	ask(late, SELECT_ADDRESS, GPU, "gpu-1");
	tap_ok(granted(late, 1), "what another device makes is nobody's");
	need(by_group(answer.grant.groups[0].group) >= 0);
	let_go(answer.grant.groups[0].uuid);
	run_queue();
	all_let_go();
	run_queue();
	tap_ok(granted(large, 1) && granted(small, 1) && sim.left == 0 &&
		       TAILQ_EMPTY(&broker.claims.queue.list),
	       "each has his when enough is free");

	ask_wait(late, "card", "card-2");
	run_queue();
	need(waits(late).place == 1);
	left = sim.left;
	queue_mark_all(&broker.claims.queue);
	try_queue(); /* asks the driver again */
	queue_mark_all(&broker.claims.queue);
	try_queue(); /* as if something ended meanwhile */
	work_on();
	sim.left = 2;
	run_queue();
	tap_ok(granted(late, 1), "what comes free while the driver is asked is not missed");
	sim.left = left;
	let_go(answer.grant.groups[0].uuid);
	sim.left = left;
	all_let_go();
	run_queue();
	tap_ok(as_before(), "and nothing is left of all that");

	/*
	 * A claim that creates an mdev and fails must not cause another try at once, or tries would
	 * never end.
	 */
	sim.create_error = ENOSPC;
	ask_wait(large, "card", "card-1");
	fake.n_steps = 0;
	run_queue();
	run_queue();
	tap_ok(waits(large).place == 1 && fake.n_steps && fake.n_steps < 8,
	       "where the driver says of one that it has none after all, it is waited for, too");
	sim.create_error = 0;
	fake.fails_at = fake.n_steps + 1;
	queue_mark_all(&broker.claims.queue);
	run_queue();
	fake.fails_at = 0;
	tap_ok(refused(large, GPUBROKER_REFUSED_FAILED) && TAILQ_EMPTY(&broker.claims.queue.list),
	       "what fails is refused, and leaves the queue");
	ask(first, SELECT_NAME, "card", "card-2");
	need(granted(first, 1));
	ask_wait(large, "card", "card-2");
	ask_wait(small, "card", "card-2");
	hang_up(large);
	turn(TURNS);
	all_let_go();
	run_queue();
	tap_ok(granted(small, 1), "who goes while he waits makes room for the next");
	all_let_go();
	tap_ok(as_before(), "and nothing is left of that");
	hang_up(first);
	hang_up(small);
	hang_up(late);
}

/* A user whose own mdevs are in the way waits, and keeps nothing from others meanwhile. */
static void test_wait_for_own(void)
{
	int own = dial_in(0), more = dial_in(0), other = dial_in(0);

	last_is_user(SOMEBODY);
	ask(own, SELECT_NAME, "card", "card-2");
	need(granted(own, 1));
	ask_wait(more, "card", "card-2");
	run_queue();
	tap_ok(waits(more).place == 1 && TAILQ_FIRST(&broker.claims.queue.list)->own,
	       "a claim of a profile may wait for what its own user has");
	ask(other, SELECT_NAME, "card", "card-1");
	tap_ok(granted(other, 1), "... and keeps the rest of it from nobody meanwhile");
	all_let_go();
	run_queue();
	tap_ok(granted(more, 1), "... and is granted once there is room");
	all_let_go();
	tap_ok(as_before(), "and nothing is left of that");
	hang_up(own);
	hang_up(more);
	hang_up(other);
}

/* A claim that waits may be ended while a driver is asked again for it. */
static void test_end_waiting(void)
{
	int first = dial_in(0), second, root;
	struct message_release release = { .type = MESSAGE_RELEASE, .flags = RELEASE_REVOKE };

	last_is_user(SOMEBODY);
	ask(first, SELECT_NAME, "card", "card-2");
	need(granted(first, 1));
	second = dial_in(0);
	ask_wait(second, "card", "card-2");
	run_queue();
	release.lease = waits(second).id;
	queue_mark_all(&broker.claims.queue);
	try_queue();
	need(release.lease && fake_first());
	root = dial_in(0);
	last_is_user(0);
	need(say(root, &release, sizeof(release)));
	turn(TURNS);
	tap_ok(hear_answer(root) && answer.type == MESSAGE_END && fake_first(),
	       "root ends a claim that waits, while its driver is asked again");
	work_on();
	tap_ok(refused(second, GPUBROKER_REFUSED_BUSY) && answer.refusal.detail == REFUSAL_ENDED &&
		       TAILQ_EMPTY(&broker.claims.queue.list) && TAILQ_EMPTY(&broker.claims.list),
	       "... it ends when the driver has answered, and does not wait again");
	all_let_go();
	tap_ok(as_before(), "and nothing is left of that");
	hang_up(first);
	hang_up(second);
	hang_up(root);
}

/* The limit of locked memory is that of the profile that the claim gets. */
static void test_memlock(void)
{
	int fd = dial_in(0);
	struct message_claim claim = claim_by(SELECT_NAME);

	allow("device both profile card-2\ndevice both profile card-1\n"
	      "allow any claim profile card-1 memlock 8M\n"
	      "allow any claim profile card-2 memlock 1M\n");
	sim.left -= 2; /* too little for a card-2 */
	ask(fd, SELECT_NAME, "both", "");
	tap_ok(granted(fd, 1) && answer.grant.memlock == 8 << 20 && memlock_raised == 8 << 20,
	       "memlock is raised by the rule of the type that was made");
	all_let_go();
	sim.left += 2;
	strcpy(claim.selectors[0].name, "card");
	strcpy(claim.selectors[0].profile, "card-2");
	claim.memlock = 8 << 20;
	memlock_raised = 0;
	need(say(fd, &claim, sizeof(claim)));
	turn(TURNS);
	work_on();
	tap_ok(refused(fd, GPUBROKER_REFUSED_MEMLOCK) && answer.refusal.limit == 1 << 20 &&
		       !memlock_raised,
	       "... and not by that of another type");
	hang_up(fd);
	tap_ok(as_before(), "and nothing is left of that");
}

/*
 * Lets the daemon die before that step of a claim of two, and starts it again. Returns true if
 * everything is as before.
 */
static bool survives_death(int *fd, unsigned step, enum selector_kind kind, const char *device,
			   const char *profile, const char *other)
{
	bool right;

	fake.dies_at = step;
	ask_two(*fd, kind, device, profile, other);
	need(fake.died);
	die(fd);
	start_again();
	right = as_before();
	if (!right)
		printf("# at %u\n", step);
	return right;
}

static void test_deaths(int *fd)
{
	unsigned total, wrong = 0;
	char uuid[PROTOCOL_UUID];

	ask_two(*fd, SELECT_NAME, "card", "card-1", "card-2");
	total = fake.n_steps;
	need(granted(*fd, 2));
	all_let_go();
	tap_ok(total == 8, "a claim of two asks for three each, and makes two (%u steps)", total);
	for (unsigned i = 1; i <= total; i++) {
		wrong += !survives_death(fd, i, SELECT_NAME, "card", "card-1", "card-2");
		fake.fails_at = i;
		ask_two(*fd, SELECT_NAME, "card", "card-1", "card-2");
		fake.fails_at = 0;
		if (!refused(*fd, GPUBROKER_REFUSED_FAILED) || !as_before()) {
			printf("# failing at %u\n", i);
			wrong++;
		}
	}
	tap_ok(!wrong, "killed before any step, or one failing, nothing is left behind");

	ask(*fd, SELECT_NAME, "card", "card-2");
	need(granted(*fd, 1));
	strcpy(uuid, answer.grant.groups[0].uuid);
	die(fd);
	start_again();
	tap_ok(broker.leases.table.n == 1 &&
		       TAILQ_FIRST(&broker.leases.table.list)->state == GPUBROKER_LEASE_LEASED &&
		       !strcmp(TAILQ_FIRST(&broker.leases.table.list)->mdev.uuid, uuid) &&
		       find(uuid) >= 0,
	       "one that is held is taken up as it was");
	let_go(uuid);
	tap_ok(as_before(), "... and removed when it is let go");

	wrong = 0;
	for (unsigned i = 1; i <= 2; i++) { /* probes, removes */
		ask(*fd, SELECT_NAME, "card", "card-2");
		need(granted(*fd, 1));
		strcpy(uuid, answer.grant.groups[0].uuid);
		fake.n_steps = 0;
		fake.dies_at = i;
		let_go(uuid);
		need(fake.died);
		die(fd);
		start_again();
		wrong += !as_before();
	}
	tap_ok(!wrong, "killed at its end, the next start removes it");

	ask(*fd, SELECT_NAME, "card", "card-2");
	need(granted(*fd, 1));
	strcpy(uuid, answer.grant.groups[0].uuid);
	die(fd);
	sim.mdevs[find(uuid)].held = false;
	sim_remove(uuid);
	start_again();
	tap_ok(as_before(), "one that somebody removed meanwhile is forgotten");
}

/* The killed daemon's worker is still in the kernel, and goes on. */
static void test_late(int *fd)
{
	char path[200], uuid[PROTOCOL_UUID];

	path_of(path, "sys/class/mdev_bus/card/mdev_supported_types/card-1");
	fake.dies_at = 3;
	ask(*fd, SELECT_NAME, "card", "card-1");
	need(fake.died);
	die(fd);
	tap_ok(as_before(), "killed while asking, nothing is begun");

	fake.dies_at = 4; /* three steps ask the driver; this one creates the mdev */
	ask(*fd, SELECT_NAME, "card", "card-1");
	need(fake.died && TAILQ_FIRST(&broker.leases.table.list));
	strcpy(uuid, TAILQ_FIRST(&broker.leases.table.list)->mdev.uuid);
	die(fd);
	need(!recover_leases(&broker.leases));
	work_on();
	tap_ok(record_has(uuid), "one that is not there is looked for a while");
	sim.half = true;
	need(!sim_create(path, uuid));
	skip_ms(120);
	work_on();
	tap_ok(find(uuid) >= 0 && record_has(uuid), "... it comes, but is not complete");
	complete(find(uuid));
	settle();
	tap_ok(as_before(), "... it is complete, and then removed");
}

/* ---- vGPUs ---- */

static void test_rows(void)
{
	static const char *const bad[] = { "",		"557",		"557 ",	   " a",
					   "x a",	"0 a",		"007 a",   "-1 a",
					   "557 a/b",	"557 ..",	"557 a\n", "4294967296 a",
					   "557  \x80", "99999999999 a" };
	static const char *const none[] = { "ID    : vGPU Name",
					    "",
					    ":",
					    "557",
					    "557 :",
					    "x : y",
					    "12345678901 : too long a number" };
	char text[WORK_TEXT_MAX], line[256];
	struct vgpu_row row;
	unsigned wrong = 0;

	tap_ok(vgpu_row("557   : NVIDIA RTX5880-Ada-1Q  ", text) &&
		       !strcmp(text, "557 NVIDIA RTX5880-Ada-1Q") && vgpu_row_parse(text, &row) &&
		       !strcmp(row.type, "557") && !strcmp(row.name, "NVIDIA RTX5880-Ada-1Q"),
	       "a line of the driver's table becomes a number and a name");
	for (size_t i = 0; i < ARRAY_SIZE(none); i++)
		wrong += vgpu_row(none[i], text);
	for (size_t i = 0; i < ARRAY_SIZE(bad); i++)
		wrong += vgpu_row_parse(bad[i], &row);
	tap_ok(!wrong, "a heading is none, nor is what is no number or no name (%u)", wrong);
	snprintf(line, sizeof(line), "4294967295 : %.63s",
		 "xxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxx");
	tap_ok(vgpu_row(line, text) && vgpu_row_parse(text, &row) && strlen(row.name) == 63,
	       "the longest fits");
	strcat(line, "x");
	tap_ok(!vgpu_row(line, text), "what is longer is left out, and not cut");
}

static void test_vgpus(int fd)
{
	ask(fd, SELECT_ADDRESS, "0000:03:00.2", "557");
	tap_ok(granted(fd, 1) && sim.vfs[1].type == 557 && !sim.unrecorded &&
		       record_has("vgpu 557\nname NVIDIA X-1Q\n") &&
		       !strcmp(answer.grant.groups[0].parent, "0000:03:00.2"),
	       "a VF is made a type, recorded before, and lent");
	tap_ok(strstr(last_log, "name=557 ") && strstr(last_log, "vGPU, NVIDIA X-1Q"),
	       "... and in the journal");
	ask(fd, SELECT_ADDRESS, "0000:03:00.2", "557");
	tap_ok(refused(fd, GPUBROKER_REFUSED_BUSY), "another cannot have it");
	ask(fd, SELECT_ADDRESS, PF, "NVIDIA X-1Q");
	tap_ok(granted(fd, 1) && sim.vfs[0].type == 557,
	       "of a physical function one that is free, by the name of the type");
	ask(fd, SELECT_ADDRESS, PF, "557");
	tap_ok(refused(fd, GPUBROKER_REFUSED_NONE_LEFT) && answer.refusal.limit == 2,
	       "none is left, and how many are in use is told");
	all_let_go();
	tap_ok(as_before(), "let go, they are nothing again");
	ask(fd, SELECT_NAME, "small", "");
	tap_ok(granted(fd, 1) && units_left() == 1, "by a name of the policy");
	ask(fd, SELECT_ADDRESS, PF, "558");
	tap_ok(refused(fd, GPUBROKER_REFUSED_NO_PROFILE) && answer.refusal.limit == 1 &&
		       !strcmp(answer.refusal.text, "557"),
	       "what no longer fits is not offered, and what is left is told");
	all_let_go();
	ask_two(fd, SELECT_ADDRESS, PF, "557", "557");
	tap_ok(granted(fd, 2) && units_left() == 0, "two by one claim are two VFs");
	all_let_go();
	ask_two(fd, SELECT_ADDRESS, PF, "557", "558");
	tap_ok(refused(fd, GPUBROKER_REFUSED_NONE_LEFT) && as_before(),
	       "all or none: the second no longer fits when the first is made");
	ask(fd, SELECT_ADDRESS, PF, "999");
	tap_ok(refused(fd, GPUBROKER_REFUSED_NO_PROFILE) && !answer.refusal.limit, "no such type");

	need(!vf_write(0, 558));
	ask(fd, SELECT_ADDRESS, "0000:03:00.1", "557");
	tap_ok(refused(fd, GPUBROKER_REFUSED_IN_USE) &&
		       strstr(answer.refusal.text, "somebody else") && sim.vfs[0].type == 558,
	       "what somebody else made is not lent, and left alone");
	ask(fd, SELECT_ADDRESS, PF, "558");
	tap_ok(refused(fd, GPUBROKER_REFUSED_NONE_LEFT) && answer.refusal.limit == 1,
	       "... and counts");
	need(!vf_write(0, 0));
	sim.becomes = 558;
	ask(fd, SELECT_ADDRESS, "0000:03:00.1", "557");
	tap_ok(refused(fd, GPUBROKER_REFUSED_NONE_LEFT) && answer.refusal.error == ESTALE &&
		       sim.vfs[0].type == 558 && no_records(),
	       "somebody was faster between the look and the making, and keeps it");
	need(!vf_write(0, 0));
	sim.becomes = 558;
	ask(fd, SELECT_ADDRESS, "0000:03:00.1", "558");
	tap_ok(refused(fd, GPUBROKER_REFUSED_NONE_LEFT) && sim.vfs[0].type == 558 && no_records(),
	       "... also where it is the very type that was asked for");
	need(!vf_write(0, 0));
	sim.vgpu_error = EIO;
	ask(fd, SELECT_ADDRESS, PF, "557");
	tap_ok(refused(fd, GPUBROKER_REFUSED_FAILED) && answer.refusal.error == EIO && as_before(),
	       "a driver that fails at what it offers is told as a fault");
	sim.vgpu_error = 0;

	ask(fd, SELECT_ADDRESS, "0000:03:00.1", "557");
	need(granted(fd, 1));
	sim.vfs[0].held = false;
	need(!vf_write(0, 0) && !vf_write(0, 558));
	let_go_vf(0);
	settle();
	tap_ok(sim.vfs[0].type == 558 && no_records(),
	       "what somebody made of ours meanwhile is left alone at its end");
	need(!vf_write(0, 0));

	allow("allow any claim any\nallow any claim address 0000:03:00.2 profile 558");
	ask(fd, SELECT_ADDRESS, "0000:03:00.1", "557");
	tap_ok(refused(fd, GPUBROKER_REFUSED_POLICY) && fake.n_steps == 0,
	       "whom no rule allows any type of it causes no look");
	ask(fd, SELECT_ADDRESS, "0000:03:00.2", "557");
	tap_ok(refused(fd, GPUBROKER_REFUSED_POLICY), "... nor gets another type than his rule's");
	ask(fd, SELECT_ADDRESS, "0000:03:00.2", "999");
	tap_ok(refused(fd, GPUBROKER_REFUSED_POLICY), "... nor is told that there is none");
	ask(fd, SELECT_ADDRESS, PF, "NVIDIA X-2Q");
	tap_ok(granted(fd, 1) && sim.vfs[1].type == 558,
	       "a rule by number is one by name as well, and of several VFs its own is found");
	all_let_go();
	allow("allow any claim profile 557\ndeny any claim profile NVIDIA_X-1Q");
	ask(fd, SELECT_ADDRESS, PF, "557");
	tap_ok(refused(fd, GPUBROKER_REFUSED_POLICY) && answer.refusal.rule[0],
	       "a deny by name beats an allow by number");
	allow("allow any claim profile 557 limit 1");
	ask_two(fd, SELECT_ADDRESS, PF, "557", "557");
	tap_ok(refused(fd, GPUBROKER_REFUSED_LIMIT) && as_before(),
	       "a limit counts within a claim");
}

/*
 * Sends a claim and hangs up, at once or when the claim is bound. The journal's line is in
 * last_log.
 */
static void abandon(enum selector_kind kind, const char *device, const char *profile, bool bound)
{
	int fd = dial_in(0);

	send_claim(fd, kind, device, profile, NULL);
	need(!TAILQ_EMPTY(&broker.claims.list) && fake_first());
	while (bound && !TAILQ_FIRST(&broker.claims.list)->bound)
		fake_run(fake_first());
	hang_up(fd);
}

/*
 * Somebody gives the VF the very type that was recorded, before the worker looks; and the claim is
 * late, or its client has gone. Returns true if it stays somebody's.
 */
static bool is_left_to_faster(bool late)
{
	int fd = dial_in(0);
	bool good;

	send_claim(fd, SELECT_ADDRESS, "0000:03:00.1", "557", NULL);
	while (!TAILQ_FIRST(&broker.leases.table.list)->recorded)
		fake_run(fake_first());
	need(fake_first() && !vf_write(0, 557));
	if (late)
		fake_be_late(fake_first());
	hang_up(fd);
	work_on();
	good = sim.vfs[0].type == 557 && no_records() && !broker.leases.table.n;
	if (sim.vfs[0].type)
		need(!vf_write(0, 0));
	return good;
}

static void test_abandoned(void)
{
	uint64_t asked;

	/* The refusals of the tests before have used up the user's lines. */
	broker.audit.all = (struct audit_share){ 0 };
	broker.audit.root = (struct audit_user){ 0 };
	memset(broker.audit.users, 0, sizeof(broker.audit.users));
	asked = broker.audit.n_asked;
	allow("allow any claim address 0000:03:00.1 profile 557\n"
	      "allow any claim address 0000:03:00.2 profile 558");
	abandon(SELECT_ADDRESS, PF, "NVIDIA X-2Q", true);
	tap_ok(broker.audit.n_asked == asked + 1 ||
		       broker.audit.root.share.left == AUDIT_ALL_BURST - 1,
	       "the line of an abandoned claim is one of the user's share");
	tap_ok(strstr(last_log, "device=0000:03:00.2 ") && strstr(last_log, "name=558 ") &&
		       strstr(last_log, ":2 by=- outcome=refused reason=\"gone\""),
	       "an abandoned vGPU is logged as the VF, type and rule that it got");
	work_on();
	tap_ok(as_before(), "... and given back");
	abandon(SELECT_ADDRESS, PF, "558", false);
	tap_ok(strstr(last_log, "device=" PF " ") && strstr(last_log, "name=558 ") &&
		       strstr(last_log, "rule=- "),
	       "... and before its driver has answered, as what the client asked for");
	work_on();
	tap_ok(is_left_to_faster(false),
	       "what somebody made in place of an abandoned vGPU stays, of the same type too");
	tap_ok(is_left_to_faster(true), "... and in place of one that is late");

	allow("device slice profile any\nallow any claim profile card-2\nallow any claim profile gpu-1");
	sim.left = 1;
	abandon(SELECT_NAME, "slice", "", true);
	tap_ok(strstr(last_log, "device=" GPU " ") && strstr(last_log, "name=gpu-1 ") &&
		       strstr(last_log, ":3 by="),
	       "an abandoned mdev is logged as the type and rule that it got");
	work_on();
	sim.left = 3;
	tap_ok(as_before(), "... and removed");
}

static void test_vgpu_deaths(int *fd)
{
	unsigned total, wrong = 0;

	ask_two(*fd, SELECT_ADDRESS, PF, "557", "NVIDIA X-1Q");
	total = fake.n_steps;
	need(granted(*fd, 2));
	all_let_go();
	for (unsigned i = 1; i <= total; i++)
		wrong += !survives_death(fd, i, SELECT_ADDRESS, PF, "557", "NVIDIA X-1Q");
	tap_ok(!wrong && total > 8, "killed before any of %u steps, no VF stays anything", total);

	ask(*fd, SELECT_ADDRESS, PF, "557");
	need(granted(*fd, 1));
	die(fd);
	start_again();
	tap_ok(broker.leases.table.n == 1 &&
		       TAILQ_FIRST(&broker.leases.table.list)->state == GPUBROKER_LEASE_LEASED &&
		       TAILQ_FIRST(&broker.leases.table.list)->group == 30 &&
		       sim.vfs[0].type == 557,
	       "one that is held is taken up as it was");
	let_go_vf(0);
	tap_ok(as_before(), "... and cleared when it is let go");
	for (unsigned i = 1; i <= 3; i++) { /* probes, reads the type, clears it */
		ask(*fd, SELECT_ADDRESS, PF, "557");
		need(granted(*fd, 1));
		fake.n_steps = 0;
		fake.dies_at = i;
		let_go_vf(0);
		need(fake.died);
		die(fd);
		start_again();
		wrong += !as_before();
	}
	tap_ok(!wrong, "killed at its end, the next start clears it");
	fake.dies_at = 4; /* after the record, before the vGPU is created */
	ask(*fd, SELECT_ADDRESS, PF, "557");
	need(fake.died);
	die(fd);
	need(!vf_write(0, 558));
	start_again();
	tap_ok(sim.vfs[0].type == 558 && no_records() && !broker.leases.table.n,
	       "of what was recorded and not made, another's is left alone");
	need(!vf_write(0, 0));
}

int main(void)
{
	int fd;

	broker_make();
	fake.answer = do_step;
	wake = TAKE_PTR(broker.claims.queue.wake);
	make_host();
	allow("device slice profile card-2\nallow any claim profile any\nallow any claim any");
	fd = dial_in(0);
	test_lends(fd);
	test_refusals(fd);
	allow("device slice profile card-2\nallow any claim profile any\nallow any claim any");
	test_taken_number(fd);
	test_wait();
	test_wait_for_own();
	test_end_waiting();
	test_memlock();
	allow("device slice profile card-2\nallow any claim profile any\nallow any claim any");
	test_deaths(&fd);
	test_late(&fd);
	test_whole(fd);
	test_rows();
	fd = dial_in(0);
	allow("device small vendor 1234 profile 557\nallow any claim profile any\nallow any claim any");
	test_vgpus(fd);
	test_abandoned();
	allow("allow any claim profile any");
	test_vgpu_deaths(&fd);

	return tap_done();
}
