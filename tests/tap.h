/* SPDX-License-Identifier: MIT */
/*
 * TAP for tests written in C: tap_ok() for each thing that should hold, tap_done() at the end. One
 * file per test program, since the counts are in here.
 */
#pragma once

#include <stdarg.h>
#include <stdbool.h>
#include <stdio.h>

static unsigned int tap_count;
static unsigned int tap_failed;

/* tap_ok(condition, "format", ...) says where it failed, and returns the condition. */
#define tap_ok(condition, ...) tap_result((condition), #condition, __FILE__, __LINE__, __VA_ARGS__)

__attribute__((format(printf, 5, 6))) static inline bool
tap_result(bool ok, const char *condition, const char *file, int line, const char *format, ...)
{
	va_list arguments;

	printf("%s %u - ", ok ? "ok" : "not ok", ++tap_count);
	va_start(arguments, format);
	vprintf(format, arguments);
	va_end(arguments);
	putchar('\n');
	if (!ok) {
		tap_failed++;
		printf("# %s:%d: %s\n", file, line, condition);
	}
	fflush(stdout); /* a crash must not lose it */
	return ok;
}

/* The last statement of main() is: return tap_done(); */
static inline int tap_done(void)
{
	printf("1..%u\n", tap_count);
	return tap_failed ? 1 : 0;
}
