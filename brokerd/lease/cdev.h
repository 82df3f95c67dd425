/* SPDX-License-Identifier: MIT */
/*
 * Leases by the devices' own nodes, /dev/vfio/devices/vfioN with /dev/iommu, beside their groups.
 */
#pragma once

#include "brokerd/daemon.h"

/*
 * Opens /dev/iommu and the nodes of all devices of a claim's leases, which are bound and whose groups we have
 * open, fills the grant's cdevs, and appends the descriptors to fds[*n_fds]; watches them. All or none: where the
 * kernel has none, or they are more than a grant holds, it is 0 and nothing is appended. -EBUSY with *ret_which
 * where somebody else has one.
 */
int cdevs_open(const struct daemon *daemon, struct lease *const *leases, size_t n,
	       struct message_grant *grant, int *fds, size_t *n_fds, size_t *ret_which);

/* Has anybody one of the lease's, as it was lent? */
bool cdevs_are_held(const struct daemon *daemon, const struct lease *lease);

/* Watches all that there are, of a lease from the records. */
void cdevs_watch(const struct daemon *daemon, struct lease *lease);
void cdevs_unwatch(const struct daemon *daemon, struct lease *lease);
