/* SPDX-License-Identifier: MIT */
/*
 * The claimant: the user and process that a claim is for, as claim/ sees it. A peer embeds one and
 * fills in the functions, so that claim/ need not know about sockets.
 */
#pragma once

#include <stdbool.h>
#include <stddef.h>
#include <stdint.h>

#include "client/wire/protocol.h"
#include "policy/policy.h"

struct claim;
struct claimant;
struct waiting;
struct avoided;
struct check;

struct claimant_ops {
	/*
	 * Reads the claimant's ids and groups; valid until the next call. Returns 0, or -errno:
	 * then nothing may be granted.
	 */
	int (*subject)(const struct claimant *claimant, struct policy_subject *ret_subject);
	/*
	 * Counts what was done for the claimant's user, in the unit of state/users.h. Returns false
	 * if the user had had its share of this turn of the loop before that.
	 */
	bool (*spend)(struct claimant *claimant, uint64_t cost);
	/*
	 * Raises the process' limit of locked memory. Returns 0, or -errno; -ESRCH if the process
	 * has ended.
	 */
	int (*raise_memlock)(const struct claimant *claimant, uint64_t bytes);
	/*
	 * Sends the grant. Returns 0 only if the packet was sent; the descriptors stay the
	 * caller's.
	 */
	int (*grant)(struct claimant *claimant, const struct message_grant *grant, const int *fds,
		     size_t n_fds);
	/* Ends the claim with a refusal. */
	void (*refuse)(struct claimant *claimant, const struct message_refusal *refusal);
	/* Answers a claim that was only asked for: it would be begun. */
	void (*checked)(struct claimant *claimant);
	void (*progress)(struct claimant *claimant, const struct message_step *step);
	/* Sends its place in the queue. Returns false if that was not sent. */
	bool (*queued)(struct claimant *claimant, const struct message_queued *queued);
	/* Returns true if the claimant cannot be answered any more. */
	bool (*is_gone)(const struct claimant *claimant);
};

struct claimant {
	const struct claimant_ops *ops;
	uint32_t uid, gid, pid;	 /* as the kernel reported when it connected */
	struct claim *claim;	 /* being begun or undone, or NULL */
	struct waiting *waiting; /* its place in the queue, or NULL */
	struct check *check;	 /* a claim that is only asked for, or NULL; see claim_check() */
	struct avoided *avoided; /* what its claim leaves to others, or NULL; see opening.h */
	/*
	 * Not a claim: root allots what is selected to this user, under the label. NULL for claims.
	 */
	const char *allots;
	/*
	 * The allotment at whose socket it claims: its uid, gid and groups are those of that
	 * allotment, which has nothing else. "": it is itself.
	 */
	char through[PROTOCOL_LABEL_MAX];
	uint64_t finder_until; /* when its claim waits no longer for the finder; 0: not set */
};
