/* SPDX-License-Identifier: MIT */
/* `gpubroker list --from FILE`: the devices of a snapshot, or of a list, of another host. */
#pragma once

#include <stdbool.h>

/* Prints the GPUs, or all functions, as a table or as JSON. Returns the exit status. */
int list_saved(const char *path, bool all, bool json);
