/* SPDX-License-Identifier: MIT */
/* A selection that is being made, for select.c and parts.c. */
#pragma once

#include "brokerd/claim/claims.h"

struct selecting {
	const struct claims *claims;
	const struct claimant *claimant;
	const struct message_claim *request;
	struct policy_subject subject;
	struct selection *selection; /* as far as it is made */
	uint64_t busy_memlock;	     /* the most that the rules of busy candidates grant */
};

/*
 * policy_usage.leases of a struct selecting: counts what claims_count_by_rule() does, and what the
 * earlier selectors of the same claim want.
 */
uint32_t selecting_count_leases(void *userdata, size_t rule);
