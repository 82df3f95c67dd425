/* SPDX-License-Identifier: MIT */
/*
 * What keeps a group from being lent besides the policy and the guards: the kernel, a lease,
 * another program. Each check returns 0, or the reason with its refusal. They change nothing.
 */
#pragma once

#include "brokerd/claim/selecting.h"
#include "client/host/function.h"

/* Checks that each function can be reset, for a rule that requires it. Resets nothing. */
int check_reset(const struct kernel *kernel, const struct group_view *view, size_t asked,
		struct message_refusal *ret_refusal);
/*
 * Checks that VFIO would attach the group, which it does not where a device could raise any
 * interrupt of the host's.
 */
int check_interrupts(const struct selecting *s, const struct group_view *view, size_t asked,
		     struct message_refusal *ret_refusal);
/*
 * Returns true if rules with `allotted` count for the claimant and the group: it is allotted to
 * that user, whether or not that still serves, or root asks whether it can be.
 */
bool check_allotted(const struct selecting *s, const struct group_view *view);
/* Checks that the group is of the allotment at whose socket it is claimed. */
int check_through(const struct selecting *s, const struct group_view *view,
		  const struct pci_address *address, struct message_refusal *ret_refusal);
/*
 * Checks, if root would allot the function, that a rule with `allotted` is about it; and if such a
 * rule lets its user claim it, that the allotment serves. Returns 0, or the reason.
 */
int check_rule(const struct selecting *s, const struct group_view *view,
	       const struct pci_address *address, const struct policy_verdict *verdict,
	       struct message_refusal *ret_refusal);
/*
 * Checks that no lease, allotment, reservation, hold or program that the claim avoids has the
 * group.
 */
int check_free(const struct selecting *s, const struct group_view *view,
	       const struct pci_address *address, struct message_refusal *ret_refusal);
/* Checks that only root may open the group's node, if it has one. */
int check_node(const struct selecting *s, const struct group_view *view,
	       const struct pci_address *address, struct message_refusal *ret_refusal);
