/* SPDX-License-Identifier: MIT */
/*
 * Leases come true and end: binding, restoring, and hearing from the kernel that a group was let
 * go.
 */
#pragma once

#include "brokerd/daemon.h"

struct group_view;

/*
 * Starts a worker that binds the lease's functions to VFIO; claim_advance() hears when it is over.
 * A group that is on VFIO already is ready at once. 0, or -errno when none could be started.
 */
int lease_bind(struct daemon *daemon, struct lease *lease, const struct group_view *view);

/*
 * Gives the lease's functions back, as recorded; the lease is in state RESTORING. May be over, and
 * the lease gone, on return.
 */
void lease_restore(struct daemon *daemon, struct lease *lease);

/* inotify has something. */
void lending_watch(struct daemon *daemon);
/* A lease known from the records: is it held, or does its group go back? */
void lending_take_up(struct daemon *daemon, struct lease *lease);
/* Is any worker at work? */
bool lending_is_busy(const struct daemon *daemon);
