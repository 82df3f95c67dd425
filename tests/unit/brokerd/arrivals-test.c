/* SPDX-License-Identifier: MIT */
/*
 * Functions that come into the group of a lease: judged on what sysfs shows, whatever the watcher
 * reports, by the policy and the guards. No worker is forked: the test changes its files in the
 * shape of sysfs as the kernel would.
 */
#include "config.h"

#include "brokerd/claim/claim.h"
#include "brokerd/lease/bringup.h"
#include "brokerd/lease/ending.h"
#include "brokerd/lease/hotplug.h"
#include "brokerd/lease/newcomers.h"
#include "brokerd/peer/watching.h"
#include "brokerd/process/log.h"
#include "brokerd/record/lease-record.h"
#include "client/host/spared.h"
#include "client/host/sysfs.h"
#include "tests/unit/brokerd/fake-worker.h"
#include "tests/unit/brokerd/world.h"
#include "tests/unit/policy/parse.h"
#include "tests/tap.h"

#include <stdarg.h>
#include <unistd.h>

#define GROUP 20
#define CARD "0000:01:00.0"
#define DISK "0000:02:00.0"
#define PORT "0000:03:00.0"
#define ALICE 1000

static struct parsed parsed;
static char said[4096]; /* the journal since clear() */

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
	n = strlen(said);
	snprintf(said + n, sizeof(said) - n, "\n");
}

/* ---- the kernel ---- */

static void path_of(char path[200], const char *address, const char *file)
{
	snprintf(path, 200, "%s/sys/bus/pci/devices/%s%s%s", scratch_path, address,
		 *file ? "/" : "", file);
}

static void set_driver(const char *address, const char *driver)
{
	char path[200], target[64];

	path_of(path, address, "driver");
	unlink(path);
	snprintf(target, sizeof(target), "../../drivers/%s", driver);
	need(!*driver || !symlink(target, path));
}

static bool has_driver(const char *address, const char *driver)
{
	char path[200], target[64];
	ssize_t n;

	path_of(path, address, "driver");
	n = readlink(path, target, sizeof(target) - 1);
	if (n < 0)
		return !*driver;
	target[n] = '\0';
	return *driver && !strcmp(strrchr(target, '/') + 1, driver);
}

static char probed[256];	       /* addresses that were written to drivers_probe */
static const char *takes = "vfio-pci"; /* the driver that a probe binds */

static int kernel_does(const struct fake_step *step, char text[FAKE_TEXT_MAX])
{
	const char *file = strrchr(step->path, '/') + 1;
	char address[PCI_ADDRESS_TEXT];

	pci_address_format(&step->address, address);
	if (step->does == FAKE_READS || step->does == FAKE_EXPECTS) {
		strcpy(text, "(null)");
	} else if (!strcmp(file, "unbind")) {
		set_driver(address, "");
	} else if (!strcmp(file, "drivers_probe")) {
		snprintf(probed + strlen(probed), sizeof(probed) - strlen(probed), "%s ",
			 step->text);
		set_driver(address, takes);
	} else if (!strcmp(file, "bind")) {
		set_driver(address, "bochs-drm");
	}
	return step->does == FAKE_OPENS ? EBUSY : 0;
}

static void plug_in(const char *address, const char *class_code, const char *driver)
{
	add_function(address, class_code, GROUP);
	set_driver(address, driver);
}

/* Puts a disk below a function into /sys/class/block. */
static void mount_on(const char *address)
{
	char path[200], target[128];

	scratch_write("sys/class/block/none", "");
	snprintf(path, sizeof(path), "%s/sys/class/block/nvme0n1", scratch_path);
	snprintf(target, sizeof(target), "../../devices/pci0000:00/%s/nvme/nvme0/nvme0n1", address);
	need(!symlink(target, path));
}

static int remove_entry(const char *path, const struct stat *st, int type, struct FTW *ftw)
{
	(void)st;
	(void)type;
	(void)ftw;
	return remove(path);
}

static void pull(const char *address)
{
	char path[200];

	path_of(path, address, "");
	nftw(path, remove_entry, 8, FTW_DEPTH | FTW_PHYS);
	snprintf(path, sizeof(path), "%s/sys/kernel/iommu_groups/%d/devices/%s", scratch_path,
		 GROUP, address);
	unlink(path);
	snprintf(path, sizeof(path), "%s/sys/class/block/nvme0n1", scratch_path);
	unlink(path);
}

/* ---- the broker ---- */

static void allow(const char *text)
{
	broker.policy.policy = (struct policy){ 0 };
	if (parsed.policy.rules)
		parse_done(&parsed);
	parse_right(text, &parsed);
	broker.policy.policy = parsed.policy;
	broker.policy.good = true;
}

/* Alice has the card, on which the host ran bochs-drm. */
static struct lease *lend(void)
{
	struct lease *lease = lease_new(&broker.leases.table, 0, GROUP);
	struct function card;

	need(lease);
	set_driver(CARD, "vfio-pci");
	need(!pci_address_parse(CARD, &lease->asked));
	need(!sysfs_function_read(broker.kernel.sys, &lease->asked, &card));
	lease->state = GPUBROKER_LEASE_LEASED;
	lease->uid = lease->gid = ALICE;
	lease->n_gids = 1;
	lease->gids[0] = 44;
	lease->n_functions = 1;
	lease->functions[0] = (struct lease_function){ .address = card.address,
						       .vendor = card.vendor,
						       .device = card.device,
						       .driver = "bochs-drm" };
	strcpy(lease->terms.rule, "test:1");
	lease->lent = lease->recorded = true;
	lease_set_kind(lease);
	need(!lease_record_write(&broker.store, lease));
	said[0] = probed[0] = '\0';
	return lease;
}

/* The watcher reports a function, with a class and a group of its choice. */
static void report(const char *address, uint32_t class_code, uint32_t group)
{
	struct watcher_record record = { .type = WATCHER_DEVICE,
					 .vendor = 0x1234,
					 .device = 0x1111,
					 .class_code = class_code,
					 .group = group };

	need(!pci_address_parse(address, &record.address));
	hotplug_device_seen(&broker.leases, &record);
}

static bool record_has(const char *address)
{
	char path[200], text[4096];
	bool has = false;
	ssize_t n;
	int fd;

	for (int id = 1; id < 64 && !has; id++) {
		snprintf(path, sizeof(path), "%s/state/%d", scratch_path, id);
		fd = open(path, O_RDONLY | O_CLOEXEC);
		if (fd < 0)
			continue;
		n = read(fd, text, sizeof(text) - 1);
		close(fd);
		text[n > 0 ? n : 0] = '\0';
		has = strstr(text, address);
	}
	return has;
}

/* Ends what is left of a test. */
static void clean(void)
{
	fake_run_all();
	while (!TAILQ_EMPTY(&broker.leases.table.list)) {
		struct lease *lease = TAILQ_FIRST(&broker.leases.table.list);

		need(!lease->work);
		if (lease->timer)
			event_free(lease->timer);
		lease_record_remove(&broker.store, lease->id);
		lease_free(lease);
	}
	pull(DISK);
	pull(PORT);
	takes = "vfio-pci";
}

static bool is_over(void)
{
	return !broker.leases.table.n && has_driver(CARD, "bochs-drm");
}

static bool said_it(const char *text)
{
	if (strstr(said, text))
		return true;
	printf("# the journal: %s\n", said);
	return false;
}

/* ---- tests ---- */

static void test_allowed(void)
{
	struct lease *lease;

	allow("allow user 1000 claim vendor 1234");
	lease = lend();
	plug_in(DISK, "0x010802\n", "");
	report(DISK, 0x010802, GROUP);
	tap_ok(lease->n_functions == 2 && record_has(DISK) && has_driver(DISK, "") && lease->work,
	       "a function that the policy allows is recorded before it is bound");
	fake_run_all();
	tap_ok(has_driver(DISK, "vfio-pci") && lease->state == GPUBROKER_LEASE_LEASED,
	       "... and is kept from host drivers");
	tap_ok(said_it("outcome=arrived"), "... which the journal says");
	takes = "nvme";
	lease_recall(lease, "recalled");
	fake_run_all();
	tap_ok(is_over() && strstr(probed, DISK " "), "at the end any driver may have it");
	clean();

	lease = lend();
	plug_in(DISK, "0x010802\n", "nvme");
	report(DISK, 0x010802, GROUP);
	fake_run_all();
	tap_ok(lease->n_functions == 2 && has_driver(DISK, "vfio-pci"),
	       "one that a host driver had first is taken from it");
	clean();
}

/* Alice's lease, into whose group a function comes whose driver hangs. */
static struct lease *lend_and_hang(void)
{
	struct lease *lease = lend();

	plug_in(DISK, "0x010802\n", "");
	report(DISK, 0x010802, GROUP);
	need(lease->work);
	return lease;
}

static bool is_stuck(const struct lease *lease)
{
	return lease->state == GPUBROKER_LEASE_STUCK &&
	       strstr(lease->reason, "binding what came into its group") &&
	       said_it("outcome=stuck");
}

/* The bind is done; at the lease's end the host's driver gets what came. */
static bool is_over_after_bind(void)
{
	fake_run(fake_first());
	takes = "nvme";
	fake_run_all();
	return is_over() && has_driver(DISK, "nvme");
}

static void test_hangs(void)
{
	struct lease *lease;

	allow("allow user 1000 claim vendor 1234");
	lease = lend_and_hang();
	fake_be_late(fake_first());
	tap_ok(lease->state == GPUBROKER_LEASE_LEASED && lease->slow &&
		       said_it("still binding a function that came"),
	       "if the bind of what came hangs, the lease says so and stays");
	tap_ok(!lease_function_comes(lease, &lease->functions[0]) &&
		       lease_function_comes(lease, &lease->functions[1]),
	       "... and does not list what came, which would seem to be taken from it");
	fake_run_all();
	tap_ok(!lease_function_comes(lease, &lease->functions[1]), "... before it is bound");
	tap_ok(lease->state == GPUBROKER_LEASE_LEASED && !lease->slow && !lease->late,
	       "... until the bind is done");
	clean();

	lease = lend_and_hang();
	fake_be_late(fake_first());
	lease_closed(lease);
	tap_ok(is_stuck(lease), "if its holder lets go meanwhile, it is stuck");
	tap_ok(is_over_after_bind(), "... and restored when the bind is done");
	clean();

	lease = lend_and_hang();
	lease_closed(lease);
	need(lease->state == GPUBROKER_LEASE_RELEASING);
	fake_be_late(fake_first());
	tap_ok(is_stuck(lease), "so is one whose holder had let go before");
	tap_ok(is_over_after_bind(), "... and restored");
	clean();

	lease = lend_and_hang();
	fake_be_late(fake_first());
	lease_recall(lease, "revoked");
	tap_ok(is_stuck(lease), "and one that is revoked");
	tap_ok(is_over_after_bind(), "... and restored");
	clean();
}

static void test_spoilt(void)
{
	struct lease *lease;

	allow("allow user 1000 claim vendor 1234");
	lease = lend();
	plug_in(DISK, "0x010802\n", "nvme");
	takes = "nvme"; /* in spite of the driver_override */
	report(DISK, 0x010802, GROUP);
	tap_ok(lease->n_functions == 2, "a function is to be taken from its host driver");
	fake_run_all();
	tap_ok(!broker.leases.table.n && said_it("cannot be used while the host has " DISK),
	       "if that keeps it the group is of no use, and the lease ends");
	clean();
}

static void test_denied(void)
{
	struct message_event e;
	struct lease *lease;
	ssize_t n;
	int fd;

	allow("allow user 1000 claim vendor 1234\ndeny group 44 claim class storage");
	fd = dial_in(0);
	say_plain(fd, MESSAGE_WATCH);
	turn(TURNS);
	lease = lend();
	plug_in(DISK, "0x010802\n", "");
	report(DISK, 0x030000, GROUP);
	tap_ok(lease->n_functions == 1 && !record_has(DISK) && has_driver(DISK, ""),
	       "what a rule denies one of the user's groups is not touched");
	n = recv(fd, &e, sizeof(e), 0);
	tap_ok(n == sizeof(e) && e.event == GPUBROKER_EVENT_ARRIVED && e.address.bus == 2 &&
		       !strcmp(e.reason, "a rule denies it"),
	       "... and who watches learns why");
	tap_ok(said_it("device=" DISK " group=20 name=- rule=") && said_it(":2 by=-") &&
		       said_it("outcome=not-lent reason=\"a rule denies it\""),
	       "... as the journal says, with the rule");
	tap_ok(lease->state == GPUBROKER_LEASE_RESTORING && said_it("outcome=recalled"),
	       "... and the lease is recalled");
	takes = "nvme";
	fake_run_all();
	tap_ok(is_over() && has_driver(DISK, "nvme"),
	       "at its end the kernel binds the host's driver to what came");
	hang_up(fd);
	clean();

	allow("allow user 1000 claim address " CARD);
	lend();
	plug_in(DISK, "0x010802\n", "");
	report(DISK, 0x010802, GROUP);
	tap_ok(said_it("outcome=not-lent reason=\"no rule allows it\""),
	       "what no rule allows in another slot is not lent either");
	clean();

	allow("allow user 1000 claim address " CARD);
	lease = lend();
	plug_in("0000:01:00.1", "0x040300\n", "");
	report("0000:01:00.1", 0x040300, GROUP);
	tap_ok(lease->n_functions == 2, "... but comes along in the same slot");
	clean();
	pull("0000:01:00.1");

	allow("allow user 1000 claim driver bochs-drm\nallow user 1000 claim class storage");
	lease = lend();
	plug_in(DISK, "0x010802\n", "");
	report(DISK, 0x010802, GROUP);
	tap_ok(lease->n_functions == 2,
	       "the lease's own functions are judged by the driver that the host had on them");
	clean();
}

static void test_guarded(void)
{
	struct lease *lease;
	char path[200];

	allow("allow any claim vendor 1234");
	lease = lend();
	plug_in(DISK, "0x010802\n", "nvme");
	mount_on(DISK);
	hotplug_look_at_all(&broker.leases); /* as after a restart */
	tap_ok(lease->n_functions == 1 && has_driver(DISK, "nvme") &&
		       said_it("not-lent reason=\"the host is using it: disk nvme0n1 is on it\""),
	       "what the host is using stays the host's");
	fake_run_all();
	tap_ok(is_over() && has_driver(DISK, "nvme"), "... and the lease ends");
	clean();

	lease = lend();
	path_of(path, CARD, "boot_vga");
	scratch_write("sys/bus/pci/devices/" CARD "/boot_vga", "1\n");
	plug_in(DISK, "0x010802\n", "");
	report(DISK, 0x010802, GROUP);
	tap_ok(lease->n_functions == 2, "a boot display that is lent, by --force, is no reason");
	need(!unlink(path));
	clean();

	lease = lend();
	path_of(path, CARD, "boot_display");
	scratch_write("sys/bus/pci/devices/" CARD "/boot_display", "1\n");
	plug_in(DISK, "0x010802\n", "");
	report(DISK, 0x010802, GROUP);
	tap_ok(lease->n_functions == 2, "... nor is another display of the console");
	need(!unlink(path));
	clean();

	lease = lend();
	plug_in(DISK, "0x038000\n", "amdgpu");
	scratch_write("sys/bus/pci/devices/" DISK "/boot_display", "1\n");
	report(DISK, 0x038000, GROUP);
	tap_ok(lease->n_functions == 1 && has_driver(DISK, "amdgpu") &&
		       said_it("it is part of the console: it is the boot display"),
	       "a display of the console that comes is not touched");
	clean();
}

static void test_watcher(void)
{
	struct lease *lease;

	allow("allow any claim vendor 1234");
	lease = lend();
	plug_in(PORT, "0x060400\n", "");
	report(PORT, 0x030000, GROUP);
	tap_ok(lease->n_functions == 1 && !lease_newcomers(lease, NULL, 0) && !fake_first() &&
		       has_driver(PORT, ""),
	       "a bridge is not bound, whatever class the watcher reports");
	add_function("0000:09:00.0", "0x030000\n", 29);
	report("0000:09:00.0", 0x030000, GROUP);
	tap_ok(lease->n_functions == 1 && !fake_first(),
	       "nor a function of another group that the watcher puts into this one");
	clean();

	lease = lend();
	plug_in(DISK, "0x010802\n", "");
	broker.policy.good = false;
	report(DISK, 0x010802, GROUP);
	tap_ok(lease->n_functions == 1 && lease->state == GPUBROKER_LEASE_LEASED && !*said,
	       "without a valid policy nothing is decided");
	broker.policy.good = true;
	hotplug_look_at_all(&broker.leases);
	tap_ok(lease->n_functions == 2, "... and with one it is");
	clean();
}

static void test_on_vfio(void)
{
	struct lease *lease;

	allow("deny any claim class storage\nallow any claim vendor 1234");
	lease = lend();
	plug_in(DISK, "0x010802\n", "vfio-pci"); /* by a prepare rule */
	report(DISK, 0x010802, GROUP);
	tap_ok(lease->state == GPUBROKER_LEASE_RESTORING && record_has(DISK),
	       "what is refused but is on VFIO already, where the holder can open it, is recorded");
	takes = "nvme";
	fake_run_all();
	tap_ok(is_over() && strstr(probed, DISK " "), "... and taken off VFIO with the rest");
	clean();
}

/* A claim by its own packets, up to the grant. */
static void test_claim(void)
{
	struct message_claim claim = claim_by(SELECT_ADDRESS);
	union answer answer;
	int fd;

	allow("allow any claim vendor 1234");
	set_driver(CARD, "bochs-drm");
	need(!pci_address_parse(CARD, &claim.selectors[0].address));
	fd = dial_in(0);
	need(say(fd, &claim, sizeof(claim)));
	turn(TURNS);
	need(fake_first());
	plug_in(DISK, "0x010802\n", "");
	fake_run_all();
	do
		memset(&answer, 0, sizeof(answer));
	while (hear(fd, &answer) > 0 && answer.type == MESSAGE_STEP);
	tap_ok(answer.type == MESSAGE_REFUSAL &&
		       answer.refusal.reason == GPUBROKER_REFUSED_FAILED &&
		       strstr(answer.refusal.text, "has come into its IOMMU group"),
	       "a claim whose group gets a function while it is under way is not granted");
	tap_ok(is_over() && !record_has(CARD), "... and the host has its card back");
	hang_up(fd);
	clean();
}

/* At boot udev leaves alone what shares a group with the boot display. */
static void test_spared(void)
{
	struct spared spared;
	char path[200];

	plug_in(DISK, "0x010802\n", "");
	plug_in(PORT, "0x060400\n", "pcieport");
	need(!spared_read(broker.kernel.sys, &spared));
	tap_ok(!spared.n, "no group with a display is spared");
	path_of(path, CARD, "boot_vga");
	scratch_write("sys/bus/pci/devices/" CARD "/boot_vga", "1\n");
	need(!spared_read(broker.kernel.sys, &spared));
	tap_ok(spared.n == 1 && spared.list[0].address.bus == 2,
	       "... but that with the boot display, and its bridges need no line");
	spared_done(&spared);
	need(!unlink(path));
	clean();
}

/* Prepare rules are guarded as claims are: by the whole group. */
static void test_prepare(void)
{
	allow("prepare address " CARD);
	plug_in(DISK, "0x010802\n", "nvme");
	mount_on(DISK);
	said[0] = '\0';
	broker.prepare.open = true;
	add_device(1, 0, 0x030000, GROUP);
	prepare_look_at_all(&broker.prepare);
	for (int i = 0; i < 30000 && !strstr(said, "prepared") && !fake_first(); i++) {
		turn(1);
		usleep(1000);
	}
	tap_ok(!fake_first() && has_driver(CARD, "bochs-drm") &&
		       said_it("device=" DISK " group=20") && said_it("outcome=not-prepared"),
	       "nothing of a group is prepared while the host is using a part of it");
	pull(DISK);
	prepare_look_at_all(&broker.prepare);
	for (int i = 0; i < 30000 && !fake_first(); i++) {
		turn(1);
		usleep(1000);
	}
	tap_ok(fake_first(), "... and otherwise it is");
	fake_run_all();
	broker.prepare.open = false;
	set_driver(CARD, "bochs-drm");
	clean();
}

/* VFIO is not there, or is another one: nothing is taken from its driver. */
static void test_no_vfio(void)
{
	struct message_claim claim = claim_by(SELECT_ADDRESS);
	union answer answer;
	char path[200];
	int fd;

	snprintf(path, sizeof(path), "%s/dev/vfio/vfio", scratch_path);
	need(!unlink(path));
	need(!pci_address_parse(CARD, &claim.selectors[0].address));
	fd = dial_in(0);
	fake.n_steps = 0;
	need(say(fd, &claim, sizeof(claim)));
	turn(TURNS);
	fake_run_all();
	need(hear(fd, &answer) > 0);
	tap_ok(answer.type == MESSAGE_REFUSAL &&
		       strstr(answer.refusal.text, "VFIO is not loaded") && fake.n_steps == 1 &&
		       has_driver(CARD, "bochs-drm"),
	       "without VFIO a claim changes nothing, and says what loads it");
	scratch_write("dev/vfio/vfio", "");
	scratch_write("sys/class/vfio/vfio", "");
	broker.kernel.late = true;
	need(say(fd, &claim, sizeof(claim)));
	turn(TURNS);
	fake_run_all();
	need(hear(fd, &answer) > 0);
	turn(TURNS);
	tap_ok(answer.type == MESSAGE_REFUSAL &&
		       strstr(answer.refusal.text, "which starts again") && broker_stale == 1 &&
		       has_driver(CARD, "bochs-drm"),
	       "nor with a VFIO that this process cannot open: the daemon starts again");
	set_driver(CARD, "vfio-pci");
	need(say(fd, &claim, sizeof(claim)));
	turn(TURNS);
	fake_run_all();
	need(hear(fd, &answer) > 0);
	turn(TURNS);
	tap_ok(answer.type == MESSAGE_REFUSAL &&
		       strstr(answer.refusal.text, "which starts again") && broker_stale == 2,
	       "... also for what is on VFIO: nobody tries to open it");
	set_driver(CARD, "bochs-drm");
	broker.kernel.late = false;
	snprintf(path, sizeof(path), "%s/dev/vfio", scratch_path);
	nftw(path, remove_entry, 8, FTW_DEPTH | FTW_PHYS);
	need(kernel_vfio_check(&broker.kernel, false) == -ENOENT);
	snprintf(path, sizeof(path), "%s/sys/bus/pci/drivers/vfio-pci/bind", scratch_path);
	scratch_write("dev/vfio/vfio", "");
	need(!unlink(path));
	need(say(fd, &claim, sizeof(claim)));
	turn(TURNS);
	fake_run_all();
	do
		memset(&answer, 0, sizeof(answer));
	while (hear(fd, &answer) > 0 && answer.type == MESSAGE_STEP);
	tap_ok(answer.type == MESSAGE_REFUSAL &&
		       strstr(answer.refusal.text, "'modprobe vfio-pci' loads it") &&
		       has_driver(CARD, "bochs-drm"),
	       "nor without the driver vfio-pci");
	scratch_write("sys/bus/pci/drivers/vfio-pci/bind", "");
	hang_up(fd);
	clean();
}

static void test_iommu(void)
{
	tap_ok(!kernel_vfio_check(&broker.kernel, true), "without iommufd its node is not needed");
	broker.kernel.cdevs = true;
	tap_ok(!kernel_vfio_check(&broker.kernel, true),
	       "with it the group is lent alone if the node is not there");
	tap_ok(!kernel_vfio_check(&broker.kernel, false), "... and another claim does not");
	broker.kernel.cdevs = false;
}

int main(void)
{
	char path[200];

	broker_make();
	fake.answer = kernel_does;
	add_function(CARD, "0x030000\n", GROUP);
	scratch_write("sys/bus/pci/drivers_probe", "");
	for (size_t i = 0; i < 3; i++) {
		static const char *const drivers[] = { "vfio-pci", "bochs-drm", "nvme" };
		char file[80];

		snprintf(file, sizeof(file), "sys/bus/pci/drivers/%s/bind", drivers[i]);
		scratch_write(file, "");
		snprintf(file, sizeof(file), "sys/bus/pci/drivers/%s/unbind", drivers[i]);
		scratch_write(file, "");
	}
	scratch_write("dev/vfio/vfio", "");
	snprintf(path, sizeof(path), "%s/dev", scratch_path);
	broker.kernel.dev = open(path, O_PATH | O_DIRECTORY | O_CLOEXEC);
	snprintf(path, sizeof(path), "%s/state", scratch_path);
	need(!mkdir(path, 0700));
	broker.store.directory = open(path, O_RDONLY | O_DIRECTORY | O_CLOEXEC);
	need(broker.kernel.dev >= 0 && broker.store.directory >= 0);
	test_allowed();
	test_hangs();
	test_spoilt();
	test_denied();
	test_guarded();
	test_watcher();
	test_on_vfio();
	test_claim();
	test_no_vfio();
	test_iommu();
	test_prepare();
	test_spared();
	broker.policy.policy = (struct policy){ 0 };
	parse_done(&parsed);
	broker_drop();
	return tap_done();
}
