/* SPDX-License-Identifier: MIT */
/*
 * Claims that wait for what others have, in the order in which they came.
 *
 * One that waits wants those groups that the policy and the guards would give it now, and no claim
 * that came later gets one of them. Owns the queue; each entry belongs to a peer, goes with it, and
 * costs one request. It must never decide anything: it asks select.c again when something is free.
 */
#include "config.h"

#include "brokerd/claim.h"
#include "brokerd/log.h"
#include "brokerd/queue.h"
#include "client/passfd.h"
#include "client/util.h"

#include <inttypes.h>
#include <string.h>

static bool wants(const struct waiting *waiting, uint32_t group)
{
	for (size_t i = 0; i < waiting->wanted.n; i++)
		if (waiting->wanted.groups[i] == group)
			return true;
	return false;
}

void wanted_add(struct wanted *wanted, uint32_t group)
{
	for (size_t i = 0; i < wanted->n; i++)
		if (wanted->groups[i] == group)
			return;
	if (wanted->n < ARRAY_SIZE(wanted->groups))
		wanted->groups[wanted->n++] = group;
}

bool queue_holds(const struct daemon *daemon, const struct waiting *before, uint32_t group)
{
	const struct waiting *waiting;

	TAILQ_FOREACH(waiting, &daemon->waiting, link) {
		if (waiting == before)
			return false;
		if (wants(waiting, group))
			return true;
	}
	return false;
}

static bool share(const struct waiting *a, const struct waiting *b)
{
	for (size_t i = 0; i < a->wanted.n; i++)
		if (wants(b, a->wanted.groups[i]))
			return true;
	return false;
}

/*
 * Its place among those who want the same, and when its turn comes at the latest: with the place-th
 * of the ends of the leases in its way, as far as those have an end.
 */
static struct message_queued report(const struct daemon *daemon, const struct waiting *waiting)
{
	struct message_queued queued = { .type = MESSAGE_QUEUED, .place = 1 };
	const struct waiting *other;
	uint64_t ends[WANTED_MAX];
	size_t n = 0;

	TAILQ_FOREACH(other, &daemon->waiting, link) {
		if (other == waiting)
			break;
		queued.place += share(other, waiting);
	}
	for (size_t i = 0; i < waiting->wanted.n; i++) {
		const struct lease *lease =
			lease_find_group(&daemon->leases, waiting->wanted.groups[i]);
		size_t at;

		if (!lease)
			continue;
		if (!queued.lease) {
			queued.lease = lease->id;
			queued.holder_uid = lease->uid;
			queued.holder_pid = lease->pid;
			queued.address = lease->asked;
		}
		if (!lease->ends)
			continue;
		for (at = n++; at && ends[at - 1] > lease->ends; at--)
			ends[at] = ends[at - 1];
		ends[at] = lease->ends;
	}
	if (queued.place <= n)
		queued.ends = ends[queued.place - 1];
	return queued;
}

static void tell_places(struct daemon *daemon)
{
	struct waiting *waiting;

	TAILQ_FOREACH(waiting, &daemon->waiting, link) {
		struct message_queued now = report(daemon, waiting);

		if (memcmp(&now, &waiting->told, sizeof(now)) != 0 && waiting->peer->fd >= 0 &&
		    !passfd_send(waiting->peer->fd, &now, sizeof(now), NULL, 0))
			waiting->told = now;
	}
}

int queue_add(struct peer *peer, const struct message_claim *request, const struct wanted *wanted)
{
	struct daemon *daemon = peer->daemon;
	struct waiting *waiting = calloc(1, sizeof(*waiting));

	if (!waiting)
		return -ENOMEM;
	waiting->peer = peer;
	waiting->request = *request;
	waiting->wanted = *wanted;
	peer->waiting = waiting;
	peer->busy = PEER_WAITING;
	TAILQ_INSERT_TAIL(&daemon->waiting, waiting, link);
	log_info("uid=%" PRIu32 " pid=%" PRIu32 " groups=%zu outcome=waiting", peer->uid, peer->pid,
		 wanted->n);
	tell_places(daemon);
	return 0;
}

static void take_out(struct waiting *waiting)
{
	TAILQ_REMOVE(&waiting->peer->daemon->waiting, waiting, link);
	waiting->peer->waiting = NULL;
	free(waiting);
}

void queue_leave(struct peer *peer)
{
	struct daemon *daemon = peer->daemon;

	if (!peer->waiting)
		return;
	take_out(peer->waiting);
	/* What it alone kept from others is free now. */
	queue_look(daemon);
}

/* Asks again for one. What it wants is found anew on the way. */
static void try(struct waiting *waiting)
{
	struct peer *peer = waiting->peer;
	struct message_refusal refusal;
	int r = claim_start(peer, &waiting->request, &refusal);

	if (r == GPUBROKER_REFUSED_BUSY)
		return;
	take_out(waiting);
	if (r)
		peer_refuse(peer, &refusal);
}

void queue_run(struct daemon *daemon)
{
	struct waiting *waiting, *next;

	for (waiting = TAILQ_FIRST(&daemon->waiting); waiting && !daemon->quitting;
	     waiting = next) {
		next = TAILQ_NEXT(waiting, link);
		if (waiting->peer->fd >= 0)
			try(waiting);
	}
	tell_places(daemon);
}

void queue_look(struct daemon *daemon)
{
	if (!TAILQ_EMPTY(&daemon->waiting) && daemon->on_queue)
		event_active(daemon->on_queue, EV_TIMEOUT, 1);
}
