/* SPDX-License-Identifier: MIT */
/*
 * `gpubroker run --memory`: chooses a device, or a part of one, by the order of fit.h and by what
 * the broker allows. Prints on standard error what is wrong, and on a terminal what was chosen and
 * why.
 */
#pragma once

#include "client/command/cli.h"
#include "client/run/request.h"

/*
 * Chooses for each --memory a device that can be had now; with --wait and where there is none, one
 * to wait for. Earlier choices do not count. 0, or an exit status.
 */
int choose_devices(const struct cli *cli, struct gpubroker *handle, struct request *request);
