/* SPDX-License-Identifier: MIT */
/*
 * Refusals: what is common to those about devices, groups and leases, and their names in the
 * journal.
 */
#pragma once

#include <stdint.h>

#include "brokerd/state/lease.h"
#include "client/wire/protocol.h"

/* Returns a refusal that names nothing yet. */
struct message_refusal refusal_make(uint32_t reason);
/* Returns a refusal's reason as the log names it, "no-group". Static. */
const char *refusal_name(uint32_t reason);

/* Writes the text that goes into the sentence; cut where it is too long. */
void refusal_say(struct message_refusal *refusal, const char *format, ...)
	__attribute__((format(printf, 2, 3)));
/* Names the other function that the refusal is about. */
void refusal_set_other(struct message_refusal *refusal, const struct pci_address *other);
/* Names the device that a lease is about. */
void refusal_name_lease(struct message_refusal *refusal, const struct lease *lease);

/* Each of these fills *ret_refusal and returns its reason. */

/* About a function, for any reason. */
int refuse_address(struct message_refusal *ret_refusal, uint32_t reason,
		   const struct pci_address *address);
/* A fault of ours or of the kernel at that step; `error` is an errno, or 0. */
int refuse_fault(struct message_refusal *ret_refusal, const struct pci_address *address,
		 const char *what, int error);
/* A lease has it: busy, or stuck with the lease's reason. */
int refuse_held(struct message_refusal *ret_refusal, const struct lease *lease,
		const struct pci_address *address);
/* The same, with the advice that helps root. */
int refuse_held_for_root(struct message_refusal *ret_refusal, const struct lease *lease,
			 const struct pci_address *address);
/* A claim that waits is to have it next. */
int refuse_reserved(struct message_refusal *ret_refusal, const struct pci_address *address,
		    uint32_t group);
