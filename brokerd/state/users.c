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
	uint64_t spent; /* in `turn` of the loop, and what is left of turns before */
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

/* Takes from the user's cost what the turns since have paid. */
static void pay(struct users_entry *entry, uint64_t turn)
{
	const uint64_t turns = turn - entry->turn;

	entry->spent = turns < USERS_DEBT && entry->spent > turns * USERS_BUDGET
			       ? entry->spent - turns * USERS_BUDGET
			       : 0;
	entry->turn = turn;
}

static void add_cost(struct users_entry *entry, uint64_t cost)
{
	const uint64_t most = (uint64_t)USERS_DEBT * USERS_BUDGET;

	entry->spent = cost < most - entry->spent ? entry->spent + cost : most;
}

bool users_spend(struct users *counts, uint32_t uid, uint64_t turn, uint64_t cost)
{
	struct users_entry *entry = *find_entry(counts->buckets, uid);

	if (!entry)
		return true; /* a user without a connection is not limited */
	pay(entry, turn);
	if (entry->spent >= USERS_BUDGET)
		return false;
	add_cost(entry, cost);
	return true;
}

void users_owe(struct users *counts, uint32_t uid, uint64_t turn, uint64_t cost)
{
	struct users_entry *entry = *find_entry(counts->buckets, uid);

	if (!entry)
		return;
	pay(entry, turn);
	add_cost(entry, cost);
}
