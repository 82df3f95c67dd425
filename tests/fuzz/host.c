/* SPDX-License-Identifier: MIT */
/*
 * The core on a host that changes: functions that a prepare rule names, a physical
 * function whose virtual functions the policy or root wants, functions that come into a lent group
 * or leave it. The watcher reports what is so or not, drivers come and go, and workers come back
 * with the truth, an error, or any text. The daemon is that of tests/unit/brokerd/world.h, with all
 * of the core's own code.
 *
 * Whatever comes: no function of a leased group is changed that the lease does not have, none that
 * the host uses is taken from its driver, the number of virtual functions does not change while one
 * is leased, and all that is changed for a lease is recorded before. When everybody has gone and
 * every worker has come back, no lease, hold or record is left.
 *
 * About: brokerd/prepare/prepare.c brokerd/prepare/pf.c brokerd/prepare/sriov.c
 * brokerd/prepare/sriov-change.c brokerd/prepare/sriov-guard.c brokerd/prepare/sriov-policy.c
 * brokerd/prepare/order.c brokerd/lease/hotplug.c brokerd/lease/driver.c brokerd/state/holds.c
 */
#include "config.h"

#include <poll.h>

#include "brokerd/claim/claim.h"
#include "brokerd/lease/ending.h"
#include "brokerd/lease/recover.h"
#include "brokerd/prepare/order.h"
#include "brokerd/prepare/pf.h"
#include "brokerd/prepare/sriov-policy.h"
#include "brokerd/process/worker.h"
#include "tests/fuzz/descriptors.h"
#include "tests/fuzz/fuzz.h"
#include "tests/unit/brokerd/fake-worker.h"
#include "tests/unit/brokerd/last-log.h"
#include "tests/unit/brokerd/world.h"
#include "tests/unit/policy/parse.h"

const char fuzz_name[] = "host";

enum op {
	OP_RECORD, /* of the watcher: true */
	OP_LIE,	   /* of the watcher: any that devices_believe() lets through */
	OP_CHANGE, /* the kernel's own doing */
	OP_CLAIM,
	OP_VFS,
	OP_ROOT, /* release, restore */
	OP_LET_GO,
	OP_WORKER,
	OP_LATE,
	OP_TIMERS,
	OP_POLICY,
	OP_ALL, /* all workers, without lies */
	OP_DIE, /* the daemon dies, and starts again */
	N_OPS
};

#define OPS_MAX 48
#define HELD_MAX 16
#define VFS_MAX 4
#define PF 5 /* index in functions[]; its VFs follow */
#define GROUPS 64

#define HERE(bus_, function_, group_, class_, at_start_)                                           \
	{                                                                                          \
		.address = { .bus = (bus_), .function = (function_) }, .group = (group_),          \
		.class_code = (class_), .at_start = (at_start_)                                    \
	}

/*
 * 01:00: a card that a prepare rule names, with its sound. 02:00: lent to anybody, and more of it
 * may come. 0b:00: a card with virtual functions.
 */
static struct function_here {
	struct pci_address address;
	uint32_t group, class_code;
	bool at_start; /* else it comes later */
	bool here;
	bool in_use;
	char driver[32], override[32];
} functions[] = {
	HERE(1, 0, 31, 0x030000, true),	    HERE(1, 1, 31, 0x040300, true),
	HERE(2, 0, 41, 0x030000, true),	    HERE(2, 1, 41, 0x030000, false),
	HERE(2, 2, 41, 0x040300, false),    HERE(0x0b, 0, 20, 0x030000, true),
	HERE(0x0b, 1, 21, 0x030000, false), HERE(0x0b, 2, 22, 0x030000, false),
	HERE(0x0b, 3, 23, 0x030000, false), HERE(0x0b, 4, 24, 0x030000, false),
};

static const char *const texts_of_policies[] = {
	("prepare address 01:00.0\nprepare address 01:00.1\nallow any claim any\n"
	 "prepare address 0b:00.0 vfs 2 vf-exec-quantum-ms 20\n"),
	"allow any claim any\nprepare address 0b:00.0 vfs 4\n",
	"prepare any\nallow any claim any limit 2\n",
};
static struct parsed policies[ARRAY_SIZE(texts_of_policies)];

static int client = -1, root = -1;
static int held[HELD_MAX];
static size_t n_held;
static int ends_of[GROUPS]; /* readable: the last holder is gone; -1: there was none */
static bool watched[GROUPS];
static unsigned vfs, autoprobe;
static bool lied; /* a worker has reported what is not true */
static struct input *now;

/* ---- the kernel's files ---- */

static void path_of(char out[200], const struct function_here *f, const char *file)
{
	char address[PCI_ADDRESS_TEXT];

	snprintf(out, 200, "bus/pci/devices/%s%s", pci_address_format(&f->address, address), file);
}

static struct function_here *find(const struct pci_address *address)
{
	for (size_t i = 0; i < ARRAY_SIZE(functions); i++)
		if (!pci_address_compare(&functions[i].address, address))
			return &functions[i];
	return NULL;
}

static void set_driver(struct function_here *f, const char *driver)
{
	char path[200], target[64];

	snprintf(f->driver, sizeof(f->driver), "%s", driver);
	path_of(path, f, "/driver");
	unlinkat(broker.kernel.sys, path, 0);
	snprintf(target, sizeof(target), "../../drivers/%s", driver);
	if (*driver)
		must(!symlinkat(target, broker.kernel.sys, path));
}

/* Plugs a function in or out: its directory moves, and its entry in its group with it. */
static void plug(struct function_here *f, bool here)
{
	char address[PCI_ADDRESS_TEXT], files[2][64], group[2][96];

	if (f->here == here)
		return;
	pci_address_format(&f->address, address);
	for (int gone = 0; gone < 2; gone++) {
		snprintf(files[gone], sizeof(files[0]), "%s%s", gone ? "gone-" : "bus/pci/devices/",
			 address);
	}
	snprintf(group[0], sizeof(group[0]), "kernel/iommu_groups/%u/devices/%s",
		 (unsigned)f->group, address);
	snprintf(group[1], sizeof(group[1]), "gone-group-%s", address);
	must(!renameat(broker.kernel.sys, files[here], broker.kernel.sys, files[!here]));
	must(!renameat(broker.kernel.sys, group[here], broker.kernel.sys, group[!here]));
	f->here = here;
	f->override[0] = '\0';
	set_driver(f, "");
}

static void set_in_use(struct function_here *f, bool in_use)
{
	char target[80], address[PCI_ADDRESS_TEXT];

	if (f->in_use == in_use)
		return;
	f->in_use = in_use;
	snprintf(target, sizeof(target), "../../devices/%s/block/sd",
		 pci_address_format(&f->address, address));
	if (in_use)
		must(!symlinkat(target, broker.kernel.sys, "class/block/sd"));
	else
		must(!unlinkat(broker.kernel.sys, "class/block/sd", 0));
}

static void set_vfs(unsigned n)
{
	char path[200], target[64], address[PCI_ADDRESS_TEXT];

	for (unsigned i = 0; i < VFS_MAX; i++) {
		struct function_here *f = &functions[PF + 1 + i];

		snprintf(path, sizeof(path), "bus/pci/devices/0000:0b:00.0/virtfn%u", i);
		unlinkat(broker.kernel.sys, path, 0);
		plug(f, i < n);
		if (i >= n)
			continue;
		snprintf(target, sizeof(target), "../%s", pci_address_format(&f->address, address));
		must(!symlinkat(target, broker.kernel.sys, path));
		set_driver(f, autoprobe ? "xe" : "");
	}
	vfs = n;
}

/* ---- in place of the kernel ---- */

static bool is_held(uint32_t group)
{
	struct pollfd p = { .fd = ends_of[group] };

	if (ends_of[group] < 0)
		return false;
	if (poll(&p, 1, 0) == 1 && p.revents & POLLHUP) {
		ends_of[group] = fd_close(ends_of[group]);
		watched[group] = true;
		return false;
	}
	return true;
}

/* Returns true if a function of the group is on VFIO, which gives the group its node. */
static bool has_node(uint32_t group)
{
	for (size_t i = 0; i < ARRAY_SIZE(functions); i++)
		if (functions[i].group == group && functions[i].here &&
		    !strcmp(functions[i].driver, "vfio-pci"))
			return true;
	return false;
}

int __wrap_kernel_group_open(const struct kernel *kernel, uint32_t group);
int __wrap_kernel_group_open(const struct kernel *kernel, uint32_t group)
{
	int pipes[2];

	(void)kernel;
	must(group < GROUPS);
	if (is_held(group))
		return -EBUSY;
	if (!has_node(group))
		return -ENOENT;
	must(!pipe2(pipes, O_CLOEXEC));
	ends_of[group] = pipes[0];
	return pipes[1];
}

int __wrap_kernel_open_vfio(const struct kernel *kernel);
int __wrap_kernel_open_vfio(const struct kernel *kernel)
{
	return fcntl(kernel->sys, F_DUPFD_CLOEXEC, 3);
}

int __wrap_kernel_group_viable(int group_fd);
int __wrap_kernel_group_viable(int group_fd)
{
	must(fcntl(group_fd, F_GETFD) == FD_CLOEXEC);
	return 0;
}

int __wrap_kernel_group_watch(const struct kernel *kernel, uint32_t group);
int __wrap_kernel_group_watch(const struct kernel *kernel, uint32_t group)
{
	(void)kernel;
	return (int)group;
}

void __wrap_kernel_group_unwatch(const struct kernel *kernel, int watch);
void __wrap_kernel_group_unwatch(const struct kernel *kernel, int watch)
{
	(void)kernel;
	(void)watch;
}

int __wrap_kernel_watch_read(const struct kernel *kernel);
int __wrap_kernel_watch_read(const struct kernel *kernel)
{
	(void)kernel;
	for (int i = 0; i < GROUPS; i++)
		if (watched[i]) {
			watched[i] = false;
			return i;
		}
	return -EAGAIN;
}

/* ---- workers ---- */

static struct {
	int error;   /* of each step; 0: as the kernel does it */
	bool claims; /* what a step reads comes from the input */
} comes;

/* Checks that a worker may change a function: what must hold, whatever was reported. */
static void must_be_ours(const struct function_here *f, bool takes)
{
	const struct lease *lease = lease_find_group(&broker.leases.table, f->group);

	must(!lease || lease_has_function(lease, &f->address));
	must(!lease || lease->recorded);
	/* Without a driver there is no disk, whatever the link that was left says. */
	must(!takes || lease || !f->in_use || !f->driver[0]);
}

/* Checks that a function may be probed: one that came into a lent group, too, if nothing has it. */
static void must_be_probed(const struct function_here *f)
{
	const struct lease *lease = lease_find_group(&broker.leases.table, f->group);

	if (lease && !lease_has_function(lease, &f->address))
		must(!f->driver[0]);
	else
		must_be_ours(f, false);
}

static int do_numvfs(unsigned value)
{
	for (int i = 1; i <= VFS_MAX; i++)
		must(value == vfs ||
		     !lease_find_group(&broker.leases.table, functions[PF + i].group));
	if (value && value == vfs)
		return 0;
	if (value && vfs)
		return EBUSY;
	if (value > VFS_MAX || !functions[PF].here)
		return EINVAL;
	set_vfs(value);
	return 0;
}

static void do_probe(struct function_here *f)
{
	const struct function_here *pf = &functions[PF];

	if (!f->here || f->driver[0])
		return;
	if (f->override[0])
		set_driver(f, f->override);
	else if (f <= pf || autoprobe)
		set_driver(f, "xe");
}

static int do_write(const struct fake_step *step)
{
	const char *file = strrchr(step->path, '/') + 1;
	struct function_here *f = find(&step->address);
	struct pci_address address;
	unsigned long value = strtoul(step->text, NULL, 10);

	must(f);
	if (!strcmp(file, "sriov_numvfs"))
		return do_numvfs((unsigned)value);
	if (!strcmp(file, "sriov_drivers_autoprobe")) {
		must(value <= 1 && step->text[0]);
		autoprobe = (unsigned)value;
		return 0;
	}
	if (strstr(step->path, "sriov_admin") || !strcmp(file, "reset"))
		return 0;
	if (!strcmp(file, "driver_override")) {
		must_be_ours(f, step->text[0] && step->text[0] != '\n');
		if (!f->here)
			return ENODEV;
		snprintf(f->override, sizeof(f->override), "%.*s", (int)strcspn(step->text, "\n"),
			 step->text);
	} else if (!strcmp(file, "unbind")) {
		must_be_ours(f, strcmp(f->driver, "vfio-pci") != 0);
		set_driver(f, "");
	} else if (!strcmp(file, "drivers_probe") || !strcmp(file, "bind")) {
		must(!pci_address_parse(step->text, &address) &&
		     !pci_address_compare(&address, &f->address));
		must_be_probed(f);
		do_probe(f);
	} else {
		must(!strcmp(file, "a step that is known"));
	}
	return 0;
}

static int answer_step(const struct fake_step *step, char text[FAKE_TEXT_MAX])
{
	const struct function_here *f = find(&step->address);
	char any[WORK_TEXT_MAX];

	if (step->does == FAKE_OPENS)
		return is_held(step->group) ? EBUSY : has_node(step->group) ? 0 : ENOENT;
	if (comes.error)
		return comes.error;
	if (step->does == FAKE_WRITES)
		return do_write(step);
	must(f && (step->does == FAKE_READS || step->does == FAKE_EXPECTS));
	if (comes.claims) {
		input_struct(now, any, sizeof(any));
		any[sizeof(any) - 1] = '\0';
		snprintf(text, sizeof(any), "%s", any);
		lied = true;
	} else if (strstr(step->path, "sriov_numvfs")) {
		sprintf(text, "%u", vfs);
	} else if (strstr(step->path, "autoprobe")) {
		sprintf(text, "%u", autoprobe);
	} else {
		sprintf(text, "%s", f->override[0] ? f->override : "(null)");
	}
	return 0;
}

static struct work *started(size_t n)
{
	struct work *work;
	size_t all = 0;

	TAILQ_FOREACH(work, &fake.at_work, link)
		all++;
	n = all ? n % all : 0;
	TAILQ_FOREACH(work, &fake.at_work, link)
		if (!n--)
			return work;
	return NULL;
}

static void come_back(struct work *work, int error, bool claims)
{
	comes.error = error;
	comes.claims = claims;
	fake_run(work);
	comes.error = 0;
	comes.claims = false;
}

/* ---- the watcher ---- */

static struct watcher_record record_of(const struct function_here *f)
{
	struct watcher_record r = {
		.type = f->here ? WATCHER_DEVICE : WATCHER_GONE,
		.address = f->address,
		.vendor = 0x1234,
		.device = 0x1111,
		.class_code = f->class_code,
		.group = f->group,
	};

	snprintf(r.driver, sizeof(r.driver), "%s", f->driver);
	if (f == &functions[PF]) {
		r.vfs_total = VFS_MAX;
	} else if (f > &functions[PF]) {
		r.is_vf = 1;
		r.physfn = functions[PF].address;
	}
	return r;
}

static void tell_core(const struct watcher_record *record)
{
	if (devices_believe(record))
		broker.helpers.ops->device(broker.helpers.userdata, record);
}

/* A record that differs from the truth in some of its bytes. */
static void tell_lie(struct input *input, uint8_t how)
{
	struct watcher_record record = record_of(&functions[how % ARRAY_SIZE(functions)]);
	unsigned char bytes[sizeof(record)], *p = (unsigned char *)&record;

	input_struct(input, bytes, sizeof(bytes));
	for (size_t i = 0; i < sizeof(bytes); i++)
		p[i] ^= bytes[i];
	if (record.type == WATCHER_DEVICE || record.type == WATCHER_GONE)
		tell_core(&record);
}

/* ---- everybody else ---- */

static void read_all(void)
{
	union answer answer;
	int fds[PASSFD_MAX];
	size_t n_fds = 0;

	while (passfd_receive(client, &answer, sizeof(answer), fds, PASSFD_MAX, &n_fds) > 0) {
		for (size_t i = 0; i < n_fds; i++)
			if (n_held < HELD_MAX)
				held[n_held++] = fds[i];
			else
				close(fds[i]);
		n_fds = 0;
	}
	while (hear(root, &answer) > 0)
		;
}

static void let_go(void)
{
	while (n_held)
		close(held[--n_held]);
	for (uint32_t i = 0; i < GROUPS; i++)
		is_held(i);
	ending_read_inotify(&broker.leases);
}

static void dial_both(void)
{
	client = dial_in(0);
	last_is_user(1000);
	root = dial_in(0);
	last_is_user(0);
}

static void claim(uint8_t how)
{
	struct message_claim claim = claim_by(how & 128 ? SELECT_ANY : SELECT_ADDRESS);

	claim.selectors[0].address = functions[how % ARRAY_SIZE(functions)].address;
	claim.flags = how & 64 ? CLAIM_WAIT : 0;
	say(client, &claim, sizeof(claim));
	turn(2);
}

static void ask_vfs(uint8_t how)
{
	const struct message_vfs request = { .type = MESSAGE_VFS,
					     .vfs = how & 15,
					     .address = functions[how & 16 ? 0 : PF].address };

	say(root, &request, sizeof(request));
	turn(2);
}

static void ask_root(uint8_t how)
{
	const struct message_release release = { .type = MESSAGE_RELEASE,
						 .lease = how >> 1,
						 .flags = RELEASE_REVOKE };
	const struct message_restore restore = {
		.type = how & 128 ? MESSAGE_PREPARE : MESSAGE_RESTORE,
		.address = functions[(how >> 1) % ARRAY_SIZE(functions)].address
	};

	if (how & 1)
		say(root, &release, sizeof(release));
	else
		say(root, &restore, sizeof(restore));
	turn(2);
}

/* Does what the kernel and other programs do. The VFs come and go with the number. */
static void change(uint8_t how)
{
	struct function_here *f = &functions[(how & 15) % ARRAY_SIZE(functions)];

	switch (how >> 4) {
	case 0:
	case 1:
		if (f < &functions[PF])
			plug(f, how & 16);
		break;
	case 2:
		if (!is_held(f->group) && f->here && !f->driver[0])
			set_driver(f, "xe");
		break;
	case 3:
		if (f->here && !fake_first() && !lease_find_group(&broker.leases.table, f->group))
			set_driver(f, "");
		break;
	case 4: /* a guard that was passed is not looked at again */
		if (!fake_first() && f == &functions[0])
			set_in_use(f, true);
		break;
	case 5:
		set_in_use(&functions[0], false);
		break;
	case 6: /* another program makes them, or removes them */
		if (functions[PF].here && !fake_first()) {
			for (int i = 1; i <= VFS_MAX; i++)
				if (lease_find_group(&broker.leases.table, functions[PF + i].group))
					return;
			set_vfs(how % (VFS_MAX + 1));
		}
		break;
	case 7:
		autoprobe = how & 1;
		break;
	}
}

static void fire_timers(void)
{
	struct lease *lease;
	struct pf *pf;

	event_active(broker.prepare.timer, EV_TIMEOUT, 1);
	event_active(broker.sriov.timer, EV_TIMEOUT, 1);
	TAILQ_FOREACH(pf, &broker.sriov.list, link)
		if (pf->timer && pf->phase == SRIOV_WAITING)
			event_active(pf->timer, EV_TIMEOUT, 1);
	TAILQ_FOREACH(lease, &broker.leases.table.list, link)
		if (lease->timer && evtimer_pending(lease->timer, NULL))
			event_active(lease->timer, EV_TIMEOUT, 1);
	turn(2);
}

static void use_policy(size_t which)
{
	broker.policy.policy = policies[which % ARRAY_SIZE(policies)].policy;
	prepare_look_at_all(&broker.prepare);
	sriov_policy_look_at_all(&broker.sriov);
	queue_mark_all(&broker.claims.queue);
}

/* Makes prepare and SR-IOV anew; what they knew is gone. */
static void start_parts(void)
{
	sriov_done(&broker.sriov);
	prepare_done(&broker.prepare);
	broker.sriov.soon = broker.sriov.wanted = broker.sriov.full = false;
	broker.sriov.n = 0;
	broker.prepare.wanted = false;
	must(!prepare_init(&broker.prepare) && !sriov_init(&broker.sriov));
}

/*
 * The daemon dies, with its workers, and starts again: the kernel, the records and the descriptors
 * of others are left.
 */
static void die(void)
{
	struct lease *lease;

	/* Only prepare.c can free what a worker of its own has. */
	if (!TAILQ_EMPTY(&broker.prepare.at_work))
		return;
	read_all();
	while (!TAILQ_EMPTY(&broker.claims.list))
		claim_free(TAILQ_FIRST(&broker.claims.list));
	while ((lease = TAILQ_FIRST(&broker.leases.table.list))) {
		if (lease->timer)
			event_free(lease->timer);
		if (lease->expiry)
			event_free(lease->expiry);
		lease_free(lease);
	}
	fake_forget();
	close(client);
	close(root);
	turn(TURNS);
	orders_done(&broker.orders);
	start_parts();
	holds_init(&broker.holds);
	orders_init(&broker.orders, &broker.prepare, &broker.store);
	broker.workers.busy = 0;
	lease_table_init(&broker.leases.table, broker.leases.table.events,
			 broker.leases.table.userdata);
	must(!recover_leases(&broker.leases) && !orders_recover(&broker.orders) &&
	     !sriov_recover(&broker.sriov));
	must(!recover_damaged(&broker.leases));
	orders_take_up(&broker.orders);
	use_policy(0);
	dial_both();
}

static void act(struct input *input)
{
	uint8_t op = input_byte(input), how = input_byte(input);
	struct watcher_record record;
	struct work *work;

	switch ((enum op)(op % N_OPS)) {
	case OP_RECORD:
		record = record_of(&functions[how % ARRAY_SIZE(functions)]);
		tell_core(&record);
		break;
	case OP_LIE:
		tell_lie(input, how);
		break;
	case OP_CHANGE:
		change(how);
		break;
	case OP_CLAIM:
		claim(how);
		break;
	case OP_VFS:
		ask_vfs(how);
		break;
	case OP_ROOT:
		ask_root(how);
		break;
	case OP_LET_GO:
		read_all();
		if (how & 1)
			let_go();
		break;
	case OP_WORKER:
		work = started(how & 7);
		if (work)
			come_back(work, how & 64 ? EIO : how & 32 ? ENODEV : 0, how & 128);
		break;
	case OP_LATE:
		work = started(how & 7);
		if (work)
			fake_be_late(work);
		break;
	case OP_TIMERS:
		fire_timers();
		break;
	case OP_POLICY:
		use_policy(how);
		break;
	case OP_ALL:
		for (int i = 0; i < 16 && fake_first(); i++)
			come_back(fake_first(), 0, false);
		break;
	case OP_DIE:
		die();
		break;
	case N_OPS:
		break;
	}
	turn(2);
	/* One that breaks the protocol by asking twice is dropped; another comes. */
	if (broker.peers.n < 2) {
		close(client);
		close(root);
		turn(TURNS);
		dial_both();
	}
}

/* ---- the host ---- */

static void make_files(void)
{
	char path[200], address[PCI_ADDRESS_TEXT], class_code[16];

	for (size_t i = 0; i < ARRAY_SIZE(functions); i++) {
		struct function_here *f = &functions[i];

		pci_address_format(&f->address, address);
		snprintf(class_code, sizeof(class_code), "0x%06x\n", (unsigned)f->class_code);
		add_function(address, class_code, (int)f->group);
		f->here = true;
		snprintf(path, sizeof(path), "sys/bus/pci/devices/%s/reset", address);
		scratch_write(path, "");
		if (i <= PF)
			continue;
		path_of(path, f, "/physfn");
		must(!symlinkat("../0000:0b:00.0", broker.kernel.sys, path));
		plug(f, false);
	}
	scratch_write("sys/bus/pci/devices/0000:0b:00.0/sriov_totalvfs", "4\n");
	scratch_write("sys/bus/pci/devices/0000:0b:00.0/sriov_numvfs", "");
	scratch_write("sys/bus/pci/devices/0000:0b:00.0/sriov_drivers_autoprobe", "");
	scratch_write("sys/bus/pci/devices/0000:0b:00.0/sriov_admin/.bulk_profile/sched_exec", "");
	scratch_write("sys/bus/pci/drivers_probe", "");
	for (int i = 0; i < 2; i++) {
		const char *driver = i ? "vfio-pci" : "xe";

		snprintf(path, sizeof(path), "sys/bus/pci/drivers/%s/bind", driver);
		scratch_write(path, "");
		snprintf(path, sizeof(path), "sys/bus/pci/drivers/%s/unbind", driver);
		scratch_write(path, "");
	}
	scratch_write("sys/class/block/none", "");
	must(!unlinkat(broker.kernel.sys, "class/block/none", 0));
	snprintf(path, sizeof(path), "%s/state", scratch_path);
	need(!mkdir(path, 0700));
	broker.store.directory = open(path, O_RDONLY | O_DIRECTORY | O_CLOEXEC);
	need(broker.store.directory >= 0);
}

/* Puts the host and the daemon back to the start: the kernel has all its drivers. */
static void begin_anew(void)
{
	autoprobe = 1;
	set_vfs(0);
	set_in_use(&functions[0], false);
	for (size_t i = 0; i < ARRAY_SIZE(functions); i++) {
		struct function_here *f = &functions[i];

		plug(f, f->at_start);
		f->override[0] = '\0';
		if (f->here)
			set_driver(f, "xe");
	}
	start_parts();
	devices_done(&broker.devices);
	broker.devices = (struct devices){ 0 };
	lease_table_init(&broker.leases.table, broker.leases.table.events,
			 broker.leases.table.userdata);
	for (int i = 0; i < GROUPS; i++)
		ends_of[i] = -1;
	memset(watched, 0, sizeof(watched));
	lied = false;
	for (size_t i = 0; i < ARRAY_SIZE(functions); i++)
		if (functions[i].here) {
			const struct watcher_record record = record_of(&functions[i]);

			tell_core(&record);
		}
	use_policy(0);
}

int LLVMFuzzerInitialize(int *argc, char ***argv)
{
	(void)argc;
	(void)argv;
	fake.answer = answer_step;
	broker_make();
	make_files();
	for (size_t i = 0; i < ARRAY_SIZE(policies); i++)
		parse_right(texts_of_policies[i], &policies[i]);
	broker.policy.policy = policies[0].policy;
	broker.policy.good = broker.policy.known = true;
	broker.prepare.open = broker.sriov.open = true;
	begin_anew();
	dial_both();
	close(client);
	close(root);
	turn(TURNS);
	return 0;
}

/* Lets everything that is waited for happen now. */
static void hurry(void)
{
	struct lease *lease, *next;

	while (fake_first())
		come_back(fake_first(), 0, false);
	let_go();
	/* The host has a driver for each function; which one a lease need not know. */
	for (size_t i = 0; i < ARRAY_SIZE(functions); i++)
		if (functions[i].here && !functions[i].driver[0] && !functions[i].override[0])
			set_driver(&functions[i], "xe");
	for (lease = TAILQ_FIRST(&broker.leases.table.list); lease; lease = next) {
		next = TAILQ_NEXT(lease, link);
		if (!lease->timer && lease->state == GPUBROKER_LEASE_LEASED &&
		    !is_held(lease->group))
			lease_closed(lease);
	}
	fire_timers();
}

/* Prints the leases that have not ended, which is what most findings are about. */
static void print_leases(void)
{
	const struct lease *lease;

	TAILQ_FOREACH(lease, &broker.leases.table.list, link)
		fprintf(stderr, "lease %u of group %d: state %d, %s, last log: %s\n",
			(unsigned)lease->id, (int)lease->group, (int)lease->state, lease->reason,
			last_log);
}

static size_t records(void)
{
	char path[160];

	snprintf(path, sizeof(path), "%s/state", scratch_path);
	return count_entries(path);
}

int LLVMFuzzerTestOneInput(const uint8_t *data, size_t size)
{
	const size_t descriptors = count_descriptors();
	struct input input = { data, size };
	struct pf *pf;

	now = &input;
	begin_anew();
	dial_both();
	for (int i = 0; i < OPS_MAX && input.left; i++)
		act(&input);

	read_all();
	close(client);
	close(root);
	turn(TURNS);
	for (int i = 0;
	     i < 200 && (broker.leases.table.n || fake_first() || !TAILQ_EMPTY(&broker.holds.list));
	     i++)
		hurry();
	let_go();
	print_leases();
	must(!broker.leases.table.n);
	must(TAILQ_EMPTY(&broker.claims.list) && TAILQ_EMPTY(&broker.claims.queue.list) &&
	     TAILQ_EMPTY(&broker.peers.list));
	must(TAILQ_EMPTY(&broker.holds.list) && TAILQ_EMPTY(&broker.prepare.at_work) &&
	     TAILQ_EMPTY(&broker.orders.list));
	TAILQ_FOREACH(pf, &broker.sriov.list, link)
		must(pf->phase == SRIOV_IDLE && !pf->request);
	must(!fake.n && !broker.workers.busy);
	must(!records());
	must(count_descriptors() == descriptors);
	return 0;
}

/* ---- seeds ---- */

static void op(struct seed *seed, enum op op, unsigned how)
{
	seed_byte(seed, op);
	seed_byte(seed, how);
}

static void seed_lies(struct seed *seed, fuzz_write write)
{
	struct watcher_record differs = { .group = 31 ^ 41 };

	seed->n = 0;
	op(seed, OP_LIE, 0);
	seed_struct(seed, &differs, sizeof(differs));
	differs = (struct watcher_record){ .is_vf = 1, .physfn = { .bus = 0x0b } };
	op(seed, OP_LIE, 2);
	seed_struct(seed, &differs, sizeof(differs));
	op(seed, OP_CLAIM, 2);
	op(seed, OP_ALL, 0);
	op(seed, OP_TIMERS, 0);
	op(seed, OP_WORKER, 0);
	write("lies", seed->data, seed->n);
	seed->n = 0;
	op(seed, OP_VFS, 3);
	op(seed, OP_WORKER, 128);
	seed_struct(seed, "99999999999", 11);
	seed_struct(seed, "x", 1);
	op(seed, OP_ALL, 0);
	op(seed, OP_LET_GO, 1);
	write("numbers", seed->data, seed->n);
}

void fuzz_seeds(fuzz_write write)
{
	static struct seed seed;

	op(&seed, OP_TIMERS, 0);
	op(&seed, OP_ALL, 0);
	op(&seed, OP_CHANGE, 4 << 4);
	op(&seed, OP_CLAIM, 0);
	op(&seed, OP_CHANGE, 5 << 4);
	op(&seed, OP_CLAIM, 0);
	op(&seed, OP_ALL, 0);
	op(&seed, OP_LET_GO, 1);
	write("prepare", seed.data, seed.n);
	seed.n = 0;
	op(&seed, OP_TIMERS, 0);
	op(&seed, OP_ALL, 0);
	for (unsigned i = 1; i <= 4; i++)
		op(&seed, OP_RECORD, PF + i);
	op(&seed, OP_TIMERS, 0);
	op(&seed, OP_ALL, 0);
	op(&seed, OP_CLAIM, PF + 1);
	op(&seed, OP_ALL, 0);
	op(&seed, OP_VFS, 4);
	op(&seed, OP_LET_GO, 1);
	op(&seed, OP_ALL, 0);
	op(&seed, OP_VFS, 4);
	op(&seed, OP_WORKER, 0);
	op(&seed, OP_WORKER, 64);
	op(&seed, OP_LATE, 0);
	write("vfs", seed.data, seed.n);
	seed.n = 0;
	op(&seed, OP_CLAIM, 2);
	op(&seed, OP_ALL, 0);
	op(&seed, OP_LET_GO, 0);
	op(&seed, OP_CHANGE, 1 << 4 | 3);
	op(&seed, OP_RECORD, 3);
	op(&seed, OP_WORKER, 0);
	op(&seed, OP_CHANGE, 2);
	op(&seed, OP_RECORD, 2);
	op(&seed, OP_ALL, 0);
	op(&seed, OP_LET_GO, 1);
	op(&seed, OP_ROOT, 3);
	write("arrival", seed.data, seed.n);
	seed.n = 0;
	op(&seed, OP_POLICY, 2);
	op(&seed, OP_TIMERS, 0);
	op(&seed, OP_ALL, 0);
	op(&seed, OP_ROOT, 0);
	op(&seed, OP_CLAIM, 128 | 64);
	op(&seed, OP_ALL, 0);
	write("restore", seed.data, seed.n);
	seed.n = 0;
	op(&seed, OP_CLAIM, 2);
	op(&seed, OP_ALL, 0);
	op(&seed, OP_VFS, 3);
	op(&seed, OP_WORKER, 0);
	op(&seed, OP_DIE, 0);
	op(&seed, OP_ALL, 0);
	op(&seed, OP_LET_GO, 1);
	op(&seed, OP_CLAIM, 0);
	op(&seed, OP_WORKER, 0);
	op(&seed, OP_DIE, 0);
	op(&seed, OP_TIMERS, 0);
	op(&seed, OP_ALL, 0);
	write("die", seed.data, seed.n);
	seed_lies(&seed, write);
}
