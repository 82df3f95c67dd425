/* SPDX-License-Identifier: MIT */
/* A selection in the making, for select.c and parts.c. */
#pragma once

#include "brokerd/claim/claims.h"

struct selecting {
	const struct claims *claims;
	const struct claimant *claimant;
	const struct message_claim *request;
	struct policy_subject subject;
	struct selection *selection; /* so far */
};

/*
 * policy_usage.leases of a struct selecting: counts the leases by a rule, with those of the
 * selection so far.
 */
uint32_t selecting_count_leases(void *userdata, size_t rule);
