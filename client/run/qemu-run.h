/* SPDX-License-Identifier: MIT */
/*
 * `gpubroker run --qemu` and `--iommufd`: QEMU's arguments, made by qemu.h, for what is claimed.
 * All return 0, or an exit status after the reason was printed, and do nothing without their
 * option.
 */
#pragma once

#include <stdbool.h>

#include "client/gpubroker.h"
#include "client/run/qemu.h"
#include "client/run/qemu-drivers.h"
#include "client/run/request.h"

struct qemu_run {
	bool wanted;		     /* --qemu */
	bool iommufd;		     /* --iommufd, which may stand without it */
	bool verbose;		     /* --verbose */
	const char *rom;	     /* --rom, as it was given */
	struct qemu_drivers drivers; /* --drivers */
	struct qemu_options options; /* .rom is our own, absolute */
	struct qemu_cdev cdevs[REQUEST_CDEVS_MAX];
	struct qemu_command command;
};

/*
 * Before the claim: checks that there will be arguments for the devices that are known already, so
 * that a card is not taken from the host for nothing.
 */
int qemu_run_foresee(struct qemu_run *qemu, const struct request *request, char **argv);

/*
 * After the claim, with --iommufd: lets the command inherit the descriptors of /dev/iommu and of
 * the devices, and puts their numbers into the environment.
 */
int qemu_run_inherit(struct qemu_run *qemu, struct gpubroker_claim *claim);

/* After that: *argv becomes the command with its arguments, good until qemu_run_done(). */
int qemu_run_command(struct qemu_run *qemu, const struct gpubroker_claim *claim, char ***argv);

void qemu_run_done(struct qemu_run *qemu);
