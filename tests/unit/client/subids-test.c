/* SPDX-License-Identifier: MIT */
/*
 * Reads files of subordinate ids: owners by name and by number, ranges that touch, overlap or cover
 * accounts, and lines that are none.
 */
#include "config.h"

#include "client/common/util.h"
#include "client/host/ids.h"
#include "client/host/subids.h"
#include "tests/scratch.h"
#include "tests/tap.h"

static struct policy policy;
static char warnings[8192];

static void on_found(void *userdata, const struct policy_finding *finding)
{
	const char *slash = strrchr(finding->path, '/');
	const size_t used = strlen(warnings);

	(void)userdata;
	snprintf(warnings + used, sizeof(warnings) - used, "%s:%u: %s\n",
		 slash ? slash + 1 : finding->path, (unsigned)finding->line, finding->text);
}

/* Loads the owners of these files into `policy`. Returns as subids_load(). */
static int load(const char *uids, const char *gids, const struct subids_named *named)
{
	const struct subids request = { .directory = scratch_path,
					.named = { named },
					.found = on_found };

	warnings[0] = '\0';
	policy_owners_done(&policy.owners);
	scratch_write("subuid", uids);
	scratch_write("subgid", gids);
	return subids_load(&request, &policy.owners);
}

static bool owned(uint32_t uid, uint32_t owner)
{
	return policy_owner(&policy, uid) == owner;
}

static void test_lines(void)
{
	tap_ok(!load("alice:100000:65536\n1002:165536:65536\nbob:300000:1\n", "", NULL) &&
		       policy_owners_valid(&policy.owners) && policy.owners.n_ranges == 3,
	       "lines with names and numbers are read");
	tap_ok(owned(100000, 1000) && owned(165535, 1000) && owned(165536, 1002) &&
		       owned(231071, 1002) && owned(231072, 231072) && owned(300000, 1001) &&
		       owned(300001, 300001) && owned(1000, 1000) && !warnings[0],
	       "and say whose each uid is");
	tap_ok(!load("alice:100000:10\nalice:100010:10\nalice:100005:20\n", "", NULL) &&
		       policy.owners.n_ranges == 1 && owned(100024, 1000) && !warnings[0],
	       "ranges of one user that touch or overlap become one");
	tap_ok(!load("# a comment\n\nalice:100000\nalice:-1:10\nalice:1e5:10\n:100000:10\n"
		     "alice:100000:0\nalice:99999999999:10\nalice:200000:10:\nbob:200000:10",
		     "", NULL) &&
		       policy.owners.n_ranges == 1 && owned(200009, 1001),
	       "lines that are none are left out");
	tap_ok(strstr(warnings, "subuid:3:") && strstr(warnings, "subuid:9:") &&
		       !strstr(warnings, "subuid:10:"),
	       "with a warning");
	tap_ok(!load("alice:4294967290:65536\n", "", NULL) && policy.owners.n_ranges == 1 &&
		       owned(4294967294, 1000) && owned(UINT32_MAX, UINT32_MAX),
	       "the last uid of all is in no range");
	tap_ok(!load("nobody-has-this-name:100000:65536\n", "", NULL) &&
		       owned(100001, POLICY_NOBODY),
	       "a range of an account that there is not is nobody's");
}

static void test_bounds(void)
{
	tap_ok(!load("root:100000:65536\n0:200000:65536\nroot:1000:1\n", "", NULL) &&
		       !policy.owners.n_ranges && owned(1000, 1000) && !warnings[0],
	       "root's ranges do not make their uids root");
	tap_ok(!load("alice:0:65536\n", "", NULL) && policy_owners_valid(&policy.owners) &&
		       owned(0, 0) && owned(999, 999) && owned(5000, 1000),
	       "uids of the system are in no range");
	tap_ok(strstr(warnings, "subuid:1: the uids below 1000"), "with a warning");
	tap_ok(owned(1001, 1001) && owned(1000, 1000) && strstr(warnings, "uid 1001 is an account"),
	       "nor is an account, with a warning");
	tap_ok(!load("alice:1001:1\n", "", NULL) && !policy.owners.n_ranges,
	       "a range of an account alone is none");
	tap_ok(!load("alice:100000:65536\n150000:200000:10\n", "", NULL) && owned(200000, 150000) &&
		       owned(150000, 150000) && owned(149999, 1000) && owned(150001, 1000),
	       "an owner in another's range stays itself");
}

static void test_shared(void)
{
	tap_ok(!load("alice:100000:65536\nbob:150000:65536\n", "", NULL) &&
		       policy_owners_valid(&policy.owners) && owned(149999, 1000) &&
		       owned(150000, POLICY_NOBODY) && owned(165535, POLICY_NOBODY) &&
		       owned(165536, 1001),
	       "uids of two users are nobody's");
	tap_ok(strstr(warnings, "subuid:2: uid 150000 of 'bob'"),
	       "with a warning about the later line");
	tap_ok(!load("alice:100000:100\nbob:100000:100\n1002:100000:100\nalice:100000:100\n", "",
		     NULL) &&
		       owned(100050, POLICY_NOBODY) && policy.owners.n_ranges == 1,
	       "and those of three");
}

static void test_members(void)
{
	const struct policy_rule rules[] = {
		{ .verb = POLICY_DENY, .who = POLICY_WHO_GROUP, .id = 1 },
		{ .verb = POLICY_ALLOW, .who = POLICY_WHO_GROUP, .id = 100005 },
		{ .verb = POLICY_ALLOW, .who = POLICY_WHO_USER, .id = 1 },
	};
	const struct policy rule_policy = { .rules = (struct policy_rule *)rules, .n_rules = 3 };
	struct subids_named named = { 0 };

	need(!subids_named_find(&rule_policy, &named));
	/* 1 is daemon's uid, and the number of its group. */
	tap_ok(!load("", "1:100000:65536\nroot:300000:65536\n", &named) &&
		       policy_owners_valid(&policy.owners) && policy.owners.n_members == 1 &&
		       policy.owners.members[0].uid == 1 && policy.owners.members[0].gid == 1,
	       "a user with subordinate gids cannot leave a denied group");
	tap_ok(strstr(warnings, "subgid:1: a rule allows group 100005"),
	       "one who can join an allowed group is warned of");
	tap_ok(!load("1:100000:65536\n", "", &named) && !policy.owners.n_members,
	       "a user without any need not be looked up");
	subids_named_done(&named);
	tap_ok(!load("", "1:100000:65536\n", NULL) && !policy.owners.n_members,
	       "nor if no rule denies a group");
}

static void test_sources(void)
{
	char path[128];

	scratch_write("nsswitch.conf", "passwd: files\nsubid: files\n");
	tap_ok(!load("", "", NULL) && !warnings[0], "the files are the usual source");
	scratch_write("nsswitch.conf", "passwd: files\nsubid:\tsss\n");
	tap_ok(!load("", "", NULL) && strstr(warnings, "nsswitch.conf:2: subordinate ids of other"),
	       "another source is warned of");
	snprintf(path, sizeof(path), "%s/nsswitch.conf", scratch_path);
	need(!unlink(path));
	snprintf(path, sizeof(path), "%s/subuid", scratch_path);
	need(!load("alice:100000:65536\n", "", NULL) && !unlink(path));
	policy_owners_done(&policy.owners);
	tap_ok(!subids_load(&(struct subids){ .directory = scratch_path }, &policy.owners) &&
		       !policy.owners.n_ranges,
	       "without a file there are no ranges");
	need(!mkdir(path, 0700));
	tap_ok(subids_load(&(struct subids){ .directory = scratch_path }, &policy.owners) < 0,
	       "a file that cannot be read is a fault");
	need(!rmdir(path));
}

static void test_changes(void)
{
	tap_ok(subids_is_source("subuid") && subids_is_source("subgid") &&
		       subids_is_source("passwd") && subids_is_source("group") &&
		       !subids_is_source("passwd-") && !subids_is_source("shadow"),
	       "a change of the ranges or of the accounts is a reason to read them again");
	/* It then finds that the uid of a new account is no longer a subordinate one. */
	need(!load("alice:100000:65536\n", "", NULL) && owned(150000, 1000));
	scratch_write("passwd", "alice:x:1000:1000::/:/bin/sh\ncarol:x:150000:150000::/:/bin/sh\n");
	tap_ok(!load("alice:100000:65536\n", "", NULL) && owned(150000, 150000) &&
		       owned(149999, 1000) && owned(150001, 1000),
	       "an account in a range is its own owner, once it is there");
}

static void on_fault(void *userdata, enum id_fault fault, size_t which, uint32_t id)
{
	(void)userdata;
	(void)fault;
	(void)which;
	(void)id;
}

/* Random lines, joined, against asking every line about each id. */
static void test_random(void)
{
	bool right = true;

	srand(1);
	for (int round = 0; round < 3000 && right; round++) {
		struct id_range ranges[8];
		uint32_t accounts[3];
		struct policy p = { 0 };
		size_t n_accounts;

		for (size_t i = 0; i < ARRAY_SIZE(ranges); i++) {
			ranges[i].first = 990 + (uint64_t)rand() % 50;
			ranges[i].end = ranges[i].first + (uint64_t)rand() % 20;
			ranges[i].owner = 1 + (uint32_t)rand() % 3;
		}
		for (size_t i = 0; i < ARRAY_SIZE(accounts); i++)
			accounts[i] = 990 + (uint32_t)rand() % 60;
		n_accounts = ids_sort(accounts, ARRAY_SIZE(accounts));
		need(!ids_join(ranges, ARRAY_SIZE(ranges), accounts, n_accounts, on_fault, NULL,
			       &p.owners));
		right = policy_owners_valid(&p.owners);
		for (uint32_t id = 980; id < 1080 && right; id++) {
			uint32_t owner = id;

			for (size_t i = 0; id >= POLICY_RANGE_FIRST && i < ARRAY_SIZE(ranges); i++)
				if (id >= ranges[i].first && id < ranges[i].end)
					owner = owner == id || owner == ranges[i].owner
							? ranges[i].owner
							: POLICY_NOBODY;
			for (size_t i = 0; i < n_accounts; i++)
				owner = accounts[i] == id ? id : owner;
			right = policy_owner(&p, id) == owner;
		}
		policy_owners_done(&p.owners);
	}
	tap_ok(right, "random ranges are those of each line");
}

int main(void)
{
	scratch_make();
	scratch_write("passwd", "root:x:0:0::/root:/bin/sh\nalice:x:1000:1000::/:/bin/sh\n"
				"bob:x:1001:1001::/:/bin/sh\n");
	test_lines();
	test_bounds();
	test_shared();
	test_members();
	test_sources();
	test_changes();
	test_random();
	policy_owners_done(&policy.owners);
	return tap_done();
}
