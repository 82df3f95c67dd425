/* SPDX-License-Identifier: MIT */
/*
 * Asks the finder, before anything is unbound for a claim, which processes of the host have nodes
 * of its devices open. The answer can only refuse a claim. Without one, a claim goes on as if
 * nobody had them: a finder that is missing or hangs must not keep anything from being lent.
 */
#pragma once

#include "brokerd/claim/claims.h"
#include "brokerd/state/finding.h"

#define AVOIDED_MAX 8 /* devices that one claim by a name leaves for others */

/* Groups that a claim does not take, since programs have them open. */
struct avoided {
	size_t n;
	struct message_refusal list[AVOIDED_MAX]; /* the refusal for each, with its group */
};

/* One or more questions that have not been answered yet. */
struct opening;

void opening_init(struct claims *claims);

/*
 * Asks about all that the selection takes from host drivers. Returns what done() is called for,
 * once and later, with the refusal, or NULL if there is none; the opening is gone then. Returns
 * NULL if nothing has to be asked, or cannot be: by `--force` or a rule with in-use, or without a
 * finder.
 */
struct opening *opening_ask(struct claims *claims, const struct claimant *claimant,
			    const struct message_claim *request, const struct selection *selection,
			    void (*done)(void *userdata, const struct message_refusal *refusal),
			    void *userdata);
/* Frees an opening that is not waited for any more. Returns NULL; takes NULL. */
struct opening *opening_free(struct opening *opening);

/* The finder has answered; NULL: it is gone. */
void opening_answered(struct claims *claims, const struct finder_answer *answer);

/*
 * Notes that a claim was refused so, and has to take another device. Returns false if its selectors
 * leave no choice, or too many were tried.
 */
bool opening_avoid(struct claimant *claimant, const struct message_claim *request,
		   const struct message_refusal *refusal);
/* Forgets what a claimant's last claim has avoided. */
void opening_avoid_none(struct claimant *claimant);
/* Returns the refusal for a group that the claim avoids, or NULL. */
const struct message_refusal *opening_avoided(const struct claimant *claimant, uint32_t group);
