/* SPDX-License-Identifier: MIT */
/*
 * The verdict: may this subject have this device, by these rules. Runs in the root core on numbers
 * that another process made out of text, so it must never allocate, loop without a bound or read
 * outside what it was given, whatever a rule says; and it must never let an allow win over a deny.
 *
 * Which names match a function is worked out in one pass over the device lines, into a bitmap.
 * Looking each name up where a rule uses it would cost the square of the number of rules.
 */
#include "config.h"

#include <string.h>

#include "client/util.h"
#include "policy/policy.h"

#define ATTRIBUTES                                                                                 \
	(POLICY_ADDRESS | POLICY_VENDOR | POLICY_DEVICE_ID | POLICY_CLASS | POLICY_IOMMU_GROUP)

_Static_assert(sizeof(struct policy_rule) == 72, "struct policy_rule is sent as it is: no padding");

struct name_set {
	uint8_t bits[POLICY_NAMES_MAX / 8 + 1];
};

void policy_done(struct policy *policy)
{
	free(policy->rules);
	free(policy->names);
	free(policy->files);
	*policy = (struct policy){ 0 };
}

static bool match_facts(const struct policy_match *match, const struct policy_facts *facts)
{
	uint32_t attributes = match->attributes;

	if (attributes & ~(uint32_t)ATTRIBUTES)
		return false;
	if ((attributes & POLICY_ADDRESS) && pci_address_compare(&match->address, &facts->address))
		return false;
	if ((attributes & POLICY_VENDOR) && match->vendor != facts->vendor)
		return false;
	if ((attributes & POLICY_DEVICE_ID) && match->device != facts->device)
		return false;
	if ((attributes & POLICY_CLASS) &&
	    (facts->class_code & match->class_mask) != match->class_code)
		return false;
	if ((attributes & POLICY_IOMMU_GROUP) &&
	    (facts->iommu_group == UINT32_MAX || match->iommu_group != facts->iommu_group))
		return false;
	return true;
}

static bool match_subject(const struct policy_rule *rule, const struct policy_subject *subject)
{
	switch (rule->who) {
	case POLICY_WHO_ANY:
		return true;
	case POLICY_WHO_USER:
		return rule->id != UINT32_MAX && rule->id == subject->uid;
	case POLICY_WHO_GROUP:
		if (rule->id == UINT32_MAX)
			return false;
		if (rule->id == subject->gid)
			return true;
		for (size_t i = 0; i < subject->n_groups; i++)
			if (rule->id == subject->groups[i])
				return true;
		return false;
	default:
		return false;
	}
}

static size_t name_count(const struct policy *policy)
{
	return policy->n_names < POLICY_NAMES_MAX ? policy->n_names : POLICY_NAMES_MAX;
}

/* The names that match these facts. */
static void match_names(const struct policy *policy, const struct policy_facts *facts,
			struct name_set *ret_set)
{
	size_t n_names = name_count(policy);

	memset(ret_set, 0, sizeof(*ret_set));
	for (size_t i = 0; i < policy->n_rules; i++) {
		const struct policy_rule *rule = &policy->rules[i];

		if (rule->verb == POLICY_DEVICE && rule->name < n_names &&
		    match_facts(&rule->match, facts))
			ret_set->bits[rule->name / 8] |= (uint8_t)(1U << rule->name % 8);
	}
}

static bool match_name(const struct policy *policy, const struct name_set *set, uint32_t name)
{
	if (name == POLICY_NO_NAME)
		return true;
	return name < name_count(policy) && (set->bits[name / 8] >> name % 8 & 1);
}

/* What the rules say of one function by itself; `function` is left for the caller. */
static void judge(const struct policy *policy, const struct policy_subject *subject,
		  const struct policy_facts *facts, struct policy_verdict *ret_verdict)
{
	struct policy_verdict verdict = { .outcome = POLICY_NO_RULE, .rule = SIZE_MAX };
	struct name_set set;

	match_names(policy, facts, &set);
	for (size_t i = 0; i < policy->n_rules; i++) {
		const struct policy_rule *rule = &policy->rules[i];

		if (rule->verb != POLICY_ALLOW && rule->verb != POLICY_DENY)
			continue;
		if (!match_name(policy, &set, rule->name) || !match_facts(&rule->match, facts) ||
		    !match_subject(rule, subject))
			continue;
		if (rule->verb == POLICY_DENY) {
			verdict = (struct policy_verdict){ .outcome = POLICY_DENIED, .rule = i };
			break;
		}
		if (verdict.outcome == POLICY_NO_RULE) {
			verdict.outcome = POLICY_ALLOWED;
			verdict.rule = i;
		}
		if (rule->memlock > verdict.memlock)
			verdict.memlock = rule->memlock;
		if (rule->boot_vga)
			verdict.boot_vga = true;
	}
	*ret_verdict = verdict;
}

static bool same_slot(const struct pci_address *a, const struct pci_address *b)
{
	return a->domain == b->domain && a->bus == b->bus && a->device == b->device;
}

void policy_decide(const struct policy *policy, const struct policy_subject *subject,
		   const struct policy_facts *functions, size_t n_functions, size_t asked,
		   struct policy_verdict *ret_verdict)
{
	struct policy_verdict verdict = {
		.outcome = POLICY_NO_RULE,
		.function = asked,
		.rule = SIZE_MAX,
	};

	if (asked < n_functions)
		judge(policy, subject, &functions[asked], &verdict);
	verdict.function = asked;

	/* A deny is looked for to the end, also where some function already lacks an allow. */
	for (size_t i = 0; i < n_functions && verdict.outcome != POLICY_DENIED; i++) {
		struct policy_verdict other;
		bool along;

		if (i == asked || asked >= n_functions)
			continue;
		judge(policy, subject, &functions[i], &other);
		other.function = i;
		along = same_slot(&functions[i].address, &functions[asked].address);
		if (other.outcome == POLICY_DENIED || (other.outcome == POLICY_NO_RULE && !along &&
						       verdict.outcome == POLICY_ALLOWED))
			verdict = other;
	}
	*ret_verdict = verdict;
}

bool policy_name_matches(const struct policy *policy, uint32_t name,
			 const struct policy_facts *facts)
{
	if (name >= name_count(policy))
		return false;
	for (size_t i = 0; i < policy->n_rules; i++) {
		const struct policy_rule *rule = &policy->rules[i];

		if (rule->verb == POLICY_DEVICE && rule->name == name &&
		    match_facts(&rule->match, facts))
			return true;
	}
	return false;
}

int policy_name_find(const struct policy *policy, const char *text, uint32_t *ret_name)
{
	size_t n_names = name_count(policy);

	if (strnlen(text, POLICY_NAME_MAX) == POLICY_NAME_MAX)
		return -ENOENT;
	for (size_t i = 0; i < n_names; i++) {
		if (strncmp(policy->names[i].text, text, POLICY_NAME_MAX) != 0)
			continue;
		*ret_name = (uint32_t)i;
		return 0;
	}
	return -ENOENT;
}

static bool match_valid(const struct policy_match *match)
{
	const struct pci_address *address = &match->address;

	if (match->attributes & ~(uint32_t)ATTRIBUTES)
		return false;
	if (address->device > 31 || address->function > 7 || address->reserved)
		return false;
	if (match->class_mask > 0xffffff || (match->class_code & ~match->class_mask))
		return false;
	if ((match->attributes & POLICY_CLASS) && !match->class_mask)
		return false;
	return match->iommu_group != UINT32_MAX;
}

bool policy_rule_valid(const struct policy_rule *rule, size_t n_names, size_t n_files)
{
	bool id_needed = rule->who == POLICY_WHO_USER || rule->who == POLICY_WHO_GROUP;
	bool named = rule->name < n_names && rule->name < POLICY_NAMES_MAX;

	switch (rule->verb) {
	case POLICY_DEVICE:
		if (rule->who != POLICY_WHO_NONE || !named)
			return false;
		break;
	case POLICY_ALLOW:
	case POLICY_DENY:
		if (rule->who > POLICY_WHO_ANY || !(named || rule->name == POLICY_NO_NAME))
			return false;
		break;
	default:
		return false;
	}
	if (rule->verb != POLICY_ALLOW && (rule->memlock || rule->boot_vga))
		return false;
	if (id_needed ? rule->id == UINT32_MAX : rule->id != 0)
		return false;
	if (rule->memlock > INT64_MAX || rule->boot_vga > 1 || rule->reserved)
		return false;
	return match_valid(&rule->match) && rule->file < n_files && rule->line > 0 &&
	       rule->column > 0;
}
