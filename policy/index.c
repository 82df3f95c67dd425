/* SPDX-License-Identifier: MIT */
/*
 * The index of rules, see index.h: a hash table of lists. Each rule is in the list of its section
 * and id, and in that of its section, id and key, which is the most selective thing that it says of
 * a device. So a subject with few rules costs a walk over these, and one with many, as `any` may
 * have, a look-up for each key that the function has. Texts (serial, path, driver) are no keys,
 * since they can be unknown.
 *
 * It runs in the root core: only policy_index_new() allocates, and no list is followed further than
 * the rules that were added. Whoever writes the policy can make lists long, and is root.
 */
#include "config.h"

#include "policy/index.h"

#include <errno.h>
#include <string.h>

#include "client/common/util.h"

#define FEW 32	     /* rules that are cheaper to look at than to look up by key */
#define NAMES_MAX 64 /* names of a function that are looked up; with more, all rules are visited */
#define NODES 3	     /* lists that a rule can be in */
#define NO_NODE 0    /* in heads[] and next[], which hold node + 1 */
#define BASE_CLASS 0xff0000U

enum key_kind {
	KEY_WHOLE = 0, /* not a key: the list of all rules of the section and id */
	KEY_NONE,
	KEY_NAME,
	KEY_ADDRESS,
	KEY_IOMMU_GROUP,
	KEY_MODEL,
	KEY_VENDOR,
	KEY_CLASS,
};

struct key {
	enum key_kind kind;
	uint32_t value;
};

struct policy_index {
	size_t n_names, n_rules; /* room */
	size_t mask, name_mask;
	uint32_t *heads;      /* of all lists of rules */
	uint32_t *next;	      /* NODES for each rule */
	uint32_t *name_heads; /* of the lists of names whose texts have the same hash */
	uint32_t *name_next;
};

/* ---- what a rule is filed under ---- */

static enum index_section section_of(const struct policy_rule *rule, uint32_t *ret_id)
{
	*ret_id = 0;
	switch (rule->verb) {
	case POLICY_DEVICE:
		*ret_id = rule->name;
		return INDEX_NAME;
	case POLICY_PREPARE:
		return INDEX_PREPARE;
	case POLICY_ALLOW:
	case POLICY_DENY:
		if (rule->who == POLICY_WHO_ANY)
			return INDEX_ANY;
		*ret_id = rule->id;
		return rule->who == POLICY_WHO_USER || rule->who == POLICY_WHO_GROUP
			       ? (enum index_section)rule->who
			       : INDEX_NOWHERE;
	default:
		return INDEX_NOWHERE;
	}
}

/* A collision only has more rules visited. */
static uint32_t fold_address(const struct pci_address *address)
{
	return address->domain << 16 ^
	       ((uint32_t)address->bus << 8 | (uint32_t)address->device << 3 | address->function);
}

static struct key key_of(const struct policy_rule *rule)
{
	const struct policy_match *m = &rule->match;

	if (rule->verb != POLICY_DEVICE && rule->name != POLICY_NO_NAME)
		return (struct key){ KEY_NAME, rule->name };
	/* A pattern is no key: a function has one address, and would need each pattern of it. */
	if (m->attributes & POLICY_ADDRESS && !m->address_any)
		return (struct key){ KEY_ADDRESS, fold_address(&m->address) };
	if (m->attributes & POLICY_IOMMU_GROUP)
		return (struct key){ KEY_IOMMU_GROUP, m->iommu_group };
	if (m->attributes & POLICY_VENDOR && m->attributes & POLICY_DEVICE_ID)
		return (struct key){ KEY_MODEL, (uint32_t)m->vendor << 16 | m->device };
	if (m->attributes & POLICY_VENDOR)
		return (struct key){ KEY_VENDOR, m->vendor };
	if (m->attributes & POLICY_CLASS && (m->class_mask & BASE_CLASS) == BASE_CLASS)
		return (struct key){ KEY_CLASS, m->class_code & BASE_CLASS };
	return (struct key){ KEY_NONE, 0 };
}

#define KEYS_OF_FACTS 6

/* The keys, but for names, of the rules that may match a function. */
static void keys_of_facts(const struct policy_facts *facts, struct key ret_keys[KEYS_OF_FACTS])
{
	const struct key keys[KEYS_OF_FACTS] = {
		{ KEY_NONE, 0 },
		{ KEY_ADDRESS, fold_address(&facts->address) },
		{ KEY_IOMMU_GROUP, facts->iommu_group },
		{ KEY_MODEL, (uint32_t)facts->vendor << 16 | facts->device },
		{ KEY_VENDOR, facts->vendor },
		{ KEY_CLASS, facts->class_code & BASE_CLASS },
	};

	memcpy(ret_keys, keys, sizeof(keys));
}

/* ---- the table ---- */

static size_t hash(enum index_section section, uint32_t id, struct key key)
{
	uint64_t h = (uint64_t)section << 56 ^ (uint64_t)key.kind << 48 ^ id;

	/* The finalizer of MurmurHash3. */
	h = (h ^ (uint64_t)key.value << 21) + key.value;
	h = (h ^ h >> 33) * UINT64_C(0xff51afd7ed558ccd);
	h = (h ^ h >> 33) * UINT64_C(0xc4ceb9fe1a85ec53);
	return (size_t)(h ^ h >> 33);
}

static size_t hash_text(const char *text)
{
	uint64_t h = UINT64_C(14695981039346656037); /* FNV-1a */

	for (size_t i = 0; i < POLICY_NAME_MAX && text[i]; i++)
		h = (h ^ (uint8_t)text[i]) * UINT64_C(1099511628211);
	return (size_t)h;
}

static size_t heads_for(size_t n)
{
	size_t heads = 16;

	while (heads < n * 2)
		heads *= 2;
	return heads;
}

static void index_free(struct policy_index *index)
{
	if (!index)
		return;
	free(index->heads);
	free(index->next);
	free(index->name_heads);
	free(index->name_next);
	free(index);
}

void index_done(struct policy *policy)
{
	index_free(TAKE_PTR(policy->index));
}

int policy_index_new(struct policy *policy, size_t n_names, size_t n_rules)
{
	struct policy_index *index = calloc(1, sizeof(*index));

	if (!index)
		return -ENOMEM;
	*index = (struct policy_index){
		.n_names = n_names,
		.n_rules = n_rules,
		.mask = heads_for(n_rules) - 1,
		.name_mask = heads_for(n_names) - 1,
	};
	index->heads = calloc(index->mask + 1, sizeof(*index->heads));
	index->next = calloc(n_rules * NODES + 1, sizeof(*index->next));
	index->name_heads = calloc(index->name_mask + 1, sizeof(*index->name_heads));
	index->name_next = calloc(n_names + 1, sizeof(*index->name_next));
	if (!index->heads || !index->next || !index->name_heads || !index->name_next) {
		index_free(index);
		return -ENOMEM;
	}
	index_done(policy);
	policy->index = index;
	return 0;
}

static void file_rule(struct policy_index *index, size_t rule, unsigned node,
		      enum index_section section, uint32_t id, struct key key)
{
	uint32_t *head = &index->heads[hash(section, id, key) & index->mask];
	const size_t at = rule * NODES + node;

	index->next[at] = *head;
	*head = (uint32_t)at + 1;
}

void policy_index_add_rule(struct policy *policy, size_t rule)
{
	struct policy_index *index = policy->index;
	uint32_t id;
	enum index_section section = section_of(&policy->rules[rule], &id);
	struct key key = key_of(&policy->rules[rule]);

	if (section == INDEX_NOWHERE || rule >= index->n_rules)
		return;
	file_rule(index, rule, 0, section, id, (struct key){ KEY_WHOLE, 0 });
	file_rule(index, rule, 1, section, id, key);
	if (section == INDEX_NAME)
		file_rule(index, rule, 2, INDEX_LINES, 0, key);
}

void policy_index_add_name(struct policy *policy, size_t name)
{
	struct policy_index *index = policy->index;
	uint32_t *head;

	if (name >= index->n_names || name >= POLICY_NAMES_MAX)
		return;
	head = &index->name_heads[hash_text(policy->names[name].text) & index->name_mask];
	index->name_next[name] = *head;
	*head = (uint32_t)name + 1;
}

int policy_index_build(struct policy *policy)
{
	int r = policy_index_new(policy, policy->n_names, policy->n_rules);

	for (size_t i = 0; !r && i < policy->n_names; i++)
		policy_index_add_name(policy, i);
	for (size_t i = 0; !r && i < policy->n_rules; i++)
		policy_index_add_rule(policy, i);
	return r;
}

int index_find_name(const struct policy *policy, const char *text, uint32_t *ret_name)
{
	const struct policy_index *index = policy->index;
	uint32_t found = UINT32_MAX;

	for (uint32_t at = index->name_heads[hash_text(text) & index->name_mask]; at;
	     at = index->name_next[at - 1])
		if (!strncmp(policy->names[at - 1].text, text, POLICY_NAME_MAX))
			found = at - 1; /* the last in the list is the first name */
	if (found == UINT32_MAX)
		return -ENOENT;
	*ret_name = found;
	return 0;
}

/* ---- looking up ---- */

/* Visits a list, or its first `max` rules. Returns false if it was stopped, or had more. */
static bool visit_list(const struct policy *policy, enum index_section section, uint32_t id,
		       struct key key, size_t max, index_visit visit, void *userdata)
{
	const struct policy_index *index = policy->index;
	const unsigned node = section == INDEX_LINES ? 2 : key.kind != KEY_WHOLE;

	for (uint32_t at = index->heads[hash(section, id, key) & index->mask]; at != NO_NODE;
	     at = index->next[at - 1]) {
		const size_t rule = (at - 1) / NODES;
		struct key its;
		uint32_t its_id;

		if ((at - 1) % NODES != node)
			continue;
		if (section != INDEX_LINES &&
		    (section_of(&policy->rules[rule], &its_id) != section || its_id != id))
			continue;
		its = key.kind == KEY_WHOLE ? key : key_of(&policy->rules[rule]);
		if (its.kind != key.kind || its.value != key.value)
			continue;
		if (!max-- || (visit && !visit(userdata, rule)))
			return false;
	}
	return true;
}

void index_all(const struct policy *policy, enum index_section section, uint32_t id,
	       index_visit visit, void *userdata)
{
	visit_list(policy, section, id, (struct key){ KEY_WHOLE, 0 }, SIZE_MAX, visit, userdata);
}

bool index_has(const struct policy *policy, enum index_section section, uint32_t id)
{
	return !visit_list(policy, section, id, (struct key){ KEY_WHOLE, 0 }, 0, NULL, NULL);
}

/* The names that may mean a function. */
struct names_met {
	const struct policy *policy;
	const struct policy_facts *facts;
	size_t n;
	uint32_t list[NAMES_MAX];
};

static bool meet_line(void *userdata, size_t rule)
{
	struct names_met *met = userdata;
	const struct policy_rule *line = &met->policy->rules[rule];

	if (!match_facts(met->policy, &line->match, met->facts, MATCH_MAYBE))
		return true;
	for (size_t i = 0; i < met->n; i++)
		if (met->list[i] == line->name)
			return true;
	if (met->n == NAMES_MAX)
		return false;
	met->list[met->n++] = line->name;
	return true;
}

/* Returns false if a function has more names than are looked up. */
static bool meet_names(const struct policy *policy, const struct policy_facts *facts,
		       const struct key keys[KEYS_OF_FACTS], struct names_met *ret_met)
{
	*ret_met = (struct names_met){ .policy = policy, .facts = facts };
	for (size_t i = 0; i < KEYS_OF_FACTS; i++)
		if (!visit_list(policy, INDEX_LINES, 0, keys[i], SIZE_MAX, meet_line, ret_met))
			return false;
	return true;
}

void index_matching(const struct policy *policy, enum index_section section, uint32_t id,
		    const struct policy_facts *facts, index_visit visit, void *userdata)
{
	const struct key whole = { KEY_WHOLE, 0 };
	struct key keys[KEYS_OF_FACTS];
	struct names_met met = { 0 };

	keys_of_facts(facts, keys);
	if (visit_list(policy, section, id, whole, FEW, NULL, NULL) ||
	    (section != INDEX_NAME && !meet_names(policy, facts, keys, &met))) {
		visit_list(policy, section, id, whole, SIZE_MAX, visit, userdata);
		return;
	}
	for (size_t i = 0; i < KEYS_OF_FACTS; i++)
		if (!visit_list(policy, section, id, keys[i], SIZE_MAX, visit, userdata))
			return;
	for (size_t i = 0; i < met.n; i++)
		if (!visit_list(policy, section, id, (struct key){ KEY_NAME, met.list[i] },
				SIZE_MAX, visit, userdata))
			return;
}
