/* SPDX-License-Identifier: MIT */
/*
 * Finds the processes that have a variable in their environment, as they were started with it: so
 * the tree of a command, in whichever session. Other users than root find their own ones only.
 */
#pragma once

#include <stdbool.h>
#include <stddef.h>
#include <stdint.h>
#include <sys/types.h>

#define MARKED_NAME 16

struct marked {
	uint32_t pid;
	char name[MARKED_NAME]; /* as /proc/PID/comm has it, printable */
};

/*
 * Fills in at most `max` processes of the user that have `mark`, such as "GPUBROKER_LEASE=7",
 * perhaps with more numbers in a list with commas, and returns how many there are; it gives up
 * after 200 ms. Anybody may put a variable into an environment, so processes of others prove
 * nothing. One that clears its environment is not found. It allocates nothing.
 */
size_t marked_find(const char *mark, uid_t uid, struct marked *list, size_t max);
