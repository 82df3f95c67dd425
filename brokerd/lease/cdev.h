/* SPDX-License-Identifier: MIT */
/*
 * Leases by devices' own nodes (/dev/vfio/devices/vfioN) and iommufd, in addition to their IOMMU
 * groups.
 */
#pragma once

#include "brokerd/lease/leases.h"

/*
 * Opens a new /dev/iommu and the nodes of all devices of a claim's leases, which must be READY with
 * their groups open in this process. Fills the grant's cdevs, appends the descriptors to
 * fds[*n_fds] and watches the nodes. If the kernel has none, or there are more than fit into a
 * grant, returns 0 and appends nothing. Returns -EBUSY with *ret_which if a process still holds
 * one.
 */
int cdevs_open(const struct kernel *kernel, struct lease *const *leases, size_t n,
	       struct message_grant *grant, int *fds, size_t *n_fds, size_t *ret_which);
/* Returns true if any process still holds a cdev that this lease handed out. */
bool cdevs_are_held(const struct lease *lease);
/*
 * Returns true if others than root may open one of the lease's device nodes, whether it is lent or
 * not; with its number.
 */
bool cdevs_are_open(const struct lease *lease, uint32_t *ret_number, struct kernel_node *ret_node);
/* Returns true if each of them was touched since, see kernel_nodes_mark(). */
bool cdevs_are_touched(const struct lease *lease, struct kernel_touches *touches, uint64_t since);
/* Watches the nodes of a lease that was taken up from its record. */
/* Reads the numbers of the nodes that the lease's devices have now. Returns how many. */
size_t cdevs_numbers(const struct lease *lease, uint32_t numbers[PROTOCOL_CDEVS_MAX]);
void cdevs_watch(struct lease *lease);
void cdevs_unwatch(struct lease *lease);
