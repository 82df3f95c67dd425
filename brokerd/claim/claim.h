/* SPDX-License-Identifier: MIT */
/* The life cycle of a claim, once begun, to the grant or the refusal. */
#pragma once

#include "brokerd/claim/claims.h"

/* The follower of all leases that are being claimed. */
extern const struct lease_follower_ops claim_follower_ops;

/*
 * Does the claim's next step: nothing while a worker or a hook is running; the records and hooks
 * when all ask workers have ended; making; the grant when all leases are READY; and after a failure
 * first the restore, then the answer. The claim may be gone on return.
 */
void claim_advance(struct claim *claim);
/*
 * A node in /dev/vfio was touched: claims that wait until udev has dealt with theirs need not wait
 * for their next look. It only ends their timers, and advances none itself.
 */
void claims_look_at_nodes(struct claims *claims);
/* Returns true if a claim has failed and is not answered yet: what it began is being undone. */
bool claims_are_failing(const struct claims *claims);

/* It is known who has the devices of a claim open: takes the refusal, or NULL, and goes on. */
void claim_opened(void *claim, const struct message_refusal *refusal);

/*
 * Fails the claim of a lease that was released before it was granted. The lease may be gone on
 * return.
 */
void claim_release(struct claim *claim, struct lease *lease);

/* Ends a claim that waits. `by` is the user who asks for that: root, or the claim's own. */
void claim_end_waiting(struct waiting *waiting, uint32_t by);

/* The claimant has gone: undoes its claim and frees its place in the queue. */
void claims_forget(struct claimant *claimant);
