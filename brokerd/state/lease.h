/* SPDX-License-Identifier: MIT */
/*
 * Leases: one per IOMMU group that is not wholly the host's, or per mediated device or vGPU. The
 * table and its states, without I/O. The files of lease/ carry the states out.
 */
#pragma once

#include <stdbool.h>
#include <stddef.h>
#include <stdint.h>
#include <sys/queue.h>

#include "client/gpubroker.h"
#include "client/wire/protocol.h"

struct event;
struct group_view;
struct lease;
struct lease_kind;
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
 * Instead of functions, what a host driver makes for the lease: a mediated device, whose parent
 * need not be a PCI function, or a vendor's vGPU, whose parent is the VF that becomes it. All
 * fields are recorded.
 */
struct lease_mdev {
	char parent[PROTOCOL_NAME_MAX]; /* "": the lease is of functions */
	char type[PROTOCOL_PROFILE_MAX];
	char name[PROTOCOL_PROFILE_MAX]; /* what the driver calls the type, or "" */
	char uuid[PROTOCOL_UUID];	 /* of a mediated device: chosen by us before it is made */
	bool vendor;			 /* a vendor's vGPU, not a mediated device */
};

/* The driver was not recorded, so at the end any driver that claims the function may have it. */
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
	LEASE_CLAIMED,	/* a claim may have the group; or a record says that a lease had it */
	LEASE_BOUND,	/* every function is on its VFIO driver */
	LEASE_ABANDON,	/* a step failed, or another lease of the claim did, or the claimer has gone
			 */
	LEASE_SENT,	/* the descriptor is on its way to the peer */
	LEASE_RECALLED, /* released, revoked, its time is up, a function vanished: held or not */
	LEASE_CLOSED,	/* inotify: the last reference to the group's open file is going */
	LEASE_REGAINED, /* the group opened for us: nobody else has it */
	LEASE_RESTORED, /* every function is as it was */
	LEASE_FAILED,	/* one could not be put back */
	LEASE_LATE,	/* a worker did not come back in time */
	LEASE_N_EVENTS,
};

/* Why a lease could not be brought up; its claim reads it. */
struct lease_failure {
	const char *what; /* static: the step that failed, or what is wrong; NULL: nothing has
			     failed */
	struct pci_address address; /* of the function that it is about */
	bool has_address;
	bool none_left; /* the driver had no instance of the profile left */
	int error;	/* errno, or 0 */
};

/*
 * Follows a lease while it is being claimed. A lease without one is legal in every state: its claim
 * was answered, and what still has to be done is done for the host's sake.
 */
struct lease_follower {
	const struct lease_follower_ops *ops;
};

struct lease_follower_ops {
	/* A step of bring-up or restore has begun, the index-th of total. */
	void (*progress)(struct lease_follower *follower, const struct lease *lease,
			 enum gpubroker_step step, const struct pci_address *address,
			 uint32_t index, uint32_t total);
	/* A worker of the lease has ended, or is late. The lease may be gone when this returns. */
	void (*settled)(struct lease_follower *follower, struct lease *lease);
	/*
	 * The host has everything back: the lease is about to be freed. settled() follows, with
	 * NULL.
	 */
	void (*over)(struct lease_follower *follower, struct lease *lease);
};

struct lease {
	TAILQ_ENTRY(lease) link;
	struct lease_table *table;
	const struct lease_kind *kind; /* what differs between functions, mediated devices and vGPUs
					*/
	/* what the record in the state directory holds */
	uint64_t id;
	uint32_t group; /* UINT32_MAX, no group, for a mediated device or vGPU that is not made yet
			 */
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
	enum gpubroker_migration migration; /* as its holder has reported */
	/* what only this process knows; all of it can be found out again */
	enum gpubroker_lease_state state;
	bool recorded;	      /* there is a record, so its functions may have been changed */
	bool lent;	      /* a holder has had it: the next tenant needs a barrier */
	bool forced;	      /* root wants it back, reset or not */
	char damaged[64];     /* the damaged record that keeps it from being lent, or "" */
	uint64_t as_recorded; /* bit i: function i's override was read, and is as recorded */
	bool too_long;	      /* an override that was read does not fit */
	bool offered;	      /* the driver still offers the vGPU's type */
	struct lease_failure failure;
	int watch;			      /* inotify's, or -1 */
	int cdev_watches[PROTOCOL_CDEVS_MAX]; /* likewise, of devices' own nodes */
	size_t n_cdev_watches;
	enum { GROUP_OPEN, GROUP_UNKNOWN, GROUP_CLOSED } group_file; /* the one that was lent */
	struct work *work;					     /* its worker, or NULL */
	bool probing;	  /* that worker only looks whether the group has been let go */
	uint64_t warn_at; /* when its holder is warned that it ends soon */
	bool warned;
	const char *recall;   /* why it is to be taken back as soon as its worker is done */
	struct event *expiry; /* its time is up, or nearly; or NULL */
	/* one thing that is to be done later: see lease_later() */
	struct event *timer;
	void (*later)(struct lease *lease);
	unsigned tries;			 /* of it */
	struct lease_follower *follower; /* while it is being claimed, else NULL */
};

/*
 * What the owner of the table wants to know. Each is called when the lease's fields are complete;
 * none may free it.
 */
struct lease_events {
	/* It came to another state, or what is said of its state has changed. */
	void (*state)(void *userdata, const struct lease *lease);
	/* It ends soon. */
	void (*ending)(void *userdata, const struct lease *lease);
	/* A function came to its group, or vanished from it. */
	void (*function)(void *userdata, const struct lease *lease,
			 const struct pci_address *address, bool came);
	/* The host has everything back: what it had is free. */
	void (*freed)(void *userdata, const struct lease *lease);
	/* It is lent, and its worker has ended: what had to wait for that can be done now. */
	void (*resumed)(void *userdata, struct lease *lease);
};

#define LEASES_MAX 512

struct lease_table {
	TAILQ_HEAD(lease_list, lease) list; /* by id */
	uint64_t next_id;
	size_t n;
	const struct lease_events *events; /* NULL: nobody wants to know */
	void *userdata;
};

void lease_table_init(struct lease_table *table, const struct lease_events *events, void *userdata);

/*
 * Makes a lease in state PREPARING, in the table, which owns it. NULL: no memory. id 0 takes the
 * next number.
 */
struct lease *lease_new(struct lease_table *table, uint64_t id, uint32_t group);
/* Takes it out and frees it; what else it owned must have been let go. Returns NULL; takes NULL. */
struct lease *lease_free(struct lease *lease);

/* Returns the lease of a group, or NULL; always NULL for UINT32_MAX, which is no group. */
struct lease *lease_find_group(const struct lease_table *table, uint32_t group);
/* Returns the lease of the vGPU that a VF has become, or NULL. */
struct lease *lease_find_vgpu(const struct lease_table *table, const char *vf);
/* Returns the lease with this id, or NULL. */
struct lease *lease_find_id(const struct lease_table *table, uint64_t id);
/* Returns the first with an id of at least `id`, in order: a cursor that survives changes. */
struct lease *lease_find_from(const struct lease_table *table, uint64_t id);
/*
 * Returns the lease that has this inotify watch, of its group or of one of its device nodes, or
 * NULL.
 */
struct lease *lease_find_watch(const struct lease_table *table, int watch);
/*
 * Returns the lease of a mediated device or vGPU that a function of the group makes, or is to make;
 * or NULL.
 */
struct lease *lease_find_below(const struct lease_table *table, const struct group_view *view);
/* Counts the leases that a user has by a rule ("file:line"), without `own`, which may be NULL. */
uint32_t lease_count_by_rule(const struct lease_table *table, uint32_t uid, const char *rule,
			     const struct lease *own);

/*
 * The one table of states and events. Moves the lease, calls events->state() where the state is
 * another, and returns true; false where the event means nothing in its state (a late hint), which
 * changes nothing. A lease that becomes STUCK is reported by lease_mark_stuck() instead, which
 * knows the reason. LEASE_RESTORED ends the lease: the caller frees it.
 */
bool lease_transition(struct lease *lease, enum lease_event event);

/* Makes the group's functions the lease's, without knowing what they were before. */
void lease_adopt_group(struct lease *lease, const struct group_view *view);

/* Returns true for a mediated device or a vGPU, which a host driver makes. */
bool lease_is_made(const struct lease *lease);
/* Returns true if `asked` is an address; a mediated device's parent need not be a PCI function. */
bool lease_has_address(const struct lease *lease);
/* Returns true if it is on its way back, so that waiting helps. */
bool lease_is_leaving(const struct lease *lease);
/* Returns true if the function is one of the lease's functions. */
bool lease_has_function(const struct lease *lease, const struct pci_address *address);

/* Calls the follower's functions, where there is a follower. */
void lease_report_progress(struct lease *lease, enum gpubroker_step step,
			   const struct pci_address *address, uint32_t index, uint32_t total);
void lease_report_settled(struct lease *lease);

/* Notes why bring-up failed; the first failure stands. `what` is static, `address` may be NULL. */
void lease_fail(struct lease *lease, const struct pci_address *address, const char *what,
		int error);
