/* SPDX-License-Identifier: MIT */
/*
 * Lines for the journal: standard error, "<3>" and so on before each as sd-daemon(3) has it.
 */
#pragma once

enum log_level { LOG_ERROR = 3, LOG_WARNING = 4, LOG_NOTICE = 5, LOG_INFO = 6 };

/*
 * One line, newline added; what is not printable ASCII is written as \xNN, so that no name from a
 * device, a file or a peer can forge a line. Over-long lines are cut. On a terminal the level
 * prefix is left out.
 */
void log_line(enum log_level level, const char *format, ...) __attribute__((format(printf, 2, 3)));

#define log_error(...) log_line(LOG_ERROR, __VA_ARGS__)
#define log_warning(...) log_line(LOG_WARNING, __VA_ARGS__)
#define log_notice(...) log_line(LOG_NOTICE, __VA_ARGS__)
#define log_info(...) log_line(LOG_INFO, __VA_ARGS__)

/* To be called once at start: looks whether standard error is a terminal. */
void log_init(void);
