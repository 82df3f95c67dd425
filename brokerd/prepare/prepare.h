/* SPDX-License-Identifier: MIT */
/*
 * Prepare rules after the boot: binds the functions that they name to VFIO, unless the host is
 * using them. At boot udev has done most of that (client/host/udevrules.h).
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

/* All but the lists belongs to other parts, and outlives the struct. */
struct prepare {
	struct event_base *base;
	const struct kernel *kernel;
	struct workers *workers;
	const struct devices *devices;
	const struct lease_table *leases;
	struct holds *holds;
	const struct policy_state *policy;
	/* A group may be free for claims that wait. */
	void (*freed)(void *userdata);
	void *userdata;
	TAILQ_HEAD(preparation_list, preparation) at_work;
	TAILQ_HEAD(note_list, note) notes;
	uint32_t *pending; /* groups to look at, in any order, some several times */
	size_t n_pending, room;
	struct event *timer;
	bool wanted; /* the policy has a prepare rule */
	bool open;   /* the daemon serves and is not ending */
};

/*
 * Somebody who has a group prepared, whatever the rules say, and hears what came of it; embedded in
 * an object that outlives the preparation.
 */
struct preparing {
	/* The worker has not ended in time; ended() may still come. */
	void (*late)(struct preparing *preparing, const char *what,
		     const struct pci_address *address);
	/* All functions are on VFIO (`what` is NULL), or why not, with the kernel's errno or 0. */
	void (*ended)(struct preparing *preparing, const char *what,
		      const struct pci_address *address, int error);
};

/*
 * Begins to bind all functions of the view, which the caller has checked. Returns 0, or -errno, and
 * then nothing has begun: -ENOENT if the kernel has no VFIO driver for one of them.
 */
int prepare_group(struct prepare *prepare, const struct group_view *view,
		  struct preparing *preparing);

/* Initializes *prepare, whose pointers to other parts must be set. Returns 0, or -ENOMEM. */
int prepare_init(struct prepare *prepare);
void prepare_done(struct prepare *prepare);

/*
 * Looks at all groups: to be called when there is a new policy, or when the daemon begins to serve.
 */
void prepare_look_at_all(struct prepare *prepare);
/* Handles a record from the watcher. To be called before the device table takes the record. */
void prepare_device_seen(struct prepare *prepare, const struct watcher_record *record);

/*
 * Notes that root has given a group back to its host driver. It is left there until the policy is
 * loaded again.
 */
void prepare_leave(struct prepare *prepare, uint32_t group);
/* The opposite: root wants it on VFIO again. */
void prepare_return(struct prepare *prepare, uint32_t group);
/* Returns true if root has given the group back. */
bool prepare_is_left(const struct prepare *prepare, uint32_t group);
