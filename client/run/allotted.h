/* SPDX-License-Identifier: MIT */
/* The devices that `gpubroker run` takes where it is told none: those that are allotted. */
#pragma once

#include "client/command/cli.h"
#include "client/run/request.h"

/*
 * Puts all devices of the user's allotment in place of `any`: of the one that the request names, or
 * of the only one. Leaves the request as it is if it names devices, or if nothing is allotted to the
 * user. 0, or an exit status after the reason was printed.
 */
int allotted_take(const struct cli *cli, struct gpubroker *handle, struct request *request);
