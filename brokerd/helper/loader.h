/* SPDX-License-Identifier: MIT */
/* The loader: reads the policy files and sends the core the policy with numeric ids. */
#pragma once

#include <stddef.h>

struct confine_filter;

struct loader_options {
	/* in order of precedence: a file hides later ones of the same name */
	const char *const *directories;
	size_t n_directories;
	/*
	 * Copies of the files that had no mistake last, a directory for each; `saved_in` has them.
	 * NULL: none are kept.
	 */
	const char *const *saved;
	const char *saved_in;
};

/*
 * Runs the loader until the core ends; `options` is a struct loader_options. Frees `settled`.
 * Returns the exit status.
 */
int loader_run(int socket, struct confine_filter *settled, const void *options);

/*
 * Reads the policy as the loader does, for gpubrokerd --check, and logs the mistakes. Returns their
 * number, or -errno.
 */
int loader_check(const struct loader_options *options);
