/* SPDX-License-Identifier: MIT */
/*
 * The core's parts, and how they are connected. Only core.c and daemon.c know struct core: every
 * part gets pointers to the few others that it uses, and reports through callbacks that core.c
 * fills in.
 */
#pragma once

#include <stdbool.h>
#include <time.h>

#include "brokerd/claim/claims.h"
#include "brokerd/helper/core-side.h"
#include "brokerd/kernel/kernel.h"
#include "brokerd/lease/leases.h"
#include "brokerd/peer/peer.h"
#include "brokerd/prepare/order.h"
#include "brokerd/prepare/prepare.h"
#include "brokerd/prepare/sriov.h"
#include "brokerd/process/closing.h"
#include "brokerd/process/worker.h"
#include "brokerd/record/audit.h"
#include "brokerd/record/numbers.h"
#include "brokerd/record/store.h"
#include "brokerd/record/usage.h"
#include "brokerd/state/allotments.h"
#include "brokerd/state/devices.h"
#include "brokerd/state/holds.h"
#include "brokerd/state/verdict.h"

/* Events that the daemon handles. */
struct core_ops {
	/* The core begins to serve. Returns false if the daemon ends instead. */
	bool (*serving)(void *userdata);
	/*
	 * A policy was loaded, or had mistakes: see core->policy. `kept`: the earlier policy stays
	 * in force.
	 */
	void (*policy)(void *userdata, bool kept);
	/* Something that `systemctl status` shows may have changed. NULL: nobody shows it. */
	void (*changed)(void *userdata);
	/* No worker is running, and no other work that must not be interrupted. */
	void (*idle)(void *userdata);
	/* /dev/vfio or /dev/iommu is not the one that this process may open: see kernel.h. */
	void (*stale)(void *userdata);
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
	struct closing closing;
	struct store store;
	int history; /* the directory of what outlives a reboot, or -1 */
	struct numbers numbers;
	struct usage usage;
	struct audit audit;
	struct event *on_suppressed; /* the timer of audit.later(), or NULL */
	struct devices devices;
	struct holds holds;
	struct allotments allotments;
	struct policy_state policy;
	struct leases leases;
	struct claims claims;
	struct prepare prepare;
	struct orders orders;
	struct sriov sriov;
	struct helpers helpers;
	struct peers peers;
	struct event *on_inotify, *on_nodes;
	bool serving, closed;
	time_t served_since;
	unsigned stale_looks; /* for an answer that a claim waits for before the daemon ends */
	bool never_fresh; /* /dev/vfio could not be opened at the start: a restart does not help */
};

#define CORE_INIT                                                                                  \
	{                                                                                          \
		.kernel = KERNEL_NONE, .store = { -1 }, .history = -1, .numbers = NUMBERS_NONE,    \
		.usage = USAGE_NONE, .helpers = HELPERS_INIT, .peers = {                           \
			.listen_fd = -1,                                                           \
			.sockets = SOCKETS_NONE,                                                   \
			.handovers = HANDOVERS_NONE                                                \
		}                                                                                  \
	}

/*
 * Connects the parts. core->base must be set, and the files that need privilege must be open.
 * Returns 0, or -ENOMEM.
 */
int core_init(struct core *core);
/* Begins to read from inotify and from the helpers. Returns 0, or -errno. */
int core_start(struct core *core);
