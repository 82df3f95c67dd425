/* SPDX-License-Identifier: MIT */
/*
 * The context of lease/: the lease table, and pointers to the other parts that its files use. Every
 * function of this folder takes a lease, and finds the context through it.
 */
#pragma once

#include <stdbool.h>
#include <stdint.h>
#include <sys/time.h>
#include <time.h>

#include "brokerd/kernel/kernel.h"
#include "brokerd/lease/kind.h"
#include "brokerd/process/worker.h"
#include "brokerd/record/store.h"
#include "brokerd/state/devices.h"
#include "brokerd/state/ender.h"
#include "brokerd/state/hooking.h"
#include "brokerd/state/lease.h"
#include "brokerd/state/verdict.h"

#define UUID_BYTES 16

/* hooks.c: what is known of the runner of the administrator's hooks. */
struct hooks {
	bool expected;	       /* there are hooks */
	bool connected;	       /* there is a runner */
	bool reported_missing; /* and that is logged */
	time_t missing_since;  /* monotonic seconds: when the last runner left */
	uint64_t last_id;
	size_t n_asked;
	struct event *limit;
	/* Asks the runner. Returns 0, or -errno: it cannot be asked now. */
	int (*ask)(void *userdata, const struct hook_question *question);
	void (*drop)(void *userdata); /* closes its connection; hooks_left() is called for that */
	void *userdata;
};

/* All but the table and the seed belong to other parts, and outlive the struct. */
struct leases {
	struct lease_table table;
	struct event_base *base;
	const struct kernel *kernel;
	struct workers *workers;
	const struct store *store;
	const struct devices *devices;
	const struct policy_state *policy;
	/* Has the ender carry out an order. Returns 0, or -errno. NULL: there is no ender. */
	int (*end)(void *userdata, const struct ender_order *order);
	bool (*has_ender)(void *userdata);
	void *userdata;
	uint8_t uuid_seed[UUID_BYTES]; /* mdev.c: UUIDs count up from it */
	struct hooks hooks;
};

/* Returns the context that a lease belongs to. */
struct leases *leases_of(const struct lease *lease);

/*
 * Calls `then` after that time. Replaces an earlier lease_later() of the same lease. Returns false,
 * after logging it, if there is no memory for a timer.
 */
bool lease_later(struct lease *lease, const struct timeval *after,
		 void (*then)(struct lease *lease));

/* Writes the lease's record as the lease is now. Returns 0, or -errno. */
int lease_record(const struct lease *lease);

/*
 * Notes why a lease is stuck ("0000:01:00.0: unbind: Device or resource busy") or asked, in the
 * journal, in the record and in an event. Does not change the state.
 */
void lease_mark_stuck(struct lease *lease, const struct pci_address *address, const char *what,
		      const char *why);

/*
 * Why a lease is asked. Not the step that waits: after a restart that is another one, since the
 * unbind of the earlier worker is under way.
 */
#define LEASE_ASKED_WHY "waits for its holder to let go"

/*
 * work_ops.late() of every worker whose userdata is a lease: the lease becomes stuck, and its claim
 * fails.
 */
void lease_worker_late(void *userdata, const char *what, const struct pci_address *address);
