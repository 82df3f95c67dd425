/* SPDX-License-Identifier: MIT */
/*
 * Asks drivers, in a worker, what their virtual functions can become, and so which vGPU a claim
 * gets.
 */
#pragma once

#include "brokerd/claim/claims.h"

/*
 * Starts the worker for the next virtual function of the lease's choice; with none left, refuses
 * the claim. The lease's follower hears when the last was asked. 0, or -errno when no worker could
 * be started.
 */
int ask_vgpu(struct lease *lease);
