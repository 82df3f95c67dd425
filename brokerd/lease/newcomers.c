/* SPDX-License-Identifier: MIT */
/*
 * Newcomers, see newcomers.h. It only reads: hotplug.c decides what becomes of them, grant.c
 * refuses a claim whose group has one, and functions.c has the kernel bind them when the lease
 * ends.
 */
#include "config.h"

#include "brokerd/lease/newcomers.h"
#include "brokerd/lease/leases.h"
#include "client/common/util.h"
#include "client/host/sysfs.h"

#include <errno.h>

int lease_newcomers(const struct lease *lease, struct pci_address *ret_newcomers, size_t max)
{
	const int sys = leases_of(lease)->kernel->sys;
	struct pci_address members[2 * PROTOCOL_FUNCTIONS_MAX]; /* more than are lent together */
	int n, newcomers = 0;

	if (!lease->n_functions)
		return 0;
	n = sysfs_group_members(sys, lease->group, members, ARRAY_SIZE(members));
	if (n < 0)
		return n == -ENODEV ? 0 : n;
	for (int i = 0; i < n && i < (int)ARRAY_SIZE(members); i++) {
		int r;

		if (lease_has_function(lease, &members[i]))
			continue;
		r = sysfs_is_bridge(sys, &members[i]);
		if (r == -ENODEV || r > 0) /* it has gone meanwhile, or stays with the host */
			continue;
		if (r < 0)
			return r;
		if ((size_t)newcomers < max)
			ret_newcomers[newcomers] = members[i];
		newcomers++;
	}
	return newcomers;
}
