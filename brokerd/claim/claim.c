/* SPDX-License-Identifier: MIT */
/*
 * A claim, from the request to the grant or the refusal:
 *
 *	decide (select.c) -> ask (lease/bringup.c, ask-mdev.c) -> record -> make (lease/bringup.c)
 *	-> open, check, send, close (grant.c)
 *
 * A claim is all or nothing: as soon as one of its leases fails, the host gets back what all of them had, and
 * only then is the claimant answered. It must never begin to make what is not recorded.
 */
#include "config.h"

#include "brokerd/claim/claim.h"
#include "brokerd/claim/ask-mdev.h"
#include "brokerd/claim/grant.h"
#include "brokerd/claim/select.h"
#include "brokerd/lease/bringup.h"
#include "brokerd/lease/ending.h"
#include "brokerd/lease/mdev.h"
#include "brokerd/lease/restore.h"
#include "brokerd/process/log.h"
#include "brokerd/process/loop.h"
#include "brokerd/state/refuse.h"
#include "client/common/util.h"

#include <errno.h>
#include <event2/event.h>
#include <inttypes.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <time.h>

#define LOOKS_A_TURN 4	/* waiting claims that are tried again */
#define TELLS_A_TURN 16 /* and those that are sent their place */

/* ---- the course ---- */

static void claim_granted(struct claim *claim)
{
	struct claimant *claimant = claim->claimant;

	for (size_t i = 0; i < claim->n; i++) {
		struct lease *lease = claim->items[i].lease;
		char reason[128] = "";

		if (lease->mdev.vendor)
			snprintf(reason, sizeof(reason), "vGPU, %s", lease->mdev.name);
		else if (lease_is_made(lease))
			snprintf(reason, sizeof(reason), "mdev %s of %s", lease->mdev.uuid,
				 lease->mdev.parent);
		lease_set_clock(lease);
		audit_lease(lease, "granted", LOG_INFO, reason);
	}
	queue_leave(claimant);
	claim_free(claim);
}

/* Checks the memory that was asked for, once all of the claim is known. */
static void settle_memlock(struct claim *claim)
{
	struct message_refusal refusal = refusal_make(GPUBROKER_REFUSED_MEMLOCK);
	const struct lease *first = claim->items[0].lease;

	if (claim->failed || !claim->memlock_asked)
		return;
	if (claim->memlock_asked <= claim->memlock) {
		claim->memlock = claim->memlock_asked;
		return;
	}
	refusal_name_lease(&refusal, first);
	refusal.limit = claim->memlock;
	memcpy(refusal.rule, first->terms.rule, sizeof(refusal.rule));
	claim_refuse(claim, &refusal);
}

/* Every lease has been asked about: records all, then begins with the first. What is not recorded is not touched. */
static void make_all(struct claim *claim)
{
	int r;

	claim->bound = true;
	settle_memlock(claim);
	for (size_t i = 0; !claim->failed && i < claim->n; i++) {
		struct lease *lease = claim->items[i].lease;

		r = lease_record(lease);
		if (r) {
			log_error("a lease cannot be recorded in the state directory: %s",
				  strerror(-r));
			claim_fail(claim, lease, NULL, "recording the lease", -r);
		}
		lease->recorded = !r;
	}
	for (size_t i = 0; !claim->failed && i < claim->n; i++) {
		struct lease *lease = claim->items[i].lease;

		r = lease_make(lease);
		if (r)
			claim_fail(claim, lease, NULL, lease->kind->why_not_begun(lease, r), -r);
	}
}

static int refuse_to_queue(struct message_refusal *ret_refusal)
{
	*ret_refusal = refusal_make(GPUBROKER_REFUSED_QUOTA);
	refusal_say(ret_refusal, "you have %d claims that wait, which is the most one user may have",
		    WAITING_PER_UID);
	return GPUBROKER_REFUSED_QUOTA;
}

/*
 * No instance of the profile is left. Returns true if the claim has been queued instead; otherwise *refusal may be
 * changed to say why it could not.
 */
static bool queue_instead(struct claim *claim, struct message_refusal *refusal)
{
	int r;

	if (refusal->reason != GPUBROKER_REFUSED_NONE_LEFT || !claim->request)
		return false;
	r = queue_stay(&claim->claims->queue, claim->claimant, claim->request, &claim->wanted);
	if (r == -EDQUOT)
		refuse_to_queue(refusal);
	return !r;
}

static bool is_under_way(const struct claim *claim)
{
	for (size_t i = 0; i < claim->n; i++) {
		const struct lease *lease = claim->items[i].lease;

		if (lease && lease->work && lease->state != GPUBROKER_LEASE_STUCK)
			return true;
	}
	return false;
}

static bool is_ready(const struct claim *claim)
{
	for (size_t i = 0; i < claim->n; i++)
		if (!claim->items[i].lease ||
		    claim->items[i].lease->state != GPUBROKER_LEASE_READY)
			return false;
	return true;
}

/*
 * Begins to restore the next lease that is not on its way back. Returns true if there was one: then the course goes on
 * when that is over, perhaps already, and the claim may be gone.
 */
static bool restore_next(struct claim *claim)
{
	for (size_t i = 0; i < claim->n; i++) {
		struct lease *lease = claim->items[i].lease;

		if (lease && !lease->work && lease->state != GPUBROKER_LEASE_RESTORING &&
		    lease->state != GPUBROKER_LEASE_STUCK &&
		    lease_transition(lease, LEASE_ABANDON)) {
			lease_restore(lease);
			return true;
		}
	}
	return false;
}

/* The host has everything back, or what it has not is stuck: answers the claimant. */
static void answer_failed(struct claim *claim)
{
	struct claims *claims = claim->claims;
	struct claimant *claimant = claim->claimant;
	struct message_refusal refusal = claim->refusal;
	bool queued = claimant && queue_instead(claim, &refusal);

	claim_free(claim);
	if (!claimant || queued)
		return;
	queue_leave(claimant);
	audit_refused(claims->audit, claimant->uid, claimant->pid, &refusal);
	claimant->ops->refuse(claimant, &refusal);
}

/*
 * Looks where the claim stands and does what is next: nothing while a worker is at it, making when
 * all leases are asked about, the grant when all are ready, and after a failure first restore, then
 * the answer. The claim may be gone on return.
 */
static void claim_advance(struct claim *claim)
{
	if (!claim->claimant && !claim->failed)
		claim_fail(claim, claim->items[0].lease, NULL, "the claimer is gone", 0);
	if (!claim->failed && !claim->bound && !is_under_way(claim))
		make_all(claim);
	if (!claim->failed && is_ready(claim) && claim_grant(claim)) {
		claim_granted(claim);
		return;
	}
	if (!claim->failed || is_under_way(claim) || restore_next(claim))
		return;
	for (size_t i = 0; i < claim->n; i++) {
		const struct lease *lease = claim->items[i].lease;

		if (lease && lease->state != GPUBROKER_LEASE_STUCK)
			return; /* on its way back */
		if (lease) /* what could not be put back is the worse news */
			refuse_held(&claim->refusal, lease, &lease->asked);
	}
	answer_failed(claim);
}

/* ---- what its leases report ---- */

static struct claim *claim_of_follower(struct lease_follower *follower)
{
	return (struct claim *)(void *)((char *)follower - offsetof(struct claim, follower));
}

static void on_progress(struct lease_follower *follower, const struct lease *lease,
			enum gpubroker_step step, const struct pci_address *address, uint32_t index,
			uint32_t total)
{
	struct claimant *claimant = claim_of_follower(follower)->claimant;
	struct message_step message = {
		.type = MESSAGE_STEP,
		.step = step,
		.address = *address,
		.group = lease->group,
		.index = index,
		.total = total,
	};

	memcpy(message.parent, lease->mdev.parent, sizeof(message.parent));
	if (claimant)
		claimant->ops->progress(claimant, &message);
}

static void on_settled(struct lease_follower *follower, struct lease *lease)
{
	struct claim *claim = claim_of_follower(follower);

	if (lease && !claim->failed && lease->state == GPUBROKER_LEASE_STUCK) {
		refuse_held(&claim->refusal, lease,
			    lease->failure.has_address ? &lease->failure.address : &lease->asked);
		claim->failed = true;
	} else if (lease && lease->failure.what && lease->failure.none_left) {
		claim_refuse_none_left(claim, lease, NULL, lease->failure.error);
	} else if (lease && lease->failure.what) {
		claim_fail(claim, lease,
			   lease->failure.has_address ? &lease->failure.address : NULL,
			   lease->failure.what, lease->failure.error);
	}
	claim_advance(claim);
}

static void on_over(struct lease_follower *follower, struct lease *lease)
{
	struct claim *claim = claim_of_follower(follower);
	struct claim_item *item = claim_item_of(lease);

	if (item == &claim->items[0]) {
		claim->ended.has_address = lease_has_address(lease);
		claim->ended.asked = lease->asked;
		claim->ended.group = lease->group;
		memcpy(claim->ended.rule, lease->terms.rule, sizeof(claim->ended.rule));
		memcpy(claim->ended.profile, lease->mdev.type, sizeof(claim->ended.profile));
	}
	item->lease = NULL;
	lease->follower = NULL;
}

static const struct lease_follower_ops follower_ops = {
	.progress = on_progress,
	.settled = on_settled,
	.over = on_over,
};

/* ---- the beginning ---- */

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
	if (table->events)
		table->events->state(table->userdata, lease);
	return lease;
}

static int refuse_no_memory(struct message_refusal *ret_refusal)
{
	*ret_refusal = refusal_make(GPUBROKER_REFUSED_FAILED);
	refusal_say(ret_refusal, "claim");
	ret_refusal->error = ENOMEM;
	return GPUBROKER_REFUSED_FAILED;
}

/* Takes every lease into the table, and has a worker read what only workers may. 0, or the reason. */
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
		claim->n++;
	}
	if (claim->n < selection->n) {
		refuse_no_memory(ret_refusal);
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
static struct claim *claim_new(struct claims *claims, struct claimant *claimant,
			       const struct message_claim *request,
			       const struct selection *selection)
{
	struct claim *claim = calloc(1, sizeof(*claim));

	if (!claim)
		return NULL;
	claim->follower.ops = &follower_ops;
	claim->claims = claims;
	claim->claimant = claimant;
	claim->cdevs = request->flags & CLAIM_CDEVS;
	claim->wanted = selection->wanted;
	claim->memlock = selection->memlock;
	claim->memlock_asked = selection->memlock_asked;
	TAILQ_INSERT_TAIL(&claims->list, claim, link);
	workers_enter(claims->workers);
	return claim;
}

static int begin_claim(struct claims *claims, struct claimant *claimant,
		       const struct message_claim *request, struct selection *selection,
		       struct message_refusal *ret_refusal)
{
	struct claim *claim = claim_new(claims, claimant, request, selection);
	int r = claim ? begin_leases(claim, selection, ret_refusal) : refuse_no_memory(ret_refusal);

	if (r) {
		audit_refused(claims->audit, claimant->uid, claimant->pid, ret_refusal);
		if (claim)
			claim_free(claim);
		return r;
	}
	if (request->flags & CLAIM_WAIT && claim_has_part(claim))
		claim->request = malloc(sizeof(*request));
	if (claim->request) /* without memory it is not queued */
		*claim->request = *request;
	claimant->claim = claim;
	claim_advance(claim);
	return 0;
}

/* Queues a claim that is only in others' way. Returns the reason that it would be refused for otherwise. */
static int queue_claim(struct claims *claims, struct claimant *claimant,
		       const struct message_claim *request, const struct wanted *wanted,
		       struct message_refusal *ret_refusal)
{
	int r = claimant->waiting ? 0 : queue_add(&claims->queue, claimant, request, wanted);

	if (claimant->waiting)
		queue_set_wanted(claimant->waiting, wanted);
	if (r != -EDQUOT)
		return GPUBROKER_REFUSED_BUSY;
	refuse_to_queue(ret_refusal);
	audit_refused(claims->audit, claimant->uid, claimant->pid, ret_refusal);
	return GPUBROKER_REFUSED_QUOTA;
}

/* The same, but a claim that waits in the queue is BUSY, with claimant->waiting set. */
static int try_claim(struct claims *claims, struct claimant *claimant,
		     const struct message_claim *request, struct message_refusal *ret_refusal)
{
	struct selection *selection = calloc(1, sizeof(*selection));
	int r;

	if (!selection)
		return refuse_no_memory(ret_refusal);
	r = selection_decide(claims, claimant, request, selection, ret_refusal);
	if (!r) {
		r = begin_claim(claims, claimant, request, selection, ret_refusal);
	} else if (r == GPUBROKER_REFUSED_BUSY && request->flags & CLAIM_WAIT &&
		   selection->wanted.n) {
		r = queue_claim(claims, claimant, request, &selection->wanted, ret_refusal);
	} else {
		audit_refused(claims->audit, claimant->uid, claimant->pid, ret_refusal);
	}
	selection_done(selection);
	free(selection);
	return r;
}

int claim_start(struct claims *claims, struct claimant *claimant,
		const struct message_claim *request, struct message_refusal *ret_refusal)
{
	int r = try_claim(claims, claimant, request, ret_refusal);

	return claimant->waiting ? 0 : r;
}

int claim_check(struct claims *claims, struct claimant *claimant,
		const struct message_claim *request, struct message_refusal *ret_refusal)
{
	struct selection *selection = calloc(1, sizeof(*selection));
	int r;

	if (!selection)
		return refuse_no_memory(ret_refusal);
	r = selection_decide(claims, claimant, request, selection, ret_refusal);
	selection_done(selection);
	free(selection);
	return r;
}

/* ---- those that wait ---- */

/* Tries one again. What it wants is found again on the way. */
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
	/* A claim of a part keeps its place until it has one, or is refused: see queue_stay(). */
	if (r == GPUBROKER_REFUSED_BUSY || !claimant->waiting ||
	    (!r && claimant->claim && claim_has_part(claimant->claim)))
		return;
	queue_remove(claimant->waiting);
	if (r)
		claimant->ops->refuse(claimant, &refusal);
}

/*
 * A few a turn, since each may be about every device that there is, and others have requests too.
 * Those whose turn to be tried has not come keep what they want meanwhile.
 */
static void on_wake(evutil_socket_t fd, short what, void *userdata)
{
	struct claims *claims = userdata;
	struct waiting *waiting, *next;
	size_t looks = 0, tells = 0;
	bool more = false;

	(void)fd;
	(void)what;
	if (claims->closed)
		return;
	for (waiting = TAILQ_FIRST(&claims->queue.list); waiting; waiting = next) {
		next = TAILQ_NEXT(waiting, link);
		if (waiting->look && looks++ < LOOKS_A_TURN) {
			struct waiting *other;

			/* Whatever comes of it, others may be in another place, or have another time. */
			TAILQ_FOREACH(other, &claims->queue.list, link)
				other->tell = true;
			try_waiting(claims, waiting);
		} else {
			more = more || waiting->look;
		}
	}
	TAILQ_FOREACH(waiting, &claims->queue.list, link) {
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
	TAILQ_INIT(&claims->queue.list);
	claims->queue.devices = claims->devices;
	claims->queue.leases = &claims->leases->table;
	claims->queue.policy = claims->policy;
	claims->queue.audit = claims->audit;
	claims->queue.wake = evtimer_new(claims->base, on_wake, claims);
	/* Behind the peers that have gone: a claimant that has gone is not to be given anything. */
	return claims->queue.wake && !event_priority_set(claims->queue.wake, PRIORITY_PEERS)
		       ? 0
		       : -ENOMEM;
}

void claims_done(struct claims *claims)
{
	if (claims->queue.wake)
		event_free(TAKE_PTR(claims->queue.wake));
}

/* ---- the end from outside ---- */

void claim_release(struct claim *claim, struct lease *lease)
{
	claim_fail(claim, lease, NULL, "released before it was granted", 0);
	claim_advance(claim);
}

/*
 * Says what a claim of a part is about: what it has become, or, while no driver has answered, only what the client
 * asked for. The first candidate is neither.
 */
static void name_choice(const struct part_choice *choice, struct audit_line *line)
{
	const struct selector *selector = &choice->selector;

	line->group = NO_GROUP;
	if (choice->is_fixed)
		return;
	line->device = selector->kind == SELECT_ADDRESS ? &selector->address : NULL;
	line->name = selector->profile[0] ? selector->profile : selector->name;
	line->rule = NULL;
}

/* Logs the end of a claim whose claimant is gone: nobody is left to be answered. */
static void log_abandoned(const struct claim *claim)
{
	const struct claim_item *first = &claim->items[0];
	const struct claim_ended *ended = &claim->ended;
	struct audit_line line;

	if (first->lease)
		line = audit_line_of(first->lease, "refused");
	else
		line = (struct audit_line){
			.level = LOG_INFO,
			.uid = claim->claimant->uid,
			.pid = claim->claimant->pid,
			.device = ended->has_address ? &ended->asked : NULL,
			.name = ended->profile[0] ? ended->profile : NULL,
			.group = ended->group,
			.rule = ended->rule,
			.by = AUDIT_NOBODY,
		};
	line.outcome = "refused";
	line.lease = 0;
	line.reason = claim->failed ? refusal_name(claim->refusal.reason) : "gone";
	if (first->choice)
		name_choice(first->choice, &line);
	audit_write(&line);
}

void claims_forget(struct claimant *claimant)
{
	struct claim *claim = TAKE_PTR(claimant->claim);

	queue_leave(claimant);
	if (!claim)
		return;
	log_abandoned(claim);
	claim->claimant = NULL;
	claim_advance(claim);
}
