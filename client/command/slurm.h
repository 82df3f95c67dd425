/* SPDX-License-Identifier: MIT */
/* Shared by the commands of `gpubroker slurm`. */
#pragma once

/* The prolog reads it: "POSITION ADDRESS [TYPE]" a line, by the positions of gres.conf. */
#define SLURM_MAP "/etc/gpubroker/slurm.map"
#define SLURM_MAX 1024 /* devices of a node */
