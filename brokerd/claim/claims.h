/* SPDX-License-Identifier: MIT */
/*
 * Claims under way, and what the files of claim/ share: the context, a claim's items, and how a
 * claim fails. A claim lives from its beginning to the grant or the refusal; afterwards only the
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
#include "brokerd/state/holds.h"

/* All but the list and the queue are other parts', and outlive it. */
struct claims {
	struct event_base *base;
	struct leases *leases;
	const struct policy_state *policy;
	const struct devices *devices;
	const struct holds *holds;
	const struct kernel *kernel;
	struct workers *workers;
	struct audit *audit;
	TAILQ_HEAD(claim_list, claim) list;
	struct queue queue;
	bool closed; /* the daemon is ending: nothing is claimed any more */
};

/* One lease of a claim. Its address, group and terms are the lease's. */
struct claim_item {
	struct lease *lease;	    /* NULL: it has ended, the host has everything back */
	struct part_choice *choice; /* of a part, else NULL */
};

/* What the first item was about, for the journal, once its lease has ended. */
struct claim_ended {
	bool has_address;
	struct pci_address asked;
	uint32_t group;
	char rule[RULE_ORIGIN_MAX];
	char profile[PROTOCOL_PROFILE_MAX];
};

struct claim {
	TAILQ_ENTRY(claim) link;
	struct lease_follower follower; /* of all its leases */
	struct claims *claims;
	struct claimant *claimant; /* NULL: gone, and the claim goes with it */
	size_t n;
	struct claim_item items[PROTOCOL_SELECTORS_MAX];
	struct claim_ended ended;
	struct wanted wanted;
	struct message_claim *request; /* kept if the claim may be queued when no instance is left;
					  else NULL */
	bool cdevs;		       /* asked for */
	bool bound;		       /* recorded, and making is begun */
	uint64_t memlock;	       /* to raise to; 0: not at all */
	uint64_t memlock_asked;	       /* 0: nothing is left to be settled */
	bool failed;
	struct message_refusal refusal; /* if failed */
};

/* Returns the claim that a lease is of, or NULL. */
struct claim *claim_of(const struct lease *lease);
/* Returns the claim's item of a lease, which must be one of it. */
struct claim_item *claim_item_of(const struct lease *lease);
/* Returns what the lease may become, or NULL: it has no claim any more. */
struct part_choice *claim_choice_of(const struct lease *lease);

/*
 * Returns true if a claim wants a part: whether one is left is known only when the driver was
 * asked.
 */
bool claim_has_part(const struct claim *claim);

/* Fails a claim; the first refusal stands. */
void claim_refuse(struct claim *claim, const struct message_refusal *refusal);
/*
 * The same for a step that failed. `address` is of the function that it is about, or NULL; `error`
 * an errno or 0.
 */
void claim_fail(struct claim *claim, const struct lease *lease, const struct pci_address *address,
		const char *what, int error);
/*
 * The same where no instance of a profile is left; `error` is what the driver returned, or 0 where
 * it was asked in time.
 */
void claim_refuse_none_left(struct claim *claim, const struct lease *lease,
			    const struct part_choice *choice, int error);

/*
 * Fills the refusal for a user who has as many claims in the queue as one may. Returns its reason.
 */
int claim_refuse_to_queue(struct message_refusal *ret_refusal);

/* Makes the lease what a candidate says. */
void claim_fix_choice(struct lease *lease, const struct part_candidate *candidate);

/* Frees a claim; its leases go on without one. */
void claim_free(struct claim *claim);
