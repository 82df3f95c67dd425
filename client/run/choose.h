/* SPDX-License-Identifier: MIT */
/*
 * `gpubroker run --memory`: from a wish for memory to a device, or a part of one, by client/run/fit.h and what the
 * broker says of it. Says on standard error what is wrong, and on a terminal what was chosen and why.
 */
#pragma once

#include "client/command/cli.h"
#include "client/run/fit.h"
#include "client/gpubroker.h"
#include "client/run/qemu-run.h"

/* What is wanted, and then what was chosen for it. */
struct run_fit {
	struct run_qemu *asked; /* --gpu, --profile, --memory of each */
	bool force, wait;
	uint64_t memlock;
	bool is_chosen[RUN_DEVICES_MAX];
	struct fit_candidate chosen[RUN_DEVICES_MAX];
};

/*
 * A claim of all that is asked for: what was chosen comes first, so that a name without --memory means another
 * one. 0, or an exit status.
 */
int run_fit_claim(const struct run_fit *fit, struct gpubroker_claim **ret_claim);

/* Is a --memory among what is asked for? */
bool run_fit_is_meant(const struct run_fit *fit);

/*
 * Chooses for each --memory anew what may be had now; with --wait and where there is none, what may be waited for. 0, or an
 * exit status.
 */
int run_fit_choose(const struct cli *cli, struct gpubroker *handle, struct run_fit *fit);
