/* SPDX-License-Identifier: MIT */
/* A selection that is being made, for select.c and parts.c. */
#pragma once

#include "brokerd/claim/claims.h"

struct selecting {
	const struct claims *claims;
	const struct claimant *claimant;
	const struct message_claim *request;
	struct policy_subject subject;
	struct policy_looked_up looked_up; /* of the subject */
	struct selection *selection;	   /* as far as it is made */
	/*
	 * The group that was read last, since several candidates may be in one: each group is read
	 * once, and each function that comes along is judged once. NULL: none.
	 */
	struct group_view *view;
	bool view_has_use; /* sysfs_group_read_use() was done */
	struct policy_verdict judged[FUNCTIONS_MAX];
};

/*
 * policy_usage.leases of a struct selecting: counts the claimant's leases by a rule, and those that
 * the selection will make.
 */
uint32_t selecting_count_leases(void *userdata, size_t rule);
