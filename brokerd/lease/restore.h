/* SPDX-License-Identifier: MIT */
/* Restore: gives back to the host what a lease had, for every kind of lease. */
#pragma once

#include "brokerd/lease/leases.h"

/*
 * Begins to give everything back, as recorded; the lease must be RESTORING, STUCK or ASKED. The
 * lease may be gone on return.
 */
void lease_restore(struct lease *lease);
/* The same, but a device that is half made or removed is looked at only `looks` times more. */
void lease_restore_with(struct lease *lease, unsigned looks);
/*
 * The same for a lease from the records, after looking whether a process has its group: that tells
 * later what the worker waits for.
 */
void lease_look_and_restore(struct lease *lease);
/*
 * Notes that the last holder of an asked lease has closed the group: if that does not end the
 * lease soon, it is stuck.
 */
void lease_asked_closed(struct lease *lease);
/* The same for a lease that is stuck or asked and has no worker; does nothing for others. */
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
