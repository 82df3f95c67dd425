/* SPDX-License-Identifier: MIT */
/*
 * The context of lease/: the lease table, and the few things that its files need of other parts.
 * Every function of this folder takes a lease, and finds the context through it.
 */
#pragma once

#include <stdbool.h>
#include <stdint.h>
#include <sys/time.h>

#include "brokerd/kernel/kernel.h"
#include "brokerd/lease/kind.h"
#include "brokerd/process/worker.h"
#include "brokerd/record/store.h"
#include "brokerd/state/devices.h"
#include "brokerd/state/lease.h"
#include "brokerd/state/verdict.h"

#define UUID_BYTES 16

/* All but the table and the seed are other parts', and outlive it. */
struct leases {
	struct lease_table table;
	struct event_base *base;
	const struct kernel *kernel;
	struct workers *workers;
	const struct store *store;
	const struct devices *devices;
	const struct policy_state *policy;
	uint8_t uuid_seed[UUID_BYTES]; /* mdev.c: UUIDs count up from it */
};

/* Returns the context that a lease belongs to. */
struct leases *leases_of(const struct lease *lease);

/*
 * Calls `then` after that time, instead of what was to be called later before. False, and logged:
 * there is no memory for a timer.
 */
bool lease_later(struct lease *lease, const struct timeval *after,
		 void (*then)(struct lease *lease));

/* Records the lease, as it is now. 0, or -errno. */
int lease_record(const struct lease *lease);

/*
 * Says why a lease is stuck, as "0000:01:00.0: unbind: Device or resource busy", in the journal and
 * in the record.
 */
void lease_mark_stuck(struct lease *lease, const struct pci_address *address, const char *what,
		      const char *why);

/*
 * work_ops.late() of every worker whose userdata is a lease: the lease is stuck, and its claim
 * fails.
 */
void lease_worker_late(void *userdata, const char *what, const struct pci_address *address);
