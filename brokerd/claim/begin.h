/* SPDX-License-Identifier: MIT */
/* The beginning of a claim: the decision, then the leases or the queue. */
#pragma once

#include "brokerd/claim/claims.h"

/*
 * Initializes *claims, whose pointers to other parts must be set, and makes the event by which
 * waiting claims are tried again. Returns 0, or -ENOMEM.
 */
int claims_init(struct claims *claims);
void claims_done(struct claims *claims);

/*
 * Decides a claim and begins it, or queues it. Returns 0 if it was begun or queued: then the
 * claimant gets the answer later. Otherwise returns the reason, with *ret_refusal.
 */
int claim_start(struct claims *claims, struct claimant *claimant,
		const struct message_claim *request, struct message_refusal *ret_refusal);
