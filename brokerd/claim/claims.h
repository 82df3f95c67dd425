/* SPDX-License-Identifier: MIT */
/*
 * Claims that have begun, and what the files of claim/ share: the context, a claim's items, and how
 * a claim fails. A claim lives from its beginning to the grant or the refusal; afterwards only the
 * leases are left.
 */
#pragma once

#include <stdbool.h>
#include <stddef.h>
#include <stdint.h>
#include <sys/queue.h>

#include "brokerd/claim/claimant.h"
#include "brokerd/claim/queue.h"
#include "brokerd/claim/selection.h"
#include "brokerd/lease/leases.h"
#include "brokerd/record/audit.h"
#include "brokerd/state/allotments.h"
#include "brokerd/state/finding.h"
#include "brokerd/state/holds.h"

/* All but the list and the queue belong to other parts, and outlive the struct. */
struct claims {
	struct event_base *base;
	struct leases *leases;
	const struct policy_state *policy;
	const struct devices *devices;
	struct holds *holds;
	const struct kernel *kernel;
	struct workers *workers;
	struct audit *audit;
	TAILQ_HEAD(claim_list, claim) list;
	struct queue queue;
	TAILQ_HEAD(foreign_list, foreign) foreign;  /* groups that other programs have */
	TAILQ_HEAD(opening_list, opening) openings; /* questions to the finder */
	uint64_t last_question;
	bool finder_late;    /* it has not answered in time, and is not asked until it does */
	bool finder_hurried; /* its last answer was incomplete */
	struct kernel_touches touches;
	bool untouched;		   /* no udev has touched the last new node */
	struct event *late_places; /* ends the wait for claims of the daemon before, or NULL */
	bool place_lost;	   /* the last place could not be recorded, and that is logged */
	bool closed;		   /* the daemon is ending: claims are refused */
	struct allotments *allotments;
	struct event *allotments_end; /* the timer for the next one's end, or NULL */
	bool allotments_lost;	      /* there was no memory for a recorded one */
	/* An allotment was made, is being taken away, or is gone. May be NULL. */
	void (*allotment)(void *userdata, const struct allotment *allotment,
			  enum gpubroker_event_kind kind);
	/* One is about to be gone: its record goes next. May be NULL. */
	void (*allotment_ends)(void *userdata, const struct allotment *allotment);
	/*
	 * /dev/vfio, or else /dev/iommu, is not the one that this process may open, so the daemon
	 * has to be started again. The callee must not end anything before the claim has been
	 * refused.
	 */
	void (*stale)(void *userdata, bool iommu);
	/* Asks the finder. Returns 0, or -errno: there will be no answer. NULL: there is none. */
	int (*find)(void *userdata, const struct finder_question *question);
	void *userdata;
};

/* One lease of a claim. Address, group and terms are in the lease. */
struct claim_item {
	struct lease *lease;	    /* NULL: it has ended, and the host has everything back */
	struct part_choice *choice; /* for a part; else NULL */
	bool none_left;		    /* the claim failed since no instance of its profile is left */
};

/* The device of the first item, for the journal, once its lease has ended. */
struct claim_ended {
	bool has_address;
	struct pci_address asked;
	uint32_t group;
	char rule[RULE_ORIGIN_MAX];
	char profile[PROTOCOL_PROFILE_MAX];
};

struct opening;

struct claim {
	TAILQ_ENTRY(claim) link;
	struct lease_follower follower; /* of all leases of the claim */
	struct claims *claims;
	struct claimant *claimant; /* NULL: it has gone, and the claim is undone */
	size_t n;
	struct claim_item items[PROTOCOL_SELECTORS_MAX];
	struct claim_ended ended;
	struct wanted wanted;
	struct message_claim *request; /* kept to queue the claim and try it again; or NULL */
	bool may_be_foreign;	 /* a group is on VFIO already, so another program may have it */
	struct opening *opening; /* who has its devices open is not known yet; or NULL */
	struct event *settle;	 /* the timer for the pause before the grant, or NULL */
	uint64_t bound_at;	 /* see kernel_nodes_mark() */
	unsigned looks;		 /* at what udev does with the nodes */
	bool settled;		 /* udev has dealt with the nodes, or is not waited for */
	bool cdevs;		 /* the client asked for device nodes */
	bool recorded;		 /* the leases are recorded */
	bool hooked;		 /* hooks run for them, or have run */
	bool bound;		 /* making has begun */
	uint64_t memlock;	 /* the limit to raise to, once settled; 0: none */
	uint64_t memlock_asked;	 /* the client's limit; 0: what the rules grant */
	bool failed;
	struct message_refusal refusal; /* if failed */
};

/* Returns the claim that a lease belongs to, or NULL. */
struct claim *claim_of(const struct lease *lease);
/* Returns the item of a lease, which must belong to a claim. */
struct claim_item *claim_item_of(const struct lease *lease);
/* Returns the choice of a lease of a part; NULL if its claim is gone, or for whole functions. */
struct part_choice *claim_choice_of(const struct lease *lease);

/*
 * Returns true if a claim includes a part. Only after a driver was asked is it known whether one is
 * left.
 */
bool claim_has_part(const struct claim *claim);

/*
 * Counts what a user has by a rule ("file:line"): leases, without `own`, which may be NULL, and the
 * devices that the user's waiting claims keep from others, without those of this claimant.
 */
uint32_t claims_count_by_rule(const struct claims *claims, const struct claimant *claimant,
			      const char *rule, const struct lease *own);

/* Fails a claim; keeps the first refusal. */
void claim_refuse(struct claim *claim, const struct message_refusal *refusal);
/*
 * The same for a step that failed. `address` is the function that failed, or NULL; `error` is an
 * errno, or 0.
 */
void claim_fail(struct claim *claim, const struct lease *lease, const struct pci_address *address,
		const char *what, int error);
/*
 * The same if no instance of a profile is left. `error` is the driver's errno when it failed to
 * make one; 0 if it had said before that none is left.
 */
void claim_refuse_none_left(struct claim *claim, const struct lease *lease,
			    const struct part_choice *choice, int error);

/* Fills the refusal for a user who may not have more claims in the queue. Returns its reason. */
int claim_refuse_to_queue(const struct claimant *claimant, struct message_refusal *ret_refusal);

/* Gives the lease the device and the terms of a candidate. */
void claim_fix_choice(struct lease *lease, const struct part_candidate *candidate);

/* Frees a claim; its leases continue without a follower. */
void claim_free(struct claim *claim);
