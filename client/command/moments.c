/* SPDX-License-Identifier: MIT */
/* Times as people read them, see moments.h. */
#include "config.h"

#include "client/command/moments.h"

#include <inttypes.h>
#include <stdio.h>
#include <time.h>

#define DAY 86400

void moment_span(uint64_t seconds, char out[MOMENT_TEXT])
{
	if (seconds < 60)
		snprintf(out, MOMENT_TEXT, "%" PRIu64 "s", seconds);
	else if (seconds < 3600)
		snprintf(out, MOMENT_TEXT, "%" PRIu64 "m", seconds / 60);
	else if (seconds < 2 * DAY)
		snprintf(out, MOMENT_TEXT, "%" PRIu64 "h", seconds / 3600);
	else
		snprintf(out, MOMENT_TEXT, "%" PRIu64 "d", seconds / DAY);
}

void moment_length(uint64_t seconds, char out[MOMENT_TEXT])
{
	const uint64_t minutes = seconds / 60, hours = minutes / 60, days = hours / 24;

	if (days)
		snprintf(out, MOMENT_TEXT, "%" PRIu64 "d %" PRIu64 "h", days, hours % 24);
	else if (hours)
		snprintf(out, MOMENT_TEXT, "%" PRIu64 "h %" PRIu64 "m", hours, minutes % 60);
	else
		moment_span(seconds, out);
}

void moment_ago(uint64_t since, char out[MOMENT_TEXT])
{
	const uint64_t now = (uint64_t)time(NULL);

	moment_span(now > since ? now - since : 0, out);
}

static bool write_time(uint64_t when, const char *format, char out[MOMENT_TEXT])
{
	const time_t seconds = (time_t)when;
	struct tm tm;

	return localtime_r(&seconds, &tm) && strftime(out, MOMENT_TEXT, format, &tm);
}

bool moment_full(uint64_t when, char out[MOMENT_TEXT])
{
	return write_time(when, "%F %H:%M:%S", out);
}

bool moment_clock(uint64_t when, char out[MOMENT_TEXT])
{
	const time_t now = time(NULL), then = (time_t)when;
	struct tm a, b;

	if (!localtime_r(&now, &a) || !localtime_r(&then, &b))
		return false;
	if (a.tm_year == b.tm_year && a.tm_yday == b.tm_yday)
		return write_time(when, "%H:%M", out);
	return write_time(when, then > now && then - now < 6 * DAY ? "%a %H:%M" : "%F %H:%M", out);
}
