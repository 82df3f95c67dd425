/* SPDX-License-Identifier: MIT */
/*
 * Writes lines for the journal to standard error, each with a prefix such as "<3>", see
 * sd-daemon(3); or, with fields beside the line, to the journal's own socket, see
 * systemd.journal-fields(7).
 */
#pragma once

#include <stdbool.h>
#include <stddef.h>

enum log_level { LOG_ERROR = 3, LOG_WARNING = 4, LOG_NOTICE = 5, LOG_INFO = 6 };

/*
 * Writes one line and adds the newline. Bytes that are not printable ASCII are written as \xNN, so
 * that no name of a device, a file or a peer can forge a line. Long lines are cut. On a terminal
 * the prefix is left out.
 */
void log_line(enum log_level level, const char *format, ...) __attribute__((format(printf, 2, 3)));

struct log_field {
	const char *name;  /* static: "GPUBROKER_LEASE" */
	const char *value; /* NULL or "": the field is left out */
};

/*
 * Sends a line with fields to the journal; bytes that are not printable ASCII become \xNN. Never
 * waits. Returns false if that is not possible now: then the caller writes the line as text.
 */
bool log_fields(enum log_level level, const char *line, const struct log_field *fields, size_t n);

#define log_error(...) log_line(LOG_ERROR, __VA_ARGS__)
#define log_warning(...) log_line(LOG_WARNING, __VA_ARGS__)
#define log_notice(...) log_line(LOG_NOTICE, __VA_ARGS__)
#define log_info(...) log_line(LOG_INFO, __VA_ARGS__)

/* Checks whether standard error is a terminal. To be called once at the start. */
void log_init(void);
/*
 * Connects to the journal, if standard error is the journal's: systemd has started the process. To
 * be called before confinement, by a process whose forks do not call log_fields().
 */
void log_open_journal(void);
/* Has log_fields() send to a socket, -1 for none. */
void log_use_journal(int fd);
