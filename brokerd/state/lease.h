/* SPDX-License-Identifier: MIT */
/*
 * Leases: one for each IOMMU group that is not wholly the host's, and one for each mediated device
 * or vGPU. The table and its states, without I/O. The files of lease/ do what the states stand for.
 */
#pragma once

#include <stdbool.h>
#include <stddef.h>
#include <stdint.h>
#include <sys/queue.h>

#include "brokerd/state/ender.h"
#include "brokerd/state/hooking.h"
#include "client/gpubroker.h"
#include "client/wire/protocol.h"

struct event;
struct group_view;
struct lease;
struct lease_kind;
struct policy;
struct work;

/* How a function was before the claim, and is to be again. */
struct lease_function {
	struct pci_address address;
	uint16_t vendor;
	uint16_t device;
	char driver[PROTOCOL_NAME_MAX];	  /* "": none; LEASE_DRIVER_UNKNOWN */
	char override[PROTOCOL_NAME_MAX]; /* "": none */
	/* See lease/taken.h. */
	uint64_t binding; /* the number of its link to the VFIO driver; 0: not known */
	char lent_by[PROTOCOL_NAME_MAX]; /* the VFIO driver then */
	bool taken; /* somebody else has changed it since, so it is left as it is */
	/* Not recorded. */
	bool away;    /* it was seen without a VFIO driver */
	bool bare;    /* taken, and was seen without a driver, with the override of a VFIO driver */
	bool written; /* the last attempt to give it back has written its override ... */
	bool differs; /* ... and another one was read, or somebody has bound it meanwhile */
	uint64_t before; /* the number of its link when that attempt began; 0: none */
	enum { PROBE_NO, PROBE_DUE, PROBE_DONE } probe; /* taken, and without a driver */
};

/*
 * Instead of functions: a mediated device, whose parent need not be a PCI function, or a vendor's
 * vGPU, whose parent is the VF that becomes it. A host driver makes either for the lease. All
 * fields are recorded.
 */
struct lease_mdev {
	char parent[PROTOCOL_NAME_MAX]; /* "": the lease is of functions */
	char type[PROTOCOL_PROFILE_MAX];
	char name[PROTOCOL_PROFILE_MAX]; /* the driver's name for the type, or "" */
	char uuid[PROTOCOL_UUID]; /* of a mediated device; we choose it before the device is made */
	bool vendor;		  /* a vendor's vGPU, not a mediated device */
};

/* The driver was not recorded, so at the end any driver that claims the function may have it. */
#define LEASE_DRIVER_UNKNOWN "?"

/* The terms of the rule that granted the lease. */
struct lease_terms {
	char rule[288];	   /* the rule itself, as file:line */
	uint64_t lifetime; /* seconds that the lease may last; 0: no limit */
	uint64_t kill;	   /* seconds between the signals that end its holder; 0: it is not ended */
	char vfio_driver[PROTOCOL_NAME_MAX]; /* the rule's VFIO driver; "": the kernel's choice */
	bool require_reset; /* every function is reset before another client gets it */
	bool in_use;	    /* also while programs have it open; not recorded either */
	uint64_t memlock;   /* bytes of locked memory; not recorded, only the grant needs it */
};

/*
 * The claimer's supplementary groups are kept, so that a later policy can be asked: first those
 * that rules name, see selecting_keep_groups(). A user may have 65536, and a record holds so many.
 */
#define LEASE_GIDS_MAX 256

enum lease_event {
	LEASE_CLAIMED,	/* a claim may have the group, or a record names it */
	LEASE_BOUND,	/* everything is on VFIO, and the mediated device or vGPU is made */
	LEASE_ABANDON,	/* a step or another lease of the claim failed, or the claimer left */
	LEASE_SENT,	/* the descriptor has been sent to the peer */
	LEASE_RECALLED, /* released, revoked, expired, or a function vanished; held or not */
	LEASE_CLOSED,	/* inotify: the last reference to the open group file is going */
	LEASE_REGAINED, /* the group could be opened, so nobody else has it */
	LEASE_RESTORED, /* the host has everything back, as it was */
	LEASE_FAILED,	/* the host does not have everything back */
	LEASE_LATE,	/* a worker has not ended in time */
	LEASE_WAITS,	/* nor has this one, because a process has what was lent */
	LEASE_N_EVENTS,
};

/* Why a lease could not be brought up; the claim reads it. */
struct lease_failure {
	const char *what;	    /* static: the step that failed, or the fault; NULL: none */
	struct pci_address address; /* the function that failed */
	bool has_address;
	bool none_left; /* the driver has no instance of the profile left */
	bool foreign;	/* another program has the group through VFIO */
	bool hook;	/* a hook failed: `hooked` says how */
	struct hook_answer hooked;
	int error; /* errno, or 0 */
};

/* Hooks that the lease waits for, see lease/hooks.h. */
struct lease_hook {
	enum hook_event event; /* HOOK_NONE: it waits for none */
	uint64_t id;	       /* of the question; 0: not asked yet */
	unsigned tries;	       /* runners that were asked */
	bool due;	       /* `answer` is to be reported */
	struct hook_answer answer;
	void (*done)(struct lease *lease, const struct hook_answer *answer);
};

/*
 * Follows a lease while it is being claimed. A lease may have no follower in any state: then its
 * claim has been answered, and the remaining work is done for the host.
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
	 * The host has everything back, and the lease is about to be freed. settled() follows, with
	 * NULL for the lease.
	 */
	void (*over)(struct lease_follower *follower, struct lease *lease);
};

struct lease {
	TAILQ_ENTRY(lease) link;
	struct lease_table *table;
	const struct lease_kind *kind; /* functions, mdev or vGPU */
	/* ---- recorded in the state directory ---- */
	uint64_t id;
	uint32_t group; /* UINT32_MAX: the mediated device or vGPU is not made yet */
	uint32_t uid;
	uint32_t pid;
	uint32_t gid;
	uint64_t since;		  /* seconds since the epoch */
	uint64_t ends;		  /* when it is taken back, in the same seconds; 0: never */
	uint64_t stuck_since;	  /* stuck or asked, in the same seconds; 0: neither */
	char reason[128];	  /* why it is stuck or asked */
	struct pci_address asked; /* the function that the claim named */
	struct lease_terms terms;
	size_t n_gids;
	uint32_t gids[LEASE_GIDS_MAX];
	size_t n_functions;
	struct lease_function functions[PROTOCOL_FUNCTIONS_MAX];
	struct lease_mdev mdev;
	enum gpubroker_migration migration; /* as the holder has reported */
	char label[PROTOCOL_LABEL_MAX];	    /* of the allotment that it was granted by, or "" */
	/* ---- known to this process only; all of it can be found out again ---- */
	enum gpubroker_lease_state state;
	bool recorded;	      /* there is a record, so its functions may have been changed */
	bool lent;	      /* a holder has had it, so restore must unbind it */
	bool forced;	      /* root has asked for it, with or without a reset */
	char damaged[64];     /* the damaged record that keeps it from being lent, or "" */
	uint64_t as_recorded; /* bit i: function i's override was read, and is as recorded */
	bool bare;	      /* the last look found a function bare for the first time */
	bool again;	      /* ... or one that is to be given back in another way */
	bool too_long;	      /* an override did not fit into `functions` */
	bool offered;	      /* the driver still offers the vGPU's type */
	struct lease_failure failure;
	int watch;			      /* inotify's watch of the group, or -1 */
	int cdev_watches[PROTOCOL_CDEVS_MAX]; /* inotify's watches of device nodes */
	size_t n_cdev_watches;
	/* the group file that was lent: any process may have it open, or none */
	enum { GROUP_OPEN, GROUP_UNKNOWN, GROUP_CLOSED } group_file;
	bool attached;	      /* its holder has closed the group, and uses a device by an iommufd */
	bool busy;	      /* a probe found that a process has it; no close came since */
	uint64_t released_at; /* when its holder let go, in seconds since the epoch; 0: not yet */
	const char *slow;     /* static: what it has waited for since; NULL: not for long */
	bool late;	      /* lent, and the worker that binds what came has not ended in time */
	struct work *work;    /* its worker, or NULL */
	/* how far a worker that asks and makes is: see bringup.c */
	enum lease_asking {
		ASKING_NOTHING,
		ASKING_READS, /* what is to be recorded */
		ASKING_WAITS, /* until that is recorded */
		ASKING_MAKES, /* the lease */
		ASKING_ENDS,  /* it is not wanted any more */
		ASKING_AGAIN, /* the same, and another one makes the lease */
	} asking;
	bool made_otherwise; /* that worker's steps are not those that the lease takes now */
	bool gives_way;	     /* the worker that gives it back lets others come first */
	bool probing;	     /* that worker only probes whether anybody holds the group */
	struct lease_hook hook;
	uint64_t warn_at; /* when the holder is warned that the lease ends soon */
	bool warned;
	const char *recall; /* static: why to take it back once its worker has ended */
	/* see lease/kill.h */
	struct ender_node nodes[ENDER_NODES_MAX]; /* of its group, and of its devices */
	size_t n_nodes;
	bool group_noted;	  /* the first of them is its group's */
	struct event *kill_timer; /* or NULL */
	uint32_t kills;		  /* orders to the ender */
	bool kill_unanswered;
	uint32_t kill_waits; /* how often its end has waited for that answer */
	bool term_sent;
	struct event *expiry; /* the timer for `ends` and `warn_at`, or NULL */
	/* one function that is called later, see lease_later() */
	struct event *timer;
	void (*later)(struct lease *lease);
	unsigned tries;			 /* how often `later` has been tried */
	unsigned restores;		 /* how often it has become stuck after a restore */
	bool waits_for_driver;		 /* the latest of them because its driver is not loaded */
	struct lease_follower *follower; /* while it is being claimed; else NULL */
};

/*
 * Events that the owner of the table handles. Each is called when the lease's fields are complete;
 * none may free it.
 */
struct lease_events {
	/* The lease's state, or the reason why it is stuck, has changed. */
	void (*state)(void *userdata, const struct lease *lease);
	/* The lease ends soon. */
	void (*ending)(void *userdata, const struct lease *lease);
	/*
	 * A function came to the lease's group, or vanished from it. `refused` is why one that came
	 * is not lent, or NULL.
	 */
	void (*function)(void *userdata, const struct lease *lease,
			 const struct pci_address *address, bool came, const char *refused);
	/* The host has everything back; the devices of the lease are free. */
	void (*freed)(void *userdata, const struct lease *lease);
	/* The lease is lent and its worker has ended, so pending changes can be made now. */
	void (*resumed)(void *userdata, struct lease *lease);
	/* Few numbers are left, see lease_table.end. Called for each that is taken. May be NULL. */
	void (*few_numbers)(void *userdata);
};

/* terms.rule of a lease that no rule granted: root restores its group, or its record is damaged. */
#define LEASE_RULE_RESTORE "gpubroker restore"
#define LEASE_RULE_NONE "-"

#define LEASES_MAX 512
#define LEASE_NUMBERS_FEW 128

struct lease_table {
	TAILQ_HEAD(lease_list, lease) list; /* by id */
	uint64_t next_id;
	uint64_t end; /* this number and those above may not be taken; UINT64_MAX: all may */
	size_t n;
	const struct lease_events *events; /* NULL: no event is handled */
	void *userdata;
};

void lease_table_init(struct lease_table *table, const struct lease_events *events, void *userdata);

/*
 * Makes a lease in state PREPARING and puts it into the table, which owns it. id 0 takes the next
 * id. Returns NULL if there is no memory, or no id is left.
 */
struct lease *lease_new(struct lease_table *table, uint64_t id, uint32_t group);
/*
 * Takes the next id for something else than a lease, so that no lease gets it. Returns 0 if no id
 * is left.
 */
uint64_t lease_take_id(struct lease_table *table);
/* Returns true if lease_new() can take an id. */
bool lease_has_id(const struct lease_table *table);
/*
 * Removes a lease from the table and frees it. Its worker, watches and timers must be gone already.
 * Returns NULL; takes NULL.
 */
struct lease *lease_free(struct lease *lease);

/* Returns the lease of a group, or NULL; always NULL for UINT32_MAX, which is no group. */
struct lease *lease_find_group(const struct lease_table *table, uint32_t group);
/* Returns the lease of the vGPU that a VF has become, or NULL. */
struct lease *lease_find_vgpu(const struct lease_table *table, const char *vf);
/* Returns the lease with this id, or NULL. */
struct lease *lease_find_id(const struct lease_table *table, uint64_t id);
/* Returns the first lease, by id, whose id is at least `id`: a cursor that survives changes. */
struct lease *lease_find_from(const struct lease_table *table, uint64_t id);
/* Returns the lease that has this inotify watch, of its group or of a device node; or NULL. */
struct lease *lease_find_watch(const struct lease_table *table, int watch);
/*
 * Returns the lease of a mediated device or vGPU whose parent is a function of the group; or NULL.
 */
struct lease *lease_find_below(const struct lease_table *table, const struct group_view *view);
/*
 * Counts the leases that the owner of uid has by a rule ("file:line"), without `own`, which may be
 * NULL. A lease is its uid's, so it counts for whoever owns that now.
 */
uint32_t lease_count_by_rule(const struct lease_table *table, const struct policy *policy,
			     uint32_t uid, const char *rule, const struct lease *own);

/*
 * Moves the lease to the next state, by the one table of states and events. Returns true, and calls
 * events->state() if the state has changed; returns false and changes nothing if the event means
 * nothing in this state (a late hint). A lease that becomes STUCK or ASKED is reported by
 * lease_mark_stuck() instead, which knows the reason. LEASE_RESTORED ends the lease, and the caller
 * frees it.
 */
bool lease_transition(struct lease *lease, enum lease_event event);

/* Sets the lease's functions to those of the group. How they were before the lease is unknown. */
void lease_adopt_group(struct lease *lease, const struct group_view *view);

/* Returns true for a mediated device or a vGPU, which a host driver makes. */
bool lease_is_made(const struct lease *lease);
/*
 * Returns true if `asked` is an address. The parent of a mediated device need not be a PCI
 * function.
 */
bool lease_has_address(const struct lease *lease);
/* Returns true if the lease is going back to the host, so that waiting helps. */
bool lease_is_leaving(const struct lease *lease);
/* Returns true if the lease is STUCK or ASKED: its worker may never end. */
bool lease_is_overdue(const struct lease *lease);
/*
 * Returns true if a process is known to have what was lent: the open file of the group, of which
 * inotify would have told the close, or what a probe has found before the lease was taken back.
 */
bool lease_has_holder(const struct lease *lease);
/*
 * Returns true if a function came into the group of a lent lease and is not on VFIO yet: the broker
 * binds it, so nobody has taken it from the lease.
 */
bool lease_function_comes(const struct lease *lease, const struct lease_function *function);
/* Returns true if the function is one of the lease's functions. */
bool lease_has_function(const struct lease *lease, const struct pci_address *address);

/* These call the follower's functions, if the lease has a follower. */
void lease_report_progress(struct lease *lease, enum gpubroker_step step,
			   const struct pci_address *address, uint32_t index, uint32_t total);
void lease_report_settled(struct lease *lease);

/* Notes why bring-up failed; keeps the first failure. `what` is static, `address` may be NULL. */
void lease_fail(struct lease *lease, const struct pci_address *address, const char *what,
		int error);
