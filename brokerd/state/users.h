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

#define USERCOUNT_BUCKETS 256

struct usercount_entry;

struct usercount {
	struct usercount_entry *buckets[USERCOUNT_BUCKETS]; /* all NULL: nobody has any */
};

/* One more of uid's, if that is `limit` at the most. 0, -EDQUOT, or -ENOMEM; then nothing has changed. */
int usercount_take(struct usercount *counts, uint32_t uid, unsigned limit);
/* One less. Of somebody who has none: nothing. */
void usercount_give(struct usercount *counts, uint32_t uid);
/*
 * May something that costs `cost` be done for uid in this turn? Yes as long as less than `budget`
 * has been, so the first always may. `turn` is any number that another turn has not.
 */
bool usercount_spend(struct usercount *counts, uint32_t uid, uint64_t turn, unsigned cost,
		     unsigned budget);
