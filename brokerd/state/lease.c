/* SPDX-License-Identifier: MIT */
/*
 * The lease table and the one table of its states. No I/O, no clock, no libevent: a test drives it.
 * It never forgets a lease of which the host has not got everything back.
 */
#include "config.h"

#include "brokerd/state/lease.h"
#include "client/common/util.h"

#include <string.h>

#define HOST GPUBROKER_LEASE_HOST
#define PREPARING GPUBROKER_LEASE_PREPARING
#define READY GPUBROKER_LEASE_READY
#define LEASED GPUBROKER_LEASE_LEASED
#define RELEASING GPUBROKER_LEASE_RELEASING
#define RESTORING GPUBROKER_LEASE_RESTORING
#define STUCK GPUBROKER_LEASE_STUCK

/*
 * 0: the event means nothing here. A lease that comes to HOST is over, and its caller frees it.
 * tests/model/ reads this very table and searches what can come of it.
 */
static const enum gpubroker_lease_state transitions[][LEASE_N_EVENTS] = {
	[HOST] = {
		[LEASE_CLAIMED] = PREPARING,
	},
	[PREPARING] = {
		[LEASE_BOUND] = READY,
		[LEASE_ABANDON] = RESTORING,
		[LEASE_LATE] = STUCK,
		/* found in the records at start: held, or not */
		[LEASE_SENT] = LEASED,
		[LEASE_REGAINED] = RESTORING,
	},
	[READY] = {
		[LEASE_SENT] = LEASED,
		[LEASE_ABANDON] = RESTORING,
	},
	[LEASED] = {
		[LEASE_CLOSED] = RELEASING,
		[LEASE_RECALLED] = RESTORING,
		[LEASE_REGAINED] = RESTORING,
		[LEASE_ABANDON] = RESTORING, /* its send failed after all */
	},
	[RELEASING] = {
		[LEASE_REGAINED] = RESTORING,
	},
	[RESTORING] = {
		[LEASE_RESTORED] = HOST,
		[LEASE_FAILED] = STUCK,
		[LEASE_LATE] = STUCK,
	},
	[STUCK] = {
		[LEASE_ABANDON] = RESTORING, /* the late worker came back: try to put things right */
		[LEASE_RESTORED] = HOST,
		[LEASE_FAILED] = STUCK,
	},
};

void leases_init(struct leases *leases)
{
	TAILQ_INIT(&leases->list);
	leases->next_id = 1;
	leases->n = 0;
}

struct lease *lease_new(struct leases *leases, uint64_t id, uint32_t group)
{
	struct lease *lease = calloc(1, sizeof(*lease)), *after;

	if (!id)
		id = leases->next_id;
	if (!lease || id == UINT64_MAX) { /* past the last number, which 0 would follow */
		free(lease);
		return NULL;
	}
	if (id >= leases->next_id)
		leases->next_id = id + 1;
	lease->id = id;
	lease->group = group;
	lease->state = HOST;
	lease_advance(lease, LEASE_CLAIMED);
	lease->watch = -1;
	after = lease_find_from(leases, id);
	if (after)
		TAILQ_INSERT_BEFORE(after, lease, link);
	else
		TAILQ_INSERT_TAIL(&leases->list, lease, link);
	leases->n++;
	return lease;
}

struct lease *lease_free(struct leases *leases, struct lease *lease)
{
	if (lease) {
		TAILQ_REMOVE(&leases->list, lease, link);
		leases->n--;
		free(lease);
	}
	return NULL;
}

struct lease *lease_find_group(const struct leases *leases, uint32_t group)
{
	struct lease *lease;

	if (group == UINT32_MAX)
		return NULL;
	TAILQ_FOREACH(lease, &leases->list, link)
		if (lease->group == group)
			return lease;
	return NULL;
}

struct lease *lease_find_vgpu(const struct leases *leases, const char *vf)
{
	struct lease *lease;

	TAILQ_FOREACH(lease, &leases->list, link)
		if (lease->mdev.vendor && !strcmp(lease->mdev.parent, vf))
			return lease;
	return NULL;
}

struct lease *lease_find_from(const struct leases *leases, uint64_t id)
{
	struct lease *lease;

	TAILQ_FOREACH(lease, &leases->list, link)
		if (lease->id >= id)
			return lease;
	return NULL;
}

struct lease *lease_find_watch(const struct leases *leases, int watch)
{
	struct lease *lease;

	TAILQ_FOREACH(lease, &leases->list, link) {
		if (lease->watch == watch)
			return lease;
		for (size_t i = 0; i < lease->n_cdev_watches; i++)
			if (lease->cdev_watches[i] == watch)
				return lease;
	}
	return NULL;
}

bool lease_advance(struct lease *lease, enum lease_event event)
{
	enum gpubroker_lease_state next = 0;

	if ((size_t)lease->state < ARRAY_SIZE(transitions) && event < LEASE_N_EVENTS)
		next = transitions[lease->state][event];
	if (!next)
		return false;
	lease->state = next;
	return true;
}

bool lease_is_mdev(const struct lease *lease)
{
	return lease->mdev.parent[0];
}

bool lease_has_address(const struct lease *lease)
{
	struct pci_address address;

	return !lease_is_mdev(lease) || !pci_address_parse(lease->mdev.parent, &address);
}

bool lease_is_leaving(const struct lease *lease)
{
	return lease->state == RELEASING || lease->state == RESTORING;
}
