/* SPDX-License-Identifier: MIT */
/*
 * Subordinate uids: they are their owner to every rule, and a deny is about the uid itself and about
 * the groups that the accounts say as well.
 */
#include "config.h"

#include "client/common/util.h"
#include "policy/policy.h"
#include "tests/tap.h"
#include "tests/unit/policy/parse.h"

#define ALICE 1000
#define BOB 1001
#define MALLORY 1003
#define RENDER 100
#define STUDENTS 102

static struct policy_range ranges[] = {
	{ 100000, 65536, ALICE },
	{ 165536, 65536, MALLORY },
	{ 300000, 10, POLICY_NOBODY },
	{ 400000, 1, BOB },
};
static struct policy_member members[] = { { ALICE, STUDENTS }, { MALLORY, RENDER } };
static const struct policy_owners owners = { ranges, ARRAY_SIZE(ranges), members,
					     ARRAY_SIZE(members) };

static enum policy_outcome decide(const char *text, uid_t uid, gid_t gid, bool index)
{
	const struct policy_subject subject = { .uid = uid, .gid = gid };
	const struct policy_facts facts = { .vendor = 0x10de,
					    .iommu_group = 1,
					    .driver = "",
					    .serial = "",
					    .path = "",
					    .profile = "" };
	struct policy_verdict verdict;
	struct parsed parsed;

	parse_right(text, &parsed);
	if (index && policy_index_build(&parsed.policy))
		exit(99);
	parsed.policy.owners = owners;
	policy_decide(&parsed.policy, &subject, &facts, 1, 0, NULL, &verdict);
	parsed.policy.owners = (struct policy_owners){ 0 };
	parse_done(&parsed);
	return verdict.outcome;
}

static void test_owner(void)
{
	const struct policy policy = { .owners = owners }, none = { 0 };

	tap_ok(policy_owner(&policy, 100000) == ALICE && policy_owner(&policy, 165535) == ALICE &&
		       policy_owner(&policy, 165536) == MALLORY &&
		       policy_owner(&policy, 400000) == BOB,
	       "a uid of a range has the owner of the range, up to its ends");
	tap_ok(policy_owner(&policy, 99999) == 99999 && policy_owner(&policy, 400001) == 400001 &&
		       policy_owner(&policy, 0) == 0 && policy_owner(&policy, ALICE) == ALICE &&
		       policy_owner(&policy, UINT32_MAX) == UINT32_MAX,
	       "any other uid is its own owner");
	tap_ok(policy_owner(&none, 100000) == 100000, "and every uid where there are no ranges");
	tap_ok(policy_owner(&policy, 300009) == POLICY_NOBODY, "a shared uid is nobody's");
}

static void test_valid(void)
{
	static const struct {
		struct policy_range range[2];
		bool valid;
		const char *what;
	} cases[] = {
		{ { { 100000, 10, ALICE }, { 100010, 10, BOB } }, true, "ranges that touch" },
		{ { { 100000, 11, ALICE }, { 100010, 10, BOB } }, false, "ranges that overlap" },
		{ { { 100010, 10, ALICE }, { 100000, 10, BOB } }, false, "ranges in another order" },
		{ { { 100000, 10, 0 }, { 100010, 10, BOB } }, false, "a range of root's" },
		{ { { 0, 10, ALICE }, { 100010, 10, BOB } }, false, "a range with root in it" },
		{ { { 999, 10, ALICE }, { 100010, 10, BOB } }, false, "a range of system accounts" },
		{ { { 100000, 0, ALICE }, { 100010, 10, BOB } }, false, "an empty range" },
		{ { { 100000, 10, ALICE }, { 4294967290, 10, BOB } },
		  false,
		  "a range past the end" },
		{ { { 100000, 10, ALICE }, { 4294967290, 5, BOB } }, true, "a range up to the end" },
	};
	struct policy_member wrong[] = { { ALICE, 5 }, { ALICE, 5 } };
	struct policy_owners twice = { .members = wrong, .n_members = 2 };

	tap_ok(policy_owners_valid(&owners), "the ranges of this test are valid");
	for (size_t i = 0; i < ARRAY_SIZE(cases); i++) {
		struct policy_owners o = { .ranges = (struct policy_range *)cases[i].range,
					   .n_ranges = 2 };

		tap_ok(policy_owners_valid(&o) == cases[i].valid, "%s: %s", cases[i].what,
		       cases[i].valid ? "valid" : "not valid");
	}
	tap_ok(!policy_owners_valid(&twice), "a membership twice is not valid");
	wrong[1].gid = 6;
	tap_ok(policy_owners_valid(&twice), "two of a user are");
	wrong[0].uid = 0;
	tap_ok(!policy_owners_valid(&twice), "root's is not");
}

static void test_rules(bool index)
{
	const char *how = index ? "by the index" : "without an index";
	const char *deny = "deny user mallory claim any\nallow any claim any\n",
		   *allow = "allow user alice claim any\n", *raw = "allow user 100005 claim any\n",
		   *deny_raw = "allow user alice claim any\ndeny user 100005 claim any\n",
		   *group = "deny group students claim any\nallow any claim any\n",
		   *in_group = "allow group students claim any\n";

	tap_ok(decide(deny, MALLORY, 5, index) == POLICY_DENIED &&
		       decide(deny, 165536 + 77, 5, index) == POLICY_DENIED &&
		       decide(deny, BOB, 5, index) == POLICY_ALLOWED,
	       "a denied user is denied as every uid of hers, %s", how);
	tap_ok(decide(allow, 100005, 5, index) == POLICY_ALLOWED &&
		       decide(allow, 165536, 5, index) == POLICY_NO_RULE &&
		       decide(allow, 400001, 5, index) == POLICY_NO_RULE,
	       "an allowed one is allowed as them, and nobody else is, %s", how);
	tap_ok(decide(raw, 100005, 5, index) == POLICY_NO_RULE &&
		       decide(raw, ALICE, 5, index) == POLICY_NO_RULE,
	       "a rule cannot allow a subordinate uid alone, %s", how);
	tap_ok(decide(deny_raw, 100005, 5, index) == POLICY_DENIED &&
		       decide(deny_raw, 100006, 5, index) == POLICY_ALLOWED,
	       "but deny it, %s", how);
	tap_ok(decide("allow any claim any\n", 300001, 5, index) == POLICY_NO_RULE &&
		       decide("allow group 5 claim any\n", 300001, 5, index) == POLICY_NO_RULE &&
		       decide("deny any claim any\n", 300001, 5, index) == POLICY_DENIED,
	       "a uid of several users gets nothing, %s", how);
	tap_ok(decide(group, ALICE, 5, index) == POLICY_DENIED &&
		       decide(group, 100005, 100005, index) == POLICY_DENIED &&
		       decide(group, MALLORY, 5, index) == POLICY_ALLOWED &&
		       decide(group, BOB, STUDENTS, index) == POLICY_DENIED,
	       "a denied group is not left by a process that leaves it, %s", how);
	tap_ok(decide(in_group, ALICE, 5, index) == POLICY_NO_RULE &&
		       decide(in_group, ALICE, STUDENTS, index) == POLICY_ALLOWED,
	       "an allowed group is what the kernel says, %s", how);
}

int main(void)
{
	test_owner();
	test_valid();
	test_rules(false);
	test_rules(true);
	return tap_done();
}
