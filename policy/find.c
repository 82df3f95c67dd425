/* SPDX-License-Identifier: MIT */
/*
 * Device names, see find.h. Runs in the root core under the rules at the top of match.c.
 */
#include "config.h"

#include "policy/find.h"

#include <errno.h>
#include <string.h>

#include "policy/index.h"

struct name_question {
	const struct policy *policy;
	const struct policy_facts *facts;
	enum match_unknown unknown;
	uint32_t name, attributes;
	bool found;
};

/* Returns false if the line is the answer, so that no other need be looked at. */
static bool ask_line(void *userdata, size_t index)
{
	struct name_question *q = userdata;
	const struct policy_rule *rule = &q->policy->rules[index];

	q->found = rule->verb == POLICY_DEVICE && rule->name == q->name &&
		   (rule->match.attributes & q->attributes) == q->attributes &&
		   (!q->facts || match_facts(q->policy, &rule->match, q->facts, q->unknown));
	return !q->found;
}

bool find_name(const struct policy *policy, uint32_t name, const struct policy_facts *facts,
	       enum match_unknown unknown, uint32_t attributes, uint64_t *cost)
{
	struct name_question q = { policy, facts, unknown, name, attributes, false };
	const struct index_walk walk = { ask_line, &q, cost };

	if (name >= match_name_count(policy))
		return false;
	if (policy->index && facts)
		index_matching(policy, INDEX_NAME, name, facts, &walk);
	else if (policy->index)
		index_all(policy, INDEX_NAME, name, &walk);
	else
		for (size_t i = 0; i < policy->n_rules && ask_line(&q, i); i++)
			;
	return q.found;
}

bool policy_name_matches(const struct policy *policy, uint32_t name,
			 const struct policy_facts *facts, uint64_t *cost)
{
	return find_name(policy, name, facts, MATCH_SURE, 0, cost);
}

bool policy_name_means_part(const struct policy *policy, uint32_t name,
			    const struct policy_facts *facts, uint64_t *cost)
{
	return find_name(policy, name, facts, MATCH_SURE, POLICY_PROFILE, cost);
}

bool policy_name_has_part(const struct policy *policy, uint32_t name, uint64_t *cost)
{
	return find_name(policy, name, NULL, MATCH_SURE, POLICY_PROFILE, cost);
}

int policy_name_find(const struct policy *policy, const char *text, uint32_t *ret_name)
{
	size_t n_names = match_name_count(policy);

	if (strnlen(text, POLICY_NAME_MAX) == POLICY_NAME_MAX)
		return -ENOENT;
	if (policy->index)
		return index_find_name(policy, text, ret_name);
	for (size_t i = 0; i < n_names; i++) {
		if (strncmp(policy->names[i].text, text, POLICY_NAME_MAX) != 0)
			continue;
		*ret_name = (uint32_t)i;
		return 0;
	}
	return -ENOENT;
}
