/* SPDX-License-Identifier: MIT */
/* The course of a claim, once begun, to the grant or the refusal. */
#pragma once

#include "brokerd/claim/claims.h"

/* The claim follows its leases by these. */
extern const struct lease_follower_ops claim_follower_ops;

/*
 * Looks where the claim stands and does what is next: nothing while a worker is at it, making when
 * all leases are asked about, the grant when all are ready, and after a failure first restore, then
 * the answer. The claim may be gone on return.
 */
void claim_advance(struct claim *claim);

/*
 * Ends the claim that a lease is of: it was released before it was granted. The lease may be gone
 * on return.
 */
void claim_release(struct claim *claim, struct lease *lease);

/* The claimant has gone: its claim is undone, and its place in the queue is free. */
void claims_forget(struct claimant *claimant);
