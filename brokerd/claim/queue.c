/* SPDX-License-Identifier: MIT */
/*
 * The queue of claims that wait for devices that others have, see queue.h.
 *
 * A claim that waits wants the groups that the policy and the guards would grant it now, and no
 * later claim gets one of them. The file owns the queue; each entry belongs to a claimant, is freed
 * with it, and costs the memory of one request. It must never decide a claim: select.c does.
 */
#include "config.h"

#include "brokerd/claim/queue.h"
#include "brokerd/process/log.h"
#include "client/common/util.h"
#include "client/host/function.h"

#include <errno.h>
#include <event2/event.h>
#include <stdlib.h>
#include <string.h>
#include <time.h>

/*
 * A timer, and not event_active(): an event that becomes active while the loop handles its priority
 * is handled in the same turn, so one that wakes itself would keep all others waiting. A timer that
 * is set already stays as it is, or somebody who wakes the queue in each turn could put it off.
 */
void queue_wake(struct queue *queue)
{
	const struct timeval now = { 0 };

	if (TAILQ_EMPTY(&queue->list) || !queue->wake ||
	    event_pending(queue->wake, EV_TIMEOUT, NULL))
		return;
	if (evtimer_add(queue->wake, &now)) /* no memory */
		event_active(queue->wake, EV_TIMEOUT, 1);
}

void queue_look(struct waiting *waiting)
{
	waiting->look = true;
	queue_wake(waiting->queue);
}

static void on_later(evutil_socket_t fd, short what, void *userdata)
{
	(void)fd;
	(void)what;
	queue_look(userdata);
}

int queue_look_later(struct waiting *waiting, unsigned ms)
{
	const struct timeval after = { .tv_sec = ms / 1000, .tv_usec = ms % 1000 * 1000 };

	if (!waiting->later && waiting->queue->wake)
		waiting->later =
			evtimer_new(event_get_base(waiting->queue->wake), on_later, waiting);
	return waiting->later && !evtimer_add(waiting->later, &after) ? 0 : -ENOMEM;
}

bool queue_looks_later(const struct waiting *waiting)
{
	return waiting->later && evtimer_pending(waiting->later, NULL);
}

/*
 * Returns true if the claim may wait. One that may not is in the queue only to be tried again at
 * once, and nobody hears of it: see queue_stay().
 */
static bool is_waiting(const struct waiting *waiting)
{
	return waiting->request.flags & CLAIM_WAIT;
}

static bool wants_key(const struct waiting *waiting, uint32_t key)
{
	for (size_t i = 0; i < waiting->n_wanted; i++)
		if (waiting->wanted[i] == key)
			return true;
	return false;
}

/*
 * Returns true if the claim's selectors could mean the group. The policy decides only when the
 * claim is tried again.
 */
static bool may_mean(const struct queue *queue, const struct waiting *waiting,
		     const struct group_view *view)
{
	for (uint32_t i = 0; i < waiting->request.n_selectors; i++) {
		const struct selector *s = &waiting->request.selectors[i];

		if (s->kind == SELECT_GROUP && s->group == view->group)
			return true;
		if (s->kind == SELECT_ADDRESS && group_find(view, &s->address) != SIZE_MAX)
			return true;
		for (size_t j = 0; j < view->n_functions; j++) {
			const struct device *device =
				devices_find(queue->devices, &view->functions[j].address);

			if (device && selector_means(&queue->policy->policy, s, device))
				return true;
		}
	}
	return false;
}

bool queue_reserves_key(const struct queue *queue, const struct waiting *before, uint32_t key)
{
	const struct waiting *waiting;

	TAILQ_FOREACH(waiting, &queue->list, link) {
		if (waiting == before)
			return false;
		if (!waiting->own && wants_key(waiting, key))
			return true;
	}
	return false;
}

bool queue_reserves(const struct queue *queue, const struct waiting *before,
		    const struct group_view *view)
{
	const struct waiting *waiting;

	TAILQ_FOREACH(waiting, &queue->list, link) {
		if (waiting == before)
			return false;
		if (waiting->own)
			continue;
		if (wants_key(waiting, view->group) ||
		    (waiting->look && may_mean(queue, waiting, view)))
			return true;
	}
	return false;
}

uint32_t queue_count_by_rule(const struct queue *queue, const struct claimant *claimant,
			     const char *rule)
{
	const struct policy *policy = &queue->policy->policy;
	const uint32_t owner = policy_owner(policy, claimant->uid);
	const struct waiting *waiting;
	uint32_t n = 0;

	TAILQ_FOREACH(waiting, &queue->list, link) {
		if (waiting->claimant == claimant || waiting->own || waiting->claimant->claim ||
		    policy_owner(policy, waiting->claimant->uid) != owner)
			continue;
		for (size_t i = 0; i < waiting->n_rules; i++)
			n += !strcmp(waiting->rules[i], rule);
	}
	return n;
}

static bool share_key(const struct waiting *a, const struct waiting *b)
{
	for (size_t i = 0; i < a->n_wanted; i++)
		if (wants_key(b, a->wanted[i]))
			return true;
	return false;
}

/* Marks the claims behind this one that want something of the same. */
static void mark_behind(struct waiting *waiting)
{
	struct waiting *behind;

	for (behind = TAILQ_NEXT(waiting, link); behind; behind = TAILQ_NEXT(behind, link))
		behind->look = behind->look || share_key(waiting, behind);
}

/* Returns true if the claim reserves less than it did before. */
static bool reserves_less(const struct waiting *waiting, const struct wanted *now)
{
	if (waiting->own)
		return false;
	if (now->own)
		return true;
	for (size_t i = 0; i < waiting->n_wanted; i++) {
		size_t k = 0;

		while (k < now->n && now->keys[k] != waiting->wanted[i])
			k++;
		if (k == now->n)
			return true;
	}
	return false;
}

int queue_set_wanted(struct waiting *waiting, const struct wanted *wanted)
{
	cleanup_free uint32_t *keys = calloc(wanted->n + 1, sizeof(*keys));
	char(*rules)[RULE_ORIGIN_MAX] = calloc(wanted->n_rules + 1, sizeof(*rules));

	if (!keys || !rules) {
		free(rules);
		return -ENOMEM;
	}
	if (reserves_less(waiting, wanted))
		mark_behind(waiting);
	memcpy(keys, wanted->keys, wanted->n * sizeof(*keys));
	memcpy(rules, wanted->rules, wanted->n_rules * sizeof(*rules));
	free(waiting->wanted);
	free(waiting->rules);
	waiting->wanted = TAKE_PTR(keys);
	waiting->n_wanted = wanted->n;
	waiting->rules = rules;
	waiting->n_rules = wanted->n_rules;
	waiting->own = wanted->own;
	return 0;
}

/* ---- the place ---- */

/* Returns the first lease that has what a key stands for. */
static const struct lease *lease_in_the_way(const struct queue *queue, uint32_t key)
{
	const struct lease *lease = lease_find_group(queue->leases, key);

	if (lease)
		return lease;
	TAILQ_FOREACH(lease, &queue->leases->list, link)
		if (lease_is_made(lease) &&
		    wanted_key_of_parent(queue->devices, lease->mdev.parent) == key)
			return lease;
	return NULL;
}

/*
 * Returns a claim's place among the claims that share a key with it, and the time at which its turn
 * comes at the latest: if it is the n-th, the n-th end of the leases in its way, as far as those
 * have an end.
 */
static struct message_queued place_in_queue(const struct waiting *waiting)
{
	struct message_queued queued = { .type = MESSAGE_QUEUED, .place = 1, .id = waiting->id };
	const struct queue *queue = waiting->queue;
	const struct waiting *other;
	uint64_t ends[WANTED_MAX];
	size_t n = 0;

	TAILQ_FOREACH(other, &queue->list, link) {
		if (other == waiting)
			break;
		queued.place += share_key(other, waiting);
	}
	for (size_t i = 0; i < waiting->n_wanted; i++) {
		const struct lease *lease = lease_in_the_way(queue, waiting->wanted[i]);
		size_t at;

		if (!lease)
			continue;
		if (!queued.lease) {
			queued.lease = lease->id;
			queued.holder_uid = lease->uid;
			queued.holder_pid = lease->pid;
			queued.address = lease->asked;
			memcpy(queued.parent, lease->mdev.parent, sizeof(queued.parent));
		}
		if (!lease->ends || lease->state == GPUBROKER_LEASE_ASKED) /* that is over */
			continue;
		for (at = n++; at && ends[at - 1] > lease->ends; at--)
			ends[at] = ends[at - 1];
		ends[at] = lease->ends;
	}
	if (queued.place <= n)
		queued.ends = ends[queued.place - 1];
	return queued;
}

void queue_tell_place(struct waiting *waiting)
{
	waiting->now = place_in_queue(waiting);
	waiting->tell = false;
	/* It does not wait: its turn has come, or it is only tried again. */
	if (!is_waiting(waiting) || waiting->claimant->claim)
		return;
	if (memcmp(&waiting->now, &waiting->told, sizeof(waiting->now)) != 0 &&
	    waiting->claimant->ops->queued(waiting->claimant, &waiting->now))
		waiting->told = waiting->now;
}

/* ---- by id ---- */

const struct waiting *queue_find_from(const struct queue *queue, uint64_t id)
{
	struct waiting *waiting;

	TAILQ_FOREACH(waiting, &queue->list, link)
		if (is_waiting(waiting) && waiting->id >= id)
			return waiting;
	return NULL;
}

struct waiting *queue_find_id(const struct queue *queue, uint64_t id)
{
	struct waiting *waiting;

	TAILQ_FOREACH(waiting, &queue->list, link)
		if (is_waiting(waiting) && waiting->id == id)
			return waiting;
	return NULL;
}

/* ---- places of the daemon before ---- */

int queue_keep(struct queue *queue, const struct queue_place *place)
{
	struct queue_place *kept;

	if (queue->n_kept == QUEUE_KEPT_MAX)
		return -E2BIG;
	kept = reallocarray(queue->kept, queue->n_kept + 1, sizeof(*kept));
	if (!kept)
		return -ENOMEM;
	queue->kept = kept;
	kept[queue->n_kept++] = *place;
	return 0;
}

const struct queue_place *queue_next_kept(const struct queue *queue)
{
	return queue->n_kept ? &queue->kept[0] : NULL;
}

static size_t find_kept(const struct queue *queue, uint64_t id)
{
	size_t i = 0;

	while (i < queue->n_kept && queue->kept[i].id != id)
		i++;
	return i;
}

void queue_drop_kept(struct queue *queue, uint64_t id)
{
	size_t i = find_kept(queue, id);

	if (i == queue->n_kept)
		return;
	queue->kept[i] = queue->kept[--queue->n_kept];
	if (!queue->n_kept)
		queue_mark_all(queue);
}

void queue_done(struct queue *queue)
{
	free(TAKE_PTR(queue->kept));
	queue->n_kept = 0;
}

/* Gives the claim the place that its user had, if it is kept, or the next one. */
static void give_place(struct queue *queue, struct waiting *waiting)
{
	const size_t i = find_kept(queue, waiting->request.place);

	if (i < queue->n_kept && is_waiting(waiting) &&
	    queue->kept[i].uid == waiting->claimant->uid &&
	    !strcmp(queue->kept[i].through, waiting->claimant->through)) {
		waiting->id = queue->kept[i].id;
		waiting->since = queue->kept[i].since;
	} else {
		waiting->id = lease_take_id(queue->leases);
		waiting->since = (uint64_t)time(NULL);
	}
}

static void insert_by_id(struct queue *queue, struct waiting *waiting)
{
	struct waiting *before = TAILQ_LAST(&queue->list, waiting_list);

	while (before && before->id > waiting->id)
		before = TAILQ_PREV(before, waiting_list, link);
	if (before)
		TAILQ_INSERT_AFTER(&queue->list, before, waiting, link);
	else
		TAILQ_INSERT_HEAD(&queue->list, waiting, link);
}

/* ---- adding and removing ---- */

static size_t count_of_user(const struct queue *queue, uint32_t uid)
{
	const struct policy *policy = &queue->policy->policy;
	const uint32_t owner = policy_owner(policy, uid);
	const struct waiting *waiting;
	size_t n = 0;

	TAILQ_FOREACH(waiting, &queue->list, link)
		n += policy_owner(policy, waiting->claimant->uid) == owner;
	return n;
}

/* Whatever runs at the socket of an allotment does not take all the places of its user. */
static bool has_its_share(const struct queue *queue, const struct claimant *claimant)
{
	const struct waiting *waiting;
	size_t n = 0;

	if (count_of_user(queue, claimant->uid) >= WAITING_PER_UID)
		return true;
	TAILQ_FOREACH(waiting, &queue->list, link)
		n += !strcmp(waiting->claimant->through, claimant->through);
	return claimant->through[0] && n >= WAITING_PER_SOCKET;
}

static bool has_marked(const struct queue *queue)
{
	const struct waiting *waiting;

	TAILQ_FOREACH(waiting, &queue->list, link)
		if (waiting->look)
			return true;
	return false;
}

int queue_add(struct queue *queue, struct claimant *claimant, const struct message_claim *request,
	      const struct wanted *wanted)
{
	const struct audit_line line = {
		.outcome = "waiting",
		.level = LOG_INFO,
		.uid = claimant->uid,
		.pid = claimant->pid,
		.group = wanted->n ? wanted_group(wanted->keys[0]) : NO_GROUP,
		.by = AUDIT_NOBODY,
	};
	struct waiting *waiting;

	if (has_its_share(queue, claimant))
		return -EDQUOT;
	waiting = calloc(1, sizeof(*waiting));
	if (!waiting)
		return -ENOMEM;
	waiting->queue = queue;
	waiting->claimant = claimant;
	waiting->request = *request;
	give_place(queue, waiting);
	/*
	 * The devices of a marked claim were kept from this one, and it may not want them any more.
	 */
	waiting->look = has_marked(queue);
	if (!waiting->id || queue_set_wanted(waiting, wanted)) {
		free(waiting);
		return -ENOMEM;
	}
	claimant->waiting = waiting;
	insert_by_id(queue, waiting);
	if (is_waiting(waiting))
		audit_asked(queue->audit, claimant->uid, &line);
	queue_drop_kept(queue, waiting->id);
	waiting->now = place_in_queue(waiting);
	waiting->tell = queue->n_kept; /* those before it may still come */
	if (!waiting->tell)
		queue_tell_place(waiting);
	if (queue->events && is_waiting(waiting))
		queue->events->waits(queue->userdata, waiting);
	return 0;
}

int queue_stay(struct queue *queue, struct claimant *claimant, const struct message_claim *request,
	       const struct wanted *wanted)
{
	struct waiting *waiting = claimant->waiting;
	int r;

	if (!waiting) {
		r = queue_add(queue, claimant, request, wanted);
		if (r)
			return r;
		waiting = claimant->waiting;
		/*
		 * An instance may have become free while the claim was being tried, when the queue
		 * did not know yet that it wants one.
		 */
		waiting->again = true;
	} else {
		/* Without memory it keeps its old keys. */
		queue_set_wanted(waiting, wanted);
	}
	waiting->look |= waiting->again;
	waiting->again = false;
	waiting->tell = true;
	queue_wake(queue);
	return 0;
}

void queue_remove(struct waiting *waiting)
{
	const struct queue *queue = waiting->queue;

	TAILQ_REMOVE(&waiting->queue->list, waiting, link);
	waiting->claimant->waiting = NULL;
	if (queue->events && is_waiting(waiting))
		queue->events->left(queue->userdata, waiting);
	if (waiting->later)
		event_free(waiting->later);
	free(waiting->wanted);
	free(waiting->rules);
	free(waiting);
}

void queue_leave(struct claimant *claimant)
{
	struct waiting *waiting = claimant->waiting;
	struct queue *queue;

	if (!waiting)
		return;
	queue = waiting->queue;
	/* Later claims may get what was reserved for this one. */
	mark_behind(waiting);
	queue_remove(waiting);
	queue_wake(queue);
}

/* ---- marks ---- */

void queue_mark_all(struct queue *queue)
{
	struct waiting *waiting;

	TAILQ_FOREACH(waiting, &queue->list, link)
		waiting->look = true;
	queue_wake(queue);
}

void queue_mark(struct queue *queue, uint32_t key)
{
	struct waiting *waiting;

	TAILQ_FOREACH(waiting, &queue->list, link)
		waiting->look = waiting->look || wants_key(waiting, key);
	queue_wake(queue);
}

void queue_mark_freed(struct queue *queue, const struct lease *lease)
{
	queue_mark(queue, lease->group);
	/*
	 * Another part can be made in place of one that was made. If none was made, nothing has
	 * become free.
	 */
	if (lease_is_made(lease) && lease->group != NO_GROUP)
		queue_mark(queue, wanted_key_of_parent(queue->devices, lease->mdev.parent));
}
