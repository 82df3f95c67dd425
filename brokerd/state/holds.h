/* SPDX-License-Identifier: MIT */
/*
 * Holds: reasons other than a lease that keep a group from being lent. prepare/ and claim/ add
 * them, each embedded in the object that it is about; claim/ and peer/ read them. No I/O.
 */
#pragma once

#include <stdbool.h>
#include <stdint.h>
#include <sys/queue.h>

#include "client/host/function.h"
#include "client/wire/protocol.h"

enum hold_kind {
	HOLD_PREPARING, /* a group is being bound to VFIO, as the policy's prepare asks */
	HOLD_FOREIGN,	/* a claim has found that another program has a group through VFIO */
	HOLD_SRIOV,	/* the number of a physical function's virtual functions is being changed */
};

struct hold {
	TAILQ_ENTRY(hold) link;
	enum hold_kind kind;
	uint32_t group;		     /* for HOLD_PREPARING and HOLD_FOREIGN */
	struct pci_address function; /* for HOLD_SRIOV: the physical function */
	bool late;		     /* its worker has not ended in time */
};

struct holds {
	TAILQ_HEAD(hold_list, hold) list;
};

void holds_init(struct holds *holds);
/* The hold stays the caller's, which must remove it before freeing it. */
void holds_add(struct holds *holds, struct hold *hold);
void holds_remove(struct holds *holds, struct hold *hold);

/* Returns the hold of a group that is being prepared, or NULL. */
const struct hold *holds_find_group(const struct holds *holds, uint32_t group);
/* Returns the hold of a group that another program has, or NULL. */
const struct hold *holds_find_foreign(const struct holds *holds, uint32_t group);
/* Returns the hold of an SR-IOV change that affects a function of the view, or its PF; or NULL. */
const struct hold *holds_find_sriov(const struct holds *holds, const struct group_view *view);

/* Fills the refusal for a group that is being prepared. Returns its reason. */
int refuse_preparing(struct message_refusal *ret_refusal, const struct hold *hold,
		     const struct pci_address *asked);
/*
 * Fills the refusal for a function whose own VFs, or whose PF's VFs, are being changed. Returns its
 * reason.
 */
int refuse_sriov(struct message_refusal *ret_refusal, const struct hold *hold, uint32_t group,
		 const struct pci_address *asked);
/*
 * Returns 0 if there is no hold on the view; else fills the refusal, about the function asked for,
 * and returns its reason.
 */
int holds_refuse(const struct holds *holds, const struct group_view *view,
		 const struct pci_address *asked, struct message_refusal *ret_refusal);
