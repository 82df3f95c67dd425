/* SPDX-License-Identifier: MIT */
/* The broker's last line of the log, for tests that are linked with --wrap=log_line. */
#pragma once

#include "brokerd/process/log.h"

#include <stdarg.h>
#include <stdio.h>

static char last_log[1024];

void __wrap_log_line(enum log_level level, const char *format, ...)
	__attribute__((format(printf, 2, 3)));
void __wrap_log_line(enum log_level level, const char *format, ...)
{
	va_list args;

	(void)level;
	va_start(args, format);
	vsnprintf(last_log, sizeof(last_log), format, args);
	va_end(args);
}
