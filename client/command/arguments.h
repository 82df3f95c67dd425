/* SPDX-License-Identifier: MIT */
/*
 * The options of a command: --help of each, and for a mistake what was perhaps meant. Prints; the
 * command only returns.
 */
#pragma once

#include <getopt.h>
#include <stdbool.h>

struct arguments {
	const char *command; /* its words, as "policy check" */
	const char *mode;    /* "", or "+": the first argument that is no option ends them */
	int status; /* the exit status, once arguments_next() has returned ARGUMENTS_STOP */
};

#define ARGUMENTS_END (-1)
#define ARGUMENTS_STOP (-2)

/*
 * Returns the value of the next option as getopt_long() does, with optarg and optind, or
 * ARGUMENTS_END. ARGUMENTS_STOP: the help that was asked for, or what is wrong, is printed; the
 * command returns `status`.
 */
int arguments_next(struct arguments *arguments, int argc, char **argv,
		   const struct option *options);

/* For a command whose only option may be --json: true if it is to return `status` now. */
bool arguments_only_json(struct arguments *arguments, int argc, char **argv,
			 const struct option *options);
