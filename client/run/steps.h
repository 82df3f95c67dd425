/* SPDX-License-Identifier: MIT */
/*
 * `gpubroker run --progress=json[,FD]`: the steps of a claim for a program, an object a line, see
 * gpubroker-run(1). It must never make the claim wait for its reader.
 */
#pragma once

#include <stdbool.h>

#include "client/gpubroker.h"

/* Begins, as the option's value says. 0, or an exit status after the reason was printed. */
int steps_begin(const char *text);
/* Returns true if the lines go to standard error, where nothing else may be then. */
bool steps_own_stderr(void);

/* Each does nothing if the option was not given. */
void steps_tell(const struct gpubroker_progress *p);
/* The last line of a claim that succeeds: a descriptor of the caller's is closed behind it. */
void steps_granted(const struct gpubroker_claim *claim);
/* The last line of one that does not. Returns the status. */
int steps_failed(int status);
