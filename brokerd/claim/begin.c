/* SPDX-License-Identifier: MIT */
/*
 * The beginning of a claim, see begin.h. After the decision (select.c) leases are made for it, or
 * it is put into the queue and tried again later. It must never begin a claim that the policy and
 * the guards have not just allowed.
 */
#include "config.h"

#include "brokerd/claim/begin.h"
#include "brokerd/claim/ask-mdev.h"
#include "brokerd/claim/asking.h"
#include "brokerd/claim/claim.h"
#include "brokerd/claim/foreign.h"
#include "brokerd/claim/opening.h"
#include "brokerd/claim/rejoin.h"
#include "brokerd/claim/select.h"
#include "brokerd/lease/bringup.h"
#include "brokerd/lease/mdev.h"
#include "brokerd/process/loop.h"
#include "brokerd/state/refuse.h"
#include "client/common/util.h"

#include <errno.h>
#include <event2/event.h>
#include <stdlib.h>
#include <string.h>
#include <time.h>

#define LOOKS_A_TURN 4	/* waiting claims that are tried again in a turn */
#define TELLS_A_TURN 16 /* waiting claims that are sent their place in a turn */

/* ---- leases ---- */

/* The allotment that reserves a group is its claimant's, as select.c has checked. */
static void note_allotment(const struct claims *claims, const struct group_view *view,
			   struct lease *lease)
{
	const struct allotment *allotment = view ? allotments_of_view(claims->allotments, view)
						 : NULL;

	if (!allotment)
		return;
	memcpy(lease->label, allotment->label, sizeof(lease->label));
	/* So that its holder is warned of that as of a time limit's end. */
	if (allotment->until && (!lease->ends || allotment->until < lease->ends))
		lease->ends = allotment->until;
}

static struct lease *make_lease(struct claim *claim, const struct selection *selection, size_t i)
{
	const struct selected *item = &selection->items[i];
	const struct group_view *view = item->view;
	const struct lease_table *table = &claim->claims->leases->table;
	struct lease *lease =
		lease_new(&claim->claims->leases->table, 0, view ? view->group : NO_GROUP);

	if (!lease)
		return NULL;
	lease->uid = claim->claimant->uid;
	lease->gid = claim->claimant->gid;
	lease->pid = claim->claimant->pid;
	lease->terms = item->terms;
	lease->n_gids = selection->n_gids;
	memcpy(lease->gids, selection->gids, sizeof(lease->gids));
	lease->since = (uint64_t)time(NULL);
	lease->asked = item->asked;
	lease->follower = &claim->follower;
	if (item->choice) {
		lease->mdev = item->choice->list[0].mdev;
		if (!lease->mdev.vendor)
			mdev_new_uuid(lease);
	}
	lease->n_functions = view ? view->n_functions : 0;
	for (size_t k = 0; k < lease->n_functions; k++) {
		const struct function *f = &view->functions[k];
		struct lease_function *was = &lease->functions[k];

		was->address = f->address;
		was->vendor = f->vendor;
		was->device = f->device;
		memcpy(was->driver, f->driver, sizeof(was->driver));
	}
	lease_set_kind(lease);
	if (lease->terms.lifetime)
		lease->ends = lease->since + lease->terms.lifetime;
	note_allotment(claim->claims, view, lease);
	if (table->events)
		table->events->state(table->userdata, lease);
	return lease;
}

static bool is_on_vfio(const struct selection *selection, size_t i)
{
	const struct group_view *view = selection->items[i].view;

	for (size_t k = 0; view && k < view->n_functions; k++)
		if (driver_is_vfio(view->functions[k].driver))
			return true;
	return false;
}

/*
 * Makes all leases of a claim, and starts the workers that read what this process must not read.
 * Returns 0, or the reason.
 */
static int begin_leases(struct claim *claim, struct selection *selection,
			struct message_refusal *ret_refusal)
{
	int r = 0;

	for (size_t i = 0; i < selection->n; i++) {
		struct claim_item *item = &claim->items[i];

		item->lease = make_lease(claim, selection, i);
		if (!item->lease)
			break;
		item->choice = TAKE_PTR(selection->items[i].choice);
		claim->may_be_foreign = claim->may_be_foreign || is_on_vfio(selection, i);
		claim->n++;
	}
	if (claim->n < selection->n) {
		if (lease_has_id(&claim->claims->leases->table))
			asking_no_memory(ret_refusal);
		else
			asking_no_number(ret_refusal);
		ret_refusal->address = selection->items[0].asked;
		ret_refusal->has_address = 1;
		for (size_t i = 0; i < claim->n; i++)
			claim->items[i].lease = lease_free(claim->items[i].lease);
		return GPUBROKER_REFUSED_FAILED;
	}
	for (size_t i = 0; !claim->failed && i < claim->n; i++) {
		const struct claim_item *item = &claim->items[i];

		r = item->choice ? ask_part(item->lease) : lease_ask(item->lease);
		if (r)
			claim_fail(claim, item->lease, NULL,
				   item->choice ? "asking how many are left"
						: "asking for its driver override",
				   -r);
	}
	return 0;
}

/* Makes an empty claim. */
static struct claim *claim_allocate(struct claims *claims, struct claimant *claimant,
				    const struct message_claim *request,
				    const struct selection *selection)
{
	struct claim *claim = calloc(1, sizeof(*claim));

	if (!claim)
		return NULL;
	claim->follower.ops = &claim_follower_ops;
	claim->claims = claims;
	claim->claimant = claimant;
	claim->cdevs = request->flags & CLAIM_CDEVS;
	claim->wanted = selection->wanted;
	claim->memlock_asked = request->memlock;
	TAILQ_INSERT_TAIL(&claims->list, claim, link);
	workers_enter(claims->workers);
	return claim;
}

static int begin_claim(struct claims *claims, struct claimant *claimant,
		       const struct message_claim *request, struct selection *selection,
		       struct message_refusal *ret_refusal)
{
	struct claim *claim = claim_allocate(claims, claimant, request, selection);
	int r = claim ? begin_leases(claim, selection, ret_refusal) : asking_no_memory(ret_refusal);

	if (r) {
		audit_refused(claims->audit, claimant->uid, claimant->pid, ret_refusal);
		if (claim)
			claim_free(claim);
		return r;
	}
	claim->request = malloc(sizeof(*request));
	if (claim->request) /* without memory the claim is not queued */
		*claim->request = *request;
	claimant->claim = claim;
	claim->opening = opening_ask(claims, claimant, request, selection, claim_opened, claim);
	claim_advance(claim);
	return 0;
}

/*
 * Queues a claim that only other leases or claims keep from being granted. Returns BUSY, or QUOTA
 * with *ret_refusal.
 */
static int queue_claim(struct claims *claims, struct claimant *claimant,
		       const struct message_claim *request, const struct wanted *wanted,
		       struct message_refusal *ret_refusal)
{
	int r = claimant->waiting ? 0 : queue_add(&claims->queue, claimant, request, wanted);

	if (claimant->waiting) {
		queue_set_wanted(claimant->waiting, wanted);
		claimant->waiting->slept = true;
		if (opening_avoids(claimant))
			queue_look_later(claimant->waiting, QUEUE_AVOIDED_MS);
		opening_avoid_none(claimant);
	}
	if (r != -EDQUOT)
		return GPUBROKER_REFUSED_BUSY;
	claim_refuse_to_queue(claimant, ret_refusal);
	audit_refused(claims->audit, claimant->uid, claimant->pid, ret_refusal);
	return GPUBROKER_REFUSED_QUOTA;
}

/*
 * Programs have all open that a claim of the queue could get. Returns true if it is tried again
 * later.
 */
static bool outwait(struct claimant *claimant)
{
	struct waiting *waiting = claimant->waiting;

	if (!waiting || !opening_avoids(claimant))
		return false;
	if (!waiting->slept)
		return opening_try_again(claimant) && !queue_look_later(waiting, QUEUE_AGAIN_MS);
	opening_avoid_none(claimant);
	return !queue_look_later(waiting, QUEUE_OPENED_MS);
}

/*
 * Decides a claim and begins it, or queues it. Returns 0, or the reason; BUSY with
 * claimant->waiting set if it is queued.
 */
static int try_claim(struct claims *claims, struct claimant *claimant,
		     const struct message_claim *request, struct message_refusal *ret_refusal)
{
	cleanup_(asking_selection_freep) struct selection *selection =
		calloc(1, sizeof(*selection));
	int r;

	if (!selection)
		return asking_no_memory(ret_refusal);
	r = selection_decide(claims, claimant, request, selection, ret_refusal);
	claimant->ops->spend(claimant, selection->cost);
	if (!r) {
		r = begin_claim(claims, claimant, request, selection, ret_refusal);
	} else if (r == GPUBROKER_REFUSED_BUSY && request->flags & CLAIM_WAIT &&
		   selection->wanted.n) {
		r = queue_claim(claims, claimant, request, &selection->wanted, ret_refusal);
	} else if ((r == GPUBROKER_REFUSED_IN_USE || r == GPUBROKER_REFUSED_BUSY) &&
		   outwait(claimant)) {
		r = GPUBROKER_REFUSED_BUSY;
	} else {
		audit_refused(claims->audit, claimant->uid, claimant->pid, ret_refusal);
	}
	return r;
}

/*
 * Queues a claim untried, while others that were before it with the daemon before may still come.
 * Returns 0, or the reason.
 */
static int queue_untried(struct claims *claims, struct claimant *claimant,
			 const struct message_claim *request, struct message_refusal *ret_refusal)
{
	static const struct wanted none;
	int r = queue_stay(&claims->queue, claimant, request, &none);

	if (!r)
		return 0;
	r = r == -EDQUOT ? claim_refuse_to_queue(claimant, ret_refusal)
			 : asking_no_memory(ret_refusal);
	audit_refused(claims->audit, claimant->uid, claimant->pid, ret_refusal);
	return r;
}

int claim_start(struct claims *claims, struct claimant *claimant,
		const struct message_claim *request, struct message_refusal *ret_refusal)
{
	int r;

	opening_avoid_none(claimant);
	if (queue_next_kept(&claims->queue))
		return queue_untried(claims, claimant, request, ret_refusal);
	r = try_claim(claims, claimant, request, ret_refusal);
	return claimant->waiting ? 0 : r;
}

/* ---- claims that wait ---- */

static bool may_wait_again(const struct claim *claim)
{
	return claim->opening || claim->claims->leases->hooks.expected || claim->may_be_foreign ||
	       claim_has_part(claim);
}

/* Tries a waiting claim again, which also finds out again which keys it wants. */
static void try_waiting(struct claims *claims, struct waiting *waiting)
{
	struct claimant *claimant = waiting->claimant;
	struct message_refusal refusal;
	int r;

	waiting->look = false;
	if (claimant->ops->is_gone(claimant))
		return;
	if (claimant->claim) {
		waiting->again = true;
		return;
	}
	r = try_claim(claims, claimant, &waiting->request, &refusal);
	/*
	 * A claim that may have to wait again keeps its place until it has been granted or refused:
	 * see queue_stay().
	 */
	if (!claimant->waiting ||
	    (r == GPUBROKER_REFUSED_BUSY &&
	     (waiting->request.flags & CLAIM_WAIT || queue_looks_later(waiting))) ||
	    (!r && claimant->claim && may_wait_again(claimant->claim)))
		return;
	queue_remove(claimant->waiting);
	if (r)
		claimant->ops->refuse(claimant, &refusal);
}

/*
 * Tries some of the marked claims again in each turn of the loop, since each may concern every
 * device, and peers have requests too. Claims that are not tried yet keep their keys.
 */
static void on_wake(evutil_socket_t fd, short what, void *userdata)
{
	struct claims *claims = userdata;
	struct waiting *waiting, *next;
	size_t looks = 0, tells = 0;
	bool more = false;

	(void)fd;
	(void)what;
	if (claims->closed || queue_next_kept(&claims->queue))
		return;
	for (waiting = TAILQ_FIRST(&claims->queue.list); waiting; waiting = next) {
		next = TAILQ_NEXT(waiting, link);
		/* A user whose requests have cost enough in this turn waits for a later one. */
		if (waiting->look && looks < LOOKS_A_TURN &&
		    waiting->claimant->ops->spend(waiting->claimant, 0)) {
			looks++;
			try_waiting(claims, waiting);
		} else {
			more = more || waiting->look;
		}
	}
	TAILQ_FOREACH(waiting, &claims->queue.list, link) {
		/* Whatever the result, the others' places or times may have changed. */
		waiting->tell = waiting->tell || looks;
		if (waiting->tell && tells++ < TELLS_A_TURN)
			queue_tell_place(waiting);
		else
			more = more || waiting->tell;
	}
	if (more)
		queue_wake(&claims->queue);
}

int claims_init(struct claims *claims)
{
	TAILQ_INIT(&claims->list);
	foreign_init(claims);
	opening_init(claims);
	TAILQ_INIT(&claims->queue.list);
	claims->queue.devices = claims->devices;
	claims->queue.leases = &claims->leases->table;
	claims->queue.policy = claims->policy;
	claims->queue.audit = claims->audit;
	claims->queue.wake = evtimer_new(claims->base, on_wake, claims);
	/*
	 * The same priority as the peers, so that a peer that has gone is noticed first and is
	 * granted nothing.
	 */
	return claims->queue.wake && !event_priority_set(claims->queue.wake, PRIORITY_PEERS)
		       ? 0
		       : -ENOMEM;
}

void claims_done(struct claims *claims)
{
	foreign_done(claims);
	rejoin_done(claims);
	if (claims->queue.wake)
		event_free(TAKE_PTR(claims->queue.wake));
}
