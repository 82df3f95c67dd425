/* SPDX-License-Identifier: MIT */
/* The checks of `gpubroker doctor`, which change nothing, and how each tells its result. */
#pragma once

#include <json.h>
#include <stdbool.h>

#include "client/gpubroker.h"
#include "client/command/inventory.h"

enum doctor_result {
	DOCTOR_PASS,
	DOCTOR_NOTE, /* to know, neither good nor bad */
	DOCTOR_WARN, /* works, but perhaps not as it is wanted */
	DOCTOR_FAIL,
	DOCTOR_RESULTS,
};

struct doctor {
	/* Facts, see facts.h: of this host, or of a snapshot. */
	struct json_object *host, *caller, *devices;
	struct inventory inventory;
	bool saved;		  /* they are of a snapshot */
	uint64_t memory;	  /* of the VM that is meant, in bytes; 0: none is */
	struct json_object *json; /* an array that gets the results; NULL: they are printed */
	unsigned count[DOCTOR_RESULTS];
	bool colours;
};

/*
 * Tells the result of a check, "iommu", in a sentence without its full stop. `cure` is what would
 * help, a sentence too, or NULL.
 */
void doctor_say(struct doctor *doctor, enum doctor_result result, const char *check,
		const char *cure, const char *format, ...) __attribute__((format(printf, 5, 6)));

/* Checks what concerns the host and the caller. */
void doctor_check_host(struct doctor *doctor);
/* Parts of that, which are in files of their own. */
void doctor_check_iommu(struct doctor *doctor);
void doctor_check_memory(struct doctor *doctor);
/* Whether a <hostdev> of libvirt's session can lock its memory. */
void doctor_check_session(struct doctor *doctor);

/* Checks what concerns one device, an address. Returns 0, or an exit status where it is none. */
int doctor_check_device(struct doctor *doctor, const char *device);
/* A part of that: how much memory a VM with it may have. */
void doctor_check_memlock(struct doctor *doctor, struct json_object *device, const char *address);
