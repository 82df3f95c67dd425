/* SPDX-License-Identifier: MIT */
/* The subject of a verdict, and which rules may be about it. Private to policy/. */
#pragma once

#include "policy/index.h"
#include "policy/match.h"

/* A subject, looked up. */
struct subject {
	const struct policy_subject *who;
	const struct policy_looked_up *found;
	struct policy_looked_up own; /* if the caller had not done it */
};

void subject_init(const struct policy *policy, const struct policy_subject *who,
		  struct subject *subject);
bool subject_matches(const struct policy_rule *rule, const struct subject *subject);

/*
 * Visits, by the index, the rules of allow and deny that may be about a subject and a function.
 * Without facts: about a subject and any function. A rule may be visited twice.
 */
void subject_candidates(const struct policy *policy, const struct subject *subject,
			const struct policy_facts *facts, const struct index_walk *walk);
