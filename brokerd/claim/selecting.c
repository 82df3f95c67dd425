/* SPDX-License-Identifier: MIT */
/* Shared by select.c and parts.c, see selecting.h. */
#include "config.h"

#include "brokerd/claim/selecting.h"
#include "client/common/util.h"

#include <string.h>

static bool has_gid(const gid_t *groups, size_t n, uint32_t gid)
{
	for (size_t i = 0; i < n; i++)
		if (groups[i] == gid)
			return true;
	return false;
}

static void keep_group(struct selection *selection, uint32_t gid)
{
	if (selection->n_gids < LEASE_GIDS_MAX && !has_gid(selection->gids, selection->n_gids, gid))
		selection->gids[selection->n_gids++] = gid;
}

void selecting_keep_group_of(struct selecting *s, size_t rule)
{
	const struct policy_rule *r = &s->claims->policy->policy.rules[rule];

	if (r->who == POLICY_WHO_GROUP && has_gid(s->subject.groups, s->subject.n_groups, r->id))
		keep_group(s->selection, r->id);
}

void selecting_keep_groups(struct selecting *s)
{
	static const enum policy_verb verbs[] = { POLICY_DENY, POLICY_ALLOW };
	const struct policy *policy = &s->claims->policy->policy;

	/* If there are few groups, all are kept anyway. */
	for (size_t v = 0; s->subject.n_groups > LEASE_GIDS_MAX && v < ARRAY_SIZE(verbs); v++)
		for (size_t i = 0; i < policy->n_rules; i++)
			if (policy->rules[i].verb == verbs[v])
				selecting_keep_group_of(s, i);
	for (size_t i = 0; i < s->subject.n_groups && s->selection->n_gids < LEASE_GIDS_MAX; i++)
		keep_group(s->selection, (uint32_t)s->subject.groups[i]);
}

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
