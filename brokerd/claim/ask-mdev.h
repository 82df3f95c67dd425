/* SPDX-License-Identifier: MIT */
/* Asks drivers, in a worker, how many mediated devices are left, and so which part a claim gets. */
#pragma once

#include "brokerd/claim/claims.h"

/*
 * Starts the worker for a lease whose claim has a choice; the lease's follower hears when it is
 * over, or when the last virtual function was asked. 0, or -errno when none could be started.
 */
int ask_part(struct lease *lease);
