/* SPDX-License-Identifier: MIT */
/*
 * Changing the number of virtual functions, beside a kernel of files. It does the steps of
 * brokerd/prepare/sriov-change.c here, in their order, so that the daemon can die, or a step fail,
 * at any of them. tests/vm/cases/29-vfs.t, 29-vfs-policy.t and tests/vm/torture.d/12-vfs.t run the
 * same on a real kernel.
 */
#include "config.h"

#include "brokerd/lease/bringup.h"
#include "brokerd/prepare/prepare.h"
#include "brokerd/record/lease-record.h"
#include "brokerd/prepare/sriov-policy.h"
#include "brokerd/record/vf-record.h"
#include "brokerd/process/worker.h"
#include "tests/unit/brokerd/fake-worker.h"
#include "tests/unit/brokerd/last-log.h"
#include "tests/unit/brokerd/world.h"
#include "tests/tap.h"

#include <ftw.h>
#include <stdarg.h>

#define PF "0000:0b:00.0"
#define GPU "0000:01:00.0"
#define TOTAL 4

/* ---- the kernel ---- */

static struct {
	unsigned vfs, autoprobe;
	char driver[TOTAL][32], override[TOTAL][32];
	bool seen[TOTAL];		/* a host driver has bound it */
	bool no_vfio;			/* no VFIO driver binds */
	bool no_driver;			/* no driver that could create VFs */
	unsigned most;			/* creating more fails */
	unsigned to_others;		/* writes of a number while there are VFs */
	unsigned long quantum, timeout; /* in sriov_admin */
	bool no_timeout;		/* the driver refuses the timeout */
} sim;

static void address_of(unsigned vf, char out[PCI_ADDRESS_TEXT])
{
	snprintf(out, PCI_ADDRESS_TEXT, "0000:0b:00.%u", (vf + 1) & 7);
}

static void link_to(const char *target, const char *format, ...)
	__attribute__((format(printf, 2, 3)));
static void link_to(const char *target, const char *format, ...)
{
	char path[200];
	va_list args;
	int n = snprintf(path, sizeof(path), "%s/sys/bus/pci/devices/", scratch_path);

	va_start(args, format);
	vsnprintf(path + n, sizeof(path) - (size_t)n, format, args);
	va_end(args);
	unlink(path);
	if (target)
		need(!symlink(target, path));
}

static void set_driver(unsigned vf, const char *driver)
{
	char address[PCI_ADDRESS_TEXT], target[64];

	address_of(vf, address);
	snprintf(sim.driver[vf], sizeof(sim.driver[vf]), "%s", driver);
	snprintf(target, sizeof(target), "../../drivers/%s", driver);
	link_to(*driver ? target : NULL, "%s/driver", address);
	if (*driver && !driver_is_vfio(driver))
		sim.seen[vf] = true;
}

static struct watcher_record record_of(const char *address, enum watcher_record_type type)
{
	struct watcher_record r = { .type = type, .vendor = 0x1234, .device = 0x1111 };

	need(!pci_address_parse(address, &r.address));
	if (!strcmp(address, PF)) {
		r.group = 20;
		r.vfs_total = TOTAL;
		strcpy(r.driver, "nvme");
	} else {
		r.is_vf = 1;
		r.group = 20u + r.address.function;
		need(!pci_address_parse(PF, &r.physfn));
	}
	return r;
}

static void tell_core(const char *address, enum watcher_record_type type)
{
	const struct watcher_record r = record_of(address, type);

	sriov_policy_device_seen(&broker.sriov, &r);
	need(!devices_take(&broker.devices, &r));
}

static void make_vfs(unsigned n)
{
	char address[PCI_ADDRESS_TEXT], path[200], target[64];

	for (unsigned i = 0; i < (n ? n : sim.vfs); i++) {
		address_of(i, address);
		snprintf(path, sizeof(path), "%s/sys/bus/pci/devices/%s", scratch_path, address);
		if (!n) {
			nftw(path, scratch_drop, 8, FTW_DEPTH | FTW_PHYS);
			link_to(NULL, PF "/virtfn%u", i);
			tell_core(address, WATCHER_GONE);
			continue;
		}
		add_function(address, "0x010802\n", 21 + (int)i);
		link_to("../" PF, "%s/physfn", address);
		snprintf(target, sizeof(target), "../%s", address);
		link_to(target, PF "/virtfn%u", i);
		sim.override[i][0] = '\0';
		sim.seen[i] = false;
		set_driver(i, sim.autoprobe ? "nvme" : "");
		tell_core(address, WATCHER_DEVICE);
	}
	sim.vfs = n;
}

static int vf_at(const struct pci_address *address)
{
	need(address->bus == 0x0b && address->function >= 1 && address->function <= TOTAL);
	return address->function - 1;
}

/* ---- its workers ---- */

/* Does one step, as the kernel would. Returns its errno. */
static int do_step(const struct fake_step *step, char text[FAKE_TEXT_MAX])
{
	unsigned long value = strtoul(step->text, NULL, 10);
	struct pci_address address;

	if (!strcmp(step->what, "exec_quantum_ms")) {
		sim.quantum = value;
		return 0;
	}
	if (!strcmp(step->what, "preempt_timeout_us")) {
		if (sim.no_timeout)
			return EINVAL;
		sim.timeout = value;
		return 0;
	}
	if (!strcmp(step->what, "reading sriov_numvfs")) {
		sprintf(text, "%u", sim.vfs);
	} else if (!strcmp(step->what, "reading sriov_drivers_autoprobe")) {
		sprintf(text, "%u", sim.autoprobe);
	} else if (!strcmp(step->what, "sriov_drivers_autoprobe")) {
		need(value <= 1 && step->text[0]);
		sim.autoprobe = (unsigned)value;
	} else if (!strcmp(step->what, "sriov_numvfs")) {
		if (value && value == sim.vfs)
			return 0;
		if (value && sim.vfs) {
			sim.to_others++;
			return EBUSY;
		}
		if (sim.no_driver)
			return ENOENT;
		if (value > sim.most)
			return ENOMEM;
		make_vfs((unsigned)value);
	} else if (!strcmp(step->what, "driver_override")) {
		int vf = vf_at(&step->address);

		snprintf(sim.override[vf], sizeof(sim.override[vf]), "%.*s",
			 (int)strcspn(step->text, "\n"), step->text);
	} else if (!strcmp(step->what, "unbind")) {
		set_driver((unsigned)vf_at(&step->address), "");
	} else if (!strcmp(step->what, "drivers_probe")) {
		int vf;

		need(!pci_address_parse(step->text, &address));
		vf = vf_at(&address);
		if (sim.override[vf][0] && !sim.no_vfio)
			set_driver((unsigned)vf, sim.override[vf]);
		else if (!sim.override[vf][0] && sim.autoprobe)
			set_driver((unsigned)vf, "nvme");
	} else {
		need(!strcmp(step->what, "a step that is known"));
	}
	return 0;
}

/* There is one PF, so there is at most one worker. */
static int may_start(void)
{
	need(!fake_first());
	return 0;
}

/* ---- the daemon ---- */

/* Connects anew, as root. */
static void dial_root(int *fd)
{
	if (*fd >= 0)
		hang_up(*fd);
	*fd = dial_in(0);
	last_is_user(0);
}

/* Drops what a death takes with it, and makes what a start makes. */
static void forget(void)
{
	sriov_done(&broker.sriov);
	prepare_done(&broker.prepare);
	fake_forget();
	broker.sriov.soon = broker.sriov.wanted = broker.sriov.full = false;
	broker.prepare.wanted = false;
	need(!prepare_init(&broker.prepare) && !sriov_init(&broker.sriov));
}

/* Dies and starts again: only the kernel's state and the records are left. */
static void die_and_start(int *fd)
{
	dial_root(fd);
	forget();
	need(!sriov_recover(&broker.sriov));
	fake_run_all();
}

static bool no_records(void)
{
	char path[160];

	snprintf(path, sizeof(path), "%s/leases", scratch_path);
	return !count_entries(path);
}

/*
 * Returns true if there are n VFs, all on VFIO by their overrides and never on another driver, and
 * nothing else has changed.
 */
static bool are(unsigned n)
{
	bool right = sim.vfs == n && sim.autoprobe == 1 && no_records() && !sim.to_others &&
		     !broker.workers.busy;

	for (unsigned i = 0; i < sim.vfs; i++)
		right = right && !strcmp(sim.driver[i], "vfio-pci") &&
			!strcmp(sim.override[i], "vfio-pci") && !sim.seen[i];
	if (!right)
		printf("# %u VFs, autoprobe %u, %s%s, first on '%s' by '%s'%s\n", sim.vfs,
		       sim.autoprobe, no_records() ? "no records" : "records",
		       sim.to_others ? ", from number to number" : "", sim.vfs ? sim.driver[0] : "",
		       sim.vfs ? sim.override[0] : "", sim.vfs && sim.seen[0] ? ", seen" : "");
	return right;
}

static void ask(int fd, const char *address, uint32_t n)
{
	struct message_vfs request = { .type = MESSAGE_VFS, .vfs = n };

	need(!pci_address_parse(address, &request.address));
	fake.n_steps = 0;
	say(fd, &request, sizeof(request));
	turn(TURNS);
}

static union answer answer;

static bool told_done(int fd)
{
	return hear(fd, &answer) == sizeof(struct message_plain) && answer.type == MESSAGE_END;
}

static bool told_no(int fd, uint32_t reason)
{
	return hear(fd, &answer) == sizeof(struct message_refusal) &&
	       answer.type == MESSAGE_REFUSAL && answer.refusal.reason == reason;
}

static bool to(int fd, uint32_t n)
{
	ask(fd, PF, n);
	fake_run_all();
	return told_done(fd) && are(n);
}

static void test_makes(int fd)
{
	tap_ok(to(fd, 2), "two are made");
	fake.n_steps = 0;
	ask(fd, PF, 2);
	fake_run_all();
	tap_ok(told_done(fd) && fake.n_steps == 2 && are(2),
	       "as many as there are: only looked at");
	tap_ok(to(fd, 4), "four, by way of none");
	tap_ok(to(fd, 1), "one, likewise");
	tap_ok(to(fd, 0), "none");
	sim.autoprobe = 0;
	ask(fd, PF, 3);
	fake_run_all();
	tap_ok(told_done(fd) && sim.vfs == 3 && !sim.autoprobe, "autoprobe that was off stays off");
	sim.autoprobe = 1;
	need(to(fd, 0));
	make_vfs(2);
	ask(fd, PF, 2);
	fake_run_all();
	tap_ok(told_done(fd) && !strcmp(sim.driver[1], "vfio-pci"),
	       "what a host driver has is taken over");
	need(to(fd, 0));
}

static void test_refuses(int fd)
{
	struct lease *lease;

	ask(fd, PF, 5);
	tap_ok(told_no(fd, GPUBROKER_REFUSED_NO_VFS) && answer.refusal.limit == TOTAL,
	       "more than there can be, and how many there can be");
	ask(fd, GPU, 1);
	tap_ok(told_no(fd, GPUBROKER_REFUSED_NO_VFS) && !answer.refusal.limit, "no SR-IOV");
	ask(fd, "0000:77:00.0", 1);
	tap_ok(told_no(fd, GPUBROKER_REFUSED_NO_DEVICE), "no device");
	link_to(NULL, PF "/driver");
	ask(fd, PF, 1);
	tap_ok(told_no(fd, GPUBROKER_REFUSED_NO_VFS) && strstr(answer.refusal.text, "host driver"),
	       "no driver that could make them");
	link_to("../../drivers/vfio-pci", PF "/driver");
	ask(fd, PF, 1);
	tap_ok(told_no(fd, GPUBROKER_REFUSED_NO_VFS) && !strcmp(answer.refusal.driver, "vfio-pci"),
	       "a VFIO driver makes none");
	link_to("../../drivers/nvme", PF "/driver");

	need(to(fd, 2));
	lease = lease_new(&broker.leases.table, 7, 22);
	need(lease);
	lease_set_kind(lease);
	lease->state = GPUBROKER_LEASE_LEASED;
	lease->uid = 1000;
	ask(fd, PF, 4);
	tap_ok(told_no(fd, GPUBROKER_REFUSED_BUSY) && answer.refusal.lease == 7 &&
		       answer.refusal.other.function == 2 && answer.refusal.holder_uid == 1000 &&
		       are(2),
	       "another number while one is lent: which, and whose");
	ask(fd, PF, 2);
	fake_run_all();
	tap_ok(told_done(fd) && are(2), "the same number is no change");
	lease->group = 20;
	ask(fd, PF, 0);
	tap_ok(told_no(fd, GPUBROKER_REFUSED_BUSY) && answer.refusal.address.function == 0 &&
		       are(2),
	       "the physical function itself is lent");
	lease_free(lease);

	ask(fd, PF, 4);
	need(fake_first());
	{
		int other = dial_in(0);

		last_is_user(0);
		ask(other, PF, 3);
		tap_ok(told_no(other, GPUBROKER_REFUSED_BUSY) &&
			       answer.refusal.detail == REFUSAL_SRIOV,
		       "while they are being made, nobody else can ask for another number");
		hang_up(other);
	}
	fake_run_all();
	need(told_done(fd));
}

static void test_claims(int fd)
{
	struct message_claim claim = claim_by(SELECT_ADDRESS);
	int user = dial_in(0);

	ask(fd, PF, 2);
	need(fake_first());
	need(!pci_address_parse("0000:0b:00.1", &claim.selectors[0].address));
	say(user, &claim, sizeof(claim));
	turn(TURNS);
	tap_ok(told_no(user, GPUBROKER_REFUSED_BUSY) && answer.refusal.detail == REFUSAL_SRIOV,
	       "one of those that are to go cannot be claimed");
	need(!pci_address_parse(PF, &claim.selectors[0].address));
	say(user, &claim, sizeof(claim));
	turn(TURNS);
	tap_ok(hear(user, &answer) == sizeof(struct message_refusal), "nor the physical function");
	hang_up(user);
	fake_run_all();
	need(told_done(fd) && are(2));
}

/* Whatever step fails, the VFs are afterwards as before or as requested. */
static void test_failures(int fd)
{
	unsigned steps, wrong = 0, unnamed = 0;

	need(to(fd, 2) && to(fd, 4));
	steps = fake.n_steps;
	need(to(fd, 2));
	for (unsigned i = 1; i <= steps; i++) {
		fake.fails_at = i;
		ask(fd, PF, 4);
		fake_run_all();
		fake.fails_at = 0;
		if (hear(fd, &answer) <= 0)
			wrong++;
		if (answer.type == MESSAGE_REFUSAL &&
		    (!answer.refusal.text[0] || !answer.refusal.error))
			unnamed++;
		/*
		 * The broker reports that it could not put autoprobe back; nothing else can be
		 * done.
		 */
		if (answer.type == MESSAGE_REFUSAL && answer.refusal.detail == REFUSAL_NOT_RESTORED)
			sim.autoprobe = 1;
		if (!are(answer.type == MESSAGE_END ? 4 : sim.vfs) ||
		    (sim.vfs != 2 && sim.vfs != 4)) {
			printf("# step %u of %u\n", i, steps);
			wrong++;
		}
		need(to(fd, 0) && to(fd, 2));
	}
	tap_ok(steps > 10 && !wrong, "each of %u steps fails: as before, or as asked for", steps);
	tap_ok(!unnamed, "and which it was is said");

	sim.no_driver = true;
	ask(fd, PF, 4);
	fake_run_all();
	tap_ok(told_no(fd, GPUBROKER_REFUSED_NO_VFS) &&
		       strstr(answer.refusal.text, "host driver") && are(2),
	       "a host driver that makes none: said, and as before");
	sim.no_driver = false;
	sim.most = 3;
	ask(fd, PF, 4);
	fake_run_all();
	tap_ok(told_no(fd, GPUBROKER_REFUSED_FAILED) && answer.refusal.error == ENOMEM &&
		       !answer.refusal.detail && are(2),
	       "the kernel cannot make so many: as before");
	sim.most = TOTAL;
	sim.no_vfio = true;
	ask(fd, PF, 4);
	fake_run_all();
	tap_ok(told_no(fd, GPUBROKER_REFUSED_FAILED) &&
		       answer.refusal.detail == REFUSAL_NOT_RESTORED && sim.autoprobe == 1 &&
		       no_records(),
	       "no VFIO driver takes them, nor those there were: it is said that not all is as before");
	sim.no_vfio = false;
	need(to(fd, 0));
	make_vfs(1);
	sim.no_vfio = true;
	ask(fd, PF, 3);
	fake_run_all();
	tap_ok(told_no(fd, GPUBROKER_REFUSED_FAILED) && !answer.refusal.detail && sim.vfs == 1 &&
		       !strcmp(sim.driver[0], "nvme") && !sim.override[0][0] && sim.autoprobe == 1,
	       "what a host driver had before, it has again");
	sim.no_vfio = false;
	need(to(fd, 0));
}

/* Whenever the daemon dies, the next one finishes the request. */
static void test_deaths(int *ret_fd)
{
	unsigned steps, wrong = 0, before = 0, twice = 0;

	need(to(*ret_fd, 2) && to(*ret_fd, 4));
	steps = fake.n_steps;
	need(to(*ret_fd, 2));
	for (unsigned i = 1; i <= steps; i++) {
		fake.dies_at = i;
		ask(*ret_fd, PF, 4);
		fake_run_all();
		fake.n_steps = 0;
		die_and_start(ret_fd);
		if (!are(sim.vfs) || (sim.vfs != 2 && sim.vfs != 4)) {
			printf("# dies at step %u of %u\n", i, steps);
			wrong++;
		}
		before += sim.vfs == 2;
		need(to(*ret_fd, 0) && to(*ret_fd, 2));
	}
	tap_ok(!wrong, "it dies before each of %u steps: never in between", steps);
	tap_ok(before == 2, "as before only where nothing was recorded yet (%u)", before);

	wrong = 0;
	for (unsigned i = 1; i <= steps; i += 3) {
		for (unsigned j = 1; j <= steps; j++) {
			fake.dies_at = i;
			ask(*ret_fd, PF, 4);
			fake_run_all();
			forget();
			fake.n_steps = 0;
			fake.dies_at = j;
			need(!sriov_recover(&broker.sriov));
			fake_run_all();
			die_and_start(ret_fd);
			twice++;
			wrong += !are(sim.vfs) || (sim.vfs != 2 && sim.vfs != 4);
			need(to(*ret_fd, 0) && to(*ret_fd, 2));
		}
	}
	tap_ok(!wrong, "and its successor too, at any of its steps (%u times)", twice);
	need(to(*ret_fd, 0));
}

/* The daemon dies when the VFs are created and none is bound, and then none can be bound. */
static void test_death_and_failure(int *fd)
{
	bool died = false;

	for (unsigned i = 1; i < 20 && !died; i++) {
		fake.dies_at = i;
		ask(*fd, PF, 4);
		fake_run_all();
		died = sim.vfs == 4 && !driver_is_vfio(sim.driver[0]);
		sim.no_vfio = died;
		die_and_start(fd);
		if (!died)
			need(to(*fd, 0));
	}
	tap_ok(died && are(0), "what an earlier run made and this one cannot bind goes again");
	sim.no_vfio = false;
	need(to(*fd, 0));
}

static void test_records(int *fd)
{
	static const char other[] = "gpubroker vfs 1\nfunction " PF
				    " 8086 1572\nautoprobe 1\nbefore 0\n"
				    "before-on-vfio 1\nwanted 4\nby 0\ndriver -\nend\n";
	static const char gone[] = "gpubroker vfs 1\nfunction 0000:77:00.0 8086 1572\nautoprobe 1\n"
				   "before 0\nbefore-on-vfio 1\nwanted 4\nby 0\ndriver -\nend\n";
	static const char lent[] = "gpubroker vfs 1\nfunction " PF
				   " 1234 1111\nautoprobe 1\nbefore 2\n"
				   "before-on-vfio 1\nwanted 4\nby 0\ndriver -\nend\n";
	struct lease *lease;
	char path[200];

	scratch_write("leases/vfs-0000:0b:00-0", other);
	die_and_start(fd);
	snprintf(path, sizeof(path), "%s/leases/vfs-0000:0b:00-0.damaged", scratch_path);
	tap_ok(!sim.vfs && !unlink(path), "a record of another card at the address is set aside");
	scratch_write("leases/vfs-0000:0b:00-0", "gpubroker vfs 1\nhalf");
	die_and_start(fd);
	tap_ok(!sim.vfs && !unlink(path), "so is one that is damaged");
	scratch_write("leases/vfs-0000:77:00-0", gone);
	die_and_start(fd);
	tap_ok(no_records(), "one of a card that is gone is dropped");

	need(to(*fd, 2));
	lease = lease_new(&broker.leases.table, 7, 22);
	need(lease);
	lease_set_kind(lease);
	lease->state = GPUBROKER_LEASE_LEASED;
	sim.autoprobe = 0; /* as the writer of the record left it */
	scratch_write("leases/vfs-0000:0b:00-0", lent);
	die_and_start(fd);
	tap_ok(are(2), "what is lent stays, whatever a record wants; autoprobe is put back");
	lease_free(lease);
	need(to(*fd, 0));
}

/* ---- the policy ---- */

/* Has a timer's time come now. Returns false if it is not set. */
static bool hurry(struct event *timer)
{
	if (!timer || !evtimer_pending(timer, NULL))
		return false;
	evtimer_del(timer);
	event_active(timer, EV_TIMEOUT, 1);
	return true;
}

/*
 * Until the broker waits for nothing but its next attempt, which is seconds away. The time that the
 * machine takes has no part in it: whatever else the broker waits for comes at once.
 */
static void wait_and_work(void)
{
	const struct sriov *sriov = &broker.sriov;
	bool more = true;

	for (int i = 0; i < 1000 && more; i++) {
		const struct pf *pf;

		turn(TURNS);
		fake_run_all();
		more = sriov->soon && hurry(sriov->timer);
		TAILQ_FOREACH(pf, &sriov->list, link)
			more = hurry(pf->timer) || more || pf->phase != SRIOV_IDLE;
	}
	need(!more);
}

/* Quotas of each VF; there are three, as the rule says. */
static void test_quotas(int fd, struct policy_rule *rule)
{
	static const char admin[] = "sys/bus/pci/devices/" PF "/sriov_admin";
	char path[256];

	rule->vf_exec_quantum_ms = 20;
	last_log[0] = '\0';
	fake.n_steps = 0;
	sriov_policy_look_at_all(&broker.sriov);
	wait_and_work();
	tap_ok(are(3) && strstr(last_log, "outcome=no-quota") && strstr(last_log, "no sriov_admin"),
	       "a driver that knows no quotas: said, and they are of use without");
	last_log[0] = '\0';
	tell_core(PF, WATCHER_DEVICE);
	wait_and_work();
	tap_ok(!last_log[0], "... and not said again");

	snprintf(path, sizeof(path), "%s/%s", scratch_path, admin);
	need(!mkdir(path, 0755));
	snprintf(path, sizeof(path), "%s/%s/.bulk_profile", scratch_path, admin);
	need(!mkdir(path, 0755));
	snprintf(path, sizeof(path), "%s/.bulk_profile/exec_quantum_ms", admin);
	scratch_write(path, "");
	snprintf(path, sizeof(path), "%s/.bulk_profile/preempt_timeout_us", admin);
	scratch_write(path, "");
	rule->vf_preempt_timeout_us = 500;
	fake.n_steps = sim.to_others = 0;
	sriov_policy_look_at_all(&broker.sriov);
	wait_and_work();
	tap_ok(are(3) && sim.quantum == 20 && sim.timeout == 500,
	       "quotas of a policy that is loaded anew are set");
	tap_ok(fake.n_steps < 8, "... and nothing is made for that (%u steps)", fake.n_steps);
	fake.n_steps = 0;
	tell_core(PF, WATCHER_DEVICE);
	wait_and_work();
	tap_ok(!fake.n_steps, "... once");
	sim.quantum = sim.timeout = 0;
	make_vfs(0);
	wait_and_work();
	tap_ok(are(3) && sim.quantum == 20 && sim.timeout == 500,
	       "they are set when the virtual functions are made anew");
	sim.quantum = sim.timeout = 0;
	tap_ok(to(fd, 2) && sim.quantum == 20 && sim.timeout == 500,
	       "... also where root says how many");
	sriov_policy_look_at_all(&broker.sriov);
	wait_and_work();
	need(are(3));
	sim.no_timeout = true;
	rule->vf_preempt_timeout_us = 501;
	last_log[0] = '\0';
	sriov_policy_look_at_all(&broker.sriov);
	wait_and_work();
	tap_ok(are(3) && sim.timeout == 500 && strstr(last_log, "preempt_timeout_us is not set"),
	       "one that the driver does not take is said, and they stay");
	rule->vf_exec_quantum_ms = rule->vf_preempt_timeout_us = 0;
}

static void test_policy(int fd)
{
	static struct policy_file file = { "/etc/gpubroker/policy.d/10-vfs.policy" };
	static struct policy_rule rule;

	rule = (struct policy_rule){
		.verb = POLICY_PREPARE,
		.name = POLICY_NO_NAME,
		.match = { .attributes = POLICY_VENDOR, .vendor = 0x1234, POLICY_MATCH_NO_TEXTS },
		.vfio_driver = POLICY_NO_TEXT,
		.vfs = 3,
		.line = 1,
		.column = 1,
	};
	need(policy_rule_valid(&rule, 0, 1, NULL, 0));
	broker.policy.policy =
		(struct policy){ .rules = &rule, .n_rules = 1, .files = &file, .n_files = 1 };
	sriov_policy_look_at_all(&broker.sriov);
	wait_and_work();
	tap_ok(are(3), "the policy has three made");
	make_vfs(0);
	wait_and_work();
	tap_ok(are(3), "what takes them away does not last");
	set_driver(1, "");
	tell_core("0000:0b:00.2", WATCHER_DEVICE);
	wait_and_work();
	tap_ok(are(3), "one that is off VFIO goes back there");
	need(to(fd, 1));
	tell_core(PF, WATCHER_DEVICE);
	wait_and_work();
	tap_ok(are(1), "root's number stays");
	sriov_policy_look_at_all(&broker.sriov);
	wait_and_work();
	tap_ok(are(3), "... until the policy is loaded anew");
	rule.vfs = 9;
	last_log[0] = '\0';
	sriov_policy_look_at_all(&broker.sriov);
	wait_and_work();
	tap_ok(are(3) && strstr(last_log, "at most 4 virtual functions, not 9"),
	       "more than there can be: said, and left");
	rule.vfs = 4;
	sim.most = 3;
	sriov_policy_look_at_all(&broker.sriov);
	fake.n_steps = 0;
	for (int i = 0; i < 4; i++) {
		tell_core(PF, WATCHER_DEVICE);
		wait_and_work();
	}
	tap_ok(are(3) && fake.n_steps > 20,
	       "what the kernel cannot make is tried, and is as before");
	fake.n_steps = 0;
	tell_core(PF, WATCHER_DEVICE);
	wait_and_work();
	tap_ok(are(3) && !fake.n_steps, "... but not for ever");
	sim.most = TOTAL;
	rule.vfs = 3;
	sriov_policy_look_at_all(&broker.sriov);
	wait_and_work();
	test_quotas(fd, &rule);
	broker.policy.policy.n_rules = 0;
	sriov_policy_look_at_all(&broker.sriov);
	wait_and_work();
	tap_ok(are(3), "a rule that goes takes nothing away");
}

/*
 * A compromised watcher can make the core keep only so much, where the policy wants virtual
 * functions.
 */
static void test_watcher(void)
{
	struct watcher_record vf = record_of("0000:0b:00.1", WATCHER_DEVICE), pf;
	const size_t before = broker.sriov.n;

	broker.sriov.wanted = true;
	for (uint32_t domain = 1; domain <= 1000; domain++) {
		vf.physfn.domain = domain;
		sriov_policy_device_seen(&broker.sriov, &vf);
	}
	tap_ok(broker.sriov.n == before, "a function that nobody told has no virtual ones");
	pf = record_of(PF, WATCHER_DEVICE);
	for (uint32_t domain = 1; domain <= 2 * SRIOV_PFS_MAX; domain++) {
		pf.address.domain = domain;
		pf.type = WATCHER_DEVICE;
		sriov_policy_device_seen(&broker.sriov, &pf);
		need(!devices_take(&broker.devices, &pf));
		pf.type = WATCHER_GONE;
		sriov_policy_device_seen(&broker.sriov, &pf);
		need(!devices_take(&broker.devices, &pf));
	}
	tap_ok(broker.sriov.n <= SRIOV_PFS_MAX && strstr(last_log, "are ignored"),
	       "functions that come and go make no list without end (%zu)", broker.sriov.n);
	broker.policy.policy.n_rules = 1;
	broker.policy.good = true;
	wait_and_work();
	tap_ok(broker.sriov.n == before, "and are forgotten when they are looked at (%zu)",
	       broker.sriov.n);
	broker.policy.policy.n_rules = 0;
	sriov_policy_look_at_all(&broker.sriov);
}

int main(void)
{
	struct policy_rule all;
	char path[160];
	int fd;

	broker_make();
	fake.answer = do_step;
	fake.start = may_start;
	broker_allow_all(&all);
	broker.prepare.open = broker.sriov.open = true;
	snprintf(path, sizeof(path), "%s/leases", scratch_path);
	need(!mkdir(path, 0755));
	broker.store.directory = open(path, O_RDONLY | O_DIRECTORY | O_CLOEXEC);
	add_function(GPU, "0x030000\n", 1);
	add_function(PF, "0x010802\n", 20);
	scratch_write("sys/bus/pci/devices/" PF "/sriov_totalvfs", "4\n");
	scratch_write("sys/bus/pci/devices/" PF "/sriov_numvfs", "0\n");
	scratch_write("sys/bus/pci/devices/" PF "/sriov_drivers_autoprobe", "1\n");
	scratch_write("sys/bus/pci/drivers_probe", "");
	link_to("../../drivers/nvme", PF "/driver");
	for (unsigned i = 0; i < TOTAL; i++) {
		scratch_write("sys/bus/pci/drivers/nvme/unbind", "");
		scratch_write("sys/bus/pci/drivers/vfio-pci/bind", "");
		scratch_write("sys/bus/pci/drivers/vfio-pci/unbind", "");
	}
	tell_core(PF, WATCHER_DEVICE);
	sim.autoprobe = 1;
	sim.most = TOTAL;

	fd = dial_in(0);
	last_is_user(1000);
	ask(fd, PF, 2);
	tap_ok(told_no(fd, GPUBROKER_REFUSED_NOT_YOURS) && !sim.vfs, "not for a user");
	last_is_user(0);
	broker.sriov.open = false;
	ask(fd, PF, 2);
	broker.sriov.open = true;
	tap_ok(told_no(fd, GPUBROKER_REFUSED_NOT_READY) && !sim.vfs,
	       "none is begun by a daemon that ends");
	test_makes(fd);
	test_refuses(fd);
	test_claims(fd);
	test_failures(fd);
	test_deaths(&fd);
	test_death_and_failure(&fd);
	test_records(&fd);
	test_policy(fd);
	test_watcher();
	hang_up(fd);
	broker_drop();
	return tap_done();
}
