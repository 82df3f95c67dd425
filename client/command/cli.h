/* SPDX-License-Identifier: MIT */
/*
 * Shared by the commands of gpubroker(1), and the commands themselves. Each is a function with the
 * arguments of a main(): argv[0] is the command's name; it returns the exit status.
 */
#pragma once

#include <stdbool.h>
#include <stdint.h>
#include <stdio.h>
#include <sysexits.h>

#include "client/gpubroker.h"

/*
 * Exit statuses, one for each kind of failure, see gpubroker(1): those of sysexits.h, and for `run`
 * 126 and 127 as shells have them.
 */
enum cli_exit {
	EXIT_BAD_USAGE = EX_USAGE,
	EXIT_BAD_POLICY = EX_DATAERR,
	EXIT_NO_DEVICE = EX_NOINPUT,
	EXIT_NO_NAME = EX_NOUSER,
	EXIT_NO_BROKER = EX_UNAVAILABLE,
	EXIT_SOFTWARE = EX_SOFTWARE,
	EXIT_KERNEL = EX_OSERR,
	EXIT_NO_GROUP = EX_OSFILE,
	EXIT_CANNOT_CREATE = EX_CANTCREAT,
	EXIT_BUSY = EX_TEMPFAIL,
	EXIT_PROTOCOL = EX_PROTOCOL,
	EXIT_POLICY = EX_NOPERM,
	EXIT_IN_USE = EX_CONFIG,
	EXIT_CANNOT_EXEC = 126,
	EXIT_NOT_FOUND = 127,
};

#define CLI_TRIES 20	 /* at a broker that has ended meanwhile, as for an update */
#define CLI_SIZE_TEXT 32 /* room for any size as text */

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
int cli_prepare(const struct cli *cli, int argc, char **argv);
int cli_profiles(const struct cli *cli, int argc, char **argv);
int cli_vfs(const struct cli *cli, int argc, char **argv);
int cli_watch(const struct cli *cli, int argc, char **argv);
int cli_doctor(const struct cli *cli, int argc, char **argv);
int cli_usage(const struct cli *cli, int argc, char **argv);
int cli_metrics(const struct cli *cli, int argc, char **argv);
int cli_attach(const struct cli *cli, int argc, char **argv);
int cli_detach(const struct cli *cli, int argc, char **argv);
int cli_drivers(const struct cli *cli, int argc, char **argv);
int cli_allot(const struct cli *cli, int argc, char **argv);
int cli_retract(const struct cli *cli, int argc, char **argv);
int cli_allotments(const struct cli *cli, int argc, char **argv);
int cli_slurm(const struct cli *cli, int argc, char **argv);
int cli_complete(const struct cli *cli, int argc, char **argv);

/* Returns true if a process that the caller may look at has the group or a device of it open. */
bool cli_has_holder(uint32_t group);

/*
 * For root, after a refusal as busy: prints which processes have what is in use without a lease.
 */
void cli_print_foreign(struct gpubroker *handle);

/*
 * After a refusal because the policy does not have the name: prints the one that was perhaps meant,
 * or those that there are, as far as the policy's files tell.
 */
void cli_hint_name(const char *given);

/*
 * After a refusal by the policy: prints why, as far as that can be found out, and what the caller
 * may claim. `device` is the one that was asked for, NULL if there were several or a part of one.
 */
void cli_explain_denied(struct gpubroker *handle, const char *device);

/* Connects; 0, or the exit status after the reason was printed. */
int cli_open(const struct cli *cli, struct gpubroker **ret_handle);

/* "90s", "10m", "1h30m", "7d": seconds, above 0, as `for TIME` in the policy. */
bool cli_parse_time(const char *text, uint64_t *ret_seconds);

/* "4096", "512M", "64g": bytes, in powers of 1024, above 0. */
bool cli_parse_size(const char *text, uint64_t *ret_bytes);
/* Writes bytes in the largest unit that says them exactly. Returns out. */
char *cli_size_text(uint64_t bytes, char out[CLI_SIZE_TEXT]);

/* Prints why r (negative errno or refusal) happened and returns the exit status for it. */
int cli_failed(const struct cli *cli, const struct gpubroker *handle, int r);

/* The same for a request about an address, which r may say is none (-EINVAL). */
int cli_failed_for(const struct cli *cli, const struct gpubroker *handle, int r,
		   const char *address);

/* The exit status for a refusal. */
int cli_refusal_status(int refusal);

/* Prints "gpubroker: ..." to standard error, as one line whatever the arguments hold. */
void cli_error(const char *format, ...) __attribute__((format(printf, 1, 2)));

/*
 * Flushes standard output, and prints why where that fails (a full disk, a closed pipe). Returns
 * the exit status.
 */
int cli_finish_output(void);

/*
 * Returns true if a control character is at text[i], or a part of one: those of C1 are two bytes in
 * UTF-8. A terminal may obey it.
 */
bool cli_is_control(const char *text, size_t i);

/*
 * Writes text with control characters replaced, since names come from devices and files: `width`
 * columns of it, filled up with blanks; -1: just the text.
 */
void cli_print_text(FILE *file, const char *text, int width);

/* How many columns the terminal has if `file` is one, else 0. */
int cli_columns(FILE *file);
