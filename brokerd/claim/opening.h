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
	unsigned tries; /* how often the claim has begun anew with all of them */
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
 * finder; or if the administrator has hooks, which may end those programs. A claim that cannot take
 * another device asks three times within a second before it is refused.
 */
struct opening *opening_ask(struct claims *claims, struct claimant *claimant,
			    const struct message_claim *request, const struct selection *selection,
			    void (*done)(void *userdata, const struct message_refusal *refusal),
			    void *userdata);
/* The same about the leases of a claim, once its hooks have run. */
struct opening *opening_ask_hooked(struct claim *claim,
				   void (*done)(void *userdata,
						const struct message_refusal *refusal));
/* Frees an opening that is not waited for any more. Returns NULL; takes NULL. */
struct opening *opening_free(struct opening *opening);

/* The finder has answered; NULL: it is gone, and no other is expected. */
void opening_answered(struct claims *claims, const struct finder_answer *answer);
/* A finder has come, and is asked what the one before it has not answered. */
void opening_finder_came(struct claims *claims);

/* Returns true for a refusal since a program has a device open. */
bool opening_is_refusal(const struct message_refusal *refusal);

/*
 * Notes that a claim was refused so, and has to take another device. Returns false if its selectors
 * leave no choice, or too many were tried.
 */
bool opening_avoid(struct claimant *claimant, const struct message_claim *request,
		   const struct message_refusal *refusal);
/* Forgets what a claimant's last claim has avoided, and how long it has waited for the finder. */
void opening_avoid_none(struct claimant *claimant);
/* Returns true if the claim avoids a group. */
bool opening_avoids(const struct claimant *claimant);
/*
 * Forgets what a claim has avoided that will be tried again in a moment. Returns false if it avoids
 * nothing, or was tried so often enough.
 */
bool opening_try_again(struct claimant *claimant);
/* Returns the refusal for a group that the claim avoids, or NULL. */
const struct message_refusal *opening_avoided(const struct claimant *claimant, uint32_t group);
