/* SPDX-License-Identifier: MIT */
/*
 * Refusals: what those about devices, groups and leases have in common, and the names of their
 * reasons in the journal.
 */
#pragma once

#include <stdbool.h>
#include <stdint.h>

#include "brokerd/state/lease.h"
#include "client/wire/protocol.h"

/* Returns a refusal that names nothing yet. */
struct message_refusal refusal_make(uint32_t reason);
/* Returns a refusal's reason as the log names it, "no-group". Static. */
const char *refusal_name(uint32_t reason);

/*
 * Returns true if others have the device, by a lease or an allotment, or something for a moment: so
 * waiting helps.
 */
bool refusal_is_others(int reason);

/* Writes the text that becomes part of the refusal's sentence; a text that is too long is cut. */
void refusal_say(struct message_refusal *refusal, const char *format, ...)
	__attribute__((format(printf, 2, 3)));
/* Names the other function that the refusal is about. */
void refusal_set_other(struct message_refusal *refusal, const struct pci_address *other);
/* Names the device that a lease is about. */
void refusal_name_lease(struct message_refusal *refusal, const struct lease *lease);

/* Each of these fills *ret_refusal and returns its reason. */

/* Refuses a function, for any reason. */
int refuse_address(struct message_refusal *ret_refusal, uint32_t reason,
		   const struct pci_address *address);
/*
 * Refuses because of a fault, ours or the kernel's, in the step `what`; `error` is an errno, or 0.
 */
int refuse_fault(struct message_refusal *ret_refusal, const struct pci_address *address,
		 const char *what, int error);
/* Refuses because of a lease: busy, or stuck with the lease's reason. */
int refuse_held(struct message_refusal *ret_refusal, const struct lease *lease,
		const struct pci_address *address);
/* The same, with the advice for root. */
int refuse_held_for_root(struct message_refusal *ret_refusal, const struct lease *lease,
			 const struct pci_address *address);
/* Refuses because another program has the group through VFIO. */
int refuse_foreign(struct message_refusal *ret_refusal, const struct pci_address *address,
		   uint32_t group);
/*
 * Refuses because others than root may open a node of the group: its path, owner and permissions.
 */
int refuse_node(struct message_refusal *ret_refusal, const struct pci_address *address,
		uint32_t group, const char *path, uint32_t uid, uint32_t mode);
/* Refuses because the group is reserved for a claim that waits. */
int refuse_reserved(struct message_refusal *ret_refusal, const struct pci_address *address,
		    uint32_t group);
