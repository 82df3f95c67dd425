/* SPDX-License-Identifier: MIT */
/*
 * `gpubroker run --qemu`: what client/run/qemu.h makes, of the options and of what was lent. Each
 * function does nothing without --qemu, and says on standard error what is wrong.
 */
#pragma once

#include <stdbool.h>
#include <stddef.h>

#include "client/gpubroker.h"
#include "client/run/qemu.h"

#define RUN_DEVICES_MAX 16
#define RUN_CDEVS_MAX 64

struct run_qemu {
	bool wanted;			       /* --qemu */
	bool iommufd;			       /* --iommufd, which may stand without it */
	const char *rom;		       /* --rom, as it was given */
	const char *devices[RUN_DEVICES_MAX];  /* --gpu */
	const char *profiles[RUN_DEVICES_MAX]; /* --profile of each, or NULL */
	uint64_t memories[RUN_DEVICES_MAX];    /* --memory of each, or 0 */
	size_t n_devices;
	struct qemu_options options; /* .rom is our own, absolute */
	struct qemu_cdev cdevs[RUN_CDEVS_MAX];
	struct qemu_command command;
};

/* Whether the options belong together. 0 or an exit status, as the next two. */
int run_qemu_options(struct run_qemu *qemu);

/*
 * Before the claim, so that a card is not taken from the host for nothing: where the devices are
 * known already, whether there will be arguments for them.
 */
int run_qemu_foresee(struct run_qemu *qemu, char **argv);

/*
 * After the claim: with --iommufd the command inherits the descriptors of /dev/iommu and of the devices, and finds
 * their numbers in its environment. 0, or an exit status.
 */
int run_qemu_inherit(struct run_qemu *qemu, struct gpubroker_claim *claim);

/* Behind that: *argv becomes the command with its arguments, good until run_qemu_done(). */
int run_qemu_command(struct run_qemu *qemu, const struct gpubroker_claim *claim, char ***argv);

void run_qemu_done(struct run_qemu *qemu);
