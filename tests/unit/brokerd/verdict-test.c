/* SPDX-License-Identifier: MIT */
/*
 * The verdict on a group. The policy decides first, so that a user whom it refuses learns nothing
 * else about the device; then come the guards that hold whatever the policy says.
 */
#include "config.h"

#include "brokerd/state/refuse.h"
#include "brokerd/state/verdict.h"
#include "client/gpubroker.h"
#include "client/common/util.h"
#include "tests/tap.h"

#include <string.h>

#define ALICE 1000
#define BOB 1001
#define RENDER 44

static struct policy_file files[] = { { "/etc/gpubroker/policy.d/10-lab.policy" },
				      { "/b.policy" } };

static const struct policy_rule allow_any = {
	.verb = POLICY_ALLOW,
	.who = POLICY_WHO_USER,
	.id = ALICE,
	.name = POLICY_NO_NAME,
	.match = { POLICY_MATCH_NO_TEXTS },
	.vfio_driver = POLICY_NO_TEXT,
	.memlock = 1 << 30,
	.line = 7,
	.column = 1,
};

static struct policy_rule rule(enum policy_verb verb, uint32_t uid, uint8_t bus)
{
	struct policy_rule r = allow_any;

	r.verb = verb;
	r.id = uid;
	r.memlock = 0;
	r.match.attributes = POLICY_ADDRESS;
	r.match.address.bus = bus;
	return r;
}

static struct policy policy_of(struct policy_rule *rules, size_t n)
{
	return (struct policy){
		.rules = rules, .n_rules = n, .files = files, .n_files = ARRAY_SIZE(files)
	};
}

/* 01:00.0, 01:00.1 and, in another slot, 02:00.0. */
static struct group_view view_of(size_t n)
{
	static const struct pci_address addresses[] = { { .bus = 1 },
							{ .bus = 1, .function = 1 },
							{ .bus = 2 } };
	struct group_view view = { .group = 17, .n_functions = n };

	for (size_t i = 0; i < n; i++)
		view.functions[i] = (struct function){
			.address = addresses[i],
			.vendor = 0x1234,
			.device = 0x1111,
			.class_code = i ? 0x040300 : 0x030000,
			.iommu_group = 17,
		};
	return view;
}

static bool is_other(const struct message_refusal *r, uint8_t bus, uint8_t function)
{
	return r->has_other && r->other.bus == bus && r->other.function == function;
}

static struct policy_verdict verdict;
static struct message_refusal refusal;

static int decide(const struct group_view *view, const struct policy *policy, uint32_t uid,
		  size_t asked, uint32_t flags)
{
	const struct policy_subject subject = { .uid = uid, .gid = uid };

	memset(&verdict, 0xee, sizeof(verdict));
	memset(&refusal, 0xee, sizeof(refusal));
	return group_decide(view, policy, &subject, asked, flags, NULL, &verdict, &refusal);
}

static bool untouched(const void *object, size_t size)
{
	const unsigned char *bytes = object;

	for (size_t i = 0; i < size; i++)
		if (bytes[i] != 0xee)
			return false;
	return true;
}

static void test_allowed(void)
{
	struct policy_rule rules[] = { allow_any };
	const struct policy policy = policy_of(rules, 1);
	const struct group_view view = view_of(3);

	tap_ok(!decide(&view, &policy, ALICE, 0, 0) && verdict.outcome == POLICY_ALLOWED &&
		       verdict.rule == 0 && verdict.memlock == 1 << 30,
	       "who is allowed gets it, and the verdict says what the rule grants");
	tap_ok(untouched(&refusal, sizeof(refusal)), "and there is no refusal");
	tap_ok(!decide(&view, &policy, ALICE, 2, CLAIM_FORCE),
	       "--force where nothing needs it is no fault");
}

/* Everything is wrong with this group, so that a check before the policy would show. */
static struct group_view spoilt(void)
{
	struct group_view view = view_of(3);

	strcpy(view.not_viable, "is a secret");
	view.has_blocker = true;
	view.blocker.bus = 9;
	for (size_t i = 0; i < view.n_functions; i++) {
		view.functions[i].boot_vga = true;
		strcpy(view.functions[i].in_use, "disk secret is on it");
	}
	return view;
}

static bool policy_only(const struct message_refusal *r)
{
	return r->type == MESSAGE_REFUSAL && r->reason == GPUBROKER_REFUSED_POLICY &&
	       r->group == 17 && r->has_address && r->address.bus == 1 && !r->address.function &&
	       !r->detail && !r->text[0] && !r->error && !r->driver[0] && !r->holder_uid &&
	       !r->holder_pid && !r->lease;
}

static void test_policy_first(void)
{
	struct policy_rule deny = rule(POLICY_DENY, ALICE, 1);
	const struct group_view view = spoilt();
	struct policy_rule rules[2];
	struct policy policy = { 0 };
	int r;

	r = decide(&view, &policy, ALICE, 0, CLAIM_FORCE);
	tap_ok(r == GPUBROKER_REFUSED_POLICY && policy_only(&refusal) && !refusal.has_other &&
		       !refusal.rule[0],
	       "an empty policy refuses, and tells nothing of what else is wrong");
	tap_ok(untouched(&verdict, sizeof(verdict)), "and gives no verdict");

	rules[0] = allow_any;
	policy = policy_of(rules, 1);
	r = decide(&view, &policy, BOB, 0, CLAIM_FORCE);
	tap_ok(r == GPUBROKER_REFUSED_POLICY && policy_only(&refusal) && !refusal.has_other,
	       "so does one that allows somebody else");

	rules[1] = deny;
	rules[1].line = 12;
	rules[1].file = 1;
	policy = policy_of(rules, 2);
	r = decide(&view, &policy, ALICE, 0, CLAIM_FORCE);
	tap_ok(r == GPUBROKER_REFUSED_POLICY && policy_only(&refusal) &&
		       !strcmp(refusal.rule, "/b.policy:12") && !refusal.has_other,
	       "a deny beats an allow, and says where it stands");

	rules[0] = rule(POLICY_ALLOW, ALICE, 1);
	policy = policy_of(rules, 1);
	r = decide(&view, &policy, ALICE, 0, CLAIM_FORCE);
	tap_ok(r == GPUBROKER_REFUSED_POLICY && policy_only(&refusal) && is_other(&refusal, 2, 0) &&
		       !refusal.rule[0],
	       "a companion in another slot needs a rule of its own, and is named");

	rules[1] = rule(POLICY_ALLOW, ALICE, 2);
	policy = policy_of(rules, 2);
	r = decide(&view, &policy, ALICE, 0, CLAIM_FORCE);
	tap_ok(r == GPUBROKER_REFUSED_NOT_VIABLE, "with one, the guards speak");

	rules[0] = allow_any;
	rules[1] = rule(POLICY_DENY, ALICE, 2);
	policy = policy_of(rules, 2);
	r = decide(&view, &policy, ALICE, 0, CLAIM_FORCE);
	tap_ok(r == GPUBROKER_REFUSED_POLICY && policy_only(&refusal) && is_other(&refusal, 2, 0) &&
		       !strcmp(refusal.rule, "/etc/gpubroker/policy.d/10-lab.policy:7"),
	       "a denied companion is named, with the rule");
}

static void test_slot(void)
{
	struct policy_rule rules[] = { rule(POLICY_ALLOW, ALICE, 1) };
	const struct policy policy = policy_of(rules, 1);
	struct group_view view = view_of(2);

	tap_ok(!decide(&view, &policy, ALICE, 0, 0),
	       "a function of the same slot comes along without a rule");
	tap_ok(decide(&view, &policy, ALICE, 1, 0) == GPUBROKER_REFUSED_POLICY &&
		       refusal.address.function == 1,
	       "but asked for itself it needs one");
	view.functions[1].address.domain = 1;
	tap_ok(decide(&view, &policy, ALICE, 0, 0) == GPUBROKER_REFUSED_POLICY,
	       "the same slot of another domain is another slot");
}

static void test_boot_vga(void)
{
	struct policy_rule rules[] = { allow_any };
	const struct policy policy = policy_of(rules, 1);
	static const struct {
		bool rule, force;
		bool allowed;
		enum refusal_detail detail;
	} cases[] = {
		{ false, false, false, REFUSAL_PLAIN },
		{ false, true, false, REFUSAL_PLAIN },
		{ true, false, false, REFUSAL_FORCE },
		{ true, true, true, REFUSAL_PLAIN },
	};

	for (size_t which = 0; which < 3; which++) {
		struct group_view view = view_of(3);

		view.functions[which].boot_vga = true;
		for (size_t i = 0; i < ARRAY_SIZE(cases); i++) {
			int r;

			rules[0].boot_vga = cases[i].rule;
			r = decide(&view, &policy, ALICE, 0, cases[i].force ? CLAIM_FORCE : 0);
			if (cases[i].allowed) {
				tap_ok(!r && verdict.boot_vga,
				       "function %zu is the boot VGA: a rule and --force get it",
				       which);
				continue;
			}
			tap_ok(r == GPUBROKER_REFUSED_BOOT_VGA &&
				       refusal.reason == GPUBROKER_REFUSED_BOOT_VGA &&
				       refusal.detail == cases[i].detail,
			       "function %zu is the boot VGA: refused %s rule, %s --force", which,
			       cases[i].rule ? "with a" : "without a",
			       cases[i].force ? "with" : "without");
			tap_ok(which ? refusal.has_other : !refusal.has_other, "and it is named");
		}
		rules[0].boot_vga = 1;
		tap_ok(decide(&view, &policy, ALICE, 0, ~(uint32_t)CLAIM_FORCE) ==
			       GPUBROKER_REFUSED_BOOT_VGA,
		       "no other flag is --force");
		rules[0].boot_vga = 0;
		strcpy(view.functions[which].driver, "vfio-pci");
		tap_ok(!decide(&view, &policy, ALICE, 0, 0),
		       "on VFIO it shows no console, so it is lent as any");
	}
}

static void test_guards(void)
{
	struct policy_rule rules[] = { allow_any };
	const struct policy policy = policy_of(rules, 1);
	struct group_view view = view_of(3);
	int r;

	rules[0].boot_vga = 1;
	strcpy(view.functions[0].in_use, "network interface eth0 is up");
	r = decide(&view, &policy, ALICE, 0, CLAIM_FORCE);
	tap_ok(r == GPUBROKER_REFUSED_IN_USE &&
		       !strcmp(refusal.text, "network interface eth0 is up") &&
		       !refusal.has_other && refusal.has_address && refusal.group == 17,
	       "what the host is using is refused, --force or not, and says by what");
	view = view_of(3);
	strcpy(view.functions[2].in_use, "disk sda is on it");
	r = decide(&view, &policy, ALICE, 0, 0);
	tap_ok(r == GPUBROKER_REFUSED_IN_USE && is_other(&refusal, 2, 0) &&
		       refusal.address.bus == 1,
	       "a companion that is in use is named");
	view = view_of(3);
	view.functions[1].boot_vga = true;
	strcpy(view.functions[1].in_use, "disk sda is on it");
	r = decide(&view, &policy, ALICE, 0, CLAIM_FORCE);
	tap_ok(r == GPUBROKER_REFUSED_IN_USE,
	       "--force is for the boot VGA, not for what is in use");

	view = spoilt();
	r = decide(&view, &policy, ALICE, 0, CLAIM_FORCE);
	tap_ok(r == GPUBROKER_REFUSED_NOT_VIABLE && !strcmp(refusal.text, "is a secret") &&
		       is_other(&refusal, 9, 0),
	       "a group that is not viable is refused, with what spoils it");
	view.has_blocker = false;
	r = decide(&view, &policy, ALICE, 0, CLAIM_FORCE);
	tap_ok(r == GPUBROKER_REFUSED_NOT_VIABLE && !refusal.has_other,
	       "and without, where that is no function");

	view = view_of(3);
	memset(view.functions[0].in_use, 'A', sizeof(view.functions[0].in_use));
	r = decide(&view, &policy, ALICE, 0, 0);
	tap_ok(r == GPUBROKER_REFUSED_IN_USE &&
		       !memcmp(refusal.text, view.functions[0].in_use, sizeof(refusal.text)) &&
		       !refusal.rule[0],
	       "a text that fills its field stays in it");
}

static void test_full(void)
{
	static struct group_view view;
	struct policy_rule rules[] = { allow_any };
	const struct policy policy = policy_of(rules, 1);
	size_t last = FUNCTIONS_MAX - 1;

	view = view_of(0);
	view.n_functions = FUNCTIONS_MAX;
	for (size_t i = 0; i <= last; i++)
		view.functions[i] = (struct function){
			.address = { 0, 1, (uint8_t)(i >> 3), i & 7, 0 },
			.iommu_group = 17,
		};
	tap_ok(!decide(&view, &policy, ALICE, last, 0), "a group as large as may be is lent");
	strcpy(view.functions[last].in_use, "disk sda is on it");
	tap_ok(decide(&view, &policy, ALICE, 0, 0) == GPUBROKER_REFUSED_IN_USE &&
		       is_other(&refusal, 1, 7) && refusal.other.device == last >> 3,
	       "and its last function is looked at too");
	tap_ok(group_find(&view, &view.functions[last].address) == last &&
		       group_find(&view, &(struct pci_address){ .bus = 9 }) == SIZE_MAX,
	       "a function is found in its group, and only there");
}

static void test_groups(void)
{
	struct policy_rule rules[] = { allow_any };
	const struct policy policy = policy_of(rules, 1);
	const struct group_view view = view_of(1);
	gid_t groups[] = { 1, 2, RENDER };
	struct policy_subject subject = { .uid = BOB, .gid = BOB, .groups = groups, .n_groups = 3 };

	rules[0].who = POLICY_WHO_GROUP;
	rules[0].id = RENDER;
	tap_ok(!group_decide(&view, &policy, &subject, 0, 0, NULL, &verdict, &refusal),
	       "a member of a group is allowed");
	subject.n_groups = 2;
	tap_ok(group_decide(&view, &policy, &subject, 0, 0, NULL, &verdict, &refusal) ==
		       GPUBROKER_REFUSED_POLICY,
	       "and one who is none is not");
}

static void test_origin(void)
{
	struct policy_rule rules[] = { allow_any, allow_any, allow_any };
	struct policy_file hostile[1];
	struct policy policy = policy_of(rules, 3);
	char out[288 + 1];

	memset(out, '#', sizeof(out));
	rule_origin(&policy, 0, out);
	tap_ok(!strcmp(out, "/etc/gpubroker/policy.d/10-lab.policy:7"),
	       "a rule is named by file and line");
	rules[1].file = 2;
	rule_origin(&policy, 1, out);
	tap_ok(!out[0], "a file that is none: nothing");
	strcpy(out, "x");
	rule_origin(&policy, 3, out);
	tap_ok(!out[0], "a rule that is none: nothing");
	strcpy(out, "x");
	rule_origin(&policy, SIZE_MAX, out);
	tap_ok(!out[0], "no rule: nothing");

	/* The text goes into lease records, line by line, and to terminals. */
	memset(hostile, 0, sizeof(hostile));
	strcpy(hostile[0].path, "/etc/a\n\033\177\r\tb.policy");
	policy.files = hostile;
	policy.n_files = 1;
	rule_origin(&policy, 0, out);
	tap_ok(strlen(out) > 10 && !strpbrk(out, "\n\033\177\r\t"),
	       "a path cannot start a line or talk to the terminal");
	memset(hostile, 'A', sizeof(hostile));
	memset(out, '#', sizeof(out));
	policy.files = hostile;
	policy.n_files = 1;
	rules[0].line = UINT32_MAX;
	rule_origin(&policy, 0, out);
	tap_ok(strlen(out) == 255 + 11 && !strcmp(out + 255, ":4294967295") && out[288] == '#',
	       "a path without end and the largest line stay in their size");
}

static void test_small(void)
{
	static const struct {
		const char *driver;
		bool vfio;
	} drivers[] = {
		{ "vfio-pci", true },
		{ "mlx5_vfio_pci", true },
		{ "nvgrace-gpu-vfio-pci", true },
		{ "xe-vfio-pci", true },
		{ "", false },
		{ "nvidia", false },
		{ "vfio", false },
		{ "vfio_mdev", false },
		{ "pci-stub", false },
		{ "pcieport", false },
	};
	struct message_refusal r = refusal_make(GPUBROKER_REFUSED_QUOTA), nothing = { 0 };

	for (size_t i = 0; i < ARRAY_SIZE(drivers); i++)
		tap_ok(driver_is_vfio(drivers[i].driver) == drivers[i].vfio, "'%s' is %s driver",
		       drivers[i].driver, drivers[i].vfio ? "a VFIO" : "no VFIO");
	tap_ok(r.type == MESSAGE_REFUSAL && r.reason == GPUBROKER_REFUSED_QUOTA &&
		       r.group == UINT32_MAX,
	       "a new refusal has its reason and no group");
	r.type = r.reason = r.group = 0;
	tap_ok(!memcmp(&r, &nothing, sizeof(r)),
	       "and nothing else, padding included: it goes to anybody");
}

int main(void)
{
	test_allowed();
	test_policy_first();
	test_slot();
	test_boot_vga();
	test_guards();
	test_full();
	test_groups();
	test_origin();
	test_small();
	return tap_done();
}
