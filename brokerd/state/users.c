/* SPDX-License-Identifier: MIT */
/*
 * The count of each user's connections, see users.h. Owns its entries. It must never look at every
 * connection: it is called for each new one, also by a client that connects in a loop.
 */
#include "config.h"

#include "brokerd/state/users.h"
#include "client/common/util.h"

struct users_entry {
	struct users_entry *next;
	uint32_t uid;
	unsigned n;
	unsigned spent; /* in this turn */
	uint64_t turn;
};

/*
 * Where the entry of uid hangs, or would. Somebody with a range of uids can choose them to meet in
 * one bucket; of a range of 65,536 that is 256, which is no harm.
 */
static struct users_entry **find_entry(struct users_entry **buckets, uint32_t uid)
{
	struct users_entry **place = &buckets[uid % USERS_BUCKETS];

	while (*place && (*place)->uid != uid)
		place = &(*place)->next;
	return place;
}

int users_take(struct users *counts, uint32_t uid, unsigned limit)
{
	struct users_entry **place = find_entry(counts->buckets, uid);

	if ((*place ? (*place)->n : 0) >= limit)
		return -EDQUOT;
	if (!*place) {
		*place = calloc(1, sizeof(**place));
		if (!*place)
			return -ENOMEM;
		(*place)->uid = uid;
	}
	(*place)->n++;
	return 0;
}

void users_give(struct users *counts, uint32_t uid)
{
	struct users_entry **place = find_entry(counts->buckets, uid), *entry = *place;

	if (!entry || --entry->n)
		return;
	*place = entry->next;
	free(entry);
}

bool users_spend(struct users *counts, uint32_t uid, uint64_t turn, unsigned cost, unsigned budget)
{
	struct users_entry *entry = *find_entry(counts->buckets, uid);

	if (!entry)
		return true; /* has no connection, so there is nothing to hold back */
	if (entry->turn != turn) {
		entry->turn = turn;
		entry->spent = 0;
	}
	if (entry->spent >= budget)
		return false;
	entry->spent += cost;
	return true;
}
