/* SPDX-License-Identifier: MIT */
/*
 * Leases: one per IOMMU group that is not wholly the host's. The table and its states, without I/O;
 * lending.c makes states come true.
 */
#pragma once

#include <stdbool.h>
#include <stddef.h>
#include <stdint.h>
#include <sys/queue.h>

#include "client/gpubroker.h"
#include "client/wire/protocol.h"

struct claim;
struct event;
struct work;

/* What a function was before the claim, and is to be again. */
struct lease_function {
	struct pci_address address;
	uint16_t vendor;
	uint16_t device;
	char driver[PROTOCOL_NAME_MAX];	  /* "": none; LEASE_DRIVER_UNKNOWN */
	char override[PROTOCOL_NAME_MAX]; /* "": none */
};

/*
 * Instead of functions, a part of a device that its driver makes for the lease: an mdev, whose parent may be no
 * PCI function, or a vendor's vGPU, whose parent is the VF that it is made of. All is recorded.
 */
struct lease_mdev {
	char parent[PROTOCOL_NAME_MAX]; /* "": the lease is of functions */
	char type[PROTOCOL_PROFILE_MAX];
	char name[PROTOCOL_PROFILE_MAX]; /* what the driver calls the type, or "" */
	char uuid[PROTOCOL_UUID];	 /* of an mdev, ours, before it is made */
	bool vendor;			 /* it is no mdev */
};

/* Not recorded, so that at the end whatever driver claims the function may have it. */
#define LEASE_DRIVER_UNKNOWN "?"

/* What the policy said when it was granted. */
struct lease_terms {
	char rule[288];			     /* which granted it, as file:line */
	uint64_t lifetime;		     /* seconds that it may last; 0: no end */
	char vfio_driver[PROTOCOL_NAME_MAX]; /* that the rule asks for, "": the kernel's choice */
	bool require_reset; /* every function is reset before anybody else has it */
};

#define LEASE_GIDS_MAX 64 /* groups of the claimer that are remembered, to ask a later policy */

enum lease_event {
	LEASE_CLAIMED, /* somebody may have the group; or a record says that somebody had it */
	LEASE_BOUND,   /* every function is on its VFIO driver */
	LEASE_ABANDON, /* a step failed, or another group of the claim did, or nobody waits any more */
	LEASE_SENT,    /* the descriptor is on its way to the peer */
	LEASE_RECALLED, /* released, revoked, its time is up, a function vanished: held or not */
	LEASE_CLOSED,	/* inotify: the last reference to the group's open file is going */
	LEASE_REGAINED, /* the group opened for us: nobody else has it */
	LEASE_RESTORED, /* every function is as it was */
	LEASE_FAILED,	/* one could not be put back */
	LEASE_LATE,	/* a worker did not come back in time */
	LEASE_N_EVENTS,
};

struct lease {
	TAILQ_ENTRY(lease) link;
	/* what the record in the state directory holds */
	uint64_t id;
	uint32_t group; /* of an mdev that is not made yet UINT32_MAX, which is nobody's */
	uint32_t uid;
	uint32_t pid;
	uint32_t gid;
	uint64_t since;		  /* seconds since the epoch */
	uint64_t ends;		  /* when it is taken back, likewise; 0: never */
	uint64_t stuck_since;	  /* likewise, 0: it is not stuck */
	char reason[128];	  /* why it is stuck */
	struct pci_address asked; /* the function that the claim named */
	struct lease_terms terms;
	size_t n_gids;
	uint32_t gids[LEASE_GIDS_MAX];
	size_t n_functions;
	struct lease_function functions[PROTOCOL_FUNCTIONS_MAX];
	struct lease_mdev mdev;
	enum gpubroker_migration migration; /* as its holder has said */
	/* what only this process knows; all of it can be found out anew */
	enum gpubroker_lease_state state;
	bool recorded;	      /* there is a record, so its functions may have been changed */
	bool lent;	      /* somebody has had it: the next tenant needs a barrier */
	bool forced;	      /* root wants it back, reset or not */
	char damaged[64];     /* the damaged record that keeps it from being lent, or "" */
	uint64_t as_recorded; /* bit i: function i's override was read, and is as recorded */
	int watch;	      /* inotify's, or -1 */
	int cdev_watches[PROTOCOL_CDEVS_MAX]; /* likewise, of devices' own nodes */
	size_t n_cdev_watches;
	enum { GROUP_OPEN, GROUP_UNKNOWN, GROUP_CLOSED } group_file; /* the one that was lent */
	struct work *work;					     /* a worker at it, or NULL */
	bool looking;	  /* it only looks whether the group has been let go */
	uint64_t warn_at; /* when its holder is told that it ends soon */
	bool warned;
	const char *recall;   /* why it is to be taken back as soon as its worker is done */
	struct event *expiry; /* its time is up, or nearly; or NULL */
	struct event *timer;  /* looks again whether the group has been let go */
	unsigned tries;
	struct claim *claim; /* while it is being claimed, else NULL */
	void *owner;	     /* lending.c's */
};

struct leases {
	TAILQ_HEAD(lease_list, lease) list; /* by id */
	uint64_t next_id;
	size_t n;
};

void leases_init(struct leases *leases);

/*
 * A new lease in state PREPARING, in the table, the table's. NULL: no memory. id 0 takes the next
 * number.
 */
struct lease *lease_new(struct leases *leases, uint64_t id, uint32_t group);
/* Takes it out and frees it; what else it owned must have been let go. Returns NULL. */
struct lease *lease_free(struct leases *leases, struct lease *lease);

/* NULL of UINT32_MAX, which is no group. */
struct lease *lease_find_group(const struct leases *leases, uint32_t group);
/* The one of a VF that is made a vGPU, or NULL. */
struct lease *lease_find_vgpu(const struct leases *leases, const char *vf);
/* The first with an id of at least `id`, in order: a cursor that survives changes. */
struct lease *lease_find_from(const struct leases *leases, uint64_t id);
/* By the watch of its group, or of one of its devices. */
struct lease *lease_find_watch(const struct leases *leases, int watch);

/*
 * The one table of states and events. Moves the lease and returns true; false where the event means
 * nothing in its state (a late hint), which changes nothing. LEASE_RESTORED ends the lease: the
 * caller frees it.
 */
bool lease_advance(struct lease *lease, enum lease_event event);

/* Of a part that a driver makes, of either kind? */
bool lease_is_mdev(const struct lease *lease);
/* Is `asked` the address of something? Not of an mdev whose parent is no PCI function. */
bool lease_has_address(const struct lease *lease);

/* Is it on its way back, so that waiting helps? */
bool lease_is_leaving(const struct lease *lease);
