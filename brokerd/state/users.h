/* SPDX-License-Identifier: MIT */
/*
 * Counts each user's connections, and the cost of the requests that were served for that user in
 * this turn of the loop. Also knows the order in which a user's connections were last used, and
 * which user has most. No I/O.
 *
 * There is an entry for each uid that has a connection; it goes with the last one. So the number of
 * connections bounds what is allocated.
 */
#pragma once

#include <stdbool.h>
#include <stddef.h>
#include <stdint.h>
#include <sys/queue.h>

#define USERS_BUCKETS 256
#define USERS_RANKS 128 /* users with more members than this count as having so many */

struct users_entry;

/* All zero: no connections. */
struct users {
	struct users_entry *buckets[USERS_BUCKETS];
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
 * Returns true while the user's cost in this turn is below `budget`, and adds `cost` to it; the
 * first request always passes. `turn` must be different for each turn.
 */
bool users_spend(struct users *counts, uint32_t uid, uint64_t turn, unsigned cost, unsigned budget);

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
