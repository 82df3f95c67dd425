/* SPDX-License-Identifier: MIT */
/*
 * The index of rules, see index.h: a hash table of lists. Each rule is in the list of its section
 * and id, and in that of its section, id and key, which is the most selective thing that it says of
 * a device. So a subject with few rules costs a walk over these, and one with many, as `any` may
 * have, a look-up for each key that the function has. A text (serial, path, driver) is a key by its
 * hash. It can be unknown of a function; so a rule that is filed under a text is also in a list by
 * the best of its other keys, which is visited for such a function.
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
#define NODES 5	     /* lists that a rule can be in */
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
	KEY_SERIAL,
	KEY_PATH,
	KEY_DRIVER,
};

struct key {
	enum key_kind kind;
	uint32_t value;
	enum key_kind text; /* of rules that are filed under a text of this kind, or 0 */
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
		if (rule->who == POLICY_WHO_ANY || rule->who == POLICY_WHO_ALLOTTED)
			return (enum index_section)rule->who;
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

static uint32_t hash_text(const char *text, size_t max, char (*fold)(char))
{
	uint64_t h = UINT64_C(14695981039346656037); /* FNV-1a */

	for (size_t i = 0; i < max && text[i]; i++)
		h = (h ^ (uint8_t)(fold ? fold(text[i]) : text[i])) * UINT64_C(1099511628211);
	return (uint32_t)(h ^ h >> 32);
}

static bool is_by_name(const struct policy_rule *rule)
{
	return rule->verb != POLICY_DEVICE && rule->name != POLICY_NO_NAME;
}

static bool has_whole_address(const struct policy_match *m)
{
	return m->attributes & POLICY_ADDRESS && !m->address_any;
}

/* Without the texts. */
static struct key plain_key_of(const struct policy_rule *rule)
{
	const struct policy_match *m = &rule->match;

	if (is_by_name(rule))
		return (struct key){ KEY_NAME, rule->name, 0 };
	/* A pattern is no key: a function has one address, and would need each pattern of it. */
	if (has_whole_address(m))
		return (struct key){ KEY_ADDRESS, fold_address(&m->address), 0 };
	if (m->attributes & POLICY_IOMMU_GROUP)
		return (struct key){ KEY_IOMMU_GROUP, m->iommu_group, 0 };
	if (m->attributes & POLICY_VENDOR && m->attributes & POLICY_DEVICE_ID)
		return (struct key){ KEY_MODEL, (uint32_t)m->vendor << 16 | m->device, 0 };
	if (m->attributes & POLICY_VENDOR)
		return (struct key){ KEY_VENDOR, m->vendor, 0 };
	if (m->attributes & POLICY_CLASS && (m->class_mask & BASE_CLASS) == BASE_CLASS)
		return (struct key){ KEY_CLASS, m->class_code & BASE_CLASS, 0 };
	return (struct key){ KEY_NONE, 0, 0 };
}

/* Keys a text of a rule, as keys_of_facts() does the fact. An index without a text is no key. */
static struct key text_key(const struct policy *policy, enum key_kind kind, uint32_t index)
{
	const char *text = policy_text(policy, index);

	return (struct key){ text ? kind : KEY_WHOLE,
			     text ? hash_text(text, POLICY_TEXT_MAX, NULL) : 0, 0 };
}

static struct key key_of(const struct policy *policy, const struct policy_rule *rule)
{
	const struct policy_match *m = &rule->match;
	const struct key plain = plain_key_of(rule);
	struct key key = { KEY_WHOLE, 0, 0 };

	if (is_by_name(rule) || has_whole_address(m))
		return plain;
	if (m->attributes & POLICY_SERIAL)
		key = text_key(policy, KEY_SERIAL, m->serial);
	else if (m->attributes & POLICY_PATH)
		key = text_key(policy, KEY_PATH, m->path);
	else if (plain.kind == KEY_NONE && m->attributes & POLICY_DRIVER)
		key = text_key(policy, KEY_DRIVER, m->driver);
	return key.kind == KEY_WHOLE ? plain : key;
}

#define PLAIN_KEYS 6
#define KEYS_MAX (4 * PLAIN_KEYS) /* if all three texts are unknown */

struct keys {
	size_t n;
	struct key list[KEYS_MAX];
};

/* Adds the keys of rules with a text: by `fact`, or, if that is unknown, by the other keys. */
static void add_text(struct keys *keys, enum key_kind kind, const char *fact, char (*fold)(char))
{
	if (fact) {
		keys->list[keys->n++] =
			(struct key){ kind, hash_text(fact, POLICY_TEXT_MAX, fold), 0 };
		return;
	}
	for (size_t i = 0; i < PLAIN_KEYS; i++) {
		keys->list[keys->n] = keys->list[i];
		keys->list[keys->n++].text = kind;
	}
}

/* The keys, but for names, of the rules that may match a function. */
static void keys_of_facts(const struct policy_facts *facts, struct keys *ret_keys)
{
	const struct key keys[PLAIN_KEYS] = {
		{ KEY_NONE, 0, 0 },
		{ KEY_ADDRESS, fold_address(&facts->address), 0 },
		{ KEY_IOMMU_GROUP, facts->iommu_group, 0 },
		{ KEY_MODEL, (uint32_t)facts->vendor << 16 | facts->device, 0 },
		{ KEY_VENDOR, facts->vendor, 0 },
		{ KEY_CLASS, facts->class_code & BASE_CLASS, 0 },
	};
	const char *below = facts->path ? strchr(facts->path, '/') : NULL;

	memcpy(ret_keys->list, keys, sizeof(keys));
	ret_keys->n = PLAIN_KEYS;
	add_text(ret_keys, KEY_DRIVER, facts->driver, NULL);
	add_text(ret_keys, KEY_SERIAL, facts->serial, match_fold_case);
	add_text(ret_keys, KEY_PATH, facts->path, NULL);
	if (below) /* a rule may leave out the host bridge */
		add_text(ret_keys, KEY_PATH, below + 1, NULL);
}

/* ---- the table ---- */

static size_t hash(enum index_section section, uint32_t id, struct key key)
{
	uint64_t h = (uint64_t)section << 56 ^ (uint64_t)key.kind << 48 ^ (uint64_t)key.text << 40 ^
		     id;

	/* The finalizer of MurmurHash3. */
	h = (h ^ (uint64_t)key.value << 21) + key.value;
	h = (h ^ h >> 33) * UINT64_C(0xff51afd7ed558ccd);
	h = (h ^ h >> 33) * UINT64_C(0xc4ceb9fe1a85ec53);
	return (size_t)(h ^ h >> 33);
}

static size_t hash_name(const char *text)
{
	return hash_text(text, POLICY_NAME_MAX, NULL);
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

static const struct key whole = { KEY_WHOLE, 0, 0 };

static bool has_text(struct key key)
{
	return key.kind == KEY_SERIAL || key.kind == KEY_PATH || key.kind == KEY_DRIVER;
}

/* The number of the list, among those of a rule, that is by such a key. */
static unsigned node_of(enum index_section section, struct key key)
{
	if (section == INDEX_LINES)
		return key.text ? 4 : 2;
	return key.text ? 3 : key.kind != KEY_WHOLE;
}

/* Returns true if a rule is filed under the key. */
static bool is_filed_under(const struct policy *policy, const struct policy_rule *rule,
			   struct key key)
{
	struct key its;

	if (key.kind == KEY_WHOLE)
		return true;
	its = key_of(policy, rule);
	if (key.text && its.kind != key.text)
		return false;
	if (key.text)
		its = plain_key_of(rule);
	return its.kind == key.kind && its.value == key.value;
}

void policy_index_add_rule(struct policy *policy, size_t rule)
{
	struct policy_index *index = policy->index;
	uint32_t id;
	enum index_section section = section_of(&policy->rules[rule], &id);
	struct key key = key_of(policy, &policy->rules[rule]), other;

	if (section == INDEX_NOWHERE || rule >= index->n_rules)
		return;
	file_rule(index, rule, 0, section, id, whole);
	file_rule(index, rule, 1, section, id, key);
	if (section == INDEX_NAME)
		file_rule(index, rule, 2, INDEX_LINES, 0, key);
	if (!has_text(key))
		return;
	other = plain_key_of(&policy->rules[rule]);
	other.text = key.kind;
	file_rule(index, rule, 3, section, id, other);
	if (section == INDEX_NAME)
		file_rule(index, rule, 4, INDEX_LINES, 0, other);
}

void policy_index_add_name(struct policy *policy, size_t name)
{
	struct policy_index *index = policy->index;
	uint32_t *head;

	if (name >= index->n_names || name >= POLICY_NAMES_MAX)
		return;
	head = &index->name_heads[hash_name(policy->names[name].text) & index->name_mask];
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

	for (uint32_t at = index->name_heads[hash_name(text) & index->name_mask]; at;
	     at = index->name_next[at - 1])
		if (!strncmp(policy->names[at - 1].text, text, POLICY_NAME_MAX))
			found = at - 1; /* the last in the list is the first name */
	if (found == UINT32_MAX)
		return -ENOENT;
	*ret_name = found;
	return 0;
}

/* ---- looking up ---- */

/*
 * Visits a list, or its first `max` rules. visit() may be NULL. Returns false if it was stopped, or
 * had more.
 */
static bool visit_list(const struct policy *policy, enum index_section section, uint32_t id,
		       struct key key, size_t max, const struct index_walk *walk)
{
	const struct policy_index *index = policy->index;
	const unsigned node = node_of(section, key);

	for (uint32_t at = index->heads[hash(section, id, key) & index->mask]; at != NO_NODE;
	     at = index->next[at - 1]) {
		const size_t rule = (at - 1) / NODES;
		uint32_t its_id;

		if (walk->cost)
			++*walk->cost;
		if ((at - 1) % NODES != node)
			continue;
		if (section != INDEX_LINES &&
		    (section_of(&policy->rules[rule], &its_id) != section || its_id != id))
			continue;
		if (!is_filed_under(policy, &policy->rules[rule], key))
			continue;
		if (!max-- || (walk->visit && !walk->visit(walk->userdata, rule)))
			return false;
	}
	return true;
}

void index_all(const struct policy *policy, enum index_section section, uint32_t id,
	       const struct index_walk *walk)
{
	visit_list(policy, section, id, whole, SIZE_MAX, walk);
}

bool index_has(const struct policy *policy, enum index_section section, uint32_t id)
{
	const struct index_walk none = { 0 };

	return !visit_list(policy, section, id, whole, 0, &none);
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
		       const struct keys *keys, uint64_t *cost, struct names_met *ret_met)
{
	const struct index_walk walk = { meet_line, ret_met, cost };

	*ret_met = (struct names_met){ .policy = policy, .facts = facts };
	for (size_t i = 0; i < keys->n; i++)
		if (!visit_list(policy, INDEX_LINES, 0, keys->list[i], SIZE_MAX, &walk))
			return false;
	return true;
}

void index_matching(const struct policy *policy, enum index_section section, uint32_t id,
		    const struct policy_facts *facts, const struct index_walk *walk)
{
	const struct index_walk count = { .cost = walk->cost };
	struct names_met met = { 0 };
	struct keys keys;

	if (visit_list(policy, section, id, whole, FEW, &count)) {
		visit_list(policy, section, id, whole, SIZE_MAX, walk);
		return;
	}
	keys_of_facts(facts, &keys);
	if (section != INDEX_NAME && !meet_names(policy, facts, &keys, walk->cost, &met)) {
		visit_list(policy, section, id, whole, SIZE_MAX, walk);
		return;
	}
	for (size_t i = 0; i < keys.n; i++)
		if (!visit_list(policy, section, id, keys.list[i], SIZE_MAX, walk))
			return;
	for (size_t i = 0; i < met.n; i++)
		if (!visit_list(policy, section, id, (struct key){ KEY_NAME, met.list[i], 0 },
				SIZE_MAX, walk))
			return;
}
