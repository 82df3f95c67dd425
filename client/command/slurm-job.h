/* SPDX-License-Identifier: MIT */
/* gpubroker slurm job: a job's GPUs on a node. */
#pragma once

int slurm_job(int argc, char **argv);
