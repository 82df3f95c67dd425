/* SPDX-License-Identifier: MIT */
/*
 * `gpubroker run --qemu`: what client/qemu.h makes, of the options and of what was lent. Each
 * function does nothing without --qemu, and says on standard error what is wrong.
 */
#pragma once

#include <stdbool.h>
#include <stddef.h>

#include "client/gpubroker.h"
#include "client/qemu.h"

#define RUN_DEVICES_MAX 16

struct run_qemu {
	bool wanted;			       /* --qemu */
	const char *rom;		       /* --rom, as it was given */
	const char *devices[RUN_DEVICES_MAX];  /* --gpu */
	const char *profiles[RUN_DEVICES_MAX]; /* --profile of each, or NULL */
	uint64_t memories[RUN_DEVICES_MAX];    /* --memory of each, or 0 */
	size_t n_devices;
	struct qemu_options options; /* .rom is our own, absolute */
	struct qemu_command command;
};

/* Whether the options belong together. 0 or an exit status, as the next two. */
int run_qemu_options(struct run_qemu *qemu);

/*
 * Before the claim, so that a card is not taken from the host for nothing: where the devices are
 * known already, whether there will be arguments for them.
 */
int run_qemu_foresee(struct run_qemu *qemu, char **argv);

/* After the claim: *argv becomes the command with its arguments, good until run_qemu_done(). */
int run_qemu_command(struct run_qemu *qemu, const struct gpubroker_claim *claim, char ***argv);

void run_qemu_done(struct run_qemu *qemu);
