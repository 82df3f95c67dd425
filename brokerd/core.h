/* SPDX-License-Identifier: MIT */
/*
 * The core's parts, and what each tells the others. Only core.c and daemon.c know struct core:
 * every part gets pointers to the few others that it uses, and what it has to report upwards goes
 * through callbacks that core.c fills in.
 */
#pragma once

#include <stdbool.h>

#include "brokerd/claim/claims.h"
#include "brokerd/helper/core-side.h"
#include "brokerd/kernel/kernel.h"
#include "brokerd/lease/leases.h"
#include "brokerd/peer/peer.h"
#include "brokerd/prepare/prepare.h"
#include "brokerd/prepare/sriov.h"
#include "brokerd/process/worker.h"
#include "brokerd/record/audit.h"
#include "brokerd/record/store.h"
#include "brokerd/state/devices.h"
#include "brokerd/state/holds.h"
#include "brokerd/state/verdict.h"

/* What the core tells the daemon. */
struct core_ops {
	/* The core serves from now on. False: the daemon is ending instead. */
	bool (*serving)(void *userdata);
	/*
	 * The policy has been loaded, or has not: core->policy says. `kept`: the one in force stays
	 * in force.
	 */
	void (*policy)(void *userdata, bool kept);
	/* No worker is at work, and nothing else that must not be interrupted. */
	void (*idle)(void *userdata);
	/* The core must end with that exit status, to be started again. */
	void (*failed)(void *userdata, int status);
};

struct core {
	const struct core_ops *ops;
	void *userdata;
	struct event_base *base;
	struct kernel kernel;
	struct confine_filter *worker_filter;
	struct workers workers;
	struct store store;
	struct audit audit;
	struct event *on_suppressed; /* the audit's, or NULL */
	struct devices devices;
	struct holds holds;
	struct policy_state policy;
	struct leases leases;
	struct claims claims;
	struct prepare prepare;
	struct sriov sriov;
	struct helpers helpers;
	struct peers peers;
	struct event *on_inotify;
	bool serving, closed;
};

#define CORE_INIT                                                                                  \
	{                                                                                          \
		.kernel = KERNEL_NONE, .store = { -1 }, .helpers = HELPERS_INIT, .peers = {        \
			.listen_fd = -1                                                            \
		}                                                                                  \
	}

/*
 * Connects the parts. core->base and what is opened before confinement must be set. 0, or -ENOMEM.
 */
int core_init(struct core *core);
/* Begins to read from the kernel and the helpers. 0, or -errno. */
int core_start(struct core *core);
/* Takes up what an earlier run has left on record. After confinement. 0, or -errno. */
int core_recover(struct core *core);
/* Serves, if it does not yet: accepts peers, prepares what the policy wants. */
void core_serve(struct core *core);
/* No new peers, claims under way are undone, leases stay with their holders. */
void core_close(struct core *core);
/* Frees what the loop has used, and closes what is open. */
void core_done(struct core *core);
