/* SPDX-License-Identifier: MIT */
/*
 * A clock that a test sets forward, so that the core's timers are over without a wait, and as far as
 * the test says, however busy the machine is. It takes the place of clock_gettime() for the program
 * and for the shared libraries, of which libevent has no other clock.
 */
#pragma once

#include <sys/syscall.h>
#include <time.h>
#include <unistd.h>

static long long skipped_ms;

static inline void skip_ms(unsigned ms)
{
	skipped_ms += ms;
}

int __attribute__((visibility("default"))) clock_gettime(clockid_t id, struct timespec *now)
{
	static struct timespec begun;

	if (id != CLOCK_MONOTONIC && id != CLOCK_MONOTONIC_COARSE)
		return syscall(SYS_clock_gettime, id, now) ? -1 : 0;
	/* It stands still between the skips: a test that is kept waiting lets no time pass. */
	if (!begun.tv_sec && syscall(SYS_clock_gettime, id, &begun))
		return -1;
	*now = begun;
	now->tv_nsec += skipped_ms % 1000 * 1000000;
	now->tv_sec += skipped_ms / 1000 + now->tv_nsec / 1000000000;
	now->tv_nsec %= 1000000000;
	return 0;
}
