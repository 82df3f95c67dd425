/* SPDX-License-Identifier: MIT */
/*
 * Leases come true and end: binding, restoring, and hearing from the kernel that a group was let
 * go.
 */
#pragma once

#include "brokerd/daemon.h"

struct function;
struct group_view;
struct work;

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

/*
 * Starts the clock of a lease that may last only so long; at the end it is taken back, held or not.
 */
void lease_set_expiry(struct daemon *daemon, struct lease *lease);

/*
 * Adds the writes that bring a function to a VFIO driver; none where it is on one. `wanted` is the
 * rule's, or "" for the kernel's choice: the most specific variant driver that is loaded, else
 * vfio-pci. -ENOENT: the wanted one is not loaded.
 */
int add_bind_steps(const struct daemon *daemon, struct work *work, const struct function *function,
		   const char *wanted);

/* inotify has something. */
void lending_watch(struct daemon *daemon);
/* A lease known from the records: is it held, or does its group go back? */
void lending_take_up(struct daemon *daemon, struct lease *lease);
/* Is any worker at work? */
bool lending_is_busy(const struct daemon *daemon);
