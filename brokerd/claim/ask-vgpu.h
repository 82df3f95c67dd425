/* SPDX-License-Identifier: MIT */
/*
 * Reads from drivers, in a worker, which vGPU types their virtual functions offer, and so chooses
 * the vGPU that a claim gets.
 */
#pragma once

#include "brokerd/claim/claims.h"

/*
 * Starts the worker for the next virtual function of the lease's choice; if none is left, refuses
 * the claim. The follower's settled() is called after each worker. Returns 0, or -errno if no
 * worker could be started.
 */
int ask_vgpu(struct lease *lease);
