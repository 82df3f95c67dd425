/* SPDX-License-Identifier: MIT */
/* Device names, looked up one by one. Private to policy/. */
#pragma once

#include "policy/match.h"

/*
 * Returns true if a line of the name that has all of `attributes` matches the facts, or any facts
 * if they are NULL. The cost is linear in the number of rules unless there is an index; the rules
 * that are looked at are added to *cost, unless that is NULL.
 */
bool find_name(const struct policy *policy, uint32_t name, const struct policy_facts *facts,
	       enum match_unknown unknown, uint32_t attributes, uint64_t *cost);
