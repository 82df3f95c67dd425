/* SPDX-License-Identifier: MIT */
/*
 * How many connections each user has, and what has been done for it in this turn of the loop. No
 * I/O.
 *
 * An entry for each uid that has any, gone with its last one: what is allocated is bounded by the
 * connections that there are.
 */
#pragma once

#include <stdbool.h>
#include <stddef.h>
#include <stdint.h>

#define USERS_BUCKETS 256

struct users_entry;

struct users {
	struct users_entry *buckets[USERS_BUCKETS]; /* all NULL: nobody has any */
};

/*
 * Counts one more connection of uid, if `limit` is not exceeded. 0, -EDQUOT, or -ENOMEM; then
 * nothing has changed.
 */
int users_take(struct users *counts, uint32_t uid, unsigned limit);
/* Counts one less. Does nothing for a user who has none. */
void users_give(struct users *counts, uint32_t uid);
/*
 * Returns true while the user's cost in this turn is below `budget`, and adds `cost` to it; the
 * first request always passes. `turn` must be different for each turn.
 */
bool users_spend(struct users *counts, uint32_t uid, uint64_t turn, unsigned cost, unsigned budget);
