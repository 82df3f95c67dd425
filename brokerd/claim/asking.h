/* SPDX-License-Identifier: MIT */
/* Claims that are only asked for: decided as any claim is, and not begun. */
#pragma once

#include "brokerd/claim/claims.h"

/*
 * Decides a claim without beginning it; changes and logs nothing. The claimant is answered by
 * checked() or refuse(), perhaps later: who has its devices open takes a moment to find out.
 */
void claim_check(struct claims *claims, struct claimant *claimant,
		 const struct message_claim *request);
/* Fills the refusal of a claim for which there is no memory. Returns its reason. */
int asking_no_memory(struct message_refusal *ret_refusal);
/* The same of a claim for which no lease number is left: more are being reserved. */
int asking_no_number(struct message_refusal *ret_refusal);
/* Frees a selection that was allocated, for cleanup_(). */
void asking_selection_freep(struct selection **selection);
/* Forgets what the claimant has asked for; it gets no answer. */
void claim_check_forget(struct claimant *claimant);
