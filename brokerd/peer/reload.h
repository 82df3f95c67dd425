/* SPDX-License-Identifier: MIT */
/* Requests about the policy as a whole: which one is in force, and root's that it be read again. */
#pragma once

#include "brokerd/peer/peer.h"

/*
 * Answers at once, or when the load that the request is about has ended. Returns 0, or the reason
 * of the refusal.
 */
int reload_ask(struct peer *peer, const struct message_policy *request,
	       struct message_refusal *ret_refusal);

/* The load of that number has ended: answers the peers that waited for it. */
void reload_ended(struct peers *peers, uint64_t load);
