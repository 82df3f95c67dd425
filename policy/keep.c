/* SPDX-License-Identifier: MIT */
/*
 * Adds to the policy that is being made: rules, texts, device names and the places that use these.
 * It enforces the limits of the language: what goes past one is reported once, and never cut.
 */
#include "config.h"

#include "policy/keep.h"

#include "client/common/util.h"
#include "policy/findings.h"

void *keep_room(struct policy_parser *parser, void *array, size_t count, size_t *room, size_t size)
{
	size_t want = *room ? *room * 2 : 64;
	void *grown;

	if (count < *room)
		return array;
	grown = want > *room ? reallocarray(array, want, size) : NULL;
	if (!grown) {
		parser->error = -ENOMEM;
		return NULL;
	}
	*room = want;
	return grown;
}

bool keep_rule(struct policy_parser *parser, const struct policy_rule *rule,
	       const struct place *place)
{
	struct policy *policy = &parser->policy;
	struct policy_rule *rules;

	if (policy->n_rules == POLICY_RULES_MAX) {
		if (!parser->too_many_rules)
			finding_report(parser, POLICY_KIND_MISTAKE, place,
				       "expected at most %d rules in all", POLICY_RULES_MAX);
		parser->too_many_rules = true;
		return false;
	}
	rules = keep_room(parser, policy->rules, policy->n_rules, &parser->rules_room,
			  sizeof(*rules));
	if (!rules)
		return false;
	policy->rules = rules;
	policy->rules[policy->n_rules++] = *rule;
	return true;
}

bool keep_use(struct policy_parser *parser, struct name *name, const struct place *place)
{
	struct use *uses;

	uses = keep_room(parser, parser->uses, parser->n_uses, &parser->uses_room, sizeof(*uses));
	if (!uses)
		return false;
	parser->uses = uses;
	parser->uses[parser->n_uses++] = (struct use){ .name = name, .place = *place };
	return true;
}

bool keep_text(struct policy_parser *parser, const char *text, uint32_t *ret_index)
{
	struct name *name = names_find(&parser->names, NAME_TEXT, text);

	if (!name && parser->names.lists[NAME_TEXT].n == POLICY_TEXTS_MAX) {
		struct place place = finding_place(parser);

		if (!parser->too_many_texts)
			finding_report(parser, POLICY_KIND_MISTAKE, &place,
				       "expected at most %d different drivers, serial numbers and "
				       "paths in all",
				       POLICY_TEXTS_MAX);
		parser->too_many_texts = true;
		return false;
	}
	if (!name && names_add(&parser->names, NAME_TEXT, text, &name) < 0) {
		parser->error = -ENOMEM;
		return false;
	}
	*ret_index = name->index;
	return true;
}

struct name *keep_device_name(struct policy_parser *parser)
{
	struct name *name = names_find(&parser->names, NAME_DEVICE, parser->token.text);

	if (name)
		return name;
	if (parser->names.lists[NAME_DEVICE].n == POLICY_NAMES_MAX) {
		struct place place = finding_place(parser);

		if (!parser->too_many_names)
			finding_report(parser, POLICY_KIND_MISTAKE, &place,
				       "expected at most %d device names in all", POLICY_NAMES_MAX);
		parser->too_many_names = true;
		return NULL;
	}
	if (names_add(&parser->names, NAME_DEVICE, parser->token.text, &name) < 0) {
		parser->error = -ENOMEM;
		return NULL;
	}
	return name;
}
