/* SPDX-License-Identifier: MIT */
/*
 * The device table: what the watcher has sent. Good for listing and for finding candidates; the
 * core reads from sysfs itself what a claim is decided on. No I/O.
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

/* One record from the watcher: of exact size, its strings possibly without NUL. */
enum watcher_record_type {
	WATCHER_SCAN = 1, /* a whole scan begins: a device that it does not name is gone */
	WATCHER_DEVICE,	  /* there is this function, and it is like this */
	WATCHER_GONE,	  /* there is no such function any more */
	WATCHER_SCANNED,  /* the scan is complete */
};

struct watcher_record {
	uint32_t type;
	struct pci_address address;
	uint16_t vendor, device, subsystem_vendor, subsystem_device;
	uint32_t class_code;
	uint32_t group; /* NO_GROUP: none */
	uint32_t boot_vga;
	uint32_t is_vf;
	struct pci_address physfn; /* of a VF */
	uint32_t vfs_total;	   /* how many VFs it can have; 0: it has no SR-IOV */
	char driver[PROTOCOL_NAME_MAX];
	char vfio_driver[PROTOCOL_NAME_MAX]; /* the variant that modules.alias names for it, "":
						none */
	char path[FUNCTION_PATH_MAX];
	char vendor_name[64];
	char model[96];
};

struct device {
	struct watcher_record record; /* strings checked */
	bool stale;		      /* not seen in the scan under way */
};

struct devices {
	struct device *list; /* by address */
	size_t n, room;
	bool scanned; /* a whole scan has come */
	bool full;    /* this scan had more than DEVICES_MAX, and that was logged */
};

void devices_done(struct devices *devices);

/*
 * Returns true if its type and its addresses make sense; nothing may be done by a record that does
 * not.
 */
bool devices_believe(const struct watcher_record *record);

/*
 * Takes a record. -EBADMSG: it is not one; -E2BIG: more than DEVICES_MAX, once in a scan, since it
 * is logged (the others are left out without a word); -ENOMEM.
 */
int devices_take(struct devices *devices, const struct watcher_record *record);

/* The first device at or after an address; NULL: none. A cursor that survives changes. */
const struct device *devices_from(const struct devices *devices, const struct pci_address *address);

/* The device at exactly this address; NULL: none. */
const struct device *devices_find(const struct devices *devices, const struct pci_address *address);

/* Returns the facts that a policy looks at. */
struct policy_facts device_facts(const struct device *device);

/*
 * The members of a device's group that go along with a lease, as facts; *ret_asked is the device's
 * own index.
 */
size_t devices_group(const struct devices *devices, const struct device *device,
		     struct policy_facts out[PROTOCOL_FUNCTIONS_MAX], size_t *ret_asked);

/*
 * Counts the virtual functions of a device in the table. sriov_numvfs would not do: the kernel
 * sends no event when it changes.
 */
uint32_t devices_vfs(const struct devices *devices, const struct device *device);

/* Returns the status that `list` shows; `lease` is the one of its group, or NULL. */
enum gpubroker_status device_status(const struct devices *devices, const struct device *device,
				    const struct lease *lease);

/* A display controller or a processing accelerator: what "any" may choose. */
bool device_is_gpu(const struct device *device);
