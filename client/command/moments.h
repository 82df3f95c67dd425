/* SPDX-License-Identifier: MIT */
/* Times as people read them. All are seconds since the epoch, in the caller's time zone. */
#pragma once

#include <stdbool.h>
#include <stdint.h>

#define MOMENT_TEXT 24

/* Writes a time rounded down to its largest unit: "40s", "12m", "3h", "5d". */
void moment_span(uint64_t seconds, char out[MOMENT_TEXT]);

/* The same with the next unit, from an hour on: "2h 10m", "3d 4h". */
void moment_length(uint64_t seconds, char out[MOMENT_TEXT]);

/* Writes how long it has been since, as moment_span() does. */
void moment_ago(uint64_t since, char out[MOMENT_TEXT]);

/* Writes "2026-11-30 06:05:32". False: the time cannot be written. */
bool moment_full(uint64_t when, char out[MOMENT_TEXT]);

/* Writes "06:05", with the day before it unless that is today: "Tue 06:05", "2026-12-24 06:05". */
bool moment_clock(uint64_t when, char out[MOMENT_TEXT]);
