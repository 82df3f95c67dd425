/* SPDX-License-Identifier: MIT */
/* The claim of `gpubroker run`: tried, waited for, and explained where it is refused. */
#pragma once

#include "client/command/cli.h"
#include "client/run/progress.h"
#include "client/run/request.h"

/*
 * Claims all that is asked for. 0 with the claim, or an exit status after the reason was printed.
 */
int claiming_run(const struct cli *cli, struct gpubroker *handle, struct request *request,
		 struct progress *progress, struct gpubroker_claim **ret_claim);
