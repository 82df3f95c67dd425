/* SPDX-License-Identifier: MIT */
/* Root's requests to allot devices and to take allotments away. */
#pragma once

#include "brokerd/peer/peer.h"

/* Each returns 0, or the reason with *ret_refusal. */
int allotting_make(struct peer *peer, const struct message_allot *request,
		   struct message_refusal *ret_refusal);
int allotting_retract(struct peer *peer, const struct message_retract *request,
		      struct message_refusal *ret_refusal);
int allotting_socket(struct peer *peer, const struct message_socket *request,
		     struct message_refusal *ret_refusal);

/*
 * Returns 0 if no allotment reserves the function, or its group; else the reason, for root, who
 * would change its driver.
 */
int allotting_check(const struct peer *peer, const struct pci_address *address,
		    struct message_refusal *ret_refusal);

/* Fills the answer about an allotment, for the peer. */
struct message_allotment allotting_message(const struct peer *peer,
					   const struct allotment *allotment);
