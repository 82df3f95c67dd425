/* SPDX-License-Identifier: MIT */
/*
 * The questions to the finder, see opening.h. Owns those that are not answered yet. It must never
 * wait longer than FINDING_LIMIT_MS for an answer, or FINDING_CLAIM_MS for all of a claim, never
 * take an answer for a permission, and never tell a user whose process it is, but root and that
 * user.
 */
#include "config.h"

#include "brokerd/claim/opening.h"
#include "brokerd/process/log.h"
#include "brokerd/state/refuse.h"
#include "brokerd/state/users.h"
#include "client/common/util.h"
#include "client/host/opened.h"

#include <errno.h>
#include <event2/event.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

/*
 * udev and sound servers open new nodes for a moment, just after a device came back to the host. So
 * a claim that cannot take another device asks again before it is refused.
 */
#define TRIES 2
#define AGAIN_MS 400

/* One question: the functions of one group. */
struct asked {
	uint64_t id;  /* 0: the finder is still to be asked, or it is answered */
	bool pending; /* it is not answered */
	bool due;     /* its answer is being handled */
	uint32_t group;
	struct pci_address address;
	struct finder_question question;
};

struct opening {
	TAILQ_ENTRY(opening) link;
	struct claims *claims;
	struct event *limit, *again;
	uint64_t until; /* milliseconds of opened_now(): when the claim has waited enough */
	uint32_t uid;
	unsigned tries;			/* for which it may still ask again */
	struct message_refusal refusal; /* of the last try; reason 0: there was none */
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
	if (opening->limit)
		event_free(opening->limit);
	if (opening->again)
		event_free(opening->again);
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

/* The last try has got no answer, so the one before it counts. */
static void finish_unanswered(struct opening *opening)
{
	const struct message_refusal refusal = opening->refusal;

	finish(opening, refusal.reason ? &refusal : NULL);
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
	finish_unanswered(opening);
}

/* Begins to wait for answers. Returns false if the claim has waited enough, or without memory. */
static bool set_limit(struct opening *opening)
{
	const uint64_t now = opened_now();
	uint64_t ms = opening->until > now ? opening->until - now : 0;
	struct timeval limit;

	if (ms > FINDING_LIMIT_MS)
		ms = FINDING_LIMIT_MS;
	limit = (struct timeval){ .tv_sec = (time_t)(ms / 1000),
				  .tv_usec = (suseconds_t)(ms % 1000 * 1000) };
	return ms && !evtimer_add(opening->limit, &limit);
}

/* Returns the id of the same question if another claim waits for its answer; or else 0. */
static uint64_t find_equal(const struct claims *claims, const struct finder_question *question)
{
	const struct opening *opening;

	TAILQ_FOREACH(opening, &claims->openings, link) {
		for (size_t i = 0; i < opening->n; i++) {
			const struct asked *other = &opening->asked[i];

			if (other->id && other->question.n == question->n &&
			    !memcmp(other->question.functions, question->functions,
				    question->n * sizeof(question->functions[0])))
				return other->id;
		}
	}
	return 0;
}

/*
 * Asks, unless another claim has asked the same. Returns false if there will be no answer; true
 * without an id if the finder is to be asked when it is back.
 */
static bool ask(struct claims *claims, struct asked *asked)
{
	int r;

	asked->id = find_equal(claims, &asked->question);
	if (asked->id)
		return true;
	asked->question.id = claims->last_question + 1;
	r = claims->find(claims->userdata, &asked->question);
	if (!r)
		claims->last_question = asked->id = asked->question.id;
	return !r || r == -ECONNRESET;
}

/* Asks all that has neither an answer nor is asked. Returns false if nothing is waited for then. */
static bool ask_all(struct opening *opening)
{
	bool waits = false;

	for (size_t i = 0; i < opening->n; i++) {
		struct asked *asked = &opening->asked[i];

		if (asked->pending && !asked->id)
			asked->pending = ask(opening->claims, asked);
		waits = waits || asked->pending;
	}
	return waits;
}

static void on_again(evutil_socket_t fd, short what, void *userdata)
{
	struct opening *opening = userdata;

	(void)fd;
	(void)what;
	if (!set_limit(opening) || !ask_all(opening))
		finish_unanswered(opening);
}

/* Fills in the functions of an item that host drivers have. Returns false if there is none. */
static bool make_question(const struct selected *item, struct asked *asked)
{
	struct finder_question *question = &asked->question;

	for (size_t i = 0; i < item->view->n_functions; i++) {
		const struct function *f = &item->view->functions[i];

		if (f->driver[0] && !driver_is_vfio(f->driver))
			question->functions[question->n++] = f->address;
	}
	asked->group = item->view->group;
	asked->address = item->asked;
	return question->n;
}

static bool may_choose(const struct message_claim *request)
{
	for (uint32_t i = 0; i < request->n_selectors; i++)
		if (request->selectors[i].kind == SELECT_NAME ||
		    request->selectors[i].kind == SELECT_ANY)
			return true;
	return false;
}

static struct opening *opening_make(struct claims *claims, struct claimant *claimant,
				    const struct message_claim *request)
{
	struct opening *opening = calloc(1, sizeof(*opening));

	if (!opening)
		return NULL;
	if (!claimant->finder_until)
		claimant->finder_until = opened_now() + FINDING_CLAIM_MS;
	opening->claims = claims;
	opening->until = claimant->finder_until;
	opening->uid = claimant->uid;
	opening->tries = may_choose(request) ? 0 : TRIES;
	TAILQ_INSERT_TAIL(&claims->openings, opening, link);
	opening->limit = evtimer_new(claims->base, on_limit, opening);
	opening->again = evtimer_new(claims->base, on_again, opening);
	return opening->limit && opening->again && set_limit(opening) ? opening
								      : opening_free(opening);
}

struct opening *opening_ask(struct claims *claims, struct claimant *claimant,
			    const struct message_claim *request, const struct selection *selection,
			    void (*done)(void *userdata, const struct message_refusal *refusal),
			    void *userdata)
{
	struct opening *opening;

	if (!claims->find || claims->finder_late || request->flags & CLAIM_FORCE ||
	    claims->leases->hooks.expected)
		return NULL;
	opening = opening_make(claims, claimant, request);
	if (!opening)
		return NULL;
	opening->done = done;
	opening->userdata = userdata;
	for (size_t i = 0; i < selection->n; i++) {
		const struct selected *item = &selection->items[i];
		struct asked *asked = &opening->asked[opening->n];

		if (!item->view || item->terms.in_use || !make_question(item, asked))
			continue;
		asked->pending = true;
		opening->n++;
		claimant->ops->spend(claimant, COST_FIND);
	}
	return ask_all(opening) ? opening : opening_free(opening);
}

/* Fills in the functions of a lease that host drivers had. Returns false if there is none. */
static bool make_hooked_question(const struct lease *lease, struct asked *asked)
{
	struct finder_question *question = &asked->question;

	for (size_t i = 0; !lease_is_made(lease) && i < lease->n_functions; i++) {
		const struct lease_function *f = &lease->functions[i];

		if (f->driver[0] && !driver_is_vfio(f->driver))
			question->functions[question->n++] = f->address;
	}
	asked->group = lease->group;
	asked->address = lease->asked;
	return question->n;
}

struct opening *opening_ask_hooked(struct claim *claim,
				   void (*done)(void *userdata,
						const struct message_refusal *refusal))
{
	struct claims *claims = claim->claims;
	struct opening *opening;

	if (!claims->find || claims->finder_late || !claim->request ||
	    claim->request->flags & CLAIM_FORCE)
		return NULL;
	claim->claimant->finder_until = 0; /* the hooks have taken their time */
	opening = opening_make(claims, claim->claimant, claim->request);
	if (!opening)
		return NULL;
	opening->done = done;
	opening->userdata = claim;
	for (size_t i = 0; i < claim->n; i++) {
		const struct lease *lease = claim->items[i].lease;
		struct asked *asked = &opening->asked[opening->n];

		if (lease->terms.in_use || !make_hooked_question(lease, asked))
			continue;
		asked->pending = true;
		opening->n++;
		claim->claimant->ops->spend(claim->claimant, COST_FIND);
	}
	return ask_all(opening) ? opening : opening_free(opening);
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
		if (opening->asked[i].pending)
			return false;
	return true;
}

static void take_answer(struct opening *opening, struct asked *asked,
			const struct finder_answer *answer)
{
	const struct timeval after = { .tv_usec = AGAIN_MS * 1000 };
	const struct finder_holder *holder = holder_to_name(opening, answer);
	struct message_refusal refusal;

	if (holder) {
		refuse_opened(opening, asked, holder, &refusal);
		if (opening->tries && !evtimer_add(opening->again, &after)) {
			opening->tries--;
			opening->refusal = refusal;
			evtimer_del(opening->limit);
			return;
		}
		finish(opening, &refusal);
		return;
	}
	asked->pending = false;
	if (all_answered(opening))
		finish(opening, NULL);
}

/*
 * Returns the next claim that an answer is for. Looked up anew each time: what one of them does
 * then may end others.
 */
static struct opening *next_due(struct claims *claims, struct asked **ret_asked)
{
	struct opening *opening;

	TAILQ_FOREACH(opening, &claims->openings, link) {
		for (size_t i = 0; i < opening->n; i++) {
			*ret_asked = &opening->asked[i];
			if (opening->asked[i].due)
				return opening;
		}
	}
	return NULL;
}

static void mark_due(struct claims *claims, uint64_t id)
{
	struct opening *opening;

	TAILQ_FOREACH(opening, &claims->openings, link) {
		for (size_t i = 0; i < opening->n; i++) {
			struct asked *asked = &opening->asked[i];

			if (asked->id != id)
				continue;
			asked->id = 0;
			asked->due = true;
		}
	}
}

void opening_answered(struct claims *claims, const struct finder_answer *answer)
{
	struct opening *opening;
	struct asked *asked;

	if (!answer) {
		claims->finder_late = false;
		while ((opening = TAILQ_FIRST(&claims->openings)))
			finish_unanswered(opening);
		return;
	}
	if (answer->id > claims->last_question)
		return; /* nobody has asked that */
	claims->finder_late = false;
	if (answer->incomplete && !answer->n && !claims->finder_hurried)
		log_notice(
			"the finder had no time to look at every process; until it has, a device "
			"may be lent that a program of the host has open");
	claims->finder_hurried = answer->incomplete;
	mark_due(claims, answer->id);
	while ((opening = next_due(claims, &asked))) {
		asked->due = false;
		take_answer(opening, asked, answer);
	}
}

/* Returns a claim that waits for an answer of a finder that has gone, and has nothing asked. */
static struct opening *next_unasked(const struct claims *claims)
{
	struct opening *opening;

	TAILQ_FOREACH(opening, &claims->openings, link)
		for (size_t i = 0; i < opening->n; i++)
			if (opening->asked[i].pending && !opening->asked[i].id &&
			    !evtimer_pending(opening->again, NULL))
				return opening;
	return NULL;
}

void opening_finder_came(struct claims *claims)
{
	struct opening *opening;

	claims->finder_late = false;
	TAILQ_FOREACH(opening, &claims->openings, link)
		for (size_t i = 0; i < opening->n; i++)
			opening->asked[i].id = 0;
	while ((opening = next_unasked(claims))) {
		const uint64_t before = claims->last_question;

		if (!ask_all(opening))
			finish_unanswered(opening);
		else if (before == claims->last_question && next_unasked(claims) == opening)
			return; /* it has gone again */
	}
}

/* ---- claims that may take another device ---- */

bool opening_is_refusal(const struct message_refusal *refusal)
{
	return refusal->reason == GPUBROKER_REFUSED_IN_USE && refusal->detail == REFUSAL_OPEN;
}

bool opening_avoid(struct claimant *claimant, const struct message_claim *request,
		   const struct message_refusal *refusal)
{
	if (!may_choose(request) || !opening_is_refusal(refusal))
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
	claimant->finder_until = 0;
}

bool opening_avoids(const struct claimant *claimant)
{
	return claimant->avoided && claimant->avoided->n;
}

bool opening_try_again(struct claimant *claimant)
{
	struct avoided *avoided = claimant->avoided;

	if (!avoided || !avoided->n || avoided->tries == TRIES)
		return false;
	avoided->n = 0;
	avoided->tries++;
	return true;
}

const struct message_refusal *opening_avoided(const struct claimant *claimant, uint32_t group)
{
	const struct avoided *avoided = claimant->avoided;

	for (size_t i = 0; avoided && i < avoided->n; i++)
		if (avoided->list[i].group == group)
			return &avoided->list[i];
	return NULL;
}
