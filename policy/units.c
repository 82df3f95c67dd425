/* SPDX-License-Identifier: MIT */
/*
 * Numbers, sizes and times as people write them, for the policy and the command line. A reader
 * takes a text whole or not at all, and never a value that does not fit.
 */
#include "config.h"

#include "policy/units.h"

#include <ctype.h>
#include <inttypes.h>
#include <stdio.h>
#include <string.h>
#include <strings.h>

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

/* Reads a number with at most one digit behind its point. Returns the unit; NULL: no number. */
static const char *split(const char *text, uint64_t *ret_value, uint64_t *ret_tenths)
{
	size_t n = strspn(text, "0123456789");

	*ret_tenths = 0;
	/* So large that no unit overflows. */
	if (!read_digits(text, n, 1 << 20, ret_value))
		return NULL;
	text += n;
	if (*text == '.' && isdigit((unsigned char)text[1])) {
		*ret_tenths = (uint64_t)(text[1] - '0');
		text += 2;
	}
	return text + strspn(text, " ");
}

char *units_near_size(const char *text, char out[UNITS_TEXT])
{
	uint64_t value, tenths, shift;
	const char *unit = split(text, &value, &tenths), *at;

	at = unit && *unit ? strchr(size_units, toupper((unsigned char)*unit)) : NULL;
	if (!at || (unit[1] && strcasecmp(unit + 1, "B") && strcasecmp(unit + 1, "iB")))
		return NULL;
	shift = 10 * (uint64_t)(at - size_units);
	/* In the next smaller unit, where a tenth is not whole: a little more than was written. */
	value = ((value << 10) + ((tenths << 10) + 9) / 10) << shift;
	return value ? units_size(value, out) : NULL;
}

char *units_near_time(const char *text, char out[UNITS_TEXT])
{
	static const char *const names[][5] = {
		{ "d", "day", "days", NULL },
		{ "h", "hr", "hrs", "hour", "hours" },
		{ "m", "min", "mins", "minute", "minutes" },
		{ "s", "sec", "secs", "second", "seconds" },
	};
	uint64_t value, tenths, seconds;
	const char *unit = split(text, &value, &tenths);

	for (size_t i = 0; unit && i < ARRAY_SIZE(names); i++) {
		for (size_t k = 0; k < ARRAY_SIZE(names[i]) && names[i][k]; k++) {
			if (strcasecmp(unit, names[i][k]))
				continue;
			seconds =
				value * time_units[i].seconds + tenths * time_units[i].seconds / 10;
			return seconds && seconds <= UINT32_MAX ? units_time((uint32_t)seconds, out)
								: NULL;
		}
	}
	return NULL;
}
