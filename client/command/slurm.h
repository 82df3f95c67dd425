/* SPDX-License-Identifier: MIT */
/* The commands `gpubroker slurm`, and the file that both of them know. */
#pragma once

#include "client/command/cli.h"

/* The prolog reads it: "POSITION ADDRESS" a line, by the positions of gres.conf. */
#define SLURM_MAP "/etc/gpubroker/slurm.map"
#define SLURM_MAX 1024 /* devices of a node */

int slurm_gres(int argc, char **argv);
int slurm_check(const struct cli *cli, int argc, char **argv);
