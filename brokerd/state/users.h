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
 * Returns true while the user's cost in this turn is below `budget`, and adds `cost` to it; the
 * first request always passes. `turn` must be different for each turn.
 */
bool users_spend(struct users *counts, uint32_t uid, uint64_t turn, unsigned cost, unsigned budget);
