/* SPDX-License-Identifier: MIT */
/* The clock of the bench's programs, and their end. */
#pragma once

#include <errno.h>
#include <stdint.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <time.h>
#include <unistd.h>

static inline uint64_t now_us(void)
{
	struct timespec t;

	clock_gettime(CLOCK_MONOTONIC, &t);
	return (uint64_t)t.tv_sec * 1000000 + (uint64_t)t.tv_nsec / 1000;
}

static inline void pause_us(long us)
{
	nanosleep(&(struct timespec){ us / 1000000, us % 1000000 * 1000 }, NULL);
}

static inline void __attribute__((noreturn)) die(const char *what)
{
	fprintf(stderr, "%s: %s\n", what, strerror(errno));
	exit(2);
}

/* Waits until udev has dealt with all events, so that it takes no time from what comes next. */
static inline void settle(void)
{
	for (int quiet = 0; quiet < 4; quiet++) {
		if (!access("/run/udev/queue", F_OK))
			quiet = 0;
		pause_us(5000);
	}
}
