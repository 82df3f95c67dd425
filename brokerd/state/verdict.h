/* SPDX-License-Identifier: MIT */
/*
 * The verdict on lending an IOMMU group. Pure: what was read from sysfs comes in, yes or a refusal
 * goes out.
 */
#pragma once

#include <stdbool.h>
#include <stddef.h>
#include <stdint.h>

#include "client/host/function.h"
#include "client/wire/protocol.h"
#include "policy/policy.h"

/* The policy in force. */
struct policy_state {
	struct policy policy;
	bool known; /* the loader has answered, with a policy or with mistakes */
	bool good;  /* there is a policy; else nothing is lent */
};

#define RULE_ORIGIN_MAX 288 /* of lease_terms.rule, too */

/*
 * Decides whether this subject may have this group, asking for functions[asked]. The policy comes
 * first, so a user whom it refuses learns nothing else; then the guards of client/host/function.h.
 * Returns 0, with the policy's verdict; or the refusal's reason, with *ret_refusal filled. `usage`
 * counts what the subject holds already.
 */
int group_decide(const struct group_view *view, const struct policy *policy,
		 const struct policy_subject *subject, size_t asked, uint32_t claim_flags,
		 const struct policy_usage *usage, struct policy_verdict *ret_verdict,
		 struct message_refusal *ret_refusal);

/*
 * Writes "/etc/gpubroker/policy.d/10-lab.policy:7" for a rule's index; "" where there is no such
 * rule.
 */
void rule_origin(const struct policy *policy, size_t rule, char out[RULE_ORIGIN_MAX]);
