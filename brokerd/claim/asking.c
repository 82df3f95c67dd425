/* SPDX-License-Identifier: MIT */
/*
 * Claims that are only asked for, see asking.h. It must never begin one, nor change or log
 * anything.
 */
#include "config.h"

#include "brokerd/claim/asking.h"
#include "brokerd/claim/opening.h"
#include "brokerd/claim/select.h"
#include "brokerd/state/refuse.h"
#include "client/common/util.h"

#include <errno.h>
#include <stdlib.h>

int asking_no_memory(struct message_refusal *ret_refusal)
{
	*ret_refusal = refusal_make(GPUBROKER_REFUSED_FAILED);
	refusal_say(ret_refusal, "claim");
	ret_refusal->error = ENOMEM;
	return GPUBROKER_REFUSED_FAILED;
}

int asking_no_number(struct message_refusal *ret_refusal)
{
	*ret_refusal = refusal_make(GPUBROKER_REFUSED_FAILED);
	refusal_say(ret_refusal, "reserving a lease number; try again");
	return GPUBROKER_REFUSED_FAILED;
}

void asking_selection_freep(struct selection **selection)
{
	if (*selection)
		selection_done(*selection);
	free(*selection);
}

/* A claim that is only asked for, while it is not known who has its devices open. */
struct check {
	struct claims *claims;
	struct claimant *claimant;
	struct message_claim request;
	struct opening *opening;
};

static void decide_check(struct check *check);

void claim_check_forget(struct claimant *claimant)
{
	struct check *check = TAKE_PTR(claimant->check);

	if (check)
		opening_free(check->opening);
	free(check);
}

static void on_check_opened(void *userdata, const struct message_refusal *refusal)
{
	struct check *check = userdata;
	struct claimant *claimant = check->claimant;

	check->opening = NULL;
	if (refusal && opening_avoid(claimant, &check->request, refusal)) {
		decide_check(check);
		return;
	}
	claim_check_forget(claimant);
	if (refusal)
		claimant->ops->refuse(claimant, refusal);
	else
		claimant->ops->checked(claimant);
}

/* Decides it, perhaps again, without the devices that programs have open. */
static void decide_check(struct check *check)
{
	cleanup_(asking_selection_freep) struct selection *selection =
		calloc(1, sizeof(*selection));
	struct claimant *claimant = check->claimant;
	struct message_refusal refusal;
	int r = selection ? selection_decide(check->claims, claimant, &check->request, selection,
					     &refusal)
			  : asking_no_memory(&refusal);

	if (selection)
		claimant->ops->spend(claimant, selection->cost);
	if (!r)
		check->opening = opening_ask(check->claims, claimant, &check->request, selection,
					     on_check_opened, check);
	if (check->opening)
		return;
	claim_check_forget(claimant);
	if (r)
		claimant->ops->refuse(claimant, &refusal);
	else
		claimant->ops->checked(claimant);
}

void claim_check(struct claims *claims, struct claimant *claimant,
		 const struct message_claim *request)
{
	struct message_refusal refusal;
	struct check *check = calloc(1, sizeof(*check));

	if (!check) {
		asking_no_memory(&refusal);
		claimant->ops->refuse(claimant, &refusal);
		return;
	}
	check->claims = claims;
	check->claimant = claimant;
	check->request = *request;
	claimant->check = check;
	opening_avoid_none(claimant);
	decide_check(check);
}
