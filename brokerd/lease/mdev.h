/* SPDX-License-Identifier: MIT */
/* Leases of mediated devices (mdevs), which a host driver makes below a parent device. */
#pragma once

#include "brokerd/lease/kind.h"
#include "brokerd/lease/leases.h"

extern const struct lease_kind lease_of_mdev;

/* Before the process is confined: reads the seed of the UUIDs. 0, or -errno. */
int mdev_seed(struct leases *leases);
/* Gives the lease the UUID of the mediated device that will be made for it. */
void mdev_new_uuid(struct lease *lease);

/* How a worker that was to make a mediated device or a vGPU came out. */
struct making {
	bool is_anothers;  /* it was not made, and what is in its place is never touched again */
	bool none_left;	   /* another client was faster */
	const char *lacks; /* what is wrong where it was made and has no IOMMU group */
};

/* Moves the lease to READY with its group, or fails it. */
void mdev_finish_making(struct lease *lease, const struct work_result *result,
			const struct making *making);
/* lease_kind.why_not_begun of both kinds that a driver makes. */
const char *mdev_why_not_begun(int error, const char *making);
