/* SPDX-License-Identifier: MIT */
/*
 * Requests about existing leases: release by the claimer, revocation and restore by root, and the
 * holder's report on migration. Each returns 0 if it is done or begun, else the reason, with
 * *ret_refusal.
 */
#pragma once

#include "brokerd/peer/peer.h"

int release_lease(struct peer *peer, const struct message_release *request,
		  struct message_refusal *ret_refusal);
/* Gives a function's group back to its host drivers, for root. */
int release_device(struct peer *peer, const struct message_restore *request,
		   struct message_refusal *ret_refusal);
/* Notes whether the device of a lease can migrate, as its holder reports. */
int release_note_migration(struct peer *peer, const struct message_migration *note,
			   struct message_refusal *ret_refusal);
