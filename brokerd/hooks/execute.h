/* SPDX-License-Identifier: MIT */
/* Executes one hook, and ends it if it takes too long. */
#pragma once

#include <stdint.h>
#include <sys/types.h>

#include "brokerd/state/hooking.h"

/* A hook that is to run. */
struct execution {
	const char *directory, *name;
	char *const *arguments, *const *environment;
	int cgroup;	/* see cgroup.h */
	uint64_t until; /* milliseconds of execute_now() */
	volatile pid_t
		*hook; /* is set to the hook's process while there is one, which is its group */
};

/* Returns the monotonic clock, in milliseconds. */
uint64_t execute_now(void);

/* Runs the hook to its end. Returns HOOK_DONE with *ret_value 0, or what was wrong. */
enum hook_result execute_hook(const struct execution *execution, uint32_t *ret_value);
