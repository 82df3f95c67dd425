/* SPDX-License-Identifier: MIT */
/*
 * The device lines of each name, as linked lists: rules times rules would be too slow. Pure.
 */
#pragma once

#include <stdint.h>

#include "policy/policy.h"

#define NO_LINE UINT32_MAX

struct name_lines {
	uint32_t *first; /* by name: an index into the policy's rules, or NO_LINE */
	uint32_t *next;	 /* by rule */
};

/* Returns 0, or -ENOMEM, after which name_lines_done() is needed too. */
int name_lines_make(struct name_lines *lines, const struct policy *policy);
void name_lines_done(struct name_lines *lines);

/* The first device line of a rule's name, in their order, or NO_LINE; lines->next[] has more. */
uint32_t name_lines_of(const struct name_lines *lines, const struct policy *policy,
		       const struct policy_rule *rule);
