/* SPDX-License-Identifier: MIT */
/*
 * Numbers, sizes and times as people write them, for the policy and the command line. A reader
 * takes a text whole or not at all, and never a value that does not fit.
 */
#include "config.h"

#include "policy/units.h"

#include <inttypes.h>
#include <stdio.h>
#include <string.h>

#include "client/common/util.h"

static const char size_units[] = "KMGT";

static const struct {
	char name;
	uint32_t seconds;
} time_units[] = { { 'd', 86400 }, { 'h', 3600 }, { 'm', 60 }, { 's', 1 } };

/* The number that the n digits at text make, up to max. */
static bool read_digits(const char *text, size_t n, uint64_t max, uint64_t *ret_value)
{
	uint64_t value = 0;

	for (size_t i = 0; i < n; i++) {
		uint64_t digit = (uint64_t)(text[i] - '0');

		if (value > max / 10 || value * 10 > max - digit)
			return false;
		value = value * 10 + digit;
	}
	*ret_value = value;
	return n > 0;
}

bool units_parse_number(const char *text, uint64_t max, uint64_t *ret_value)
{
	size_t n = strspn(text, "0123456789");

	return !text[n] && read_digits(text, n, max, ret_value);
}

bool units_parse_size(const char *text, uint64_t max, uint64_t *ret_bytes)
{
	size_t n = strspn(text, "0123456789");
	const char *unit = text[n] ? strchr(size_units, text[n]) : NULL;
	unsigned int shift = unit ? 10 * (unsigned int)(unit - size_units + 1) : 0;
	uint64_t value;

	if (text[n] && (!unit || text[n + 1]))
		return false;
	if (!read_digits(text, n, max >> shift, &value) || !value)
		return false;
	*ret_bytes = value << shift;
	return true;
}

bool units_parse_time(const char *text, uint64_t max, uint64_t *ret_seconds)
{
	uint64_t total = 0, value;
	size_t next = 0;

	while (*text) {
		size_t n = strspn(text, "0123456789");

		if (!read_digits(text, n, UINT32_MAX, &value))
			return false;
		text += n;
		while (next < ARRAY_SIZE(time_units) && time_units[next].name != *text)
			next++;
		if (next == ARRAY_SIZE(time_units))
			return false;
		total += value * time_units[next++].seconds;
		text++;
	}
	if (!total || total > max)
		return false;
	*ret_seconds = total;
	return true;
}

char *units_size(uint64_t bytes, char out[UNITS_TEXT])
{
	char unit = 'B';

	for (size_t i = 0; bytes && !(bytes & 1023) && size_units[i]; i++) {
		bytes >>= 10;
		unit = size_units[i];
	}
	snprintf(out, UNITS_TEXT, "%" PRIu64 "%c", bytes, unit);
	return out;
}

char *units_time(uint32_t seconds, char out[UNITS_TEXT])
{
	size_t used = 0;

	out[0] = '\0';
	for (size_t i = 0; i < ARRAY_SIZE(time_units); i++) {
		if (seconds >= time_units[i].seconds)
			used += (size_t)snprintf(out + used, UNITS_TEXT - used, "%" PRIu32 "%c",
						 seconds / time_units[i].seconds,
						 time_units[i].name);
		seconds %= time_units[i].seconds;
	}
	return out;
}
