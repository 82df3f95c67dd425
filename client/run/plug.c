/* SPDX-License-Identifier: MIT */
/*
 * The part of `attach` that has a claim: it hands over what was lent, has QEMU plug the functions
 * of each slot behind a free root port, and takes all of it back where a step fails.
 *
 * By iommufd QEMU takes descriptors: it owns what a command has taken, and closes a device's node
 * when the device is unplugged; it never closes an iommufd that it was given, so one is given to it
 * once and all devices share it, and their pinned memory. A group QEMU opens by itself, so the
 * supervisor of the `run` that started it is brought the descriptor for as long as that takes; QEMU
 * closes a group with the last device of it.
 *
 * It must leave nothing behind when a step fails: no descriptor and no device in QEMU, and no
 * lease, as far as QEMU answers. Whatever QEMU answers, it must come to an end, since signals wait
 * for it.
 */
#include "config.h"

#include "client/run/plug.h"
#include "client/command/cli.h"
#include "client/command/screen.h"
#include "client/host/pci.h"
#include "client/run/inbox.h"
#include "client/common/util.h"

#include <fcntl.h>
#include <inttypes.h>
#include <poll.h>
#include <string.h>

#define PLUG_SECONDS 300 /* for the kernel to pin the memory of a large guest */
#define UNDO_SECONDS 10

/* QEMU plugs this as one device: a function, or an mdev. */
struct part {
	struct vm_device device;
	int fd; /* of its own node; -1: by its group */
};

struct parts {
	struct part list[VM_DEVICES_MAX];
	size_t n;
};

/* The place of a part in the VM. */
struct place {
	const char *port;
	unsigned function;
	bool several; /* the slot has others */
};

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

/* ---- what there is to plug ---- */

static int add_part(const struct attach *a, struct parts *parts, const char *name, int fd)
{
	if (parts->n == VM_DEVICES_MAX ||
	    !vm_device_make(a->grant->lease, name, &parts->list[parts->n].device))
		return -EINVAL;
	parts->list[parts->n++].fd = fd;
	return 0;
}

static int by_device(const void *a, const void *b)
{
	const struct part *one = a, *other = b;

	return pci_address_compare(&one->device.address, &other->device.address);
}

/* The functions of the lent group, but for bridges, which stay with the host. */
static int add_functions_of_group(const struct attach *a, struct parts *parts)
{
	cleanup_fd int sys = open("/sys", O_PATH | O_DIRECTORY | O_CLOEXEC);
	struct pci_address members[VM_DEVICES_MAX];
	char text[PCI_ADDRESS_TEXT];
	int n = sys < 0 ? -errno
			: sysfs_group_members(sys, a->grant->iommu_group, members, VM_DEVICES_MAX);
	int r = n < 0 ? n : n > VM_DEVICES_MAX ? -E2BIG : 0;

	for (int i = 0; !r && i < n; i++)
		if (sysfs_is_bridge(sys, &members[i]) != 1)
			r = add_part(a, parts, pci_address_format(&members[i], text), -1);
	qsort(parts->list, parts->n, sizeof(*parts->list), by_device);
	return r;
}

static int find_parts(struct attach *a, struct parts *parts)
{
	const size_t nodes = gpubroker_claim_cdevs(a->claim);
	int r = 0;

	for (size_t i = 0; a->lender < 0 && !r && i < nodes; i++) {
		const char *address = gpubroker_claim_cdev(a->claim, i)->address;

		r = add_part(a, parts, *address ? address : a->grant->uuid,
			     gpubroker_claim_cdev_fd(a->claim, i));
	}
	if (a->lender >= 0)
		r = *a->grant->uuid ? add_part(a, parts, a->grant->uuid, -1)
				    : add_functions_of_group(a, parts);
	if (!r && parts->n)
		return 0;
	progress_clear(&a->progress);
	cli_error("%s", a->lender < 0 ? "the kernel has no device nodes for it (iommufd), or too "
					"many"
				      : "its group has no functions, or too many");
	return EXIT_IN_USE;
}

/* ---- the hand-over ---- */

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

/* Lets QEMU open the group, as long as the supervisor sees us. */
static int lend_group(struct attach *a)
{
	int r = inbox_lend(a->lender, a->grant->iommu_group, gpubroker_claim_fd(a->claim, 0));

	if (!r)
		return 0;
	progress_clear(&a->progress);
	cli_error("the supervisor of the `gpubroker run` that started QEMU does not take the "
		  "device: %s",
		  r == -EBUSY ? "another attach is under way" : strerror(-r));
	return EXIT_SOFTWARE;
}

/* QEMU's arguments for a part. */
static struct json_object *arguments_of(const struct attach *a, const struct part *part,
					const struct place *place)
{
	const struct vm_device *device = &part->device;
	struct json_object *arguments = json_object_new_object();
	char addr[16], path[96];

	snprintf(addr, sizeof(addr), "0.%x", place->function);
	snprintf(path, sizeof(path), "/sys/bus/%s/devices/%s", device->is_mdev ? "mdev" : "pci",
		 device->name);
	json_object_object_add(arguments, "driver", json_object_new_string("vfio-pci"));
	json_object_object_add(arguments, "id", json_object_new_string(device->id));
	json_object_object_add(arguments, "bus", json_object_new_string(place->port));
	json_object_object_add(arguments, "addr", json_object_new_string(addr));
	/* Without it QEMU takes an mdev that it knows by a descriptor for a function. */
	if (part->fd < 0 || device->is_mdev)
		json_object_object_add(arguments, "sysfsdev", json_object_new_string(path));
	if (part->fd >= 0) {
		json_object_object_add(arguments, "fd", json_object_new_string(VM_FD));
		json_object_object_add(arguments, "iommufd", json_object_new_string(a->vm.iommufd));
	}
	if (place->several && !place->function)
		json_object_object_add(arguments, "multifunction", json_object_new_boolean(true));
	return arguments;
}

static void note_plugged(struct attach *a, const struct vm_device *device, const char *port)
{
	struct json_object *one = json_object_new_object();

	json_object_object_add(one, "device", json_object_new_string(device->name));
	json_object_object_add(one, "id", json_object_new_string(device->id));
	json_object_object_add(one, "port", json_object_new_string(port));
	json_object_array_add(a->plugged, one);
}

static int plug_part(struct attach *a, const struct part *part, const struct place *place)
{
	const struct vm_device *device = &part->device;
	char say[128];
	int r;

	snprintf(say, sizeof(say), "%s: QEMU plugs it behind %.40s", screen_address(device->name),
		 place->port);
	progress_say(&a->progress, say);
	if (part->fd >= 0) {
		r = qmp_pass_fd(a->qmp, VM_FD, part->fd);
		if (r)
			return failed_step(a, "take a descriptor", r);
	}
	r = qmp_ask(a->qmp, "device_add", arguments_of(a, part, place), PLUG_SECONDS, NULL);
	if (r)
		return failed_step(a, "plug the device", r);
	note_plugged(a, device, place->port);
	if (!place->function && !a->first[0]) {
		snprintf(a->first, VM_ID, "%s", device->id);
		snprintf(a->first_port, VM_ID, "%s", place->port);
	}
	return 0;
}

static bool is_of_slot(const struct vm_device *a, const struct vm_device *b)
{
	return !a->is_mdev && !b->is_mdev && a->address.domain == b->address.domain &&
	       a->address.bus == b->address.bus && a->address.device == b->address.device;
}

/*
 * Adds the parts of one slot, from `from` on to before `to`. Function 0 comes last, since with it
 * the guest looks at the slot.
 */
static int plug_slot(struct attach *a, const struct parts *parts, size_t from, size_t to)
{
	const bool has_zero = !parts->list[from].device.address.function;
	int r = 0;

	if (a->n_slots == a->vm.n_ports) {
		progress_clear(&a->progress);
		cli_error("the functions of %s are in more slots than QEMU has free root ports, "
			  "%zu",
			  a->device, a->vm.n_ports);
		return EXIT_IN_USE;
	}
	for (size_t i = to; !r && i-- > from;) {
		const struct part *part = &parts->list[i];
		const struct place place = {
			.port = a->vm.ports[a->n_slots],
			/* A guest does not look into a slot without a function 0. */
			.function = i == from && !has_zero ? 0 : part->device.address.function,
			.several = to - from > 1,
		};

		if (is_interrupted(a)) {
			progress_clear(&a->progress);
			cli_error("interrupted");
			return EXIT_SOFTWARE;
		}
		r = plug_part(a, part, &place);
	}
	a->n_slots++;
	return r;
}

int plug_all(struct attach *a)
{
	struct parts parts = { .n = 0 };
	int r = find_parts(a, &parts);

	if (r)
		return r;
	/*
	 * The kernel binds no node while the group is open, and opens no group while a node is
	 * bound.
	 */
	if (a->lender < 0)
		gpubroker_claim_drop_groups(a->claim);
	else
		gpubroker_claim_drop_cdevs(a->claim);
	r = a->lender < 0 ? give_iommufd(a) : lend_group(a);
	for (size_t from = 0, to; !r && from < parts.n; from = to) {
		for (to = from + 1;
		     to < parts.n && is_of_slot(&parts.list[from].device, &parts.list[to].device);)
			to++;
		r = plug_slot(a, &parts, from, to);
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

	qmp_limit(a->qmp, 3 * UNDO_SECONDS);
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
	return lease->id == *(const uint64_t *)userdata &&
	       (lease->state == GPUBROKER_LEASE_LEASED || lease->state == GPUBROKER_LEASE_ASKED);
}

bool plug_is_leased(struct gpubroker *handle, uint64_t lease)
{
	return gpubroker_leases(handle, find_own_lease, &lease) != 0;
}

/* Returns true when the broker sees the device let go, within this time. */
static bool has_ended(struct gpubroker *handle, uint64_t lease, int seconds)
{
	for (int i = 0; i < seconds * 5; i++) {
		if (!plug_is_leased(handle, lease))
			return true;
		poll(NULL, 0, 200);
	}
	return false;
}

void plug_undo(struct attach *a, struct gpubroker *handle)
{
	bool taken;

	gpubroker_claim_drop_groups(a->claim);
	gpubroker_claim_drop_cdevs(a->claim);
	a->lender = fd_close(a->lender);
	taken = a->qmp ? take_back(a) : true;
	/* One that does not answer may have ended. */
	if (has_ended(handle, a->grant->lease, taken ? UNDO_SECONDS : 2))
		cli_error("the device goes back to the host");
	else
		cli_error("QEMU has a part of it still; the device goes back to the host when "
			  "QEMU lets go of it, at the latest when it ends; 'gpubroker release "
			  "%" PRIu64 "' asks for it",
			  a->grant->lease);
}
