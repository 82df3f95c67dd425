/* SPDX-License-Identifier: MIT */
/* At the daemon's start: leases that an earlier run left in the state directory. */
#pragma once

#include "brokerd/lease/leases.h"

/* Reads the records and takes up every lease in them. 0, or -errno where they cannot be read. */
int recover_leases(struct leases *leases);

/*
 * Keeps what damaged records may be about, of this start and earlier ones, from being lent, until
 * root restores it or the kernel shows that the host has it. To be called before anything is lent.
 * 0, or -errno.
 */
int recover_damaged(struct leases *leases);

/* Takes up one lease, read from its record: it is held, or goes back. It may be gone on return. */
void recover_lease(struct lease *lease);
