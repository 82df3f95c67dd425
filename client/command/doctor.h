/* SPDX-License-Identifier: MIT */
/* The checks of `gpubroker doctor`, which change nothing, and how each tells its result. */
#pragma once

#include <json.h>
#include <stdbool.h>

#include "client/gpubroker.h"

enum doctor_result {
	DOCTOR_PASS,
	DOCTOR_NOTE, /* to know, neither good nor bad */
	DOCTOR_WARN, /* works, but perhaps not as it is wanted */
	DOCTOR_FAIL,
	DOCTOR_RESULTS,
};

struct doctor {
	struct gpubroker *handle; /* NULL: no broker answers */
	int sys;		  /* a descriptor of /sys; -1: it cannot be opened */
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

/* Checks what concerns one device, an address. Returns 0, or an exit status where it is none. */
int doctor_check_device(struct doctor *doctor, const char *device);
