/* SPDX-License-Identifier: MIT */
/*
 * The device table, see devices.h. Owns the array. It must never trust that a record's strings end,
 * nor let the watcher make the table grow without bound.
 */
#include "config.h"

#include "brokerd/state/devices.h"
#include "client/common/util.h"

#include <string.h>

#define HEADS 4096 /* of lists of groups */

/*
 * The functions of each group, and the VFs of each function. Without it, a line of a listing would
 * walk the whole table four times.
 */
struct devices_index {
	bool valid;
	uint32_t heads[HEADS]; /* of lists of functions, by group; index + 1, or 0 */
	uint32_t next[DEVICES_MAX];
	uint32_t vfs[DEVICES_MAX];
};

void devices_done(struct devices *devices)
{
	free(devices->index);
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

static uint32_t *head_of(struct devices_index *index, uint32_t group)
{
	return &index->heads[group % HEADS];
}

/* Makes the index again, if the table has changed. */
static void bring_up_to_date(const struct devices *devices)
{
	struct devices_index *index = devices->index;

	if (!index || index->valid)
		return;
	memset(index->heads, 0, sizeof(index->heads));
	memset(index->vfs, 0, devices->n * sizeof(index->vfs[0]));
	for (size_t i = devices->n; i--;) { /* backwards, so that lists are by address */
		const struct watcher_record *r = &devices->list[i].record;
		uint32_t *head = head_of(index, r->group);
		size_t physfn;

		if (r->group != NO_GROUP) {
			index->next[i] = *head;
			*head = (uint32_t)i + 1;
		}
		physfn = r->is_vf ? index_from(devices, &r->physfn) : 0;
		if (r->is_vf && is_at(devices, physfn, &r->physfn))
			index->vfs[physfn]++;
	}
	index->valid = true;
}

static const struct device *of_group(const struct devices *devices, uint32_t at, uint32_t group)
{
	while (at && devices->list[at - 1].record.group != group)
		at = devices->index->next[at - 1];
	return at ? &devices->list[at - 1] : NULL;
}

/* The functions of a group, by address; each returns NULL after the last. */
static const struct device *first_of_group(const struct devices *devices, uint32_t group)
{
	if (!devices->n)
		return NULL;
	bring_up_to_date(devices);
	return of_group(devices, *head_of(devices->index, group), group);
}

static const struct device *next_of_group(const struct devices *devices,
					  const struct device *device)
{
	return of_group(devices, devices->index->next[device - devices->list],
			device->record.group);
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
	if (!devices->index)
		devices->index = calloc(1, sizeof(*devices->index));
	if (!devices->index)
		return -ENOMEM;
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
	if (devices->index)
		devices->index->valid = false;
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

bool devices_have_group(const struct devices *devices)
{
	for (size_t i = 0; i < devices->n; i++)
		if (devices->list[i].record.group != NO_GROUP)
			return true;
	return false;
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

void devices_group(const struct devices *devices, const struct device *device,
		   struct device_group *ret_group, size_t *ret_asked)
{
	const bool alone = device->record.group == NO_GROUP; /* and in no list */
	size_t n = 0, members = 0;

	*ret_asked = 0;
	for (const struct device *d = alone ? device
					    : first_of_group(devices, device->record.group);
	     d; d = alone ? NULL : next_of_group(devices, d)) {
		if (d != device && is_bridge(d))
			continue;
		members++;
		if (d == device)
			*ret_asked = n;
		else if (n == PROTOCOL_FUNCTIONS_MAX ||
			 (n == PROTOCOL_FUNCTIONS_MAX - 1 && d < device))
			continue; /* the last place is kept for the device itself */
		ret_group->facts[n++] = device_facts(d);
	}
	ret_group->n = n;
	/* A bridge, or a part of a large group, is not what another function's group is. */
	ret_group->group = is_bridge(device) || members > n ? NO_GROUP : device->record.group;
}

bool devices_same_group(const struct device_group *group, const struct device *device,
			size_t *ret_asked)
{
	if (!group->n || group->group == NO_GROUP || group->group != device->record.group)
		return false;
	for (size_t i = 0; i < group->n; i++) {
		if (pci_address_compare(&group->facts[i].address, &device->record.address))
			continue;
		*ret_asked = i;
		return true;
	}
	return false;
}

/*
 * Returns true if a bridge of the group has a host driver that makes the group unusable, or if the
 * group has too many functions, see client/host/function.h.
 */
static bool group_spoilt(const struct devices *devices, uint32_t group)
{
	size_t n = 0;

	for (const struct device *d = first_of_group(devices, group); d;
	     d = next_of_group(devices, d)) {
		if (is_bridge(d) && bridge_spoils_group(d->record.driver))
			return true;
		n += !is_bridge(d);
	}
	return n > FUNCTIONS_MAX;
}

uint32_t devices_vfs(const struct devices *devices, const struct device *device)
{
	if (!device->record.vfs_total)
		return 0;
	bring_up_to_date(devices);
	return devices->index->vfs[device - devices->list];
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
