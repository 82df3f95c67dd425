/* SPDX-License-Identifier: MIT */
/* Whether a rule matches a function and a subject. Private to policy/. */
#pragma once

#include <stdbool.h>
#include <stddef.h>
#include <stdint.h>

#include "policy/policy.h"

#define MATCH_ATTRIBUTES ((1U << 11) - 1) /* all attributes that this version knows */

/* The effect of an unknown fact: nothing for an allow, everything for a deny. */
enum match_unknown { MATCH_SURE, MATCH_MAYBE };

/* The names that rules may refer to, whatever the policy has. */
static inline size_t match_name_count(const struct policy *policy)
{
	return policy->n_names < POLICY_NAMES_MAX ? policy->n_names : POLICY_NAMES_MAX;
}

/* The device names that match a function, a bit each. */
struct name_set {
	uint8_t bits[POLICY_NAMES_MAX / 8 + 1];
};

/* The attributes alone, without a name. */
bool match_facts(const struct policy *policy, const struct policy_match *match,
		 const struct policy_facts *facts, enum match_unknown unknown);

/* A serial number may be hex or plain text, in either case; rules have it in lower case. */
char match_fold_case(char c);

/* One pass over the device lines: looking names up rule by rule would cost the square. */
void match_names(const struct policy *policy, const struct policy_facts *facts,
		 enum match_unknown unknown, struct name_set *ret_set);

/* Name and attributes; the set must be made with the same facts and `unknown`. */
bool match_rule(const struct policy *policy, const struct policy_rule *rule,
		const struct policy_facts *facts, const struct name_set *set,
		enum match_unknown unknown);

/*
 * The names that mean a part of a device by a line with `profile`. An allow rule grants a part only
 * if it has `profile` itself, or such a name.
 */
void match_part_names(const struct policy *policy, const struct policy_facts *facts,
		      struct name_set *ret_set);

/* Returns true if these are the facts of a part, and not of a whole device. */
bool match_is_part(const struct policy_facts *facts);
/* Returns true if an allow rule that matches a part grants it. */
bool match_grants_part(const struct policy_rule *rule, const struct name_set *parts);

bool match_same_slot(const struct policy_facts *a, const struct policy_facts *b);
