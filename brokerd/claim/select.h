/* SPDX-License-Identifier: MIT */
/* Decides what a claim's selectors mean, and whether the claimant may have it now. */
#pragma once

#include "brokerd/claim/claims.h"

/*
 * Decides a request; changes nothing, and logs only a fault. Returns 0 with *ret_selection; or the
 * reason with *ret_refusal, and then only ret_selection->wanted is valid. The caller frees it with
 * selection_done() in both cases.
 */
int selection_decide(const struct claims *claims, const struct claimant *claimant,
		     const struct message_claim *request, struct selection *ret_selection,
		     struct message_refusal *ret_refusal);
void selection_done(struct selection *selection);
