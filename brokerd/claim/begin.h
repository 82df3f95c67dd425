/* SPDX-License-Identifier: MIT */
/* The beginning of a claim: decided, begun or queued. */
#pragma once

#include "brokerd/claim/claims.h"

/*
 * Takes over the pointers that are set in *claims, and makes the event by which waiting claims are
 * tried again. 0, or -ENOMEM.
 */
int claims_init(struct claims *claims);
void claims_done(struct claims *claims);

/*
 * Decides a claim and begins it, or queues it. 0: begun or queued, and the claimant gets the
 * answer; else the reason, with *ret_refusal.
 */
int claim_start(struct claims *claims, struct claimant *claimant,
		const struct message_claim *request, struct message_refusal *ret_refusal);
/*
 * Decides a claim without beginning it. 0, or the reason, with *ret_refusal; nothing has changed,
 * and nothing is logged.
 */
int claim_check(struct claims *claims, struct claimant *claimant,
		const struct message_claim *request, struct message_refusal *ret_refusal);
