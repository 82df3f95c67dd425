/* SPDX-License-Identifier: MIT */
/*
 * Makes allotments and takes them away, see state/allotments.h. An allotment is recorded before
 * root gets its answer, and in force from then on, also in the next daemon.
 *
 * To take one away takes three steps, and a daemon that is killed between them goes on with the
 * next: it is recorded as `retracting`, so that nobody can claim by it any more; the leases by it
 * are revoked; and when the host has their devices, the record is removed.
 */
#pragma once

#include "brokerd/claim/claims.h"

/*
 * Reads the records of the daemon before, so before anything is lent. Returns 0, or -errno: it
 * could not read them all.
 */
int allot_recover(struct claims *claims);
/* The daemon serves: from now on allotments end in time, and those that were being taken away. */
void allot_serve(struct claims *claims);
void allot_done(struct claims *claims);

/*
 * Allots devices for root, whose process is `pid`. The policy and the guards must let the user
 * claim each of them, by a rule with `allotted`, and each must be free. Returns 0: it is in force;
 * or the reason, and then nothing has changed.
 */
int allot_make(struct claims *claims, uint32_t pid, const struct message_allot *request,
	       struct message_refusal *ret_refusal);
/*
 * Begins to take an allotment away; it is gone when the host has all its devices. Does nothing if
 * there is none of the label. Returns 0, or the reason.
 */
int allot_retract(struct claims *claims, uint32_t pid, const char label[PROTOCOL_LABEL_MAX],
		  struct message_refusal *ret_refusal);
/*
 * Returns 0 if an allotment may have a socket of that name, which it may have already; or the
 * reason.
 */
int allot_check_socket(struct claims *claims, const struct message_socket *request,
		       struct message_refusal *ret_refusal);
/* Checks the same, and records that it has one. Returns 0 with *ret_allotment, or the reason. */
int allot_set_socket(struct claims *claims, uint32_t pid, const struct message_socket *request,
		     const struct allotment **ret_allotment, struct message_refusal *ret_refusal);
/* The lease is about to be freed: it may have been the last one of an allotment. */
void allot_lease_freed(struct claims *claims, const struct lease *lease);
