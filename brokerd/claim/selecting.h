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
	uint64_t busy_memlock;		   /* the most that the rules of busy candidates grant */
	/*
	 * The group that was read last, since several candidates may be in one: each group is read
	 * once, and each function that comes along is judged once. NULL: none.
	 */
	struct group_view *view;
	bool view_is_whole; /* else it has too many functions, see sysfs_group_read() */
	bool view_has_use;  /* sysfs_group_read_use() was done */
	struct policy_verdict judged[FUNCTIONS_MAX];
};

/*
 * policy_usage.leases of a struct selecting: counts what claims_count_by_rule() does, and what the
 * earlier selectors of the same claim want.
 */
uint32_t selecting_count_leases(void *userdata, size_t rule);

/* Keeps the claimant's supplementary group that this rule is for, if it is for one. */
void selecting_keep_group_of(struct selecting *s, size_t rule);
/*
 * Keeps the claimant's supplementary groups, as many as there is room for: behind those of granting
 * rules the ones that deny rules name, then those of allow rules, and then any.
 */
void selecting_keep_groups(struct selecting *s);
