/* SPDX-License-Identifier: MIT */
/*
 * Leases by devices' own nodes (/dev/vfio/devices/vfioN) and iommufd, beside their IOMMU group's.
 */
#pragma once

#include "brokerd/lease/leases.h"

/*
 * Opens a fresh /dev/iommu and the nodes of all devices of a claim's leases, which are bound and
 * whose groups we have open; fills the grant's cdevs, appends the descriptors to fds[*n_fds] and
 * watches the nodes. All or none: where the kernel has none, or they are more than a grant holds,
 * returns 0 and appends nothing. -EBUSY with *ret_which where a process still holds one.
 */
int cdevs_open(const struct kernel *kernel, struct lease *const *leases, size_t n,
	       struct message_grant *grant, int *fds, size_t *n_fds, size_t *ret_which);
/* Returns true if any process still holds a cdev that this lease handed out. */
bool cdevs_are_held(const struct lease *lease);
/* Watches the nodes of a lease from the records. */
void cdevs_watch(struct lease *lease);
void cdevs_unwatch(struct lease *lease);
