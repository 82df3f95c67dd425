/* SPDX-License-Identifier: MIT */
/*
 * The functions that have come into the group of a lease since it was claimed: plugged in, or made
 * by another program. They are read from sysfs, never from what a helper reports.
 */
#pragma once

#include <stddef.h>

#include "brokerd/state/lease.h"

/*
 * Reads which functions of the lease's group the lease does not have, at most `max`, and returns
 * how many there are; bridges, which stay with the host, do not count. Always 0 for a lease that is
 * not of functions. A group that does not exist has none. Cheap: it reads only the names of the
 * members, and the classes of those that the lease does not have.
 */
int lease_newcomers(const struct lease *lease, struct pci_address *ret_newcomers, size_t max);
