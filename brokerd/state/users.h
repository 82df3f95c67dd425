/* SPDX-License-Identifier: MIT */
/*
 * Counts each user's connections, and the cost of the requests that were served for that user in
 * this turn of the loop. No I/O.
 *
 * There is an entry for each uid that has a connection; it goes with the last one. So the number of
 * connections bounds what is allocated.
 */
#pragma once

#include <stdbool.h>
#include <stddef.h>
#include <stdint.h>

#define USERS_BUCKETS 256

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
#define COST_GROUPS(n) ((n) / 16) /* a process' supplementary groups */

struct users_entry;

struct users {
	struct users_entry *buckets[USERS_BUCKETS]; /* all NULL: no connections */
};

/*
 * Counts one more connection of uid, unless it has `limit` already. Returns 0, or -EDQUOT or
 * -ENOMEM with nothing changed.
 */
int users_take(struct users *counts, uint32_t uid, unsigned limit);
/* Counts one connection less. Does nothing for a user who has none. */
void users_give(struct users *counts, uint32_t uid);
/*
 * Returns true and adds `cost`, if the user's cost in this turn is below the budget. A cost that is
 * known only afterwards is added by users_owe(). `turn` counts the turns.
 */
bool users_spend(struct users *counts, uint32_t uid, uint64_t turn, uint64_t cost);
void users_owe(struct users *counts, uint32_t uid, uint64_t turn, uint64_t cost);
