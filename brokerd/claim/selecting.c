/* SPDX-License-Identifier: MIT */
/* Shared by select.c and parts.c, see selecting.h. */
#include "config.h"

#include "brokerd/claim/selecting.h"
#include "brokerd/state/users.h"
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

/* Keeps the claimant's groups that rules of a verb are for. */
static void keep_groups_of(struct selecting *s, enum policy_verb verb)
{
	const struct policy *policy = &s->claims->policy->policy;
	const struct policy_looked_up *found = &s->looked_up;
	/* If it is known which of the groups have rules, only those are looked at. */
	const bool known = found->indexed && !found->many;
	const gid_t *groups = known ? found->groups : s->subject.groups;
	const size_t n = known ? found->n_groups : s->subject.n_groups;

	s->selection->cost += COST_GROUPS(n);
	for (size_t i = 0; i < n && s->selection->n_gids < LEASE_GIDS_MAX; i++)
		if ((groups[i] != s->subject.gid ||
		     has_gid(s->subject.groups, s->subject.n_groups, groups[i])) &&
		    policy_group_has(policy, groups[i], verb, &s->selection->cost))
			keep_group(s->selection, groups[i]);
}

void selecting_keep_groups(struct selecting *s)
{
	/* If there are few groups, all are kept anyway. */
	if (s->subject.n_groups > LEASE_GIDS_MAX) {
		keep_groups_of(s, POLICY_DENY);
		keep_groups_of(s, POLICY_ALLOW);
	}
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
