/* SPDX-License-Identifier: MIT */
/*
 * The end of a lease: how the broker learns that its holder has let go, and how a lease is taken
 * back from a holder that has not.
 */
#pragma once

#include "brokerd/lease/leases.h"

/* Starts the clock of a lease that ends some time; then it is taken back, held or not. */
void lease_set_clock(struct lease *lease);

/* Reads inotify: a node that was lent has been closed. */
void ending_read_inotify(struct leases *leases);

/* Its group file was closed, or nobody has it: it goes back as soon as nobody holds it. */
void lease_closed(struct lease *lease);

/*
 * Looks whether anybody still holds it; a worker tries to open the group. It may be gone on return.
 */
void lease_probe_holder(struct lease *lease);

/*
 * Takes a lease back whose holder still has it; `why` (static) is for the log. Does nothing where
 * it is on its way back already. It may be gone on return.
 */
void lease_recall(struct lease *lease, const char *why);

/*
 * A worker of a lease that is lent has ended: does what had to wait for that. It may be gone on
 * return.
 */
void lease_resume_pending(struct lease *lease);
