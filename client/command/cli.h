/* SPDX-License-Identifier: MIT */
/*
 * What gpubroker(1)'s commands share. Each command is a function with the arguments of a main():
 * argv[0] is the command's name; it returns the exit status.
 */
#pragma once

#include <stdbool.h>
#include <stdio.h>

#include "client/gpubroker.h"

/*
 * Exit statuses beside sysexits.h's, for `run`: 127 and 126 as shells have them. The rest, one for
 * each kind of "no", see gpubroker(1).
 */
enum cli_exit {
	EXIT_USAGE_ = 64,
	EXIT_BAD_POLICY = 65,
	EXIT_NO_DEVICE = 66,
	EXIT_NO_NAME = 67,
	EXIT_NO_BROKER = 69,
	EXIT_SOFTWARE = 70,
	EXIT_KERNEL = 71,
	EXIT_NO_GROUP = 72,
	EXIT_CANNOT_CREATE = 73,
	EXIT_BUSY = 75,
	EXIT_PROTOCOL = 76,
	EXIT_POLICY = 77,
	EXIT_IN_USE = 78,
	EXIT_CANNOT_EXEC = 126,
	EXIT_NOT_FOUND = 127,
};

struct cli {
	const char *socket; /* NULL: the default */
};

int cli_list(const struct cli *cli, int argc, char **argv);
int cli_leases(const struct cli *cli, int argc, char **argv);
int cli_run(const struct cli *cli, int argc, char **argv);
int cli_policy(const struct cli *cli, int argc, char **argv);
int cli_release(const struct cli *cli, int argc, char **argv);
int cli_revoke(const struct cli *cli, int argc, char **argv);
int cli_restore(const struct cli *cli, int argc, char **argv);
int cli_profiles(const struct cli *cli, int argc, char **argv);
int cli_vfs(const struct cli *cli, int argc, char **argv);
int cli_watch(const struct cli *cli, int argc, char **argv);

/* Connects; 0, or the exit status after the reason was printed. */
int cli_open(const struct cli *cli, struct gpubroker **ret_handle);

/* "90s", "10m", "1h30m", "7d": seconds, above 0, as `for TIME` in the policy. */
bool cli_parse_time(const char *text, uint64_t *ret_seconds);

/* "4096", "512M", "64G": bytes, in powers of 1024, above 0. */
bool cli_parse_size(const char *text, uint64_t *ret_bytes);
/* The same back, in the largest unit that says it exactly; "-" for less than 1K. */
void cli_size_text(uint64_t bytes, char out[24]);

/* Prints why r (negative errno or refusal) happened and returns the exit status for it. */
int cli_failed(const struct cli *cli, const struct gpubroker *handle, int r);

/* That status, of a refusal alone. */
int cli_refusal_status(int refusal);

/* "gpubroker: ..." to standard error, a line. */
void cli_error(const char *format, ...) __attribute__((format(printf, 1, 2)));

/*
 * Flushes standard output and says so where that failed (a full disk, a closed pipe). Exit status.
 */
int cli_finish_output(void);

/* Writes text with control characters replaced: names come from devices and files. */
void cli_print_text(FILE *file, const char *text, int width);

/* The terminal's columns where `file` is one, else 0. */
int cli_columns(FILE *file);
