/* SPDX-License-Identifier: MIT */
/* Leases of mediated devices (mdevs), which a host driver makes below a parent device. */
#pragma once

#include "brokerd/lease/kind.h"
#include "brokerd/lease/leases.h"

extern const struct lease_kind lease_of_mdev;

/*
 * Reads the seed of the UUIDs. To be called before the process is confined. Returns 0, or -errno.
 */
int mdev_seed(struct leases *leases);
/* Chooses the UUID of the mediated device that will be made for the lease. */
void mdev_new_uuid(struct lease *lease);

/* The result of a worker that was to make a mediated device or a vGPU. */
struct making {
	bool none_left;	   /* the driver has no instance left */
	const char *lacks; /* the fault if it was made but has no IOMMU group */
};

/* Moves the lease to READY with its group, or fails it. */
void mdev_finish_making(struct lease *lease, const struct work_result *result,
			const struct making *making);
/* lease_kind.why_not_begun() of mediated devices and vGPUs. */
const char *mdev_why_not_begun(int error, const char *making);
