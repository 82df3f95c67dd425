/* SPDX-License-Identifier: MIT */
/* gpubroker slurm gres. */
#pragma once

int slurm_gres(int argc, char **argv);
