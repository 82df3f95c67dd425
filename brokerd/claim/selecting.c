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
	const struct wanted *wanted = &s->selection->wanted;
	char origin[RULE_ORIGIN_MAX];
	uint32_t n;

	rule_origin(&s->claims->policy->policy, rule, origin);
	n = claims_count_by_rule(s->claims, s->claimant, origin, NULL);
	for (size_t i = 0; i < wanted->n_rules; i++)
		n += !strcmp(wanted->rules[i], origin);
	return n;
}
