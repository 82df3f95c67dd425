/* SPDX-License-Identifier: MIT */
/* Numbers, sizes and times as text, for the policy and the command line. */
#pragma once

#include <stdbool.h>
#include <stdint.h>

#define UNITS_TEXT 32 /* room for any size or time with its NUL */

/* A decimal number up to max, digits only. */
bool units_parse_number(const char *text, uint64_t max, uint64_t *ret_value);

/* "4096", "512M", "64G": bytes, in powers of 1024, from 1 to max. */
bool units_parse_size(const char *text, uint64_t max, uint64_t *ret_bytes);

/* "30s", "10m", "1h30m": seconds, from 1 to max; larger units come first, each at most once. */
bool units_parse_time(const char *text, uint64_t max, uint64_t *ret_seconds);

/* Writes them back exactly, a size in the largest unit that can: "512M", "1h30m". Return out. */
char *units_size(uint64_t bytes, char out[UNITS_TEXT]);
char *units_time(uint32_t seconds, char out[UNITS_TEXT]);

/*
 * Guesses the size or time that a wrong text means: "20GB" and "20 g" as "20G", "1.5G" as "1536M",
 * "8 hours" as "8h". Return out, or NULL where nothing is near.
 */
char *units_near_size(const char *text, char out[UNITS_TEXT]);
char *units_near_time(const char *text, char out[UNITS_TEXT]);
