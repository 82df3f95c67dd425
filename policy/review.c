/* SPDX-License-Identifier: MIT */
/*
 * Reviews a policy without mistakes: finds duplicate rules, and allow rules that decide nothing
 * because a deny beats them wherever they match. It warns only where it is certain, since users
 * stop reading warnings that may be wrong. It must stay near linear, so it sorts, and compares a
 * rule only with a few of the widest denies.
 */
#include "config.h"

#include "policy/review.h"

#include <string.h>

#include "client/common/util.h"
#include "policy/findings.h"

/* rules that a rule is compared with: for everybody, and as many for its own account */
#define DENIES_MAX 100
#define NONE UINT32_MAX /* there are at most POLICY_RULES_MAX rules */

struct review {
	const struct policy *policy;
	const struct policy_rule **order; /* room for all rules */
	size_t n_order;
	struct policy_match *names; /* what all lines of a device name share */
	struct remark {
		uint32_t duplicate_of, shadowed_by;
	} * remarks; /* by rule */
};

/* An unknown account's rules are nobody's, and each has its warning already. */
static bool is_nobodys(const struct policy_rule *rule)
{
	return (rule->verb == POLICY_ALLOW || rule->verb == POLICY_DENY) &&
	       rule->who == POLICY_WHO_NONE;
}

/* Rules are in one array, so their addresses are in the order of the text. */
static int in_order(const struct policy_rule *a, const struct policy_rule *b)
{
	return a < b ? -1 : a > b;
}

/* ---- duplicates ---- */

static int compare_contents(const struct policy_rule *a, const struct policy_rule *b)
{
	return memcmp(a, b, offsetof(struct policy_rule, file));
}

static int by_contents(const void *a, const void *b)
{
	const struct policy_rule *x = *(const struct policy_rule *const *)a;
	const struct policy_rule *y = *(const struct policy_rule *const *)b;
	int order = compare_contents(x, y);

	return order ? order : in_order(x, y);
}

static void find_duplicates(struct review *review)
{
	const struct policy *policy = review->policy;
	const struct policy_rule *first = NULL;

	review->n_order = 0;
	for (size_t i = 0; i < policy->n_rules; i++)
		if (!is_nobodys(&policy->rules[i]))
			review->order[review->n_order++] = &policy->rules[i];
	qsort(review->order, review->n_order, sizeof(*review->order), by_contents);
	for (size_t i = 0; i < review->n_order; i++) {
		const struct policy_rule *rule = review->order[i];

		if (first && compare_contents(first, rule) == 0)
			review->remarks[rule - policy->rules].duplicate_of =
				(uint32_t)(first - policy->rules);
		else
			first = rule;
	}
}

/* ---- shadows ---- */

/* Returns true if everything that matches `inner` matches `outer` too. */
static bool is_within(const struct policy_match *inner, const struct policy_match *outer)
{
	uint32_t attributes = outer->attributes;

	if (attributes & ~inner->attributes)
		return false;
	return (!(attributes & POLICY_ADDRESS) ||
		pci_pattern_covers(&outer->address, outer->address_any, &inner->address,
				   inner->address_any)) &&
	       (!(attributes & POLICY_VENDOR) || inner->vendor == outer->vendor) &&
	       (!(attributes & POLICY_DEVICE_ID) || inner->device == outer->device) &&
	       (!(attributes & POLICY_SUBSYSTEM_VENDOR) ||
		inner->subsystem_vendor == outer->subsystem_vendor) &&
	       (!(attributes & POLICY_SUBSYSTEM_DEVICE) ||
		inner->subsystem_device == outer->subsystem_device) &&
	       (!(attributes & POLICY_CLASS) ||
		((outer->class_mask & ~inner->class_mask) == 0 &&
		 (inner->class_code & outer->class_mask) == outer->class_code)) &&
	       (!(attributes & POLICY_IOMMU_GROUP) || inner->iommu_group == outer->iommu_group) &&
	       (!(attributes & POLICY_DRIVER) || inner->driver == outer->driver) &&
	       (!(attributes & POLICY_SERIAL) || inner->serial == outer->serial) &&
	       (!(attributes & POLICY_PATH) || inner->path == outer->path) &&
	       (!(attributes & POLICY_PROFILE) || inner->profile == outer->profile);
}

/* Leaves in *match only the attributes that are the same in both. */
static void intersect_match(struct policy_match *match, const struct policy_match *other)
{
	uint32_t kept = 0;

	for (uint32_t bit = 1; bit && bit <= match->attributes; bit <<= 1) {
		struct policy_match alone = *match;

		alone.attributes &= bit;
		if (alone.attributes && is_within(other, &alone))
			kept |= bit;
	}
	match->attributes = kept;
}

static void find_names(struct review *review)
{
	const struct policy *policy = review->policy;

	for (size_t i = 0; i < policy->n_names; i++)
		review->names[i].attributes = NONE; /* no line yet */
	for (size_t i = 0; i < policy->n_rules; i++) {
		const struct policy_rule *rule = &policy->rules[i];

		if (rule->verb != POLICY_DEVICE)
			continue;
		if (review->names[rule->name].attributes == NONE)
			review->names[rule->name] = rule->match;
		else
			intersect_match(&review->names[rule->name], &rule->match);
	}
}

static bool deny_shadows(const struct review *review, const struct policy_rule *deny,
			 const struct policy_rule *allow)
{
	struct policy_match rest = deny->match;

	if (deny->name != POLICY_NO_NAME && deny->name != allow->name)
		return false;
	/* An attribute that the name ensures need not be in the rule itself. */
	if (allow->name != POLICY_NO_NAME) {
		const struct policy_match *name = &review->names[allow->name];

		for (uint32_t bit = 1; bit && bit <= deny->match.attributes; bit <<= 1) {
			struct policy_match alone = deny->match;

			alone.attributes &= bit;
			if (alone.attributes && is_within(name, &alone))
				rest.attributes &= ~bit;
		}
	}
	return is_within(&allow->match, &rest);
}

static int compare_who(const struct policy_rule *a, const struct policy_rule *b)
{
	if (a->who != b->who)
		return a->who < b->who ? -1 : 1;
	return a->id < b->id ? -1 : a->id > b->id;
}

static int narrowness(const struct policy_rule *rule)
{
	return __builtin_popcount(rule->match.attributes) + (rule->name != POLICY_NO_NAME);
}

/* By account, then the widest first. */
static int by_who(const void *a, const void *b)
{
	const struct policy_rule *x = *(const struct policy_rule *const *)a;
	const struct policy_rule *y = *(const struct policy_rule *const *)b;
	int order = compare_who(x, y);

	if (!order)
		order = narrowness(x) - narrowness(y);
	return order ? order : in_order(x, y);
}

/* The first of order[] for this account, or where it would be. */
static size_t first_of(const struct review *review, const struct policy_rule *who)
{
	size_t low = 0, high = review->n_order;

	while (low < high) {
		size_t middle = low + (high - low) / 2;

		if (compare_who(review->order[middle], who) < 0)
			low = middle + 1;
		else
			high = middle;
	}
	return low;
}

/* The deny rule for just this account that shadows the rule, or NULL. */
static const struct policy_rule *find_shadow(const struct review *review,
					     const struct policy_rule *who,
					     const struct policy_rule *allow)
{
	size_t i = first_of(review, who), end = i + DENIES_MAX;

	for (; i < review->n_order && i < end && compare_who(review->order[i], who) == 0; i++)
		if (deny_shadows(review, review->order[i], allow))
			return review->order[i];
	return NULL;
}

static void find_shadows(struct review *review)
{
	static const struct policy_rule everybody = { .who = POLICY_WHO_ANY };
	const struct policy *policy = review->policy;

	review->n_order = 0;
	for (size_t i = 0; i < policy->n_rules; i++)
		if (policy->rules[i].verb == POLICY_DENY && !is_nobodys(&policy->rules[i]))
			review->order[review->n_order++] = &policy->rules[i];
	qsort(review->order, review->n_order, sizeof(*review->order), by_who);
	for (size_t i = 0; review->n_order && i < policy->n_rules; i++) {
		const struct policy_rule *rule = &policy->rules[i], *deny;

		if (rule->verb != POLICY_ALLOW || is_nobodys(rule))
			continue;
		deny = find_shadow(review, &everybody, rule);
		if (!deny && rule->who != POLICY_WHO_ANY)
			deny = find_shadow(review, rule, rule);
		if (deny)
			review->remarks[i].shadowed_by = (uint32_t)(deny - policy->rules);
	}
}

/* ---- telling ---- */

/* A line of the text; it only goes forward, so that all findings together cost one pass. */
struct cursor {
	const struct source *source;
	uint32_t file;
	struct lexer lexer;
};

static struct place place_of(struct cursor *cursor, const struct policy_rule *rule)
{
	while (cursor->file < rule->file) {
		cursor->source = cursor->source->next;
		cursor->file++;
		lexer_init(&cursor->lexer, cursor->source->text, cursor->source->len);
	}
	while (cursor->lexer.number < rule->line && lexer_next_line(&cursor->lexer))
		;
	return (struct place){
		.source = cursor->source,
		.line = cursor->lexer.line,
		.line_len = (uint32_t)(cursor->lexer.line_end - cursor->lexer.line),
		.number = rule->line,
		.column = rule->column,
	};
}

/* "line 3", and its file if it is another one. */
static const char *format_reference(const struct policy *policy, const struct policy_rule *from,
				    uint32_t to, char *out, size_t size)
{
	const struct policy_rule *rule = &policy->rules[to];

	snprintf(out, size, "line %u%s%s", (unsigned int)rule->line,
		 rule->file == from->file ? "" : " of ",
		 rule->file == from->file ? "" : policy->files[rule->file].path);
	return out;
}

static void report_remarks(struct policy_parser *parser, const struct review *review)
{
	const struct policy *policy = &parser->policy;
	struct cursor cursor = { .source = parser->first_source };
	char where[POLICY_FILE_MAX + 32];

	if (!cursor.source)
		return;
	lexer_init(&cursor.lexer, cursor.source->text, cursor.source->len);
	for (size_t i = 0; i < policy->n_rules; i++) {
		const struct policy_rule *rule = &policy->rules[i];
		const struct remark *remark = &review->remarks[i];
		struct place place;

		if (remark->duplicate_of == NONE && remark->shadowed_by == NONE)
			continue;
		place = place_of(&cursor, rule);
		if (remark->duplicate_of != NONE)
			finding_report(parser, POLICY_KIND_DUPLICATE, &place,
				       "this is the same as %s%s",
				       format_reference(policy, rule, remark->duplicate_of, where,
							sizeof(where)),
				       rule->limit ? ", and each has its limit to itself" : "");
		if (remark->shadowed_by != NONE)
			finding_report(parser, POLICY_KIND_SHADOWED, &place,
				       "this allow decides nothing, since the deny in %s beats it",
				       format_reference(policy, rule, remark->shadowed_by, where,
							sizeof(where)));
	}
}

int policy_review(struct policy_parser *parser)
{
	const struct policy *policy = &parser->policy;
	struct review review = { .policy = policy };
	int r = -ENOMEM;

	review.order = calloc(policy->n_rules + 1, sizeof(*review.order));
	review.names = calloc(policy->n_names + 1, sizeof(*review.names));
	review.remarks = calloc(policy->n_rules + 1, sizeof(*review.remarks));
	if (review.order && review.names && review.remarks) {
		memset(review.remarks, 0xff, policy->n_rules * sizeof(*review.remarks));
		find_duplicates(&review);
		find_names(&review);
		find_shadows(&review);
		report_remarks(parser, &review);
		r = 0;
	}
	free(review.order);
	free(review.names);
	free(review.remarks);
	return r;
}
