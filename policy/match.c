/* SPDX-License-Identifier: MIT */
/*
 * Matches rules with functions and subjects. Runs in the root core on numbers that another process
 * made from text, so it must never allocate, loop without a bound or read outside what it was
 * given, whatever a rule says. An unknown fact about a device must never make an allow match, nor a
 * deny not match.
 */
#include "config.h"

#include "policy/match.h"

#include <string.h>

#include "client/common/util.h"

_Static_assert(sizeof(struct policy_rule) == 128,
	       "struct policy_rule is sent as it is: no padding");

const char *policy_text(const struct policy *policy, uint32_t text)
{
	return text < policy->n_texts && text < POLICY_TEXTS_MAX ? policy->texts[text].text : NULL;
}

char match_fold_case(char c)
{
	return c >= 'A' && c <= 'F' ? (char)(c - 'A' + 'a') : c;
}

static bool same_text(const char *text, const char *fact)
{
	return strncmp(text, fact, POLICY_TEXT_MAX) == 0;
}

static bool same_serial(const char *text, const char *fact)
{
	for (size_t i = 0; i < POLICY_TEXT_MAX; i++) {
		if (text[i] != match_fold_case(fact[i]))
			return false;
		if (!text[i])
			return true;
	}
	return false;
}

/* A path without a host bridge is below any. */
static bool same_path(const char *text, const char *fact)
{
	const char *slash = strchr(fact, '/');

	if (strncmp(text, "pci", 3) != 0 && strncmp(fact, "pci", 3) == 0)
		return slash && same_text(text, slash + 1);
	return same_text(text, fact);
}

static bool match_text(const struct policy *policy, uint32_t index, const char *fact,
		       bool (*same)(const char *, const char *), enum match_unknown unknown)
{
	const char *text = policy_text(policy, index);

	if (!text)
		return false;
	if (!fact)
		return unknown == MATCH_MAYBE;
	return *fact && same(text, fact);
}

/* A policy's words have no spaces: '_' in a rule matches one in a driver's name. */
static bool same_name(const char *text, const char *fact)
{
	for (size_t i = 0; i < POLICY_TEXT_MAX; i++) {
		if (text[i] != fact[i] && (text[i] != '_' || fact[i] != ' '))
			return false;
		if (!text[i])
			return true;
	}
	return false;
}

/* By its type, or by what its driver calls that. Unknown as elsewhere. */
static bool match_profile(const struct policy *policy, uint32_t index,
			  const struct policy_facts *facts, enum match_unknown unknown)
{
	const char *text = policy_text(policy, index);

	if (!text)
		return false;
	if (!facts->profile)
		return unknown == MATCH_MAYBE;
	if (!*facts->profile)
		return false;
	return same_text(text, POLICY_ANY_PROFILE) || same_text(text, facts->profile) ||
	       (facts->profile_name && same_name(text, facts->profile_name));
}

bool match_facts(const struct policy *policy, const struct policy_match *match,
		 const struct policy_facts *facts, enum match_unknown unknown)
{
	uint32_t attributes = match->attributes;

	if (attributes & ~MATCH_ATTRIBUTES)
		return false;
	if (facts->no_pci && attributes & ~(uint32_t)POLICY_PROFILE)
		return false;
	if ((attributes & POLICY_PROFILE) && !match_profile(policy, match->profile, facts, unknown))
		return false;
	if ((attributes & POLICY_ADDRESS) &&
	    !pci_pattern_covers(&match->address, match->address_any, &facts->address, 0))
		return false;
	if ((attributes & POLICY_VENDOR) && match->vendor != facts->vendor)
		return false;
	if ((attributes & POLICY_DEVICE_ID) && match->device != facts->device)
		return false;
	if ((attributes & POLICY_SUBSYSTEM_VENDOR) &&
	    match->subsystem_vendor != facts->subsystem_vendor)
		return false;
	if ((attributes & POLICY_SUBSYSTEM_DEVICE) &&
	    match->subsystem_device != facts->subsystem_device)
		return false;
	if ((attributes & POLICY_CLASS) &&
	    (facts->class_code & match->class_mask) != match->class_code)
		return false;
	if ((attributes & POLICY_IOMMU_GROUP) &&
	    (facts->iommu_group == UINT32_MAX || match->iommu_group != facts->iommu_group))
		return false;
	if ((attributes & POLICY_DRIVER) &&
	    !match_text(policy, match->driver, facts->driver, same_text, unknown))
		return false;
	if ((attributes & POLICY_SERIAL) &&
	    !match_text(policy, match->serial, facts->serial, same_serial, unknown))
		return false;
	if ((attributes & POLICY_PATH) &&
	    !match_text(policy, match->path, facts->path, same_path, unknown))
		return false;
	return true;
}

bool match_same_slot(const struct policy_facts *a, const struct policy_facts *b)
{
	return a->address.domain == b->address.domain && a->address.bus == b->address.bus &&
	       a->address.device == b->address.device;
}

/* ---- device names ---- */

void match_names(const struct policy *policy, const struct policy_facts *facts,
		 enum match_unknown unknown, struct name_set *ret_set)
{
	size_t n_names = match_name_count(policy);

	memset(ret_set, 0, n_names / 8 + 1);
	for (size_t i = 0; i < policy->n_rules; i++) {
		const struct policy_rule *rule = &policy->rules[i];

		if (rule->verb == POLICY_DEVICE && rule->name < n_names &&
		    match_facts(policy, &rule->match, facts, unknown))
			ret_set->bits[rule->name / 8] |= (uint8_t)(1U << rule->name % 8);
	}
}

void match_part_names(const struct policy *policy, const struct policy_facts *facts,
		      struct name_set *ret_set)
{
	size_t n_names = match_name_count(policy);

	memset(ret_set, 0, n_names / 8 + 1);
	for (size_t i = 0; i < policy->n_rules; i++) {
		const struct policy_rule *rule = &policy->rules[i];

		if (rule->verb == POLICY_DEVICE && rule->name < n_names &&
		    rule->match.attributes & POLICY_PROFILE &&
		    match_facts(policy, &rule->match, facts, MATCH_SURE))
			ret_set->bits[rule->name / 8] |= (uint8_t)(1U << rule->name % 8);
	}
}

bool match_is_part(const struct policy_facts *facts)
{
	return facts->profile && *facts->profile;
}

/* The rule matches, so its name is within bounds. */
bool match_grants_part(const struct policy_rule *rule, const struct name_set *parts)
{
	return rule->match.attributes & POLICY_PROFILE ||
	       (rule->name < POLICY_NAMES_MAX && parts->bits[rule->name / 8] >> rule->name % 8 & 1);
}

bool match_rule(const struct policy *policy, const struct policy_rule *rule,
		const struct policy_facts *facts, const struct name_set *set,
		enum match_unknown unknown)
{
	if (rule->name != POLICY_NO_NAME && (rule->name >= match_name_count(policy) ||
					     !(set->bits[rule->name / 8] >> rule->name % 8 & 1)))
		return false;
	return match_facts(policy, &rule->match, facts, unknown);
}
