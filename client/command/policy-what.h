/* SPDX-License-Identifier: MIT */
/* gpubroker policy what: all that a user may have. */
#pragma once

#include "client/command/cli.h"

/* Prints it for a user, by name or uid; NULL: for oneself. Returns the exit status. */
int policy_what_show(const struct cli *cli, const char *user);
