/* SPDX-License-Identifier: MIT */
/*
 * The end of a lease: how the broker learns that its holder has let go, and how a lease is taken
 * back from a holder that has not.
 */
#pragma once

#include "brokerd/lease/leases.h"

/* Starts the timer of a lease that has an end. At the end it is taken back, held or not. */
void lease_set_clock(struct lease *lease);

/* Reads from inotify which lent nodes have been closed. */
void ending_read_inotify(struct leases *leases);

/*
 * The lease's group file was closed, or nobody has it. Restores the lease as soon as nobody holds
 * it. The lease may be gone on return.
 */
void lease_closed(struct lease *lease);

/*
 * Probes whether anybody still holds the lease: a worker tries to open the group. The lease may be
 * gone on return.
 */
void lease_probe_holder(struct lease *lease);

/*
 * Takes a lease back, even from a holder that still uses it; `why` (static) is for the log. Does
 * nothing if the lease is going back already. The lease may be gone on return.
 */
void lease_recall(struct lease *lease, const char *why);

/*
 * The lease is to end. If a worker still binds what came into its group, and has not ended in time
 * (lease->late), the lease is stuck until it does.
 */
void lease_end_is_late(struct lease *lease);

/*
 * The worker of a lent lease has ended. Does what had to wait for that. The lease may be gone on
 * return.
 */
void lease_resume_pending(struct lease *lease);
