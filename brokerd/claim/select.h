/* SPDX-License-Identifier: MIT */
/* What a claim's selectors mean, and whether the claimant may have it now. */
#pragma once

#include "brokerd/claim/claims.h"

/*
 * Decides a request. 0, with *ret_selection; or the reason, with *ret_refusal: then only
 * ret_selection->wanted counts. The caller frees it with selection_done() in both cases. Changes
 * and logs nothing.
 */
int selection_decide(const struct claims *claims, const struct claimant *claimant,
		     const struct message_claim *request, struct selection *ret_selection,
		     struct message_refusal *ret_refusal);
void selection_done(struct selection *selection);
