/* SPDX-License-Identifier: MIT */
/* Restore: gives back to the host what a lease had, for every kind of lease. */
#pragma once

#include "brokerd/lease/leases.h"

/*
 * Begins to give everything back, as recorded; the lease must be RESTORING or STUCK. The lease may
 * be gone on return.
 */
void lease_restore(struct lease *lease);
/* The same, but a device that is half made or removed is looked at only `looks` times more. */
void lease_restore_with(struct lease *lease, unsigned looks);
/* The same for a lease that is stuck and has no worker; does nothing for others. */
void lease_retry(struct lease *lease);

/*
 * Tries again what is stuck because its driver is not loaded, if this function has a driver now:
 * the kernel has loaded it.
 */
void lease_device_seen(struct leases *leases, const struct watcher_record *record);

/*
 * Notes that the worker of a lease that is being claimed has ended. Returns false if it was late,
 * so that its claim has failed or is gone; then the lease is being restored, and may be gone.
 */
bool lease_worker_ended(struct lease *lease);

/*
 * Calls `then` in a moment. Returns false if that has been done often enough, or if there is no
 * memory for a timer.
 */
bool lease_look_soon(struct lease *lease, void (*then)(struct lease *lease));
