/* SPDX-License-Identifier: MIT */
/*
 * Reads from drivers, in a worker, how many mediated devices are left, and so chooses the part that
 * a claim gets.
 */
#pragma once

#include "brokerd/claim/claims.h"

/*
 * Starts the worker for a lease whose claim has a choice. The follower's settled() is called after
 * each worker. Returns 0, or -errno if no worker could be started.
 */
int ask_part(struct lease *lease);
