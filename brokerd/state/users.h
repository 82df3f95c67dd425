/* SPDX-License-Identifier: MIT */
/*
 * Counts each user's connections (a user's subordinate uids are the user: the caller passes the
 * owner's number), and the cost of the requests that were served for that user in
 * this turn of the loop. Also knows the order in which a user's connections were last used, and
 * which user has most. No I/O.
 *
 * There is an entry for each uid that has a connection; it goes with the last one. So the number of
 * connections bounds what is allocated. The user's debt is kept then, in a table of fixed size: no
 * user gets a new budget by connecting anew.
 */
#pragma once

#include <stdbool.h>
#include <stddef.h>
#include <stdint.h>
#include <sys/queue.h>

#define USERS_BUCKETS 256
#define USERS_DEBT_SETS 64
#define USERS_DEBTS_A_SET 4
#define USERS_RANKS 128 /* users with more members than this count as having so many */

/*
 * The unit of cost is a rule that was looked at, some 20 ns. A user may cause USERS_BUDGET in a
 * turn of the loop, and what is beyond that is taken from the next turns.
 */
#define USERS_BUDGET 4096
#define USERS_DEBT 256		  /* turns for which a user can be in debt at most */
#define COST_REQUEST 2048	  /* a request, without what is counted below */
#define COST_LINE 512		  /* a line of a listing */
#define COST_FUNCTION 32	  /* a function that is judged, beside the rules */
#define COST_READ 1024		  /* a function that is read from sysfs */
#define COST_USE 4096		  /* how the host uses a function */
#define COST_ATTRIBUTE 256	  /* another attribute of a function */
#define COST_FIND 32768		  /* a question to the finder, which may be asked again */
#define COST_GROUPS(n) ((n) / 16) /* a process' supplementary groups */

struct users_entry;

/* The debt of a user who has no connections. */
struct users_debt {
	uint32_t uid;
	uint64_t spent; /* as it was in `turn` */
	uint64_t turn;
};

/* All zero: no connections. */
struct users {
	struct users_entry *buckets[USERS_BUCKETS];
	/* by a hash of the uid; if a set is full, the smallest debt is forgotten */
	struct users_debt debts[USERS_DEBT_SETS][USERS_DEBTS_A_SET];
	/* the users with so many members */
	LIST_HEAD(, users_entry) ranks[USERS_RANKS + 1];
};

/* A connection that may be dropped in favour of another; embedded in its owner. */
struct users_member {
	TAILQ_ENTRY(users_member) link; /* in its user's list, in the order of users_touch() */
	struct users_entry *entry;
};

/*
 * Counts one more connection of uid, unless it has `limit` already. Returns 0, or -EDQUOT or
 * -ENOMEM with nothing changed.
 */
int users_take(struct users *counts, uint32_t uid, unsigned limit);
/* Counts one connection less. Does nothing for a user who has none. */
void users_give(struct users *counts, uint32_t uid);
/*
 * Frees all entries. Connections that are still parked or with a closer have some; no member may be
 * touched afterwards.
 */
void users_done(struct users *counts);
/*
 * Returns true and adds `cost`, if the user's cost in this turn is below the budget. A cost that is
 * known only afterwards is added by users_owe(). `turn` counts the turns.
 */
bool users_spend(struct users *counts, uint32_t uid, uint64_t turn, uint64_t cost);
void users_owe(struct users *counts, uint32_t uid, uint64_t turn, uint64_t cost);

/*
 * Adds a connection to those that users_idlest() knows. It must have been counted by users_take(),
 * and must be removed before users_give().
 */
void users_add(struct users *counts, uint32_t uid, struct users_member *member);
void users_remove(struct users *counts, struct users_member *member);
/* Notes that a connection is used now. */
void users_touch(struct users_member *member);
/*
 * Looks at the user with most members, if there are more than those of uid and one, so that both
 * users' numbers come closer. Returns the member of that user that was used longest ago, among
 * those for which may_go() returns true. NULL: there is none.
 */
struct users_member *users_idlest(const struct users *counts, uint32_t uid,
				  bool (*may_go)(const struct users_member *member));
