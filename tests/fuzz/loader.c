/* SPDX-License-Identifier: MIT */
/*
 * The core takes the loader's records, each behind its length and filled up with zeros. If they
 * give a policy, the core decides and prepares by it, and names the rule.
 *
 * About: brokerd/helper/intake.c policy/valid.c policy/verdict.c policy/match.c
 */
#include "config.h"

#include <errno.h>

#include "brokerd/helper/intake.h"
#include "brokerd/state/verdict.h"
#include "tests/fuzz/fuzz.h"
#include "tests/unit/policy/card.h"

const char fuzz_name[] = "loader";

int LLVMFuzzerInitialize(int *argc, char ***argv)
{
	(void)argc;
	(void)argv;
	return 0;
}

static uint32_t leases(void *userdata, size_t rule)
{
	const struct policy *policy = userdata;

	must(rule < policy->n_rules && policy->rules[rule].limit);
	return (uint32_t)rule & 3;
}

static void check_verdict(const struct policy *policy, const struct policy_verdict *v, size_t asked)
{
	char origin[288];

	must(v->outcome <= POLICY_LIMIT && v->function < sizeof(card) / sizeof(*card));
	if (v->outcome == POLICY_NO_RULE) {
		must(v->rule == SIZE_MAX);
		return;
	}
	must(v->rule < policy->n_rules);
	must(policy->rules[v->rule].verb ==
	     (v->outcome == POLICY_DENIED ? POLICY_DENY : POLICY_ALLOW));
	must(v->outcome != POLICY_ALLOWED || v->function == asked);
	must(v->vfio_driver == POLICY_NO_TEXT || policy_text(policy, v->vfio_driver));
	rule_origin(policy, v->rule, origin);
	must(memchr(origin, '\0', sizeof(origin)) && origin[0]);
}

/* Checks what the core and its messages rely on, without valid.c. */
static void check_rule(const struct policy *policy, const struct policy_rule *r)
{
	must(r->verb >= POLICY_DEVICE && r->verb <= POLICY_PREPARE);
	must(r->who <= POLICY_WHO_ALLOTTED);
	must(r->file < policy->n_files && r->line && r->column);
	must(r->vfs <= POLICY_VFS_MAX && (!r->vfs || r->verb == POLICY_PREPARE));
	must(r->vfs || (!r->vf_exec_quantum_ms && !r->vf_preempt_timeout_us));
	must(r->name == POLICY_NO_NAME ? r->verb != POLICY_DEVICE : r->name < policy->n_names);
	must(r->boot_vga <= 1 && r->in_use <= 1 && r->require_reset <= 1 &&
	     r->memlock <= INT64_MAX);
	must(r->match.address.device < 32 && r->match.address.function < 8);
	must(!(r->match.attributes & POLICY_DRIVER) == !policy_text(policy, r->match.driver));
	must(!(r->match.attributes & POLICY_SERIAL) == !policy_text(policy, r->match.serial));
	must(!(r->match.attributes & POLICY_PATH) == !policy_text(policy, r->match.path));
	must(!(r->match.attributes & POLICY_PROFILE) == !policy_text(policy, r->match.profile));
	/* The driver's name becomes a component of a path. */
	if (policy_text(policy, r->vfio_driver))
		must(!strchr(policy_text(policy, r->vfio_driver), '/') &&
		     policy_text(policy, r->vfio_driver)[0] != '.');
}

/* Uses the policy. A policy of accepted records must be sound, whoever sent them. */
static void use(const struct policy *policy)
{
	const gid_t groups[] = { 44, 100 };
	const struct policy_usage usage = { leases, (void *)policy };
	const struct policy_subject subjects[] = {
		{ .uid = 0 },
		{ .uid = 1000, .gid = 1000, .groups = groups, .n_groups = 2 },
		{ .uid = UINT32_MAX, .gid = UINT32_MAX },
		{ .uid = 100005, .gid = 100005, .groups = groups, .n_groups = 1 },
		{ .uid = 1000, .gid = 1000, .allotted = true },
	};
	struct policy plain = *policy;
	uint32_t found;
	size_t rule;

	plain.index = NULL;
	for (size_t i = 0; i < policy->n_rules; i++)
		check_rule(policy, &policy->rules[i]);
	for (size_t s = 0; s < sizeof(subjects) / sizeof(*subjects); s++)
		for (size_t asked = 0; asked < sizeof(card) / sizeof(*card); asked++) {
			struct policy_verdict v, without;

			policy_decide(policy, &subjects[s], card, sizeof(card) / sizeof(*card),
				      asked, s ? &usage : NULL, &v);
			check_verdict(policy, &v, asked);
			policy_decide(&plain, &subjects[s], card, sizeof(card) / sizeof(*card),
				      asked, s ? &usage : NULL, &without);
			must(v.outcome == without.outcome && v.rule == without.rule &&
			     v.function == without.function && v.memlock == without.memlock);
		}
	for (size_t i = 0; i < sizeof(card) / sizeof(*card); i++)
		if (policy_prepares(policy, &card[i], card, sizeof(card) / sizeof(*card), &rule))
			must(rule < policy->n_rules && policy->rules[rule].verb == POLICY_PREPARE);
	for (uint32_t i = 0; i < policy->n_names && i < 64; i++) {
		must(!policy_name_find(policy, policy->names[i].text, &found) && found <= i);
		for (size_t k = 0; k < sizeof(card) / sizeof(*card); k++)
			policy_name_matches(policy, i, &card[k], NULL);
	}
}

int LLVMFuzzerTestOneInput(const uint8_t *data, size_t size)
{
	struct policy_intake intake = { 0 };
	struct policy policy = { 0 };
	struct input input = { data, size };
	enum intake_result r = INTAKE_MORE;

	/* As core-side.c does, stops reading from a helper that has sent nonsense. */
	while (input.left && r != INTAKE_NONSENSE) {
		struct policy taken = { 0 };
		struct policy_owners owners = { 0 };
		struct loader_record record;

		input_struct(&input, &record, sizeof(record));
		r = intake_take(&intake, &record, &taken, &owners);
		must(r == INTAKE_MORE || r == INTAKE_POLICY || r == INTAKE_MISTAKES ||
		     r == INTAKE_NONSENSE || r == INTAKE_NO_MEMORY || r == INTAKE_OWNERS);
		must(intake.policy.n_rules <= intake.rules &&
		     intake.policy.n_names <= intake.names &&
		     intake.policy.n_files <= intake.files &&
		     intake.policy.n_texts <= intake.texts);
		must(intake.owners.n_ranges <= intake.ranges &&
		     intake.owners.n_members <= intake.members);
		must((r == INTAKE_POLICY) == (taken.rules != NULL));
		must((r == INTAKE_OWNERS) == (owners.ranges != NULL));
		if (r == INTAKE_OWNERS) {
			must(policy_owners_valid(&owners));
			policy_owners_done(&policy.owners);
			policy.owners = owners;
			use(&policy);
		}
		if (r != INTAKE_POLICY)
			continue;
		taken.owners = policy.owners;
		policy.owners = (struct policy_owners){ 0 };
		policy_done(&policy);
		policy = taken;
		use(&policy);
	}
	policy_done(&policy);
	intake_done(&intake);
	must(!intake.policy.rules && !policy.rules);
	return 0;
}

static void add(struct seed *seed, enum loader_record_type type, const struct loader_record *with)
{
	struct loader_record record = *with;

	record.type = type;
	seed_struct(seed, &record, sizeof(record));
}

static struct policy_rule rule_of(uint32_t verb, uint32_t who)
{
	return (struct policy_rule){
		.verb = verb,
		.who = who,
		.name = POLICY_NO_NAME,
		.match = { POLICY_MATCH_NO_TEXTS },
		.vfio_driver = POLICY_NO_TEXT,
		.line = 7,
		.column = 1,
	};
}

static void add_owners(struct seed *seed)
{
	struct loader_record record = { .counts = { 2, 1 } };

	add(seed, LOADER_OWNERS, &record);
	record = (struct loader_record){ .range = { 100000, 65536, 1000 } };
	add(seed, LOADER_RANGE, &record);
	record = (struct loader_record){ .range = { 165536, 65536, POLICY_NOBODY } };
	add(seed, LOADER_RANGE, &record);
	record = (struct loader_record){ .member = { 1000, 100 } };
	add(seed, LOADER_MEMBER, &record);
	record = (struct loader_record){ 0 };
	add(seed, LOADER_OWNERS_END, &record);
}

static void add_policy(struct seed *seed)
{
	struct loader_record record = { .counts = { 1, 1, 5, 2 } };

	add(seed, LOADER_BEGIN, &record);
	record = (struct loader_record){ .name.text = "card" };
	add(seed, LOADER_NAME, &record);
	record = (struct loader_record){ .text.text = "nouveau" };
	add(seed, LOADER_TEXT, &record);
	record = (struct loader_record){ .text.text = "vfio-pci" };
	add(seed, LOADER_TEXT, &record);
	record = (struct loader_record){ .file.path = "/etc/gpubroker/policy.d/10-lab.policy" };
	add(seed, LOADER_FILE, &record);
	record = (struct loader_record){ .rule = rule_of(POLICY_DEVICE, POLICY_WHO_NONE) };
	record.rule.name = 0;
	record.rule.match.attributes = POLICY_VENDOR | POLICY_DRIVER;
	record.rule.match.vendor = 0x10de;
	record.rule.match.driver = 0;
	add(seed, LOADER_RULE, &record);
	record = (struct loader_record){ .rule = rule_of(POLICY_ALLOW, POLICY_WHO_USER) };
	record.rule.id = 1000;
	record.rule.name = 0;
	record.rule.limit = 2;
	record.rule.memlock = 1 << 30;
	record.rule.vfio_driver = 1;
	add(seed, LOADER_RULE, &record);
	record = (struct loader_record){ .rule = rule_of(POLICY_ALLOW, POLICY_WHO_ANY) };
	record.rule.match.attributes = POLICY_CLASS;
	record.rule.match.class_code = 0x020000;
	record.rule.match.class_mask = 0xff0000;
	record.rule.lifetime = 3600;
	add(seed, LOADER_RULE, &record);
	record = (struct loader_record){ .rule = rule_of(POLICY_DENY, POLICY_WHO_GROUP) };
	record.rule.id = 44;
	record.rule.match.attributes = POLICY_ADDRESS;
	record.rule.match.address = (struct pci_address){ .bus = 1, .device = 2 };
	add(seed, LOADER_RULE, &record);
	record = (struct loader_record){ .rule = rule_of(POLICY_PREPARE, POLICY_WHO_NONE) };
	record.rule.name = 0;
	add(seed, LOADER_RULE, &record);
	record = (struct loader_record){ 0 };
	add(seed, LOADER_END, &record);
}

void fuzz_seeds(fuzz_write write)
{
	static struct seed seed;
	struct loader_record record = { 0 };

	seed.n = 0;
	add_policy(&seed);
	write("policy", seed.data, seed.n);
	add(&seed, LOADER_INVALID, &record);
	add_policy(&seed);
	write("reloaded", seed.data, seed.n);
	seed.n = 0;
	add(&seed, LOADER_BEGIN, &record);
	add(&seed, LOADER_END, &record);
	write("empty", seed.data, seed.n);
	seed.n = 0;
	record.counts[2] = POLICY_RULES_MAX + 1;
	add(&seed, LOADER_BEGIN, &record);
	write("too-many", seed.data, seed.n);
	seed.n = 0;
	record.counts[2] = 1;
	add(&seed, LOADER_BEGIN, &record);
	record = (struct loader_record){ .rule = rule_of(POLICY_ALLOW, POLICY_WHO_ANY) };
	add(&seed, LOADER_RULE, &record); /* a file that does not exist */
	write("no-file", seed.data, seed.n);
	seed.n = 0;
	record = (struct loader_record){ .counts = { 0, 1, 1, 0 } };
	add(&seed, LOADER_BEGIN, &record);
	record = (struct loader_record){ .file.path = "x" };
	add(&seed, LOADER_FILE, &record);
	record = (struct loader_record){ .rule = rule_of(POLICY_ALLOW, POLICY_WHO_ANY) };
	record.rule.line = 0; /* no line */
	add(&seed, LOADER_RULE, &record);
	record = (struct loader_record){ 0 };
	add(&seed, LOADER_END, &record);
	write("no-line", seed.data, seed.n);
	seed.n = 0;
	add_owners(&seed);
	add_policy(&seed);
	add_owners(&seed);
	write("owners", seed.data, seed.n);
}
