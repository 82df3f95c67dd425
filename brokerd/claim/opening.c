/* SPDX-License-Identifier: MIT */
/*
 * The questions to the finder, see opening.h. Owns those that are not answered yet. It must never
 * wait longer than FINDING_LIMIT_MS, never take an answer for a permission, and never tell a user
 * whose process it is, but root and that user.
 */
#include "config.h"

#include "brokerd/claim/opening.h"
#include "brokerd/process/log.h"
#include "brokerd/state/refuse.h"
#include "client/common/util.h"

#include <event2/event.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

/* One question: the functions of one group. */
struct asked {
	uint64_t id; /* 0: it is answered */
	uint32_t group;
	struct pci_address address;
};

struct opening {
	TAILQ_ENTRY(opening) link;
	struct claims *claims;
	struct event *timer;
	uint32_t uid;
	size_t n;
	struct asked asked[PROTOCOL_SELECTORS_MAX];
	void (*done)(void *userdata, const struct message_refusal *refusal);
	void *userdata;
};

void opening_init(struct claims *claims)
{
	TAILQ_INIT(&claims->openings);
}

struct opening *opening_free(struct opening *opening)
{
	if (!opening)
		return NULL;
	TAILQ_REMOVE(&opening->claims->openings, opening, link);
	if (opening->timer)
		event_free(opening->timer);
	free(opening);
	return NULL;
}

static void finish(struct opening *opening, const struct message_refusal *refusal)
{
	void (*done)(void *userdata, const struct message_refusal *refusal) = opening->done;
	void *userdata = opening->userdata;

	opening_free(opening);
	done(userdata, refusal);
}

/* ---- questions ---- */

static void on_limit(evutil_socket_t fd, short what, void *userdata)
{
	struct opening *opening = userdata;

	(void)fd;
	(void)what;
	if (!opening->claims->finder_late)
		log_warning("the finder has not said in %d ms who has a device open; claims go on "
			    "without it until it does",
			    FINDING_LIMIT_MS);
	opening->claims->finder_late = true;
	finish(opening, NULL);
}

/* Asks about the functions of an item that host drivers have. Returns false if nothing is asked. */
static bool ask_about(struct claims *claims, const struct selected *item, struct asked *ret_asked)
{
	struct finder_question question = { .id = claims->last_question + 1 };

	for (size_t i = 0; i < item->view->n_functions; i++) {
		const struct function *f = &item->view->functions[i];

		if (f->driver[0] && !driver_is_vfio(f->driver))
			question.functions[question.n++] = f->address;
	}
	if (!question.n || claims->find(claims->userdata, &question))
		return false;
	claims->last_question = question.id;
	*ret_asked = (struct asked){ question.id, item->view->group, item->asked };
	return true;
}

struct opening *opening_ask(struct claims *claims, const struct claimant *claimant,
			    const struct message_claim *request, const struct selection *selection,
			    void (*done)(void *userdata, const struct message_refusal *refusal),
			    void *userdata)
{
	const struct timeval limit = { .tv_sec = FINDING_LIMIT_MS / 1000,
				       .tv_usec = FINDING_LIMIT_MS % 1000 * 1000 };
	struct asked asked[PROTOCOL_SELECTORS_MAX];
	struct opening *opening;
	size_t n = 0;

	if (!claims->find || claims->finder_late || request->flags & CLAIM_FORCE)
		return NULL;
	for (size_t i = 0; i < selection->n; i++) {
		const struct selected *item = &selection->items[i];

		if (item->view && !item->terms.in_use && ask_about(claims, item, &asked[n]))
			n++;
	}
	opening = n ? calloc(1, sizeof(*opening)) : NULL;
	if (!opening) /* an answer for which there is no memory is ignored */
		return NULL;
	opening->claims = claims;
	opening->uid = claimant->uid;
	opening->done = done;
	opening->userdata = userdata;
	opening->n = n;
	memcpy(opening->asked, asked, n * sizeof(asked[0]));
	TAILQ_INSERT_TAIL(&claims->openings, opening, link);
	opening->timer = evtimer_new(claims->base, on_limit, opening);
	if (!opening->timer || evtimer_add(opening->timer, &limit))
		return opening_free(opening);
	return opening;
}

/* ---- answers ---- */

static void refuse_opened(const struct opening *opening, const struct asked *asked,
			  const struct finder_holder *holder, struct message_refusal *ret_refusal)
{
	refuse_address(ret_refusal, GPUBROKER_REFUSED_IN_USE, &asked->address);
	ret_refusal->detail = REFUSAL_OPEN;
	ret_refusal->group = asked->group;
	if (pci_address_compare(&holder->address, &asked->address) != 0)
		refusal_set_other(ret_refusal, &holder->address);
	refusal_say(ret_refusal, "/dev/%s", holder->node);
	if (opening->uid && opening->uid != holder->uid)
		return;
	ret_refusal->holder_pid = holder->pid;
	ret_refusal->holder_uid = holder->uid;
	snprintf(ret_refusal->driver, sizeof(ret_refusal->driver), "%s", holder->program);
}

/* Returns the holder that the refusal names: the claimant's own process, or else the first. */
static const struct finder_holder *holder_to_name(const struct opening *opening,
						  const struct finder_answer *answer)
{
	const struct finder_holder *named = NULL;

	for (uint32_t i = 0; i < answer->n; i++)
		if (!named || answer->holders[i].uid == opening->uid)
			named = &answer->holders[i];
	return named;
}

static bool all_answered(const struct opening *opening)
{
	for (size_t i = 0; i < opening->n; i++)
		if (opening->asked[i].id)
			return false;
	return true;
}

static void take_answer(struct opening *opening, struct asked *asked,
			const struct finder_answer *answer)
{
	const struct finder_holder *holder = holder_to_name(opening, answer);
	struct message_refusal refusal;

	asked->id = 0;
	if (holder) {
		refuse_opened(opening, asked, holder, &refusal);
		finish(opening, &refusal);
	} else if (all_answered(opening)) {
		finish(opening, NULL);
	}
}

void opening_answered(struct claims *claims, const struct finder_answer *answer)
{
	struct opening *opening;

	claims->finder_late = false;
	if (!answer) {
		while ((opening = TAILQ_FIRST(&claims->openings)))
			finish(opening, NULL);
		return;
	}
	if (answer->incomplete && !answer->n && !claims->finder_hurried)
		log_notice(
			"the finder had no time to look at every process; until it has, a device "
			"may be lent that a program of the host has open");
	claims->finder_hurried = answer->incomplete;
	TAILQ_FOREACH(opening, &claims->openings, link) {
		for (size_t i = 0; i < opening->n; i++) {
			if (opening->asked[i].id == answer->id) {
				take_answer(opening, &opening->asked[i], answer);
				return;
			}
		}
	}
}

/* ---- claims that may take another device ---- */

bool opening_avoid(struct claimant *claimant, const struct message_claim *request,
		   const struct message_refusal *refusal)
{
	bool may_choose = false;

	for (uint32_t i = 0; i < request->n_selectors; i++)
		may_choose = may_choose || request->selectors[i].kind == SELECT_NAME ||
			     request->selectors[i].kind == SELECT_ANY;
	if (!may_choose || refusal->reason != GPUBROKER_REFUSED_IN_USE ||
	    refusal->detail != REFUSAL_OPEN)
		return false;
	if (!claimant->avoided)
		claimant->avoided = calloc(1, sizeof(*claimant->avoided));
	if (!claimant->avoided || claimant->avoided->n == AVOIDED_MAX)
		return false;
	claimant->avoided->list[claimant->avoided->n++] = *refusal;
	return true;
}

void opening_avoid_none(struct claimant *claimant)
{
	free(TAKE_PTR(claimant->avoided));
}

const struct message_refusal *opening_avoided(const struct claimant *claimant, uint32_t group)
{
	const struct avoided *avoided = claimant->avoided;

	for (size_t i = 0; avoided && i < avoided->n; i++)
		if (avoided->list[i].group == group)
			return &avoided->list[i];
	return NULL;
}
