/* SPDX-License-Identifier: MIT */
/* The sentence of the supervisor when its command has ended. */
#pragma once

#include <stdbool.h>
#include <time.h>

#include "client/run/supervisor.h"

#define FAREWELL_TEXT 192

/* Writes it, as a line. `goes_on`: processes that the command started go on. */
void farewell_text(const struct supervisor *s, time_t seconds, bool goes_on,
		   char out[FAREWELL_TEXT]);
