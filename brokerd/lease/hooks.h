/* SPDX-License-Identifier: MIT */
/*
 * The administrator's hooks of a lease: asks the runner to run them, before anything of the lease's
 * group is taken from its host driver, and after the host drivers have everything back. Without
 * hooks nothing is asked.
 */
#pragma once

#include "brokerd/lease/leases.h"
#include "brokerd/state/hooking.h"

/* Makes the timer. Returns 0, or -ENOMEM. */
int hooks_init(struct leases *leases);
void hooks_done(struct leases *leases);

/*
 * Has the hooks of an event run for a lease. Returns false if there is nothing to run: there is no
 * hook, or the lease has nothing that a host driver had. Otherwise done() is called once and later,
 * and until then the lease must not be freed, and nothing of it may change.
 */
bool hooks_run(struct lease *lease, enum hook_event event,
	       void (*done)(struct lease *lease, const struct hook_answer *answer));

/* There are hooks, as far as is known before the runner has said how many. */
void hooks_expect(struct leases *leases, bool any);
/* A runner has connected. It knows nothing of questions to the one before it. */
void hooks_came(struct leases *leases);
/* The runner has gone. Another one is waited for, for some seconds. */
void hooks_left(struct leases *leases);
/* Takes an answer. Returns false if nobody has asked that: then the runner cannot be trusted. */
bool hooks_answered(struct leases *leases, const struct hook_answer *answer);
