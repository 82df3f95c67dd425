/* SPDX-License-Identifier: MIT */
/*
 * Prepare rules after the boot: what they name and a host driver has, or none, is given to VFIO,
 * where the host is not using it. At boot udev has done most of it (client/host/udevrules.h).
 */
#pragma once

#include <stdbool.h>
#include <stddef.h>
#include <stdint.h>
#include <sys/queue.h>

#include "brokerd/kernel/kernel.h"
#include "brokerd/process/worker.h"
#include "brokerd/record/store.h"
#include "brokerd/state/devices.h"
#include "brokerd/state/holds.h"
#include "brokerd/state/lease.h"
#include "brokerd/state/verdict.h"

/* All but the lists is other parts', and outlives it. */
struct prepare {
	struct event_base *base;
	const struct kernel *kernel;
	struct workers *workers;
	const struct devices *devices;
	const struct lease_table *leases;
	struct holds *holds;
	const struct policy_state *policy;
	/* Something may be free for claims that wait. */
	void (*freed)(void *userdata);
	void *userdata;
	TAILQ_HEAD(preparation_list, preparation) at_work;
	TAILQ_HEAD(note_list, note) notes;
	uint32_t *pending; /* groups to look at, in any order and several times */
	size_t n_pending, room;
	struct event *timer;
	bool wanted; /* the policy has a prepare rule */
	bool open;   /* the daemon serves, and is not ending */
};

/* Takes over the pointers that are set in *prepare. 0, or -ENOMEM. */
int prepare_init(struct prepare *prepare);
void prepare_done(struct prepare *prepare);

/* There is a new policy, or the daemon begins to serve: looks at everything. */
void prepare_look_at_all(struct prepare *prepare);
/* The watcher has sent this record, which the device table does not have yet. */
void prepare_device_seen(struct prepare *prepare, const struct watcher_record *record);

/*
 * Root has given the group back to its host driver: leaves it there until the policy is loaded
 * again.
 */
void prepare_leave(struct prepare *prepare, uint32_t group);
/* Returns true if root has done so. */
bool prepare_is_left(const struct prepare *prepare, uint32_t group);
