/* SPDX-License-Identifier: MIT */
/*
 * The count of each user's connections, see usercount.h. Owns its entries. It must never cost a
 * look at every connection: one comes with each, and the one who connects in a loop is whom it is
 * for.
 */
#include "config.h"

#include "brokerd/state/users.h"
#include "client/common/util.h"

struct usercount_entry {
	struct usercount_entry *next;
	uint32_t uid;
	unsigned n;
	unsigned spent; /* in this turn */
	uint64_t turn;
};

/*
 * Where the entry of uid hangs, or would. Somebody with a range of uids can choose them to meet in
 * one bucket; of a range of 65,536 that is 256, which is no harm.
 */
static struct usercount_entry **find(struct usercount_entry **buckets, uint32_t uid)
{
	struct usercount_entry **place = &buckets[uid % USERCOUNT_BUCKETS];

	while (*place && (*place)->uid != uid)
		place = &(*place)->next;
	return place;
}

int usercount_take(struct usercount *counts, uint32_t uid, unsigned limit)
{
	struct usercount_entry **place = find(counts->buckets, uid);

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

void usercount_give(struct usercount *counts, uint32_t uid)
{
	struct usercount_entry **place = find(counts->buckets, uid), *entry = *place;

	if (!entry || --entry->n)
		return;
	*place = entry->next;
	free(entry);
}

bool usercount_spend(struct usercount *counts, uint32_t uid, uint64_t turn, unsigned cost,
		     unsigned budget)
{
	struct usercount_entry *entry = *find(counts->buckets, uid);

	if (!entry)
		return true; /* nobody whom we know, so nobody to be held back */
	if (entry->turn != turn) {
		entry->turn = turn;
		entry->spent = 0;
	}
	if (entry->spent >= budget)
		return false;
	entry->spent += cost;
	return true;
}
