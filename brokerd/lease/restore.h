/* SPDX-License-Identifier: MIT */
/* Restore: how the host gets back what a lease had, for every kind of lease. */
#pragma once

#include "brokerd/lease/leases.h"

/*
 * Gives everything back, as recorded; the lease is in state RESTORING, or STUCK. May be over, and
 * the lease gone, on return.
 */
void lease_restore(struct lease *lease);
/* The same, but what is only half there is looked at so many times more, and then given up. */
void lease_restore_with(struct lease *lease, unsigned looks);
/* The same for a lease that is stuck and has no worker; else nothing. */
void lease_retry(struct lease *lease);

/*
 * Notes that a worker of a lease that is being claimed has ended. False: it came late, after its
 * claim was answered, and the lease is on its way back instead; it may be gone.
 */
bool lease_worker_ended(struct lease *lease);

/*
 * Has `then` called in a moment. False: that was done often enough, or there is no memory for it.
 */
bool lease_look_soon(struct lease *lease, void (*then)(struct lease *lease));
