/* SPDX-License-Identifier: MIT */
/* gpubroker serve: the command's functions over HTTP, for the user who started it. */
#pragma once

#include "client/command/cli.h"

int cli_serve(const struct cli *cli, int argc, char **argv);
