/* SPDX-License-Identifier: MIT */
/* Runs all hooks of one event, in a process of its own. */
#pragma once

#include <stdint.h>
#include <sys/types.h>

#include "brokerd/state/hooking.h"

/* In memory that the runner shares with the process of the event. */
struct event_shared {
	struct hook_answer answer; /* complete when the process has ended with status 0 */
	volatile pid_t hook;	   /* the hook at work, which leads its process group; 0: none */
};

/*
 * Runs the hooks of `directory`, which must be `owner`'s, in the order of their names, and writes
 * the answer. The first failure ends those of a bind; those of a restore all run. `cgroup` is that
 * of the event, or -1.
 */
void event_run(const struct hook_question *question, const char *directory, uint32_t owner,
	       int cgroup, struct event_shared *shared);
