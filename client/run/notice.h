/* SPDX-License-Identifier: MIT */
/* Tells the holder on its terminal that a lease ends soon, or was taken back. */
#pragma once

#include "client/gpubroker.h"
#include "client/run/supervisor.h"

#define NOTICE_LEASES_MAX 16

struct notice_lease {
	uint64_t id, ends; /* seconds since the epoch; 0: never */
	char what[64];	   /* "0000:01:00.0 (IOMMU group 17)" */
	bool warned, over, overdue;
	const char *said; /* what is to be said of it, static; NULL: nothing */
};

struct notice {
	struct gpubroker *handle; /* NULL: the broker tells nothing more */
	long zone;		  /* seconds that local time is ahead of UTC */
	size_t n;
	struct notice_lease leases[NOTICE_LEASES_MAX];
};

/*
 * Begins to follow the leases of a claim over the handle, which the notice takes over if it returns
 * true. Returns false if no terminal is there to tell, or the broker does not answer.
 */
bool notice_begin(struct notice *notice, struct gpubroker *handle,
		  const struct gpubroker_claim *claim);
/* Returns what the supervisor calls, see supervisor.h. It refers to `notice`. */
struct supervise_notices notice_calls(struct notice *notice);
/* Closes the connection. */
void notice_done(struct notice *notice);
