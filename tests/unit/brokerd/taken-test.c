/* SPDX-License-Identifier: MIT */
/*
 * Functions that root takes from a lease, as by driverctl and `virsh nodedev-reattach`: the lines
 * in the journal, and the end of the lease, which leaves them alone. No worker is forked: the test
 * changes its files in the shape of sysfs as the kernel would.
 */
#include "config.h"

#include "brokerd/lease/bringup.h"
#include "brokerd/lease/ending.h"
#include "brokerd/lease/hotplug.h"
#include "brokerd/lease/restore.h"
#include "brokerd/lease/taken.h"
#include "brokerd/process/log.h"
#include "brokerd/record/lease-record.h"
#include "client/host/sysfs.h"
#include "tests/unit/brokerd/fake-worker.h"
#include "tests/unit/brokerd/world.h"
#include "tests/tap.h"

#include <errno.h>
#include <event2/event.h>
#include <inttypes.h>
#include <stdarg.h>
#include <unistd.h>

#define GROUP 20
#define CARD "0000:01:00.0"

static char said[4096]; /* the journal since the lease began */

void __wrap_log_line(enum log_level level, const char *format, ...)
	__attribute__((format(printf, 2, 3)));
void __wrap_log_line(enum log_level level, const char *format, ...)
{
	size_t n = strlen(said);
	va_list args;

	(void)level;
	va_start(args, format);
	vsnprintf(said + n, sizeof(said) - n, format, args);
	va_end(args);
}

/* ---- the kernel ---- */

static char override[64], done[256]; /* driver_override, and the steps that were done */
static bool at_read;		     /* ... or when the override is read, or compared */
static const char *fails;	     /* a step that does, NULL: none */
static void (*meanwhile)(void);	     /* what somebody does during the first step; NULL: nothing */

/*
 * Binds the card. The link is a new one, also to the driver that it has. Old ones are kept: kernfs
 * gives a number once, but a file system may give that of a removed link to the next one.
 */
static void set_driver(const char *driver)
{
	static unsigned n_old;
	char path[200], other[220], target[64];

	snprintf(path, sizeof(path), "%s/sys/bus/pci/devices/" CARD "/driver", scratch_path);
	snprintf(other, sizeof(other), "%s.old%u", path, n_old++);
	need(!rename(path, other) || errno == ENOENT);
	if (!*driver)
		return;
	snprintf(target, sizeof(target), "../../drivers/%s", driver);
	need(!symlink(target, path));
}

static bool has_driver(const char *driver)
{
	struct pci_address address;
	char now[FUNCTION_NAME_MAX];

	need(!pci_address_parse(CARD, &address));
	need(!sysfs_driver_read(broker.kernel.sys, &address, now));
	return !strcmp(now, driver);
}

static int kernel_does(const struct fake_step *step, char text[FAKE_TEXT_MAX])
{
	const char *file = strrchr(step->path, '/') + 1;
	const bool reads = step->does == FAKE_READS || step->does == FAKE_EXPECTS;
	void (*also)(void) = reads || !at_read ? meanwhile : NULL;
	char driver[64];
	size_t n = strlen(done);

	if (also) {
		meanwhile = NULL;
		also();
	}
	if (reads) {
		strcpy(text, *override ? override : "(null)");
		return 0;
	}
	if (fails && !strcmp(file, fails))
		return ENOMEM;
	snprintf(done + n, sizeof(done) - n, "%s ", file);
	if (!strcmp(file, "driver_override"))
		snprintf(override, sizeof(override), "%.*s", (int)strcspn(step->text, "\n"),
			 step->text);
	else if (!strcmp(file, "drivers_probe") && !*override && has_driver(""))
		set_driver("bochs-drm");
	else if (!strcmp(file, "unbind"))
		set_driver("");
	else if (!strcmp(file, "bind") &&
		 sscanf(strstr(step->path, "/drivers/"), "/drivers/%63[^/]", driver) == 1)
		set_driver(driver);
	return step->does == FAKE_OPENS ? ENOENT : 0;
}

/* ---- the broker ---- */

/* The card is lent; the host had it on this driver, with this override. */
static struct lease *lend(const char *driver, const char *was)
{
	struct lease *lease = lease_new(&broker.leases.table, 0, GROUP);
	struct function card;

	need(lease);
	set_driver("vfio-pci");
	strcpy(override, "vfio-pci");
	need(!pci_address_parse(CARD, &lease->asked));
	need(!sysfs_function_read(broker.kernel.sys, &lease->asked, &card));
	lease->state = GPUBROKER_LEASE_LEASED;
	lease->n_functions = 1;
	lease->functions[0].address = card.address;
	lease->functions[0].vendor = card.vendor;
	lease->functions[0].device = card.device;
	strcpy(lease->functions[0].driver, driver);
	strcpy(lease->functions[0].override, was);
	strcpy(lease->terms.rule, "test:1");
	lease->lent = lease->recorded = true;
	lease_set_kind(lease);
	need(!lease_record_write(&broker.store, lease));
	taken_note(lease);
	said[0] = done[0] = '\0';
	return lease;
}

/* The watcher reports the card, whatever it says of it. */
static void report(void)
{
	struct watcher_record record = { .type = WATCHER_DEVICE, .group = GROUP };

	need(!pci_address_parse(CARD, &record.address));
	hotplug_device_seen(&broker.leases, &record);
}

static bool is_over_with(const char *driver, const char *now)
{
	if (!broker.leases.table.n && has_driver(driver) && !strcmp(override, now))
		return true;
	printf("# %zu leases; override '%s'; done: %s\n# the journal: %s\n", broker.leases.table.n,
	       override, done, said);
	return false;
}

/* Has all workers end, also those that come in a moment. */
static void run_all(void)
{
	struct lease *lease;

	do {
		fake_run_all();
		lease = TAILQ_FIRST(&broker.leases.table.list);
	} while (lease && lease->state != GPUBROKER_LEASE_STUCK &&
		 !event_base_loop(broker.base, EVLOOP_ONCE));
}

static void end(struct lease *lease)
{
	lease_recall(lease, "revoked");
	run_all();
}

/* ---- tests ---- */

static void test_journal(void)
{
	struct lease *lease = lend("bochs-drm", "");

	report();
	tap_ok(!*said, "a function that is on VFIO is no news, whatever the watcher says");
	set_driver("");
	report();
	tap_ok(strstr(said, "device=" CARD " group=20") &&
		       strstr(said,
			      "outcome=taken-away reason=\"not by the broker; no driver has it"),
	       "one that somebody unbinds is in the journal");
	said[0] = '\0';
	set_driver("bochs-drm");
	report();
	tap_ok(!*said, "... once");
	set_driver("vfio-pci");
	report();
	tap_ok(strstr(said, "outcome=brought-back reason=\"vfio-pci has it again"),
	       "... and its return");
	tap_ok(lease->state == GPUBROKER_LEASE_LEASED && !lease->work, "the lease goes on");
	end(lease);
	tap_ok(is_over_with("vfio-pci", "vfio-pci"),
	       "what was brought back to VFIO stays there: so somebody wanted it");
}

static void test_untouched(void)
{
	end(lend("bochs-drm", "nvidia"));
	tap_ok(!prepare_is_left(&broker.prepare, GROUP) && is_over_with("bochs-drm", "nvidia") &&
		       strstr(done, "driver_override unbind bind"),
	       "a function that nobody took goes back as it was");
}

static void test_taken(void)
{
	struct lease *lease = lend("bochs-drm", "");

	set_driver("bochs-drm");
	strcpy(override, "bochs-drm"); /* driverctl set-override */
	end(lease);
	tap_ok(is_over_with("bochs-drm", "bochs-drm"), "an override that driverctl set stays");

	lease = lend("vfio-pci", "vfio-pci");
	lease->functions[0].binding = 0;
	lease->state = GPUBROKER_LEASE_PREPARING;
	need(!lease_make(lease) && lease->state == GPUBROKER_LEASE_READY); /* nothing to bind */
	lease->state = GPUBROKER_LEASE_LEASED;
	set_driver("bochs-drm");
	override[0] = '\0'; /* driverctl unset-override, or virsh nodedev-reattach */
	end(lease);
	tap_ok(is_over_with("bochs-drm", ""), "a prepared function that was given back stays so");
	tap_ok(prepare_is_left(&broker.prepare, GROUP),
	       "... and its prepare rule does not take it again");

	lease = lend("bochs-drm", "");
	set_driver("vfio-pci"); /* driverctl set-override CARD vfio-pci */
	end(lease);
	tap_ok(is_over_with("vfio-pci", "vfio-pci") && !strcmp(done, "unbind bind "),
	       "one that was bound to VFIO anew stays on VFIO, unbound once between two users");

	lease = lend("bochs-drm", "");
	set_driver("");
	strcpy(override, "none"); /* driverctl set-override CARD none */
	end(lease);
	tap_ok(is_over_with("", "none"), "one that is to have no driver has none");
}

static void bind_to_vfio(void)
{
	set_driver("vfio-pci");
}

static void bind_with_override(void)
{
	set_driver("vfio-pci");
	strcpy(override, "nvidia"); /* it is somebody else's now */
}

/* Somebody's unbind waits for the holder, whose lease ends meanwhile: then it is bound again. */
static void test_race(void)
{
	struct lease *lease = lend("bochs-drm", "");

	set_driver("");
	meanwhile = bind_to_vfio;
	at_read = true;
	end(lease);
	tap_ok(broker.leases.table.n == 1 && lease->state == GPUBROKER_LEASE_STUCK &&
		       strstr(done, "unbind "),
	       "one without a driver is free when an unbind that waits for its holder is over");
	done[0] = '\0';
	lease_retry(lease);
	run_all();
	tap_ok(is_over_with("vfio-pci", "vfio-pci") && strstr(done, "unbind bind"),
	       "... and what is bound to VFIO then stays there, unbound once between two users");

	lease = lend("bochs-drm", "");
	set_driver("");
	end(lease);
	tap_ok(broker.leases.table.n == 1 && strstr(lease->reason, "has the driver override"),
	       "one that was only unbound is looked at again");
	lease_retry(lease);
	run_all();
	tap_ok(broker.leases.table.n == 1 && strstr(lease->reason, "could not be put back"),
	       "... and is nobody's if it has no driver still");
	lease_retry(lease);
	run_all();
	tap_ok(!broker.leases.table.n && !*override, "... so it goes to the host");

	lease = lend("bochs-drm", "");
	set_driver("");
	meanwhile = bind_with_override;
	end(lease);
	tap_ok(broker.leases.table.n == 1 && lease->state == GPUBROKER_LEASE_STUCK &&
		       strstr(lease->reason, "bound to VFIO again meanwhile"),
	       "one that comes to VFIO while it is given back is not free yet");
	done[0] = '\0';
	lease_retry(lease);
	run_all();
	tap_ok(is_over_with("vfio-pci", "nvidia") && strstr(done, "unbind bind"),
	       "... but unbound from it first");
}

/* The VFIO driver has been unloaded since somebody took the function from it. */
static void test_unloaded(void)
{
	static const char unbind[] = "sys/bus/pci/drivers/vfio-pci/unbind";
	struct lease *lease = lend("bochs-drm", "");
	char path[200];

	snprintf(path, sizeof(path), "%s/%s", scratch_path, unbind);
	set_driver("");
	strcpy(override, "none");
	need(!unlink(path));
	end(lease);
	tap_ok(is_over_with("", "none"), "one whose VFIO driver was unloaded is free");
	scratch_write(unbind, "");
}

/* The broker ends, and the next one reads the record: nothing else is left of the lease. */
static void restart(struct lease *lease)
{
	char path[200], text[STORE_TEXT_MAX + 1] = "";
	cleanup_free struct lease *read = calloc(1, sizeof(*read));
	cleanup_file FILE *f = NULL;
	unsigned line;
	size_t n;

	snprintf(path, sizeof(path), "%s/state/%" PRIu64, scratch_path, lease->id);
	f = fopen(path, "re");
	need(f && read);
	n = fread(text, 1, sizeof(text), f);
	need(!lease_record_parse(text, n, read, &line));
	memcpy(lease->functions, read->functions, sizeof(lease->functions));
}

/* The end of the lease leaves what root has taken, also after a restart of the broker. */
static void test_restart(void)
{
	struct lease *lease = lend("bochs-drm", "");

	restart(lease);
	end(lease);
	tap_ok(is_over_with("bochs-drm", "") && strstr(done, "driver_override unbind bind"),
	       "after a restart of the broker what nobody took goes back");

	lease = lend("bochs-drm", "");
	set_driver("vfio-pci"); /* driverctl set-override CARD vfio-pci */
	restart(lease);
	end(lease);
	tap_ok(is_over_with("vfio-pci", "vfio-pci") && !strcmp(done, "unbind bind "),
	       "... and what was bound to VFIO anew stays there");

	lease = lend("vfio-pci", "vfio-pci");
	restart(lease);
	set_driver("bochs-drm");
	override[0] = '\0';
	taken_note(lease); /* its holder was found */
	end(lease);
	tap_ok(is_over_with("bochs-drm", ""), "... and an override that was cleared stays so");

	lease = lend("bochs-drm", "");
	set_driver("");
	strcpy(override, "none");
	meanwhile = bind_to_vfio; /* so it is not over at once */
	at_read = true;
	end(lease);
	need(broker.leases.table.n == 1 && lease->functions[0].taken);
	set_driver("");
	restart(lease);
	tap_ok(lease->functions[0].taken, "... and so is what was found to be taken before");
	lease_retry(lease);
	run_all();
	tap_ok(is_over_with("", "none"), "... which stays without a driver");

	lease = lend("bochs-drm", "");
	lease->functions[0].binding = 0;
	need(!lease_record_write(&broker.store, lease));
	restart(lease);
	end(lease);
	tap_ok(is_over_with("bochs-drm", ""), "by a record without its binding it goes back");

	/* Killed when it has just unbound it: that was the broker. */
	lease = lend("bochs-drm", "");
	lease_recall(lease, "revoked");
	restart(lease);
	set_driver("");
	tap_ok(!lease->functions[0].binding && !lease->functions[0].taken,
	       "what the broker has begun to give back is not taken, if it ends meanwhile");
	run_all();
	tap_ok(is_over_with("bochs-drm", ""), "... and goes back");
}

static void set_none(void)
{
	strcpy(override, "none");
	set_driver("");
}

static void set_vfio(void)
{
	strcpy(override, "vfio-pci");
	set_driver("vfio-pci");
}

/* Somebody changes it while it is given back, which may wait for its holder for hours. */
static void test_meanwhile(void)
{
	struct lease *lease = lend("bochs-drm", "");

	meanwhile = set_none;
	at_read = true;
	end(lease);
	tap_ok(is_over_with("", "none") && !strstr(done, "bind driver_override"),
	       "an override that somebody sets while the lease ends is not written over");

	lease = lend("bochs-drm", "");
	meanwhile = set_vfio;
	at_read = true;
	end(lease);
	tap_ok(is_over_with("vfio-pci", "vfio-pci") && strstr(done, "bind unbind bind"),
	       "... nor one of a VFIO driver, from which it comes once more between two users");

	lease = lend("bochs-drm", "nvidia");
	fails = "driver_override";
	end(lease);
	tap_ok(broker.leases.table.n == 1 && !lease->functions[0].taken &&
		       lease->state == GPUBROKER_LEASE_STUCK,
	       "one that could not be written is the broker's to try again");
	fails = NULL;
	lease_retry(lease);
	run_all();
	tap_ok(is_over_with("bochs-drm", "nvidia"), "... which it does");
}

/* Whoever waits for a lock that the holder keeps comes before what the broker has to bind. */
static void test_gives_way(void)
{
	struct lease *lease = lend("bochs-drm", "nvidia");

	lease->busy = true;
	end(lease);
	tap_ok(is_over_with("bochs-drm", "nvidia") && !strcmp(done, "driver_override unbind bind "),
	       "a card that its holder was asked for goes back if nobody wants it otherwise");

	lease = lend("bochs-drm", "");
	lease->busy = true;
	end(lease);
	tap_ok(is_over_with("bochs-drm", "") && !strcmp(done, "driver_override unbind bind "),
	       "... so does one without an override, which the kernel prints as (null)");

	lease = lend("bochs-drm", "");
	lease->busy = true;
	meanwhile = set_none;
	at_read = true;
	end(lease);
	tap_ok(is_over_with("", "none") && !strstr(done, "unbind bind"),
	       "one that somebody has waited for is not bound by the broker before");

	lease = lend("bochs-drm", "");
	lease->busy = true;
	lease_recall(lease, "revoked");
	fake_run_all();
	bind_to_vfio(); /* by an id that driverctl has added; the override is not written yet */
	run_all();
	tap_ok(is_over_with("vfio-pci", "") && strstr(done, "unbind unbind bind"),
	       "... nor one that somebody has bound, whatever its override");

	lease = lend("bochs-drm", "");
	lease->busy = true;
	meanwhile = set_vfio;
	at_read = true;
	lease_recall(lease, "revoked");
	fake_be_late(fake_first());
	need(lease->state == GPUBROKER_LEASE_ASKED);
	fake_run_all();
	lease_closed(lease); /* the kernel tells of it when its worker has ended its wait */
	run_all();
	tap_ok(is_over_with("vfio-pci", "vfio-pci") &&
		       !strcmp(done, "driver_override unbind unbind bind "),
	       "... nor if the holder's close is told late, and stays where somebody put it");
}

/* The kernel binds no host driver as long as the group is a holder's. */
static void test_probe(void)
{
	struct lease *lease = lend("bochs-drm", "");

	set_driver("");
	override[0] = '\0'; /* virsh nodedev-reattach, whose drivers_probe fails with EBUSY */
	end(lease);
	tap_ok(is_over_with("bochs-drm", "") && strstr(done, "drivers_probe"),
	       "one without a driver is offered to the host's when the group is free");

	lease = lend("bochs-drm", "");
	set_driver("");
	strcpy(override, "none");
	end(lease);
	tap_ok(is_over_with("", "none") && strstr(done, "drivers_probe") &&
		       !strstr(strstr(done, "drivers_probe") + 1, "drivers_probe"),
	       "... once, and stays without if none may have it");
}

int main(void)
{
	static const char *const files[] = {
		"bus/pci/drivers_probe",
		"bus/pci/drivers/vfio-pci/bind",
		"bus/pci/drivers/vfio-pci/unbind",
		"bus/pci/drivers/bochs-drm/bind",
		"bus/pci/drivers/bochs-drm/unbind",
	};
	char path[200];

	broker_make();
	fake.answer = kernel_does;
	add_function(CARD, "0x030000\n", GROUP);
	for (size_t i = 0; i < ARRAY_SIZE(files); i++) {
		snprintf(path, sizeof(path), "sys/%s", files[i]);
		scratch_write(path, "");
	}
	scratch_write("dev/vfio/vfio", "");
	snprintf(path, sizeof(path), "%s/dev", scratch_path);
	broker.kernel.dev = open(path, O_PATH | O_DIRECTORY | O_CLOEXEC);
	snprintf(path, sizeof(path), "%s/state", scratch_path);
	need(!mkdir(path, 0700));
	broker.store.directory = open(path, O_RDONLY | O_DIRECTORY | O_CLOEXEC);
	need(broker.kernel.dev >= 0 && broker.store.directory >= 0);
	test_journal();
	test_untouched();
	test_taken();
	test_race();
	test_unloaded();
	test_restart();
	test_meanwhile();
	test_gives_way();
	test_probe();
	broker_drop();
	return tap_done();
}
