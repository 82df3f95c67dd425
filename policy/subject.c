/* SPDX-License-Identifier: MIT */
/*
 * The subject of a verdict: which user a uid stands for, which groups count, and which rules may be
 * about that. Runs in the root core under the rules at the top of match.c. It must never make an
 * allow match a user by a uid that stands for another one, nor a deny fail to match because a
 * process has changed its ids as its user may.
 */
#include "config.h"

#include "policy/subject.h"

#include "policy/index.h"

/* The members' entries of one user. */
static void members_of(const struct policy_owners *owners, uint32_t uid,
		       struct policy_looked_up *found)
{
	size_t low = 0, high = owners->n_members;

	while (low < high) {
		size_t middle = low + (high - low) / 2;

		if (owners->members[middle].uid < uid)
			low = middle + 1;
		else
			high = middle;
	}
	found->members = owners->members + low;
	while (low + found->n_members < owners->n_members &&
	       found->members[found->n_members].uid == uid)
		found->n_members++;
}

static void add_group(const struct policy *policy, uint32_t gid, struct policy_looked_up *found)
{
	for (size_t i = 0; i < found->n_groups; i++)
		if (found->groups[i] == gid)
			return;
	if (!index_has(policy, INDEX_GROUP, gid))
		return;
	if (found->n_groups == POLICY_LOOKED_UP)
		found->many = true;
	else
		found->groups[found->n_groups++] = gid;
}

void policy_look_up(const struct policy *policy, const struct policy_subject *who,
		    struct policy_looked_up *ret_looked_up)
{
	struct policy_looked_up *found = ret_looked_up;

	*found = (struct policy_looked_up){ .owner = policy_owner(policy, who->uid) };
	if (policy->owners.n_members)
		members_of(&policy->owners, found->owner, found);
	found->indexed = policy->index;
	if (!found->indexed)
		return;
	add_group(policy, who->gid, found);
	for (size_t i = 0; i < who->n_groups && !found->many; i++)
		if (!i || who->groups[i] != who->groups[i - 1])
			add_group(policy, who->groups[i], found);
}

struct group_question {
	const struct policy *policy;
	uint32_t gid;
	enum policy_verb verb;
	bool found;
};

static bool ask_group_rule(void *userdata, size_t index)
{
	struct group_question *q = userdata;
	const struct policy_rule *rule = &q->policy->rules[index];

	q->found = rule->verb == (uint32_t)q->verb && rule->who == POLICY_WHO_GROUP &&
		   rule->id == q->gid;
	return !q->found;
}

bool policy_group_has(const struct policy *policy, uint32_t gid, enum policy_verb verb,
		      uint64_t *cost)
{
	struct group_question q = { policy, gid, verb, false };
	const struct index_walk walk = { ask_group_rule, &q, cost };

	if (policy->index)
		index_all(policy, INDEX_GROUP, gid, &walk);
	else
		for (size_t i = 0; i < policy->n_rules && ask_group_rule(&q, i); i++)
			;
	return q.found;
}

void subject_init(const struct policy *policy, const struct policy_subject *who,
		  struct subject *subject)
{
	subject->who = who;
	subject->found = who->looked_up;
	if (subject->found)
		return;
	policy_look_up(policy, who, &subject->own);
	subject->found = &subject->own;
}

static bool is_member(const struct subject *subject, uint32_t gid)
{
	for (size_t i = 0; i < subject->found->n_members; i++)
		if (subject->found->members[i].gid == gid)
			return true;
	return false;
}

static bool is_in_group(const struct subject *subject, uint32_t gid)
{
	/* With an index, and unless there are many, these are all that a rule can name. */
	for (size_t i = 0; i < subject->found->n_groups; i++)
		if (gid == subject->found->groups[i])
			return true;
	if (subject->found->indexed && !subject->found->many)
		return false;
	if (gid == subject->who->gid)
		return true;
	for (size_t i = 0; i < subject->who->n_groups; i++)
		if (gid == subject->who->groups[i])
			return true;
	return false;
}

bool subject_matches(const struct policy_rule *rule, const struct subject *subject)
{
	const bool denies = rule->verb == POLICY_DENY;

	if (subject->found->owner == POLICY_NOBODY && !denies)
		return false;
	if (subject->who->only_allotted && !denies && rule->who != POLICY_WHO_ALLOTTED)
		return false;
	switch (rule->who) {
	case POLICY_WHO_ANY:
		return true;
	case POLICY_WHO_ALLOTTED:
		return subject->who->allotted;
	case POLICY_WHO_USER:
		return rule->id != UINT32_MAX && (rule->id == subject->found->owner ||
						  (denies && rule->id == subject->who->uid));
	case POLICY_WHO_GROUP:
		return rule->id != UINT32_MAX &&
		       (is_in_group(subject, rule->id) || (denies && is_member(subject, rule->id)));
	default:
		return false;
	}
}

/* Rules about a subject are in several sections; `facts` may be NULL, for any function. */
static void visit_section(const struct policy *policy, enum index_section section, uint32_t id,
			  const struct policy_facts *facts, const struct index_walk *walk)
{
	if (facts)
		index_matching(policy, section, id, facts, walk);
	else
		index_all(policy, section, id, walk);
}

void subject_candidates(const struct policy *policy, const struct subject *subject,
			const struct policy_facts *facts, const struct index_walk *walk)
{
	const struct policy_subject *who = subject->who;

	visit_section(policy, INDEX_ANY, 0, facts, walk);
	if (who->allotted)
		visit_section(policy, INDEX_ALLOTTED, 0, facts, walk);
	visit_section(policy, INDEX_USER, subject->found->owner, facts, walk);
	if (who->uid != subject->found->owner)
		visit_section(policy, INDEX_USER, who->uid, facts, walk);
	for (size_t i = 0; i < subject->found->n_groups; i++)
		visit_section(policy, INDEX_GROUP, subject->found->groups[i], facts, walk);
	for (size_t i = 0; i < subject->found->n_members; i++)
		visit_section(policy, INDEX_GROUP, subject->found->members[i].gid, facts, walk);
	/* The kernel sorts a process' groups; the same one again would only cost time. */
	for (size_t i = 0; subject->found->many && i < who->n_groups; i++)
		if (!i || who->groups[i] != who->groups[i - 1])
			visit_section(policy, INDEX_GROUP, who->groups[i], facts, walk);
}
