/* SPDX-License-Identifier: MIT */
/* Has the processes ended that keep a device after their lease was taken back. */
#pragma once

#include "brokerd/lease/leases.h"
#include "brokerd/state/ender.h"

#define KILL_WAITS 60 /* of 50 ms; the ender needs 2.4 s at most, unless it hangs */

/*
 * Notes which nodes a lease's holder can have open, while they are there: by their numbers the
 * ender finds the holder later. Those that cannot be read are left out.
 */
void kill_note_nodes(struct lease *lease);
/*
 * Begins to end the holder's processes if the lease's terms say so, the lease is asked, and
 * that has not begun yet. Its reason tells what was done.
 */
void kill_begin(struct lease *lease);
/* Begins anew, with the terms as they are now, also if the lease is stuck. */
void kill_again(struct lease *lease);
/*
 * Returns true if the ender may still be at an order for the lease, which is over but for that, and
 * then has `then` called in a moment. Its nodes must not be lent again before, since who gets them
 * next may be the same user. It is waited for KILL_WAITS moments at most.
 */
bool kill_is_under_way(struct lease *lease, void (*then)(struct lease *lease));
/* Returns true if the ender is there. */
bool kill_is_possible(const struct leases *leases);
/* Takes an answer of the ender. NULL: it is gone, and with it the orders that it had. */
void kill_answered(struct leases *leases, const struct ender_answer *answer);
