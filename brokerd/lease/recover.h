/* SPDX-License-Identifier: MIT */
/* Recovery, at the daemon's start: leases that an earlier run left in the state directory. */
#pragma once

#include "brokerd/lease/leases.h"

/*
 * Reads the records and takes up every lease in them. Returns 0, or -errno if they cannot be read.
 */
int recover_leases(struct leases *leases);

/*
 * Keeps the devices that damaged records may be about, of this start and of earlier ones, from
 * being lent, until root restores them or the kernel shows that the host has them. To be called
 * before anything is lent. Returns 0, or -errno.
 */
int recover_damaged(struct leases *leases);

/*
 * Takes up one lease that was read from its record: it stays if somebody holds it, and is restored
 * if not. The lease may be gone on return.
 */
void recover_lease(struct lease *lease);
