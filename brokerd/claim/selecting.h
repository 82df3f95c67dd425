/* SPDX-License-Identifier: MIT */
/* A selection that is being made, for select.c and parts.c. */
#pragma once

#include "brokerd/claim/claims.h"
#include "brokerd/claim/views.h"

struct selecting {
	const struct claims *claims;
	const struct claimant *claimant;
	const struct message_claim *request;
	struct policy_subject subject;
	struct policy_looked_up looked_up; /* of the subject */
	struct selection *selection;	   /* as far as it is made */
	uint64_t busy_memlock;		   /* the most that the rules of busy candidates grant */
	struct views views;		   /* the groups that were read */
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
