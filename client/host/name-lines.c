/* SPDX-License-Identifier: MIT */
/* See name-lines.h. A loader that lies may name what is not there: it has no lines. */
#include "config.h"

#include "client/host/name-lines.h"

#include <errno.h>
#include <stdlib.h>

int name_lines_make(struct name_lines *lines, const struct policy *policy)
{
	lines->first = malloc((policy->n_names + 1) * sizeof(*lines->first));
	lines->next = malloc((policy->n_rules + 1) * sizeof(*lines->next));
	if (!lines->first || !lines->next)
		return -ENOMEM;
	for (size_t i = 0; i < policy->n_names; i++)
		lines->first[i] = NO_LINE;
	for (size_t i = policy->n_rules; i--;) {
		const struct policy_rule *rule = &policy->rules[i];

		if (rule->verb != POLICY_DEVICE || rule->name >= policy->n_names)
			continue;
		lines->next[i] = lines->first[rule->name];
		lines->first[rule->name] = (uint32_t)i;
	}
	return 0;
}

void name_lines_done(struct name_lines *lines)
{
	free(lines->first);
	free(lines->next);
	*lines = (struct name_lines){ 0 };
}

uint32_t name_lines_of(const struct name_lines *lines, const struct policy *policy,
		       const struct policy_rule *rule)
{
	return rule->name < policy->n_names ? lines->first[rule->name] : NO_LINE;
}
