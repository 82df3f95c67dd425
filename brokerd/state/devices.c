/* SPDX-License-Identifier: MIT */
/*
 * The device table, see devices.h. Owns the array. It must never trust that a record's strings end,
 * nor let the watcher make the table grow without bound.
 */
#include "config.h"

#include "brokerd/state/devices.h"
#include "client/common/util.h"

#include <string.h>

void devices_done(struct devices *devices)
{
	free(devices->list);
	*devices = (struct devices){ 0 };
}

/* Returns the index of the first device at or after the address. */
static size_t index_from(const struct devices *devices, const struct pci_address *address)
{
	size_t low = 0, high = devices->n;

	while (low < high) {
		size_t middle = low + (high - low) / 2;

		if (pci_address_compare(&devices->list[middle].record.address, address) < 0)
			low = middle + 1;
		else
			high = middle;
	}
	return low;
}

static bool is_at(const struct devices *devices, size_t i, const struct pci_address *address)
{
	return i < devices->n && !pci_address_compare(&devices->list[i].record.address, address);
}

/*
 * Doubles the table. The core's filter has no mremap(), so each growth of a large table copies it.
 */
static int make_device_room(struct devices *devices)
{
	size_t room = devices->n < 32 ? 64 : devices->n * 2;
	struct device *list;

	if (devices->n < devices->room)
		return 0;
	if (room > DEVICES_MAX)
		room = DEVICES_MAX;
	list = reallocarray(devices->list, room, sizeof(*list));
	if (!list)
		return -ENOMEM;
	devices->list = list;
	devices->room = room;
	return 0;
}

static int put_record(struct devices *devices, const struct watcher_record *record)
{
	size_t i = index_from(devices, &record->address);
	struct watcher_record *r;

	if (!is_at(devices, i, &record->address)) {
		int error;

		if (devices->n == DEVICES_MAX) {
			bool told = devices->full;

			devices->full = true;
			return told ? 0 : -E2BIG;
		}
		error = make_device_room(devices);
		if (error)
			return error;
		memmove(devices->list + i + 1, devices->list + i,
			(devices->n - i) * sizeof(*devices->list));
		devices->n++;
	}
	devices->list[i].stale = false;
	r = &devices->list[i].record;
	*r = *record;
	r->driver[sizeof(r->driver) - 1] = '\0';
	r->vfio_driver[sizeof(r->vfio_driver) - 1] = '\0';
	r->path[sizeof(r->path) - 1] = '\0';
	r->vendor_name[sizeof(r->vendor_name) - 1] = '\0';
	r->model[sizeof(r->model) - 1] = '\0';
	return 0;
}

static void drop_index(struct devices *devices, size_t i)
{
	devices->n--;
	memmove(devices->list + i, devices->list + i + 1,
		(devices->n - i) * sizeof(*devices->list));
}

static bool is_valid_address(const struct pci_address *address)
{
	return address->device <= 31 && address->function <= 7 && !address->reserved;
}

bool devices_believe(const struct watcher_record *record)
{
	switch ((enum watcher_record_type)record->type) {
	case WATCHER_SCAN:
	case WATCHER_SCANNED:
	case WATCHER_GONE: /* harmless where the table has no such device */
		return true;
	case WATCHER_DEVICE:
		return is_valid_address(&record->address) && is_valid_address(&record->physfn);
	}
	return false;
}

int devices_take(struct devices *devices, const struct watcher_record *record)
{
	size_t i;

	if (!devices_believe(record))
		return -EBADMSG;
	switch ((enum watcher_record_type)record->type) {
	case WATCHER_SCAN:
		for (i = 0; i < devices->n; i++)
			devices->list[i].stale = true;
		devices->full = false;
		return 0;
	case WATCHER_DEVICE:
		return put_record(devices, record);
	case WATCHER_GONE:
		i = index_from(devices, &record->address);
		if (is_at(devices, i, &record->address))
			drop_index(devices, i);
		return 0;
	case WATCHER_SCANNED:
		for (i = devices->n; i--;)
			if (devices->list[i].stale)
				drop_index(devices, i);
		devices->scanned = true;
		return 0;
	}
	return -EBADMSG;
}

const struct device *devices_from(const struct devices *devices, const struct pci_address *address)
{
	size_t i = index_from(devices, address);

	return i < devices->n ? &devices->list[i] : NULL;
}

const struct device *devices_find(const struct devices *devices, const struct pci_address *address)
{
	size_t i = index_from(devices, address);

	return is_at(devices, i, address) ? &devices->list[i] : NULL;
}

struct policy_facts device_facts(const struct device *device)
{
	const struct watcher_record *r = &device->record;

	return (struct policy_facts){
		.address = r->address,
		.vendor = r->vendor,
		.device = r->device,
		.subsystem_vendor = r->subsystem_vendor,
		.subsystem_device = r->subsystem_device,
		.class_code = r->class_code,
		.iommu_group = r->group,
		.driver = r->driver,
		.path = r->path[0] ? r->path : NULL,
		/*
		 * The watcher is not root and cannot read it. A claim is decided on what the core
		 * reads.
		 */
		.serial = NULL,
		.profile = "",
	};
}

static bool is_bridge(const struct device *device)
{
	return device->record.is_bridge || class_is_bridge(device->record.class_code);
}

size_t devices_group(const struct devices *devices, const struct device *device,
		     struct policy_facts out[PROTOCOL_FUNCTIONS_MAX], size_t *ret_asked)
{
	size_t n = 0;

	*ret_asked = 0;
	for (size_t i = 0; i < devices->n && n < PROTOCOL_FUNCTIONS_MAX; i++) {
		const struct device *d = &devices->list[i];

		if (d != device &&
		    (d->record.group == NO_GROUP || d->record.group != device->record.group))
			continue;
		if (d != device && is_bridge(d))
			continue;
		if (d == device)
			*ret_asked = n;
		else if (n == PROTOCOL_FUNCTIONS_MAX - 1 && d < device)
			continue; /* the last place is kept for the device itself */
		out[n++] = device_facts(d);
	}
	return n;
}

/*
 * Returns true if a bridge of the group has a host driver that makes the group unusable, or if the
 * group has too many functions, see client/host/function.h.
 */
static bool group_spoilt(const struct devices *devices, uint32_t group)
{
	size_t n = 0;

	for (size_t i = 0; i < devices->n; i++) {
		const struct device *d = &devices->list[i];

		if (d->record.group != group)
			continue;
		if (is_bridge(d) && bridge_spoils_group(d->record.driver))
			return true;
		n += !is_bridge(d);
	}
	return n > FUNCTIONS_MAX;
}

uint32_t devices_vfs(const struct devices *devices, const struct device *device)
{
	const struct pci_address *own = &device->record.address;
	uint32_t n = 0;

	if (!device->record.vfs_total)
		return 0;
	for (size_t i = 0; i < devices->n; i++)
		n += devices->list[i].record.is_vf &&
		     !pci_address_compare(&devices->list[i].record.physfn, own);
	return n;
}

enum gpubroker_status device_status(const struct devices *devices, const struct device *device,
				    const struct lease *lease)
{
	if (lease && lease->state == GPUBROKER_LEASE_STUCK)
		return GPUBROKER_STUCK;
	if (lease && !is_bridge(device))
		return lease_is_leaving(lease) ? GPUBROKER_RELEASING : GPUBROKER_LEASED;
	/* A PF that has VFs is never lent: its holder could affect the VFs that others have. */
	if (device->record.group == NO_GROUP || is_bridge(device) || devices_vfs(devices, device) ||
	    group_spoilt(devices, device->record.group))
		return GPUBROKER_NOT_VIABLE;
	if (shows_console(device->record.boot_vga, device->record.driver))
		return GPUBROKER_BOOT_VGA;
	return driver_is_vfio(device->record.driver) ? GPUBROKER_VFIO_READY : GPUBROKER_AVAILABLE;
}

bool device_is_gpu(const struct device *device)
{
	return class_is_gpu(device->record.class_code);
}
