/* SPDX-License-Identifier: MIT */
/*
 * The count of each user's connections, see users.h. Owns its entries. It must never walk all
 * connections, or all users: it is called for each new one, even if a client connects in a loop.
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
	TAILQ_HEAD(, users_member) members; /* the one that was used longest ago is the first */
	size_t n_members;
	LIST_ENTRY(users_entry)
	rank; /* among the users with as many members; only if there are any */
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

/* Returns what is left of a cost after so many turns, each of which pays for a budget. */
static uint64_t left_of(uint64_t spent, uint64_t turns)
{
	return turns < USERS_DEBT && spent > turns * USERS_BUDGET ? spent - turns * USERS_BUDGET
								   : 0;
}

/* Takes from the user's cost what the turns since have paid. */
static void pay(struct users_entry *entry, uint64_t turn)
{
	entry->spent = left_of(entry->spent, turn - entry->turn);
	entry->turn = turn;
}

/* ---- debts of users without connections ---- */

static struct users_debt *debts_of(struct users *counts, uint32_t uid)
{
	return counts->debts[(uid * UINT32_C(2654435761)) >> 26];
}

/* Gives a user who comes back the debt that was kept. */
static void take_debt(struct users *counts, struct users_entry *entry)
{
	struct users_debt *debts = debts_of(counts, entry->uid);

	for (size_t i = 0; i < USERS_DEBTS_A_SET; i++) {
		if (!debts[i].spent || debts[i].uid != entry->uid)
			continue;
		entry->spent = debts[i].spent;
		entry->turn = debts[i].turn;
		debts[i].spent = 0;
		return;
	}
}

/* Keeps the debt of a user who goes, in place of one that is paid, or of the smallest. */
static void keep_debt(struct users *counts, const struct users_entry *entry)
{
	struct users_debt *debts = debts_of(counts, entry->uid), *least = NULL;
	uint64_t now = entry->turn; /* no debt is older than the last turn that is known */

	for (size_t i = 0; i < USERS_DEBTS_A_SET; i++)
		if (debts[i].spent && debts[i].turn > now)
			now = debts[i].turn;
	for (size_t i = 0; i < USERS_DEBTS_A_SET; i++) {
		if (debts[i].spent)
			debts[i].spent = left_of(debts[i].spent, now - debts[i].turn);
		debts[i].turn = now;
		if (!least || debts[i].spent < least->spent)
			least = &debts[i];
	}
	if (left_of(entry->spent, now - entry->turn) > least->spent)
		*least = (struct users_debt){ entry->uid,
					      left_of(entry->spent, now - entry->turn), now };
}

/* ---- connections ---- */

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
		TAILQ_INIT(&(*place)->members);
		take_debt(counts, *place);
	}
	(*place)->n++;
	return 0;
}

void users_give(struct users *counts, uint32_t uid)
{
	struct users_entry **place = find_entry(counts->buckets, uid), *entry = *place;

	if (!entry || --entry->n)
		return;
	keep_debt(counts, entry);
	*place = entry->next;
	free(entry);
}

/* ---- costs ---- */

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

/* ---- who has most ---- */

static size_t rank_of(const struct users_entry *entry)
{
	return entry->n_members < USERS_RANKS ? entry->n_members : USERS_RANKS;
}

static void leave_rank(struct users_entry *entry)
{
	if (entry->n_members)
		LIST_REMOVE(entry, rank);
}

static void enter_rank(struct users *counts, struct users_entry *entry)
{
	if (entry->n_members)
		LIST_INSERT_HEAD(&counts->ranks[rank_of(entry)], entry, rank);
}

void users_add(struct users *counts, uint32_t uid, struct users_member *member)
{
	struct users_entry *entry = *find_entry(counts->buckets, uid);

	member->entry = entry;
	if (!entry)
		return;
	leave_rank(entry);
	TAILQ_INSERT_TAIL(&entry->members, member, link);
	entry->n_members++;
	enter_rank(counts, entry);
}

void users_remove(struct users *counts, struct users_member *member)
{
	struct users_entry *entry = member->entry;

	if (!entry)
		return;
	leave_rank(entry);
	TAILQ_REMOVE(&entry->members, member, link);
	entry->n_members--;
	enter_rank(counts, entry);
	member->entry = NULL;
}

void users_touch(struct users_member *member)
{
	struct users_entry *entry = member->entry;

	if (!entry)
		return;
	TAILQ_REMOVE(&entry->members, member, link);
	TAILQ_INSERT_TAIL(&entry->members, member, link);
}

struct users_member *users_idlest(const struct users *counts, uint32_t uid,
				  bool (*may_go)(const struct users_member *member))
{
	const struct users_entry *most, *own;
	struct users_member *member;
	size_t rank = USERS_RANKS;

	while (rank && LIST_EMPTY(&counts->ranks[rank]))
		rank--;
	most = rank ? LIST_FIRST(&counts->ranks[rank]) : NULL;
	for (own = counts->buckets[uid % USERS_BUCKETS]; own && own->uid != uid;)
		own = own->next;
	if (!most || rank <= (own ? rank_of(own) : 0) + 1)
		return NULL;
	TAILQ_FOREACH(member, &most->members, link)
		if (may_go(member))
			return member;
	return NULL;
}

void users_done(struct users *counts)
{
	for (size_t i = 0; i < USERS_BUCKETS; i++)
		for (struct users_entry *entry = counts->buckets[i], *next; entry; entry = next) {
			next = entry->next;
			free(entry);
		}
	*counts = (struct users){ 0 };
}
