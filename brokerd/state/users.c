/* SPDX-License-Identifier: MIT */
/*
 * The count of each user's connections, see users.h. Owns its entries. It must never walk all
 * connections: it is called for each new one, even if a client connects in a loop.
 */
#include "config.h"

#include "brokerd/state/users.h"
#include "client/common/util.h"

struct users_entry {
	struct users_entry *next;
	uint32_t uid;
	unsigned n;
	unsigned spent; /* in `turn` of the loop */
	uint64_t turn;
};

/*
 * Returns the place of the entry of uid in its bucket, or where it would be linked. A user with a
 * range of uids can choose them to meet in one bucket; with 65,536 uids a bucket has 256 entries,
 * which does no harm.
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
		return true; /* a user without a connection is not limited */
	if (entry->turn != turn) {
		entry->turn = turn;
		entry->spent = 0;
	}
	if (entry->spent >= budget)
		return false;
	entry->spent += cost;
	return true;
}
