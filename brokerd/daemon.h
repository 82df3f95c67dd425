/* SPDX-License-Identifier: MIT */
/* The daemon from its start to its end. */
#pragma once

#include "brokerd/helper/loader.h"

struct daemon_options {
	struct loader_options policy;
	const char *socket; /* NULL: the default, or what systemd passes */
	const char *state;
	const char *history; /* what outlives a reboot; NULL: in the state directory */
};

/* Runs the daemon until it ends. Returns the exit status. */
int daemon_run(const struct daemon_options *options);
