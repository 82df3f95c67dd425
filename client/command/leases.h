/* SPDX-License-Identifier: MIT */
/* The output of `gpubroker leases` on a terminal, for commands that begin with it. */
#pragma once

#include "client/gpubroker.h"

/*
 * Prints the leases and the claims that wait. `columns` as leases_people() takes them. Returns the
 * exit status, after the reason was printed.
 */
int leases_show(struct gpubroker *handle, const char *columns);
