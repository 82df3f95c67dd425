/* SPDX-License-Identifier: MIT */
/* The runner of hooks: answers the core's questions (state/hooking.h) by running them. */
#pragma once

struct runner_options {
	const char *socket;    /* of the core, for its helpers */
	const char *directory; /* of the hooks */
};

/*
 * Connects to the core and runs hooks until the core ends, or the directory is empty. Returns the
 * exit status.
 */
int runner_run(const struct runner_options *options);
