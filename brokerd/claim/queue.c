/* SPDX-License-Identifier: MIT */
/*
 * Claims that wait for what others have, in the order in which they came.
 *
 * One that waits wants those groups that the policy and the guards would give it now, and no claim
 * that came later gets one of them. Owns the queue; each entry belongs to a peer, goes with it, and
 * costs one request. It must never decide anything: when something is free it calls claim_start()
 * again, which decides as it does for a claim that has just arrived.
 */
#include "config.h"

#include "brokerd/record/audit.h"
#include "brokerd/claim/claim.h"
#include "brokerd/state/verdict.h"
#include "brokerd/process/log.h"
#include "brokerd/claim/queue.h"
#include "client/wire/passfd.h"
#include "client/common/util.h"

#include <errno.h>
#include <inttypes.h>
#include <string.h>

#define LOOKS_A_TURN 4
#define TELLS_A_TURN 16
#define NO_FUNCTION (UINT32_C(1) << 31) /* no group's number has it: the kernel counts in an int */

static void queue_soon(struct daemon *daemon)
{
	if (!TAILQ_EMPTY(&daemon->waiting) && daemon->on_queue)
		event_active(daemon->on_queue, EV_TIMEOUT, 1);
}

static bool wants(const struct waiting *waiting, uint32_t group)
{
	for (size_t i = 0; i < waiting->n_wanted; i++)
		if (waiting->wanted[i] == group)
			return true;
	return false;
}

/* Could its selectors mean the group? Whether it may have it is for the policy to say when its turn comes. */
static bool may_mean(const struct daemon *daemon, const struct waiting *waiting,
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
				devices_find(&daemon->devices, &view->functions[j].address);

			if (device && selector_means(daemon, s, device))
				return true;
		}
	}
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

uint32_t queue_part(const struct daemon *daemon, const char *parent)
{
	const struct device *device;
	struct pci_address own;
	uint32_t hash = 2166136261; /* FNV-1a */

	if (!pci_address_parse(parent, &own)) {
		/* What is left of a virtual function's types hangs on all of its card's. */
		device = devices_find(&daemon->devices, &own);
		if (device && device->record.is_vf)
			device = devices_find(&daemon->devices, &device->record.physfn);
		if (device && !(device->record.group & NO_FUNCTION))
			return device->record.group;
	}
	for (const char *p = parent; *p; p++)
		hash = (hash ^ (uint8_t)*p) * 16777619;
	return hash | NO_FUNCTION;
}

bool queue_holds_part(const struct daemon *daemon, const struct waiting *before, uint32_t part)
{
	const struct waiting *waiting;

	TAILQ_FOREACH(waiting, &daemon->waiting, link) {
		if (waiting == before)
			return false;
		if (wants(waiting, part))
			return true;
	}
	return false;
}

bool queue_holds(const struct daemon *daemon, const struct waiting *before,
		 const struct group_view *view)
{
	const struct waiting *waiting;

	TAILQ_FOREACH(waiting, &daemon->waiting, link) {
		if (waiting == before)
			return false;
		if (wants(waiting, view->group) ||
		    (waiting->look && may_mean(daemon, waiting, view)))
			return true;
	}
	return false;
}

int queue_wants(struct waiting *waiting, const struct wanted *wanted)
{
	uint32_t *groups = calloc(wanted->n, sizeof(*groups));

	if (!groups)
		return -ENOMEM;
	memcpy(groups, wanted->groups, wanted->n * sizeof(*groups));
	free(waiting->wanted);
	waiting->wanted = groups;
	waiting->n_wanted = wanted->n;
	return 0;
}

static bool share(const struct waiting *a, const struct waiting *b)
{
	for (size_t i = 0; i < a->n_wanted; i++)
		if (wants(b, a->wanted[i]))
			return true;
	return false;
}

/* The first lease in the way of who wants this; `after`: the next. */
static const struct lease *in_the_way(const struct daemon *daemon, uint32_t wanted,
				      const struct lease *after)
{
	const struct lease *lease = after ? NULL : lease_find_group(&daemon->leases, wanted);

	if (lease)
		return lease;
	for (lease = after ? TAILQ_NEXT(after, link) : TAILQ_FIRST(&daemon->leases.list); lease;
	     lease = TAILQ_NEXT(lease, link))
		if (lease_is_mdev(lease) && queue_part(daemon, lease->mdev.parent) == wanted)
			return lease;
	return NULL;
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
	for (size_t i = 0; i < waiting->n_wanted; i++) {
		const struct lease *lease = in_the_way(daemon, waiting->wanted[i], NULL);
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

static void tell_place(struct waiting *waiting)
{
	struct message_queued now = report(waiting->peer->daemon, waiting);

	waiting->tell = false;
	if (memcmp(&now, &waiting->told, sizeof(now)) != 0 && waiting->peer->fd >= 0 &&
	    !passfd_send(waiting->peer->fd, &now, sizeof(now), NULL, 0))
		waiting->told = now;
}

static size_t waiting_of(const struct daemon *daemon, uint32_t uid)
{
	const struct waiting *waiting;
	size_t n = 0;

	TAILQ_FOREACH(waiting, &daemon->waiting, link)
		n += waiting->peer->uid == uid;
	return n;
}

int queue_add(struct peer *peer, const struct message_claim *request, const struct wanted *wanted)
{
	struct audit line = { .outcome = "waiting", .level = LOG_INFO, .by = AUDIT_NOBODY };
	struct daemon *daemon = peer->daemon;
	struct waiting *waiting;

	if (waiting_of(daemon, peer->uid) >= WAITING_PER_UID)
		return -EDQUOT;
	waiting = calloc(1, sizeof(*waiting));
	if (!waiting || queue_wants(waiting, wanted)) {
		free(waiting);
		return -ENOMEM;
	}
	waiting->peer = peer;
	waiting->request = *request;
	peer->waiting = waiting;
	peer->busy = PEER_WAITING;
	TAILQ_INSERT_TAIL(&daemon->waiting, waiting, link);
	line.uid = peer->uid;
	line.pid = peer->pid;
	line.group = wanted->groups[0] & NO_FUNCTION ? NO_GROUP : wanted->groups[0];
	audit_asked(daemon, peer->uid, &line);
	tell_place(waiting);
	return 0;
}

int queue_stay(struct peer *peer, const struct message_claim *request, const struct wanted *wanted)
{
	int r = 0;

	if (!peer->waiting) {
		r = queue_add(peer, request, wanted);
		if (r)
			return r;
		/* One may have come free while it was under way, and nobody knew that it wants one. */
		peer->waiting->again = true;
	} else {
		/* Without memory it wants what it did. */
		queue_wants(peer->waiting, wanted);
	}
	peer->busy = PEER_WAITING;
	peer->waiting->look |= peer->waiting->again;
	peer->waiting->again = false;
	peer->waiting->tell = true;
	queue_soon(peer->daemon);
	return 0;
}

static void take_out(struct waiting *waiting)
{
	TAILQ_REMOVE(&waiting->peer->daemon->waiting, waiting, link);
	waiting->peer->waiting = NULL;
	free(waiting->wanted);
	free(waiting);
}

void queue_leave(struct peer *peer)
{
	struct waiting *waiting = peer->waiting, *behind;

	if (!waiting)
		return;
	/* What it alone kept from those behind it is free now. */
	for (behind = TAILQ_NEXT(waiting, link); behind; behind = TAILQ_NEXT(behind, link))
		if (share(waiting, behind))
			behind->look = true;
	take_out(waiting);
	queue_soon(peer->daemon);
}

/* Asks again for one. What it wants is found anew on the way. */
static void try(struct waiting *waiting)
{
	struct peer *peer = waiting->peer;
	struct message_refusal refusal;
	int r;

	waiting->look = false;
	if (peer->fd < 0)
		return;
	if (peer->busy != PEER_WAITING) {
		waiting->again = true;
		return;
	}
	r = claim_start(peer, &waiting->request, &refusal);
	/* What asks for a part keeps its place until that is had, or refused: see queue_stay(). */
	if (r == GPUBROKER_REFUSED_BUSY || !peer->waiting ||
	    (!r && peer->claim && claim_has_part(peer->claim)))
		return;
	take_out(waiting);
	if (r)
		peer_refuse(peer, &refusal);
}

/*
 * A few a turn, since each may be about every device that there is, and others have requests too.
 * Those whose turn to be looked at has not come keep what they want meanwhile.
 */
void queue_run(struct daemon *daemon)
{
	struct waiting *waiting, *next;
	size_t looks = 0, tells = 0;
	bool more = false;

	if (daemon->quitting)
		return;
	for (waiting = TAILQ_FIRST(&daemon->waiting); waiting; waiting = next) {
		next = TAILQ_NEXT(waiting, link);
		if (waiting->look && looks++ < LOOKS_A_TURN) {
			struct waiting *other;

			/* Whatever comes of it, others may be in another place, or have another time. */
			TAILQ_FOREACH(other, &daemon->waiting, link)
				other->tell = true;
			try(waiting);
		} else {
			more = more || waiting->look;
		}
	}
	TAILQ_FOREACH(waiting, &daemon->waiting, link) {
		if (waiting->tell && tells++ < TELLS_A_TURN)
			tell_place(waiting);
		else
			more = more || waiting->tell;
	}
	if (more)
		queue_soon(daemon);
}

void queue_look(struct daemon *daemon)
{
	struct waiting *waiting;

	TAILQ_FOREACH(waiting, &daemon->waiting, link)
		waiting->look = true;
	queue_soon(daemon);
}

void queue_look_group(struct daemon *daemon, uint32_t group)
{
	struct waiting *waiting;

	TAILQ_FOREACH(waiting, &daemon->waiting, link)
		waiting->look = waiting->look || wants(waiting, group);
	queue_soon(daemon);
}
