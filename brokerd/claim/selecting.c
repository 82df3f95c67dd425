/* SPDX-License-Identifier: MIT */
/* Shared by select.c and parts.c, see selecting.h. */
#include "config.h"

#include "brokerd/claim/selecting.h"

#include <string.h>

/*
 * A rule is identified by its file and line, so that a lease still counts after the policy was
 * loaded again.
 */
uint32_t selecting_count_leases(void *userdata, size_t rule)
{
	const struct selecting *s = userdata;
	const struct policy *policy = &s->claims->policy->policy;
	char origin[RULE_ORIGIN_MAX];
	uint32_t n;

	rule_origin(policy, rule, origin);
	n = lease_count_by_rule(&s->claims->leases->table, policy, s->claimant->uid, origin, NULL);
	for (size_t i = 0; i < s->selection->n; i++)
		n += !strcmp(s->selection->items[i].terms.rule, origin);
	return n;
}
