/* SPDX-License-Identifier: MIT */
/* gpubroker slurm gres, and what it knows of the policy. */
#pragma once

#include <stdbool.h>
#include <stddef.h>

#include "client/host/function.h"

int slurm_gres(int argc, char **argv);

/*
 * Returns true if the policy lets root allot the function though its group shows the host's
 * console. Prints the policy's mistakes.
 */
bool slurm_may_allot_console(const struct group_view *view, size_t asked);
