/* SPDX-License-Identifier: MIT */
/*
 * Writes lines for the journal to standard error, each with a prefix such as "<3>", see
 * sd-daemon(3).
 */
#pragma once

enum log_level { LOG_ERROR = 3, LOG_WARNING = 4, LOG_NOTICE = 5, LOG_INFO = 6 };

/*
 * Writes one line and adds the newline. Bytes that are not printable ASCII are written as \xNN, so
 * that no name of a device, a file or a peer can forge a line. Long lines are cut. On a terminal
 * the prefix is left out.
 */
void log_line(enum log_level level, const char *format, ...) __attribute__((format(printf, 2, 3)));

#define log_error(...) log_line(LOG_ERROR, __VA_ARGS__)
#define log_warning(...) log_line(LOG_WARNING, __VA_ARGS__)
#define log_notice(...) log_line(LOG_NOTICE, __VA_ARGS__)
#define log_info(...) log_line(LOG_INFO, __VA_ARGS__)

/* Checks whether standard error is a terminal. To be called once at the start. */
void log_init(void);
