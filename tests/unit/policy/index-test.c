/* SPDX-License-Identifier: MIT */
/*
 * The index of rules: random policies, some with thousands of rules of few kinds, so that lists are
 * long and short, must decide with the index as without it, whatever the subject, its owner and its
 * groups. And an index must keep the cost flat. A failure prints its seed; give that as the
 * argument to run the case alone.
 */
#include "config.h"

#include <stdlib.h>
#include <string.h>

#include "client/common/util.h"
#include "policy/policy.h"
#include "tests/tap.h"
#include "tests/unit/policy/make.h"

#define CASES 500
#define FUNCTIONS 5
#define NAMES 100
#define TEXTS 6

static const char *const texts[TEXTS] = { "vfio-pci", "0a1b",	"00.0/01.0",
					  "any",      "type-1", "nouveau" };

struct question {
	struct policy policy;
	struct policy_facts functions[FUNCTIONS];
	struct policy_subject subject;
	gid_t groups[120];
	uint32_t used;
};

static uint32_t roll_text(void)
{
	return make_roll(TEXTS);
}

/* Leaves out some numbers of the address. */
static void random_pattern(struct policy_match *match)
{
	match->address_any = make_roll(PCI_ANY_ADDRESS);
	if (match->address_any & PCI_ANY_DOMAIN)
		match->address.domain = 0;
	if (match->address_any & PCI_ANY_BUS)
		match->address.bus = 0;
	if (match->address_any & PCI_ANY_DEVICE)
		match->address.device = 0;
	if (match->address_any & PCI_ANY_FUNCTION)
		match->address.function = 0;
	if (!pci_pattern_valid(&match->address, match->address_any))
		exit(99);
}

static void random_match(struct policy_match *match)
{
	static const uint32_t attributes[] = {
		0,
		0,
		POLICY_ADDRESS,
		POLICY_VENDOR,
		POLICY_VENDOR | POLICY_DEVICE_ID,
		POLICY_DEVICE_ID,
		POLICY_CLASS,
		POLICY_IOMMU_GROUP,
		POLICY_SERIAL,
		POLICY_PATH,
		POLICY_DRIVER,
		POLICY_PROFILE,
		POLICY_VENDOR | POLICY_CLASS | POLICY_PROFILE,
		POLICY_ADDRESS | POLICY_SERIAL,
		POLICY_ADDRESS | POLICY_VENDOR | POLICY_DEVICE_ID, /* a pair */
		POLICY_SUBSYSTEM_VENDOR | POLICY_SUBSYSTEM_DEVICE,
	};
	static const uint32_t masks[] = { 0xff0000, 0xffff00, 0xffffff, 0x00ff00 };

	*match = (struct policy_match){
		.attributes = attributes[make_roll(ARRAY_SIZE(attributes))],
		.address = { .domain = make_roll(4) == 0,
			     .bus = (uint8_t)make_roll(3),
			     .device = (uint8_t)make_roll(2) },
		.vendor = (uint16_t)make_roll(3),
		.device = (uint16_t)make_roll(3),
		.subsystem_vendor = (uint16_t)make_roll(3),
		.subsystem_device = (uint16_t)make_roll(3),
		.class_mask = masks[make_roll(ARRAY_SIZE(masks))],
		.iommu_group = make_roll(4),
		.driver = roll_text(),
		.serial = roll_text(),
		.path = roll_text(),
		.profile = roll_text(),
	};
	match->class_code = (make_roll(2) ? 0x030000 : 0x040300) & match->class_mask;
	if (match->attributes & POLICY_ADDRESS && make_roll(2))
		random_pattern(match);
}

static void random_rule(struct policy_rule *rule, uint32_t spread, uint32_t names)
{
	const uint32_t kind = make_roll(10);

	*rule = (struct policy_rule){ .verb = kind < 3	 ? POLICY_DEVICE
					      : kind < 4 ? POLICY_PREPARE
					      : kind < 5 ? POLICY_DENY
							 : POLICY_ALLOW,
				      .name = POLICY_NO_NAME,
				      .vfio_driver = make_roll(4) ? POLICY_NO_TEXT : 0 };
	random_match(&rule->match);
	if (rule->verb == POLICY_DEVICE || make_roll(2))
		rule->name = make_roll(names);
	if (rule->verb == POLICY_PREPARE)
		rule->vfs = make_roll(3);
	if (rule->verb != POLICY_ALLOW && rule->verb != POLICY_DENY)
		return;
	/* Few denies for everybody, or nothing would be allowed. */
	rule->who = rule->verb == POLICY_DENY ? make_roll(3) : make_roll(4);
	rule->id = rule->who == POLICY_WHO_USER ? 1000 + make_roll(spread)
						: 100 + make_roll(spread);
	if (rule->verb == POLICY_DENY)
		return;
	rule->limit = make_roll(3);
	rule->memlock = make_roll(5);
	rule->boot_vga = (uint16_t)make_roll(2);
	rule->in_use = (uint16_t)make_roll(2);
	rule->require_reset = make_roll(2);
	rule->lifetime = make_roll(4);
	rule->kill = rule->lifetime ? make_roll(3) : 0;
}

/* Alice (1001) has uids from 2000 on, 1002 and 1003 share some, and the accounts know of groups. */
static void add_owners(struct policy *policy)
{
	static const struct policy_range ranges[] = { { 2000, 100, 1001 },
						      { 2100, 10, POLICY_NOBODY },
						      { 2110, 90, 1002 } };
	static const struct policy_member members[] = { { 1001, 100 },
							{ 1001, 103 },
							{ 1002, 101 } };

	policy->owners.ranges = malloc(sizeof(ranges));
	policy->owners.members = malloc(sizeof(members));
	if (!policy->owners.ranges || !policy->owners.members)
		exit(99);
	memcpy(policy->owners.ranges, ranges, sizeof(ranges));
	memcpy(policy->owners.members, members, sizeof(members));
	policy->owners.n_ranges = ARRAY_SIZE(ranges);
	policy->owners.n_members = ARRAY_SIZE(members);
}

static void make_policy(struct policy *policy)
{
	/* Few rules, or many of each kind; the subjects are many, or few with long lists. */
	const size_t n = make_roll(3) ? make_roll(40) : 500 + make_roll(1500);
	const uint32_t spread = make_roll(2) ? 4 : 90, names = make_roll(2) ? 5 : NAMES;

	policy->rules = calloc(n + 1, sizeof(*policy->rules));
	policy->names = calloc(NAMES, sizeof(*policy->names));
	policy->texts = calloc(TEXTS, sizeof(*policy->texts));
	if (!policy->rules || !policy->names || !policy->texts)
		exit(99);
	for (; policy->n_names < NAMES; policy->n_names++)
		snprintf(policy->names[policy->n_names].text, POLICY_NAME_MAX, "card-%zu",
			 policy->n_names % (NAMES - 5));
	for (; policy->n_texts < TEXTS; policy->n_texts++)
		strcpy(policy->texts[policy->n_texts].text, texts[policy->n_texts]);
	for (; policy->n_rules < n; policy->n_rules++)
		random_rule(&policy->rules[policy->n_rules], spread, names);
	/* Sometimes nothing is denied, so that more is granted. */
	for (size_t i = 0, without = make_roll(2); without && i < n; i++)
		if (policy->rules[i].verb == POLICY_DENY)
			policy->rules[i].verb = POLICY_ALLOW;
	if (make_roll(2))
		add_owners(policy);
}

static void make_question(struct question *q)
{
	for (size_t i = 0; i < FUNCTIONS; i++)
		q->functions[i] = (struct policy_facts){
			.address = { .domain = make_roll(4) == 0,
				     .bus = (uint8_t)make_roll(3),
				     .device = (uint8_t)make_roll(2) },
			.subsystem_vendor = (uint16_t)make_roll(3),
			.subsystem_device = (uint16_t)make_roll(3),
			.vendor = (uint16_t)make_roll(3),
			.device = (uint16_t)make_roll(3),
			.class_code = make_roll(2) ? 0x030000 : 0x040300,
			.iommu_group = make_roll(5) ? make_roll(4) : UINT32_MAX,
			.driver = make_roll(4) ? texts[0] : NULL,
			.serial = make_roll(2)	 ? texts[1]
				  : make_roll(2) ? "0A1B"
						 : NULL,
			.path = make_roll(4)   ? "pci0000:00/00.0/01.0"
				: make_roll(2) ? texts[2]
					       : NULL,
			.profile = make_roll(3)	  ? ""
				   : make_roll(4) ? texts[4]
						  : NULL,
			.no_pci = !make_roll(10),
		};
	q->subject = (struct policy_subject){
		.uid = (uid_t)(make_roll(2) ? 1000 + make_roll(4) : 1990 + make_roll(250)),
		.gid = 100 + make_roll(4),
		.groups = q->groups,
		.n_groups = make_roll(2) ? make_roll(4) : make_roll(ARRAY_SIZE(q->groups)),
	};
	for (size_t i = 0; i < q->subject.n_groups; i++)
		q->groups[i] = 100 + make_roll(120);
	q->used = make_roll(3);
}

static uint32_t leases(void *userdata, size_t rule)
{
	return (uint32_t)(rule + *(const uint32_t *)userdata) % 3;
}

static bool same_verdict(const struct policy_verdict *a, const struct policy_verdict *b)
{
	return a->outcome == b->outcome && a->function == b->function && a->rule == b->rule &&
	       a->memlock == b->memlock && a->boot_vga == b->boot_vga && a->in_use == b->in_use &&
	       a->require_reset == b->require_reset && a->lifetime == b->lifetime &&
	       a->kill == b->kill && a->vfio_driver == b->vfio_driver;
}

static unsigned met[4];

/* Everything that the index answers, with and without it. */
static bool same_answers(struct question *q, struct policy *plain)
{
	const struct policy_usage usage = { .leases = leases, .userdata = &q->used };
	struct policy_verdict judged[FUNCTIONS], a, b;
	bool same = true;

	policy_judged_none(judged, FUNCTIONS);
	for (size_t i = 0; i < FUNCTIONS; i++) {
		const struct policy_usage *used = make_roll(3) ? &usage : NULL;
		const struct policy_facts *f = &q->functions[i];
		const uint32_t name = make_roll(NAMES + 2);
		size_t rule = 7, other = 7;

		policy_decide(&q->policy, &q->subject, q->functions, FUNCTIONS, i, used, &a);
		policy_decide(plain, &q->subject, q->functions, FUNCTIONS, i, used, &b);
		same = same && same_verdict(&a, &b);
		met[a.outcome]++;
		policy_decide_again(&q->policy, &q->subject, q->functions, FUNCTIONS, i, used,
				    judged, &a);
		same = same && same_verdict(&a, &b);
		same = same &&
		       policy_prepares(&q->policy, f, q->functions, FUNCTIONS, &rule) ==
			       policy_prepares(plain, f, q->functions, FUNCTIONS, &other) &&
		       rule == other &&
		       policy_vfs(&q->policy, f, &rule) == policy_vfs(plain, f, &other) &&
		       rule == other;
		same = same &&
		       policy_may_grant_part(&q->policy, &q->subject, f, NULL) ==
			       policy_may_grant_part(plain, &q->subject, f, NULL) &&
		       policy_name_matches(&q->policy, name, f, NULL) ==
			       policy_name_matches(plain, name, f, NULL) &&
		       policy_name_means_part(&q->policy, name, f, NULL) ==
			       policy_name_means_part(plain, name, f, NULL) &&
		       policy_name_has_part(&q->policy, name, NULL) ==
			       policy_name_has_part(plain, name, NULL);
	}
	return same;
}

static bool same_name(const struct policy *policy, const struct policy *plain)
{
	uint32_t a = 7, b = 7;
	char text[POLICY_NAME_MAX];

	snprintf(text, sizeof(text), "card-%u", make_roll(NAMES + 5));
	return policy_name_find(policy, text, &a) == policy_name_find(plain, text, &b) && a == b;
}

static bool one_case(uint64_t number)
{
	struct question q = { 0 };
	struct policy plain;
	bool same = true;

	make_seed(number);
	make_policy(&q.policy);
	if (policy_index_build(&q.policy))
		exit(99);
	plain = q.policy;
	plain.index = NULL;
	for (int i = 0; i < 4 && same; i++) {
		make_question(&q);
		same = same_answers(&q, &plain) && same_name(&q.policy, &plain);
	}
	if (!same)
		printf("# seed %llu\n", (unsigned long long)number);
	policy_done(&q.policy);
	return same;
}

/* ---- the cost ---- */

/* Returns the rules that a verdict on one function looks at, out of n for as many users. */
static uint64_t cost_of(size_t n, bool everybody)
{
	const struct policy_subject subject = { .uid = 1000, .gid = 1000 };
	const struct policy_facts facts = { .address = { .bus = 1 },
					    .vendor = 0x10de,
					    .device = 1,
					    .iommu_group = 1,
					    .driver = "",
					    .serial = "",
					    .path = "",
					    .profile = "" };
	struct policy policy = { .n_rules = n };
	struct policy_verdict verdict;

	policy.rules = calloc(n, sizeof(*policy.rules));
	if (!policy.rules || policy_index_new(&policy, 0, n))
		exit(99);
	for (size_t i = 0; i < n; i++) {
		policy.rules[i] = (struct policy_rule){
			.verb = POLICY_ALLOW,
			.who = everybody ? POLICY_WHO_ANY : POLICY_WHO_USER,
			.id = everybody ? 0 : 1000 + (uint32_t)i,
			.name = POLICY_NO_NAME,
			.vfio_driver = POLICY_NO_TEXT,
			.match = { POLICY_MATCH_NO_TEXTS, .attributes = POLICY_ADDRESS,
				   .address = { .domain = (uint32_t)i / 256, .bus = (uint8_t)i } },
		};
		policy_index_add_rule(&policy, i);
	}
	policy_decide(&policy, &subject, &facts, 1, 0, NULL, &verdict);
	policy_done(&policy);
	return verdict.cost;
}

/* A policy of n device lines with one attribute, each of another name, and an allow for each name. */
static void make_lines(struct policy *policy, size_t n, enum policy_attribute attribute)
{
	const size_t n_names = n < POLICY_NAMES_MAX ? n : POLICY_NAMES_MAX;

	*policy = (struct policy){
		.rules = calloc(n + n_names, sizeof(*policy->rules)),
		.names = calloc(n_names, sizeof(*policy->names)),
		.texts = calloc(n, sizeof(*policy->texts)),
		.n_names = n_names,
		.n_texts = n,
		.n_rules = n + n_names,
	};
	if (!policy->rules || !policy->names || !policy->texts)
		exit(99);
	for (size_t i = 0; i < n + n_names; i++)
		policy->rules[i] = (struct policy_rule){
			.verb = i < n ? POLICY_DEVICE : POLICY_ALLOW,
			.who = i < n ? POLICY_WHO_NONE : POLICY_WHO_ANY,
			.name = (uint32_t)(i % n_names),
			.vfio_driver = POLICY_NO_TEXT,
			.match = { POLICY_MATCH_NO_TEXTS, .attributes = i < n ? attribute : 0,
				   .subsystem_vendor = (uint16_t)i },
		};
	for (size_t i = 0; i < n; i++) {
		uint32_t *text = attribute == POLICY_SERIAL ? &policy->rules[i].match.serial
				 : attribute == POLICY_PATH ? &policy->rules[i].match.path
							    : &policy->rules[i].match.driver;

		snprintf(policy->texts[i].text, POLICY_TEXT_MAX, "%06zx/00.0", i);
		*text = (uint32_t)i;
	}
	for (size_t i = 0; i < n_names; i++)
		snprintf(policy->names[i].text, POLICY_NAME_MAX, "card-%zu", i);
	if (policy_index_build(policy))
		exit(99);
}

/* Judges a function that the line with the number 0x123 matches. */
static struct policy_verdict verdict_by_text(const struct policy *policy, const char *serial)
{
	const struct policy_subject subject = { .uid = 1000, .gid = 1000 };
	const struct policy_facts facts = { .driver = "000123/00.0",
					    .serial = serial,
					    .path = "pci0000:00/000123/00.0",
					    .profile = "",
					    .subsystem_vendor = 0x123 };
	struct policy_verdict verdict;

	policy_decide(policy, &subject, &facts, 1, 0, NULL, &verdict);
	return verdict;
}

#define LINES 20000

static void test_lines(void)
{
	static const enum policy_attribute texts_of[] = { POLICY_SERIAL, POLICY_PATH,
							  POLICY_DRIVER };
	const struct policy_subject subject = { .uid = 1000, .gid = 1000 };
	struct policy_verdict verdict;
	struct policy policy;
	const struct policy_facts card = {
		.subsystem_vendor = 0x123, .driver = "", .serial = "", .path = ""
	};
	uint64_t cost = 0;
	bool may;

	for (size_t i = 0; i < ARRAY_SIZE(texts_of); i++) {
		make_lines(&policy, LINES, texts_of[i]);
		verdict = verdict_by_text(&policy, "000123/00.0");
		tap_ok(verdict.outcome == POLICY_ALLOWED && verdict.cost < 200,
		       "of %d lines with a text each, few are looked at: %llu", LINES,
		       (unsigned long long)verdict.cost);
		policy_done(&policy);
	}
	make_lines(&policy, LINES, POLICY_SERIAL);
	verdict = verdict_by_text(&policy, NULL);
	tap_ok(verdict.outcome == POLICY_NO_RULE && verdict.cost >= LINES,
	       "if that is unknown, all are, and count: %llu", (unsigned long long)verdict.cost);
	policy_done(&policy);
	make_lines(&policy, LINES, POLICY_SUBSYSTEM_VENDOR);
	verdict = verdict_by_text(&policy, "");
	tap_ok(verdict.outcome == POLICY_ALLOWED && verdict.cost >= LINES,
	       "lines that no index finds count as well: %llu", (unsigned long long)verdict.cost);
	may = policy_may_grant_part(&policy, &subject, &card, &cost);
	tap_ok(!may && cost >= LINES, "also when it is asked who may have a part: %llu",
	       (unsigned long long)cost);
	policy_done(&policy);
}

int main(int argc, char **argv)
{
	uint64_t first = argc > 1 ? strtoull(argv[1], NULL, 10) : 1,
		 last = argc > 1 ? first : CASES;
	bool same = true;

	for (uint64_t i = first; i <= last && same; i++)
		same = one_case(i);
	tap_ok(same, "every answer is the same with the index as without it");
	for (size_t i = 0; argc == 1 && i < ARRAY_SIZE(met); i++)
		tap_ok(met[i] > CASES / 10, "outcome %zu was met %u times", i, met[i]);
	tap_ok(cost_of(100000, false) <= 8, "of 100,000 users' rules a few are looked at");
	/* The first 32 tell that there are many. */
	tap_ok(cost_of(100000, true) <= 50, "and of 100,000 rules for everybody's devices a few");
	test_lines();
	return tap_done();
}
