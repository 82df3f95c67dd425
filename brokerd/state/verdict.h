/* SPDX-License-Identifier: MIT */
/*
 * The verdict on lending an IOMMU group. No I/O: the caller passes what was read from sysfs, and
 * gets a permission or a refusal.
 */
#pragma once

#include <stdbool.h>
#include <stddef.h>
#include <stdint.h>

#include "brokerd/state/lease.h"
#include "client/host/function.h"
#include "client/wire/protocol.h"
#include "policy/policy.h"

/* The policy in force. */
struct policy_state {
	struct policy policy;
	bool known;	   /* the loader has sent a policy, or has found mistakes in it */
	bool good;	   /* there is a valid policy; else nothing is lent */
	uint64_t mistakes; /* in the files as they were read last, which are not in force; else 0 */
	bool saved;	   /* it is a copy of the files from when they had no mistake */
	/* When the policy in force came, or was saved, in seconds since the epoch. */
	uint64_t loaded;
};

#define RULE_ORIGIN_MAX 288 /* the size of lease_terms.rule, too */

/*
 * Decides whether this subject may have this group when it asks for functions[asked]. The policy
 * comes first, so that a user whom it refuses learns nothing else; then come the guards of
 * client/host/function.h. `usage` counts what the subject already holds. Returns 0 with
 * *ret_verdict; or the reason of the refusal with *ret_refusal.
 */
int group_decide(const struct group_view *view, const struct policy *policy,
		 const struct policy_subject *subject, size_t asked, uint32_t claim_flags,
		 const struct policy_usage *usage, struct policy_verdict *ret_verdict,
		 struct message_refusal *ret_refusal);

/*
 * The same in two steps, so that the guards' facts need be read only of a group that the policy
 * allows. `judged` is that of policy_decide_again(), or NULL.
 */
int group_permit(const struct group_view *view, const struct policy *policy,
		 const struct policy_subject *subject, size_t asked,
		 const struct policy_usage *usage, struct policy_verdict *judged,
		 struct policy_verdict *ret_verdict, struct message_refusal *ret_refusal);
int group_check(const struct group_view *view, const struct policy_verdict *verdict, size_t asked,
		uint32_t claim_flags, struct message_refusal *ret_refusal);

/* Returns the user who claimed a lease, as recorded. It points into the lease. */
struct policy_subject lease_subject(const struct lease *lease);

/*
 * Decides as group_decide() for a group that is lent and that functions have come into, as if the
 * holder claimed it now: whether the lease's user may have the group with them. The view is
 * changed: the lease's own functions are judged by the drivers that they had before the claim, and
 * pass the guards, since the host does not have them.
 */
int group_decide_lent(struct group_view *view, const struct policy *policy,
		      const struct lease *lease, struct message_refusal *ret_refusal);

/*
 * Writes a rule's origin, "/etc/gpubroker/policy.d/10-lab.policy:7"; "" if there is no rule of that
 * index.
 */
void rule_origin(const struct policy *policy, size_t rule, char out[RULE_ORIGIN_MAX]);
