/* SPDX-License-Identifier: MIT */
/* The loader: reads the policy files and sends the core numbers. */
#pragma once

#include <stddef.h>

struct confine_filter;

struct loader_options {
	const char *const *directories; /* in order of precedence; the first one's namesake masks */
	size_t n_directories;
};

/*
 * Runs until the core ends; `options` is a struct loader_options. Frees `settled`. Returns the exit
 * status.
 */
int loader_run(int socket, struct confine_filter *settled, const void *options);

/*
 * gpubrokerd --check: reads the policy as the loader does and logs what is wrong. Returns the
 * number of mistakes, or -errno.
 */
int loader_check(const struct loader_options *options);
