/* SPDX-License-Identifier: MIT */
/*
 * Bring-up: from PREPARING to READY, for every kind of lease. At the end of each worker, and when
 * one has asked and waits until the lease is recorded, it calls the follower's settled().
 */
#pragma once

#include "brokerd/lease/leases.h"

/* Sets the lease's kind from its recorded fields. Does not change its state. */
void lease_set_kind(struct lease *lease);

/*
 * Starts a worker that reads what must be recorded and may block. Returns 0, or -errno if no worker
 * could be started. A kind that has nothing to read starts no worker: then settled() is not called.
 */
int lease_ask(struct lease *lease);

/*
 * Ends the worker of a lease that has asked, and waits until the lease is recorded; settled() is
 * called when it has ended. Does nothing if there is none.
 */
void lease_give_up(struct lease *lease);

/*
 * Starts a worker that makes the lease ready, or lets the one that has asked go on. Returns 0, or
 * -errno if no worker could be started. A lease that needs no steps becomes READY at once: then
 * settled() is not called.
 */
int lease_make(struct lease *lease);
