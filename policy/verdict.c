/* SPDX-License-Identifier: MIT */
/*
 * The verdict: whether this subject may have this device, by these rules, and which devices are
 * prepared. Runs in the root core under the rules at the top of match.c; and it must never let an
 * allow win over a deny, nor let the order of rules change what is granted.
 */
#include "config.h"

#include "policy/policy.h"

#include "client/common/util.h"
#include "policy/match.h"

/* Adds what one more allow rule grants to a verdict. */
static void grant_more(const struct policy *policy, size_t index, struct policy_verdict *verdict)
{
	const struct policy_rule *rule = &policy->rules[index];
	bool first = verdict->outcome != POLICY_ALLOWED;
	bool names_driver = policy_text(policy, rule->vfio_driver);

	if (rule->memlock > verdict->memlock)
		verdict->memlock = rule->memlock;
	if (rule->boot_vga)
		verdict->boot_vga = true;
	if (rule->require_reset)
		verdict->require_reset = true;
	if (first)
		verdict->lifetime = rule->lifetime;
	else if (!verdict->lifetime || !rule->lifetime)
		verdict->lifetime = 0; /* 0, no end, is the longest */
	else if (rule->lifetime > verdict->lifetime)
		verdict->lifetime = rule->lifetime;

	verdict->outcome = POLICY_ALLOWED;
	if (first || (policy->rules[verdict->rule].limit && !rule->limit)) {
		verdict->rule = index;
		if (names_driver)
			verdict->vfio_driver = rule->vfio_driver;
	} else if (names_driver && verdict->vfio_driver == POLICY_NO_TEXT) {
		verdict->vfio_driver = rule->vfio_driver;
	}
}

/* The verdict of the rules about one function by itself; `function` is left to the caller. */
static void judge_one(const struct policy *policy, const struct policy_subject *subject,
		      const struct policy_facts *facts, const struct policy_usage *usage,
		      struct policy_verdict *ret_verdict)
{
	const struct policy_verdict none = { .outcome = POLICY_NO_RULE,
					     .rule = SIZE_MAX,
					     .vfio_driver = POLICY_NO_TEXT };
	bool all_known = facts->driver && facts->serial && facts->path && facts->profile;
	struct policy_verdict verdict = none;
	struct name_set sure, maybe_unknown, *maybe = &sure, parts;
	const bool is_part = match_is_part(facts);

	match_names(policy, facts, MATCH_SURE, &sure);
	if (!all_known) {
		maybe = &maybe_unknown;
		match_names(policy, facts, MATCH_MAYBE, maybe);
	}
	if (is_part)
		match_part_names(policy, facts, &parts);
	for (size_t i = 0; i < policy->n_rules; i++) {
		const struct policy_rule *rule = &policy->rules[i];

		if (rule->verb == POLICY_DENY) {
			if (!match_rule(policy, rule, facts, maybe, MATCH_MAYBE) ||
			    !match_subject(rule, subject))
				continue;
			verdict = none;
			verdict.outcome = POLICY_DENIED;
			verdict.rule = i;
			break;
		}
		if (rule->verb != POLICY_ALLOW ||
		    !match_rule(policy, rule, facts, &sure, MATCH_SURE) ||
		    (is_part && !match_grants_part(rule, &parts)) || !match_subject(rule, subject))
			continue;
		if (!usage || !rule->limit || usage->leases(usage->userdata, i) < rule->limit) {
			grant_more(policy, i, &verdict);
		} else if (verdict.outcome == POLICY_NO_RULE) {
			verdict.outcome = POLICY_LIMIT;
			verdict.rule = i;
		}
	}
	*ret_verdict = verdict;
}

void policy_decide(const struct policy *policy, const struct policy_subject *subject,
		   const struct policy_facts *functions, size_t n_functions, size_t asked,
		   const struct policy_usage *usage, struct policy_verdict *ret_verdict)
{
	struct policy_verdict verdict = { .outcome = POLICY_NO_RULE,
					  .rule = SIZE_MAX,
					  .vfio_driver = POLICY_NO_TEXT };

	if (asked < n_functions)
		judge_one(policy, subject, &functions[asked], usage, &verdict);
	verdict.function = asked;

	/* Denies are looked for to the end, even if a function already lacks an allow. */
	for (size_t i = 0; i < n_functions && verdict.outcome != POLICY_DENIED; i++) {
		struct policy_verdict other;
		bool lacks;

		if (i == asked || asked >= n_functions)
			continue;
		judge_one(policy, subject, &functions[i], NULL, &other);
		other.function = i;
		lacks = other.outcome == POLICY_NO_RULE &&
			!match_same_slot(&functions[i], &functions[asked]);
		if (other.outcome == POLICY_DENIED || (lacks && verdict.outcome != POLICY_NO_RULE))
			verdict = other;
	}
	*ret_verdict = verdict;
}

/* All but the profile, which is not known yet. */
static bool may_mean_part(const struct policy *policy, const struct policy_match *match,
			  const struct policy_facts *facts)
{
	struct policy_match rest = *match;

	rest.attributes &= ~(uint32_t)POLICY_PROFILE;
	return match_facts(policy, &rest, facts, MATCH_SURE);
}

bool policy_may_grant_part(const struct policy *policy, const struct policy_subject *subject,
			   const struct policy_facts *facts)
{
	struct name_set any = { 0 }, parts = { 0 };

	for (size_t i = 0; i < policy->n_rules; i++) {
		const struct policy_rule *rule = &policy->rules[i];

		if (rule->verb != POLICY_DEVICE || rule->name >= POLICY_NAMES_MAX ||
		    !may_mean_part(policy, &rule->match, facts))
			continue;
		any.bits[rule->name / 8] |= (uint8_t)(1U << rule->name % 8);
		if (rule->match.attributes & POLICY_PROFILE)
			parts.bits[rule->name / 8] |= (uint8_t)(1U << rule->name % 8);
	}
	for (size_t i = 0; i < policy->n_rules; i++) {
		const struct policy_rule *rule = &policy->rules[i];
		const bool named = rule->name != POLICY_NO_NAME;

		if (rule->verb != POLICY_ALLOW || !match_subject(rule, subject) ||
		    !may_mean_part(policy, &rule->match, facts) ||
		    (named && (rule->name >= POLICY_NAMES_MAX ||
			       !(any.bits[rule->name / 8] >> rule->name % 8 & 1))))
			continue;
		if (match_grants_part(rule, &parts))
			return true;
	}
	return false;
}

uint32_t policy_vfs(const struct policy *policy, const struct policy_facts *facts, size_t *ret_rule)
{
	struct name_set set;
	uint32_t most = 0;

	match_names(policy, facts, MATCH_SURE, &set);
	for (size_t i = 0; i < policy->n_rules; i++) {
		const struct policy_rule *rule = &policy->rules[i];

		if (rule->verb != POLICY_PREPARE || rule->vfs <= most ||
		    !match_rule(policy, rule, facts, &set, MATCH_SURE))
			continue;
		most = rule->vfs;
		*ret_rule = i;
	}
	return most;
}

/* The prepare rule that matches this function itself, one that names a driver before others. */
static size_t find_prepare(const struct policy *policy, const struct policy_facts *facts)
{
	size_t found = SIZE_MAX;
	struct name_set set;

	match_names(policy, facts, MATCH_SURE, &set);
	for (size_t i = 0; i < policy->n_rules; i++) {
		const struct policy_rule *rule = &policy->rules[i];

		if (rule->verb != POLICY_PREPARE || rule->vfs ||
		    !match_rule(policy, rule, facts, &set, MATCH_SURE))
			continue;
		if (policy_text(policy, rule->vfio_driver))
			return i;
		if (found == SIZE_MAX)
			found = i;
	}
	return found;
}

bool policy_prepares(const struct policy *policy, const struct policy_facts *facts,
		     const struct policy_facts *functions, size_t n_functions, size_t *ret_rule)
{
	size_t found = find_prepare(policy, facts), other;

	for (size_t i = 0; i < n_functions && found == SIZE_MAX; i++)
		if (match_same_slot(&functions[i], facts))
			found = find_prepare(policy, &functions[i]);
	if (found == SIZE_MAX || policy_vfs(policy, facts, &other))
		return false;
	*ret_rule = found;
	return true;
}
