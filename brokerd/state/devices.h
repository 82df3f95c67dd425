/* SPDX-License-Identifier: MIT */
/*
 * The device table: the functions that the watcher has reported. It serves for listing and for
 * finding candidates. Before a claim is decided, the core reads the facts from sysfs itself. No
 * I/O.
 */
#pragma once

#include <stdbool.h>
#include <stddef.h>
#include <stdint.h>

#include "brokerd/state/lease.h"
#include "client/host/function.h"
#include "client/wire/protocol.h"
#include "policy/policy.h"

#define DEVICES_MAX 16384

/* One record from the watcher, of exact size. Its strings may lack the NUL. */
enum watcher_record_type {
	WATCHER_SCAN = 1, /* a scan begins: devices that it does not report are gone */
	WATCHER_DEVICE,	  /* a function was seen, with these properties */
	WATCHER_GONE,	  /* a function has gone */
	WATCHER_SCANNED,  /* the scan is complete */
};

struct watcher_record {
	uint32_t type;
	struct pci_address address;
	uint16_t vendor, device, subsystem_vendor, subsystem_device;
	uint32_t class_code;
	uint32_t group; /* NO_GROUP: none */
	uint32_t boot_vga;
	uint32_t is_bridge;
	uint32_t is_vf;
	struct pci_address physfn; /* of a VF */
	uint32_t vfs_total;	   /* how many VFs it can have; 0: it has no SR-IOV */
	char driver[PROTOCOL_NAME_MAX];
	char vfio_driver[PROTOCOL_NAME_MAX]; /* modules.alias' variant driver; "": none */
	char path[FUNCTION_PATH_MAX];
	char vendor_name[64];
	char model[96];
};

struct device {
	struct watcher_record record; /* its strings are NUL-terminated */
	bool stale;		      /* not seen yet in the scan that is going on */
};

struct devices_index;

struct devices {
	struct device *list; /* by address */
	size_t n, room;
	struct devices_index *index; /* of groups and VFs, made when it is needed after a change */
	bool scanned;		     /* a whole scan has been received */
	bool full;		     /* this scan had more than DEVICES_MAX, and that was logged */
};

void devices_done(struct devices *devices);

/* Returns true if a record's type and addresses are valid. Any other record must be ignored. */
bool devices_believe(const struct watcher_record *record);

/*
 * Puts a record into the table. Returns 0, -EBADMSG for an invalid record, or -ENOMEM. Returns
 * -E2BIG for the first device of a scan beyond DEVICES_MAX, so that it is logged once; for the
 * others it returns 0 and leaves them out.
 */
int devices_take(struct devices *devices, const struct watcher_record *record);

/* Returns the first device at or after an address, or NULL: a cursor that survives changes. */
const struct device *devices_from(const struct devices *devices, const struct pci_address *address);

/* Returns the device at exactly this address, or NULL. */
const struct device *devices_find(const struct devices *devices, const struct pci_address *address);

/* Returns true if any device has an IOMMU group. */
bool devices_have_group(const struct devices *devices);

/* Returns the facts that the policy's rules are matched against. */
struct policy_facts device_facts(const struct device *device);

/* The functions of a group that a lease would include. It points into the table. */
struct device_group {
	uint32_t group; /* NO_GROUP, like n = 0: of no use for another device */
	size_t n;
	struct policy_facts facts[PROTOCOL_FUNCTIONS_MAX];
};

/*
 * Fills in the facts of the functions of the device's group; *ret_asked is the index of the device
 * itself.
 */
void devices_group(const struct devices *devices, const struct device *device,
		   struct device_group *ret_group, size_t *ret_asked);
/*
 * Returns true if that is the device's group too, with *ret_asked. The table must not have changed
 * since.
 */
bool devices_same_group(const struct device_group *group, const struct device *device,
			size_t *ret_asked);

/*
 * Counts the virtual functions of a device that are in the table. The watcher does not report
 * sriov_numvfs: the kernel sends no event when it changes.
 */
uint32_t devices_vfs(const struct devices *devices, const struct device *device);

/*
 * Returns the status that `gpubroker list` shows; `lease` is the lease of the device's group, or
 * NULL.
 */
enum gpubroker_status device_status(const struct devices *devices, const struct device *device,
				    const struct lease *lease);

/* Returns true for a display controller or a processing accelerator, which "any" may choose. */
bool device_is_gpu(const struct device *device);
