/* SPDX-License-Identifier: MIT */
/*
 * gpubroker attach: claims a device for a QEMU that runs, hands the descriptors over its monitor,
 * and plugs the device behind a free root port. All that can be known before is asked before the
 * claim. It must leave nothing behind when a step fails: no descriptor and no device in QEMU, and
 * no lease, as far as QEMU answers.
 *
 * Only by iommufd: there QEMU takes descriptors. For a group it opens /dev/vfio/N by itself, which
 * only the supervisor of a `run` could serve. QEMU owns what a command has taken, and closes
 * a device's node when the device is unplugged; it never closes an iommufd that it was given,
 * so one is given to it once and all devices share it, and their pinned memory.
 */
#include "config.h"

#include "client/command/cli.h"
#include "client/command/arguments.h"
#include "client/command/screen.h"
#include "client/run/claiming.h"
#include "client/run/memlock.h"
#include "client/run/vm.h"
#include "client/common/util.h"

#include <inttypes.h>
#include <poll.h>
#include <signal.h>
#include <string.h>

#define PLUG_SECONDS 300 /* for the kernel to pin the memory of a large guest */
#define UNDO_SECONDS 10
#define GUEST_SECONDS 20
#define GIB (1ULL << 30)

static const char nothing[] = "nothing was claimed";

struct attach {
	const char *device; /* as given */
	const char *port;   /* --port, or NULL */
	struct qmp *qmp;
	struct vm vm;
	struct progress progress;
	struct gpubroker_claim *claim;
	const struct gpubroker_grant *grant;
	size_t n_slots;	   /* ports that were taken */
	char first[VM_ID]; /* the device that the guest is expected to use */
	char first_port[VM_ID];
	sigset_t signals; /* which are blocked until all is done or undone */
};

/* ---- before the claim ---- */

static bool same_address(const char *text, const struct pci_address *address)
{
	struct pci_address given;

	return !pci_address_parse(text, &given) && !pci_address_compare(&given, address);
}

static int check_iommufd(const struct vm *vm)
{
	if (access("/dev/iommu", F_OK)) {
		cli_error("this kernel has no /dev/iommu (iommufd), and without it a QEMU that "
			  "runs cannot be given a device; give it one when it starts: gpubroker "
			  "run --qemu; %s",
			  nothing);
		return EXIT_IN_USE;
	}
	if (!vm->has_iommufd) {
		cli_error("this QEMU has no iommufd, so it takes no descriptors of devices: QEMU "
			  "9.0 and later do; give it the device when it starts: gpubroker run "
			  "--qemu; %s",
			  nothing);
		return EXIT_IN_USE;
	}
	return 0;
}

static int check_port(struct attach *a)
{
	struct vm *vm = &a->vm;

	for (size_t i = 0; a->port && i < vm->n_ports; i++) {
		if (strcmp(vm->ports[i], a->port))
			continue;
		memcpy(vm->ports[i], vm->ports[0], VM_ID);
		snprintf(vm->ports[0], VM_ID, "%.63s", a->port);
		return 0;
	}
	if (!a->port && vm->n_ports)
		return 0;
	if (a->port)
		cli_error("QEMU has no free root port '%s'%s%s; %s", a->port,
			  vm->n_ports ? "; one that it has: " : "", vm->n_ports ? vm->ports[0] : "",
			  nothing);
	else if (vm->n_full)
		cli_error("each of QEMU's %zu root ports has a device; detach one, or start QEMU "
			  "with more of them: -device pcie-root-port,id=spare1,chassis=101; %s",
			  vm->n_full, nothing);
	else
		cli_error("this QEMU has no PCI Express root port with an id, into which a device "
			  "could be plugged; start it with -machine q35 and one for each device: "
			  "-device pcie-root-port,id=spare1,chassis=101; %s",
			  nothing);
	return EXIT_IN_USE;
}

static int check_attached(const struct attach *a)
{
	char text[PCI_ADDRESS_TEXT];

	for (size_t i = 0; i < a->vm.n_devices; i++) {
		const struct vm_device *device = &a->vm.devices[i];

		if (!same_address(a->device, &device->address))
			continue;
		cli_error("this QEMU has %s already, by lease %" PRIu64 ", as its device %s; %s",
			  pci_address_format(&device->address, text), device->lease, device->id,
			  nothing);
		return EXIT_BUSY;
	}
	return 0;
}

/*
 * The kernel counts what is pinned against the limit of the process that has it pinned, which is
 * QEMU's own, set when it started. What is pinned for another device through the same iommufd is
 * not pinned again.
 */
static int check_memory(const struct attach *a)
{
	uint64_t limit, pinned, needs;
	char has[CLI_SIZE_TEXT], guest[CLI_SIZE_TEXT], grants[CLI_SIZE_TEXT];

	if (!qmp_pid(a->qmp) || memlock_of_process(qmp_pid(a->qmp), &limit, &pinned) ||
	    (a->vm.iommufd[0] && pinned >= a->vm.memory))
		return 0;
	if (__builtin_add_overflow(a->vm.memory, pinned, &needs) || limit >= needs)
		return 0;
	cli_error("QEMU (pid %d) may lock only %s of memory, and a device needs all %s of its "
		  "guest locked; the limit of a process that runs stays, so start it with one of "
		  "%s: below 'gpubroker run' by a rule with memlock, or by a line in "
		  "/etc/security/limits.d; %s",
		  (int)qmp_pid(a->qmp), cli_size_text(limit, has),
		  cli_size_text(a->vm.memory, guest),
		  cli_size_text((needs + 2 * GIB - 1) / GIB * GIB, grants), nothing);
	return EXIT_POLICY;
}

static int foresee(struct attach *a)
{
	struct json_object *name;
	int r = vm_look(a->qmp, &a->vm);

	if (r) {
		cli_error("cannot ask QEMU what it has: %s; %s", qmp_error(a->qmp, r), nothing);
		return EXIT_PROTOCOL;
	}
	/* One that was left by an attach that was killed would keep its lease for good. */
	name = json_object_new_object();
	json_object_object_add(name, "fdname", json_object_new_string(VM_FD));
	r = qmp_ask(a->qmp, "closefd", name, QMP_SECONDS, NULL);
	if (r < 0) {
		cli_error("the monitor: %s; %s", qmp_error(a->qmp, r), nothing);
		return EXIT_PROTOCOL;
	}
	r = check_iommufd(&a->vm);
	if (!r)
		r = check_attached(a);
	if (!r)
		r = check_port(a);
	return r ? r : check_memory(a);
}

/* ---- the hand-over ---- */

/* Returns true if a signal would have ended this process by now. */
static bool is_interrupted(const struct attach *a)
{
	sigset_t pending;

	sigpending(&pending);
	for (int i = 1; i < NSIG; i++)
		if (sigismember(&a->signals, i) == 1 && sigismember(&pending, i) == 1)
			return true;
	return false;
}

static int failed_step(struct attach *a, const char *step, int r)
{
	const char *why = qmp_error(a->qmp, r);

	progress_clear(&a->progress);
	cli_error("QEMU cannot %s: %s%s", step, why,
		  strstr(why, "Cannot allocate memory") || strstr(why, "-12")
			  ? " (it may not lock as much memory as its guest has)"
			  : "");
	return EXIT_SOFTWARE;
}

/* Adds the object that all devices share, unless QEMU has it already. */
static int give_iommufd(struct attach *a)
{
	static const char id[] = "gpubroker-iommufd0";
	struct json_object *object;
	int r;

	if (a->vm.iommufd[0])
		return 0;
	progress_say(&a->progress, "handing /dev/iommu to QEMU");
	r = qmp_pass_fd(a->qmp, VM_FD, gpubroker_claim_iommufd(a->claim));
	if (r)
		return failed_step(a, "take a descriptor", r);
	object = json_object_new_object();
	json_object_object_add(object, "qom-type", json_object_new_string("iommufd"));
	json_object_object_add(object, "id", json_object_new_string(id));
	json_object_object_add(object, "fd", json_object_new_string(VM_FD));
	r = qmp_ask(a->qmp, "object-add", object, QMP_SECONDS, NULL);
	if (r)
		return failed_step(a, "use /dev/iommu", r);
	strcpy(a->vm.iommufd, id);
	return 0;
}

/* A function of the claim, and its place in the VM. */
struct place {
	const char *port;
	unsigned function;
	bool several; /* the slot has others */
};

static int plug_function(struct attach *a, size_t i, const struct pci_address *address,
			 const struct place *place)
{
	struct json_object *device = json_object_new_object();
	char id[VM_ID], text[PCI_ADDRESS_TEXT], addr[16], say[96];
	int r;

	snprintf(say, sizeof(say), "%s: QEMU plugs it behind %.40s",
		 screen_address(pci_address_format(address, text)), place->port);
	progress_say(&a->progress, say);
	vm_device_id(a->grant->lease, address, id);
	snprintf(addr, sizeof(addr), "0.%x", place->function);
	json_object_object_add(device, "driver", json_object_new_string("vfio-pci"));
	json_object_object_add(device, "id", json_object_new_string(id));
	json_object_object_add(device, "bus", json_object_new_string(place->port));
	json_object_object_add(device, "addr", json_object_new_string(addr));
	json_object_object_add(device, "fd", json_object_new_string(VM_FD));
	json_object_object_add(device, "iommufd", json_object_new_string(a->vm.iommufd));
	if (place->several && !place->function)
		json_object_object_add(device, "multifunction", json_object_new_boolean(true));
	r = qmp_pass_fd(a->qmp, VM_FD, gpubroker_claim_cdev_fd(a->claim, i));
	if (r) {
		json_object_put(device);
		return failed_step(a, "take a descriptor", r);
	}
	r = qmp_ask(a->qmp, "device_add", device, PLUG_SECONDS, NULL);
	if (r)
		return failed_step(a, "plug the device", r);
	if (!place->function && !a->first[0]) {
		snprintf(a->first, VM_ID, "%s", id);
		snprintf(a->first_port, VM_ID, "%s", place->port);
	}
	return 0;
}

static bool is_of_slot(const struct pci_address *a, const struct pci_address *b)
{
	return a->domain == b->domain && a->bus == b->bus && a->device == b->device;
}

/* Reads the address of the i-th node; the broker has sent it, so it is one, but for an mdev. */
static bool node_address(const struct attach *a, size_t i, struct pci_address *ret_address)
{
	return i < gpubroker_claim_cdevs(a->claim) &&
	       !pci_address_parse(gpubroker_claim_cdev(a->claim, i)->address, ret_address);
}

/*
 * Adds the functions of one slot, from `from` on to before `to`. Function 0 comes last, since with
 * it the guest looks at the slot.
 */
static int add_functions(struct attach *a, size_t from, size_t to)
{
	struct pci_address address;
	bool has_zero = node_address(a, from, &address) && !address.function;
	int r = 0;

	if (a->n_slots == a->vm.n_ports) {
		progress_clear(&a->progress);
		cli_error("the functions of %s are in more slots than QEMU has free root ports, "
			  "%zu",
			  a->device, a->vm.n_ports);
		return EXIT_IN_USE;
	}
	for (size_t i = to; !r && i-- > from;) {
		const struct place place = {
			.port = a->vm.ports[a->n_slots],
			/* A guest does not look into a slot without a function 0. */
			.function = i == from && !has_zero	   ? 0
				    : node_address(a, i, &address) ? address.function
								   : 0,
			.several = to - from > 1,
		};

		if (!node_address(a, i, &address))
			return EXIT_SOFTWARE;
		if (is_interrupted(a)) {
			progress_clear(&a->progress);
			cli_error("interrupted");
			return EXIT_SOFTWARE;
		}
		r = plug_function(a, i, &address, &place);
	}
	a->n_slots++;
	return r;
}

static int hand_over(struct attach *a)
{
	size_t n = gpubroker_claim_cdevs(a->claim), to;
	struct pci_address first, next;
	int r;

	for (size_t i = 0; i < n; i++)
		if (!node_address(a, i, &first)) {
			cli_error("%s is a part of a device (mdev), which QEMU takes only when it "
				  "starts: gpubroker run --qemu --profile",
				  a->device);
			return EXIT_IN_USE;
		}
	if (!n || n > VM_DEVICES_MAX) {
		cli_error("the kernel has no device nodes for %s (iommufd), or too many",
			  a->device);
		return EXIT_IN_USE;
	}
	/* The kernel binds no node while the group is open. */
	gpubroker_claim_drop_groups(a->claim);
	r = give_iommufd(a);
	for (size_t from = 0; !r && node_address(a, from, &first); from = to) {
		for (to = from + 1; node_address(a, to, &next) && is_of_slot(&first, &next);)
			to++;
		r = add_functions(a, from, to);
	}
	return r;
}

/* ---- undone ---- */

/* Has QEMU unplug what it has of the lease. 0, or as qmp_ask(). */
static int unplug_all(struct attach *a)
{
	int r = vm_look_devices(a->qmp, &a->vm);

	for (size_t i = 0; r >= 0 && i < a->vm.n_devices; i++) {
		struct json_object *arguments;

		if (a->vm.devices[i].lease != a->grant->lease)
			continue;
		arguments = json_object_new_object();
		json_object_object_add(arguments, "id",
				       json_object_new_string(a->vm.devices[i].id));
		r = qmp_ask(a->qmp, "device_del", arguments, QMP_SECONDS, NULL);
	}
	return r;
}

/* Takes back what QEMU has got. Returns true if it has nothing more of it, as far as it says. */
static bool take_back(struct attach *a)
{
	struct json_object *arguments = json_object_new_object();
	int r;

	json_object_object_add(arguments, "fdname", json_object_new_string(VM_FD));
	r = qmp_ask(a->qmp, "closefd", arguments, QMP_SECONDS, NULL);
	if (r >= 0)
		r = unplug_all(a);
	for (int i = 0; r >= 0 && i < UNDO_SECONDS * 5; i++) {
		bool left = false;

		r = vm_look_devices(a->qmp, &a->vm);
		for (size_t k = 0; r >= 0 && k < a->vm.n_devices; k++)
			left = left || a->vm.devices[k].lease == a->grant->lease;
		if (!r && !left)
			return true;
		if (r >= 0)
			r = qmp_listen(a->qmp, 200);
	}
	return false;
}

static int find_own_lease(void *userdata, const struct gpubroker_lease *lease)
{
	return lease->id == *(const uint64_t *)userdata && lease->state == GPUBROKER_LEASE_LEASED;
}

/* Returns true when the broker sees the device let go, within some seconds. */
static bool has_ended(struct gpubroker *handle, uint64_t lease)
{
	for (int i = 0; i < UNDO_SECONDS * 5; i++) {
		if (gpubroker_leases(handle, find_own_lease, &lease) != 1)
			return true;
		poll(NULL, 0, 200);
	}
	return false;
}

/* A step has failed. Says what becomes of the device. */
static void undo(struct attach *a, struct gpubroker *handle)
{
	gpubroker_claim_drop_groups(a->claim);
	gpubroker_claim_drop_cdevs(a->claim);
	if (take_back(a) && has_ended(handle, a->grant->lease))
		cli_error("the device goes back to the host");
	else
		cli_error("QEMU has a part of it still; the device goes back to the host when "
			  "QEMU lets go of it, at the latest when it ends; 'gpubroker release "
			  "%" PRIu64 "' asks for it",
			  a->grant->lease);
}

/* ---- the guest ---- */

/* Waits until the guest uses the device, and says what is known. */
static int tell_guest(struct attach *a)
{
	char text[PCI_ADDRESS_TEXT];
	const char *what = screen_address(a->grant->address);
	bool used = false;
	int r = 0;

	snprintf(text, sizeof(text), "%s", what);
	progress_say(&a->progress, "waiting for the guest");
	for (int i = 0; a->vm.runs && !r && !used && i < GUEST_SECONDS * 5; i++) {
		r = vm_is_used(a->qmp, a->first, &used);
		if (!r && !used)
			r = qmp_listen(a->qmp, 200);
	}
	progress_clear(&a->progress);
	if (r)
		cli_error("%s is attached, but the monitor does not tell what the guest does: %s",
			  text, qmp_error(a->qmp, r));
	else if (!a->vm.runs)
		cli_error("%s is attached; the guest is paused, and finds it when it goes on",
			  text);
	else if (!used)
		cli_error("%s is attached; the guest has not begun to use it within %d seconds: it "
			  "does when it has a driver for it, and can hot-plug (Linux: pciehp or "
			  "acpiphp)",
			  text, GUEST_SECONDS);
	if (cli_columns(stdout))
		printf("%s is attached behind %s (lease %" PRIu64 ")%s.\n", text, a->first_port,
		       a->grant->lease, used ? ", and the guest uses it" : "");
	return cli_finish_output();
}

/* Claims, hands over, or undoes. Signals wait, so that nothing is left half done. */
static int attach_device(const struct cli *cli, struct attach *a, struct request *request)
{
	struct gpubroker *handle = NULL;
	sigset_t before;
	int r = cli_open(cli, &handle);

	if (r)
		return r;
	r = claiming_run(cli, handle, request, &a->progress, &a->claim);
	if (r) {
		gpubroker_close(handle);
		return r;
	}
	a->grant = gpubroker_claim_grant(a->claim, 0);
	sigprocmask(SIG_BLOCK, &a->signals, &before);
	progress_granted(&a->progress, handle, a->claim);
	r = hand_over(a);
	if (r)
		undo(a, handle);
	gpubroker_claim_drop_cdevs(a->claim); /* those that QEMU has are the lease */
	gpubroker_close(handle);
	sigprocmask(SIG_SETMASK, &before, NULL);
	return r ? r : tell_guest(a);
}

static void signals_init(sigset_t *signals)
{
	static const int ending[] = { SIGINT, SIGTERM, SIGHUP, SIGQUIT, SIGTSTP };

	sigemptyset(signals);
	for (size_t i = 0; i < ARRAY_SIZE(ending); i++)
		sigaddset(signals, ending[i]);
}

int cli_attach(const struct cli *cli, int argc, char **argv)
{
	static const struct option options[] = {
		{ "qmp", required_argument, NULL, 'q' },
		{ "port", required_argument, NULL, 'p' },
		{ NULL, 0, NULL, 0 },
	};
	struct arguments arguments = { .command = "attach", .mode = "" };
	struct request request = { .n_devices = 1 };
	struct attach a = { 0 };
	const char *socket = NULL;
	int c, r;

	while ((c = arguments_next(&arguments, argc, argv, options)) != ARGUMENTS_END) {
		if (c == ARGUMENTS_STOP)
			return arguments.status;
		*(c == 'q' ? &socket : &a.port) = optarg;
	}
	if (!socket || argc - optind != 1) {
		cli_error("attach needs the socket of QEMU's monitor and one DEVICE, as in: "
			  "gpubroker attach --qmp vm.qmp 01:00.0");
		return EXIT_BAD_USAGE;
	}
	a.device = request.devices[0].name = argv[optind];
	r = request_check(&request);
	if (!r)
		r = vm_open(socket, nothing, &a.qmp);
	if (!r) {
		signals_init(&a.signals);
		r = foresee(&a);
	}
	if (!r)
		r = attach_device(cli, &a, &request);
	gpubroker_claim_free(a.claim);
	qmp_close(a.qmp);
	return r;
}
