/* SPDX-License-Identifier: MIT */
/*
 * The daemon's log. Owns only one flag. It must never allocate, never use stdio's buffers (a helper
 * or a worker may be forked between two lines) and never write a byte of a text that could start a
 * new line.
 */
#include "config.h"

#include "brokerd/process/log.h"

#include <stdarg.h>
#include <stdbool.h>
#include <stdio.h>
#include <string.h>
#include <unistd.h>

static bool terminal;

void log_init(void)
{
	terminal = isatty(STDERR_FILENO);
}

void log_line(enum log_level level, const char *format, ...)
{
	static const char hex[] = "0123456789abcdef";
	char text[1024], line[sizeof(text) * 2];
	size_t n = 0;
	va_list args;
	ssize_t ignored;

	va_start(args, format);
	vsnprintf(text, sizeof(text), format, args);
	va_end(args);

	if (!terminal) {
		line[n++] = '<';
		line[n++] = (char)('0' + level);
		line[n++] = '>';
	}
	for (const char *p = text; *p && n < sizeof(line) - 6; p++) {
		unsigned char c = (unsigned char)*p;

		if (c >= 0x20 && c < 0x7f) {
			line[n++] = *p;
			continue;
		}
		line[n++] = '\\';
		line[n++] = 'x';
		line[n++] = hex[c >> 4];
		line[n++] = hex[c & 15];
	}
	line[n++] = '\n';
	ignored = write(STDERR_FILENO, line, n);
	(void)ignored;
}
