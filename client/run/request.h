/* SPDX-License-Identifier: MIT */
/*
 * The devices that `gpubroker run` is to claim, as the user asked for them, and the claim that this
 * makes.
 */
#pragma once

#include <stdbool.h>
#include <stddef.h>
#include <stdint.h>

#include "client/gpubroker.h"
#include "client/run/fit.h"

#define REQUEST_DEVICES_MAX 16
#define REQUEST_CDEVS_MAX 64

struct request_device {
	const char *name;    /* --gpu */
	const char *profile; /* its --profile, or NULL */
	uint64_t memory;     /* its --memory, or 0 */
	bool is_chosen;	     /* by choose.c, for --memory */
	struct fit_candidate chosen;
};

struct request {
	struct request_device devices[REQUEST_DEVICES_MAX];
	size_t n_devices;
	bool force, wait;
	uint64_t wait_seconds; /* 0: without an end */
	uint64_t memlock;      /* 0: what the rule grants */
	bool implied;	       /* no device was asked for, so `any` is, or what is allotted */
	const char *allotment; /* the label of the one that is meant, or NULL */
	char allotted[REQUEST_DEVICES_MAX][20]; /* the names of its devices */
};

/* Returns true if a device is to be chosen by --memory. */
bool request_has_memory(const struct request *request);

/*
 * Checks the form of all that the user asked for. 0, or an exit status after the reason was
 * printed.
 */
int request_check(const struct request *request);

/*
 * Makes a claim of all devices but those with --memory for which none is chosen. The chosen ones
 * come first, so that a name without --memory means another device. 0, or an exit status.
 */
int request_claim(const struct request *request, struct gpubroker_claim **ret_claim);

/* The same, with this candidate chosen for devices[at]. */
int request_claim_with(const struct request *request, size_t at,
		       const struct fit_candidate *candidate, struct gpubroker_claim **ret_claim);
