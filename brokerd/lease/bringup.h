/* SPDX-License-Identifier: MIT */
/*
 * Bring-up: from PREPARING to READY, for every kind of lease. The lease's follower hears when a
 * step is over.
 */
#pragma once

#include "brokerd/lease/leases.h"

/* Makes a lease of the kind that its fields say, as new. Sets no state. */
void lease_set_kind(struct lease *lease);

/*
 * Starts a worker that reads what must be recorded and may block. A kind that has nothing to read
 * needs none: 0, and nobody is called. 0, or -errno when none could be started.
 */
int lease_ask(struct lease *lease);

/*
 * Starts a worker that makes the lease ready. A lease that is ready at once becomes so, and nobody
 * is called. 0, or -errno when none could be started.
 */
int lease_make(struct lease *lease);
