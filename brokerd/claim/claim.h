/* SPDX-License-Identifier: MIT */
/*
 * Claims: a peer's request for one or more groups, while it is under way. Afterwards only the
 * leases are left.
 */
#pragma once

#include "brokerd/claim/queue.h"

struct group_view;
struct mdev_choice;

struct claim {
	TAILQ_ENTRY(claim) link;
	struct daemon *daemon;
	struct peer *peer; /* NULL: gone, and the claim with it */
	size_t n;
	struct lease *leases[PROTOCOL_SELECTORS_MAX]; /* NULL: ended already, on the way back */
	/* Of each one of the two: the group as it was when it was decided, or what it may become. */
	struct group_view *views[PROTOCOL_SELECTORS_MAX];
	struct mdev_choice *mdevs[PROTOCOL_SELECTORS_MAX];
	struct wanted wanted; /* what it could have, were it free: see queue.h */
	bool cdevs;	      /* asked for */
	struct message_claim
		*request; /* where it rather waits than hears that of a profile none is left */
	bool bound;	  /* recorded, and binding is begun */
	struct pci_address asked[PROTOCOL_SELECTORS_MAX];
	struct lease_terms terms[PROTOCOL_SELECTORS_MAX];
	size_t n_gids; /* of the claimer's supplementary groups, the first */
	uint32_t gids[LEASE_GIDS_MAX];
	uint64_t memlock; /* to raise to; 0: not at all */
	/* What was asked for, where it is not known yet whether that may be: see mdev_settle(). */
	uint64_t memlock_asked;
	bool undecided; /* a part of it is not known yet, nor its rule */
	bool failed;
	struct message_refusal refusal; /* if failed */
};

/*
 * Decides a claim and begins it. 0: begun, the answer follows; else the reason, with *ret_refusal.
 */
int claim_start(struct peer *peer, const struct message_claim *request,
		struct message_refusal *ret_refusal);
/* Would it be begun? 0, or the reason, with *ret_refusal; nothing has changed, and nothing is logged. */
int claim_ask(struct peer *peer, const struct message_claim *request,
	      struct message_refusal *ret_refusal);
/* Is one of what it wants a part of a device? Then whether there is one is known only when it was asked. */
bool claim_has_part(const struct claim *claim);
/* Its peer is gone. */
void claim_abandon(struct claim *claim);

/* ---- select.c ---- */

/*
 * Fills the claim's groups from the request. 0, or the reason, with *ret_refusal; nothing has
 * changed.
 */
int claim_decide(struct claim *claim, const struct message_claim *request,
		 struct message_refusal *ret_refusal);
/* Does a name, or "any", mean the device? Of addresses and groups it says no. */
bool selector_means(const struct daemon *daemon, const struct selector *selector,
		    const struct device *device);
/* The refusal for a group that is on its way to a VFIO driver; late: and does not get there. */
int refuse_prepared(struct message_refusal *ret_refusal, const struct pci_address *address,
		    uint32_t group, bool late);
/* Says of a refusal which lease's device it is about. */
void refusal_name_lease(struct message_refusal *refusal, const struct lease *lease);
/* The refusal for a group that a lease has: busy or stuck. Its reason. */
int refuse_held(struct message_refusal *ret_refusal, const struct lease *lease,
		const struct pci_address *address);

/* ---- for lending.c, about a lease of the claim ---- */

/* Looks where the claim stands and does what is next; it may be gone afterwards. */
void claim_advance(struct claim *claim);
/* A step failed: remembers the first failure as the answer. claim_advance() then puts all back. */
void claim_fail(struct claim *claim, const struct lease *lease, const struct pci_address *address,
		const char *what, int error);
/* A worker of the lease does not come back. */
void claim_stuck(struct claim *claim, const struct lease *lease, const struct pci_address *address);
/* The lease has ended, all is put back. */
void claim_forget(struct claim *claim, struct lease *lease);
/* Tells the peer of a step, if there still is one. */
void claim_step(struct lease *lease, enum gpubroker_step step, const struct pci_address *address,
		uint32_t index, uint32_t total);
