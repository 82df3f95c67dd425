/* SPDX-License-Identifier: MIT */
/*
 * Shows a claim of `gpubroker run` on a terminal: its steps on one line that is rewritten, and
 * at the end what was got. Nothing where standard error is no terminal.
 */
#pragma once

#include <stdbool.h>
#include <stdint.h>

#include "client/gpubroker.h"

struct progress {
	bool begun;	   /* the claim's turn has come */
	bool drawn;	   /* a line is on the screen */
	uint64_t began_at; /* ms, when its turn came */
	uint64_t ended_at; /* ms, when it was granted; 0: not yet */
	uint32_t n_bound;  /* functions that went to a VFIO driver */
};

/* Shows a step; a gpubroker_progress_func whose userdata is a struct progress. */
void progress_step(void *userdata, const struct gpubroker_progress *step);

/* Shows a sentence on the line. False: there is no terminal. */
bool progress_say(struct progress *progress, const char *sentence);

/* Milliseconds of a clock that goes on while the host sleeps. */
uint64_t progress_now(void);

/* Takes the line off the screen, before anything else is printed. */
void progress_clear(struct progress *progress);

/* The claim is granted, or refused: the time ends, and so does the line. */
void progress_end(struct progress *progress);

/* Shows what was got: a line for each group. Asks the broker. */
void progress_granted(const struct progress *progress, struct gpubroker *handle,
		      const struct gpubroker_claim *claim);
