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

/* A refusal that names nothing yet. */
struct message_refusal refusal_make(uint32_t reason);

/*
 * May this subject have this group, asking for functions[asked]? Policy first, so that who may not
 * have it learns nothing else; then the boot VGA and what the host is using. 0, with the policy's
 * verdict; or the refusal's reason, with *ret_refusal filled. usage tells what the subject holds
 * already.
 */
int group_decide(const struct group_view *view, const struct policy *policy,
		 const struct policy_subject *subject, size_t asked, uint32_t claim_flags,
		 const struct policy_usage *usage, struct policy_verdict *ret_verdict,
		 struct message_refusal *ret_refusal);

/* A refusal's reason as the log names it, "no-group". Static. */
const char *refusal_name(uint32_t reason);

/* "/etc/gpubroker/policy.d/10-lab.policy:7" of a rule's index; "" for none. */
void rule_origin(const struct policy *policy, size_t rule, char out[288]);
