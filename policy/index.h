/* SPDX-License-Identifier: MIT */
/*
 * The index of a policy's rules: which of them can be about a subject and a function. Private to
 * policy/. It only leaves out rules that cannot match, so its user checks each that it visits. It
 * visits them in no order.
 */
#pragma once

#include "policy/match.h"

/* Rules that belong together. An allow or deny is filed by its subject. */
enum index_section {
	INDEX_NOWHERE = POLICY_WHO_NONE, /* the rule can match nothing */
	INDEX_USER = POLICY_WHO_USER,
	INDEX_GROUP = POLICY_WHO_GROUP,
	INDEX_ANY = POLICY_WHO_ANY,
	INDEX_ALLOTTED = POLICY_WHO_ALLOTTED,
	INDEX_NAME,    /* device lines, by the name that they define */
	INDEX_PREPARE, /* prepare rules */
	INDEX_LINES,   /* device lines, whatever their name */
};

/* The visitor of the rules. */
struct index_walk {
	bool (*visit)(void *userdata, size_t rule); /* returns false to stop */
	void *userdata;
	uint64_t *cost; /* the rules that are looked at are added to it, visited or not; or NULL */
};

/* Visits all rules of a section with this id (0 where the section has none). */
void index_all(const struct policy *policy, enum index_section section, uint32_t id,
	       const struct index_walk *walk);

/* The same, but may leave out rules that cannot match the facts, whatever is unknown of them. */
void index_matching(const struct policy *policy, enum index_section section, uint32_t id,
		    const struct policy_facts *facts, const struct index_walk *walk);

/* Returns true if the section has a rule with this id. */
bool index_has(const struct policy *policy, enum index_section section, uint32_t id);

/* Finds a name. -ENOENT: there is no such name. */
int index_find_name(const struct policy *policy, const char *text, uint32_t *ret_name);
void index_done(struct policy *policy);
