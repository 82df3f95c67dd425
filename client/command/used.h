/* SPDX-License-Identifier: MIT */
/*
 * The usage of devices, by user and for how long: the leases that have ended, and those that go on.
 */
#pragma once

#include <stdbool.h>
#include <stddef.h>
#include <stdint.h>

#include "client/gpubroker.h"

struct used {
	uint64_t lease, since, until; /* seconds since the epoch; `until` of one that runs is now */
	uint32_t uid;
	bool running;
	char device[32], profile[64];
};

struct used_list {
	struct used *list; /* in the order of `since` */
	size_t n, room;
};

/*
 * Asks the broker for what the caller may know: root all, others their own. `from` leaves out what
 * ended before. Returns as gpubroker_usage(). used_done() is due.
 */
int used_read(struct gpubroker *handle, uint64_t from, struct used_list *ret_list);
void used_done(struct used_list *list);
/* Returns how many seconds of a lease are not before `from`. */
uint64_t used_seconds(const struct used *used, uint64_t from);

/* The same, added up for a user and a device. */
struct used_sum {
	uint32_t uid;
	const char *device, *profile; /* the list's */
	size_t leases;
	uint64_t seconds, last; /* when the last of them ended; 0: one runs */
};

/* Adds up a list, in the order of users and devices. Returns the caller's array, or NULL. */
struct used_sum *used_add_up(const struct used_list *list, uint64_t from, size_t *ret_n);
