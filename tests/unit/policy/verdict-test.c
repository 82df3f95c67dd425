/* SPDX-License-Identifier: MIT */
/*
 * Verdicts and prepared functions, case by case.
 */
#include "config.h"

#include "client/common/util.h"
#include "tests/unit/policy/card.h"
#include "tests/unit/policy/parse.h"
#include "tests/tap.h"

static uint32_t held[8]; /* leases by each rule */

static uint32_t leases(void *userdata, size_t rule)
{
	(void)userdata;
	return held[rule];
}

static const struct policy_usage usage = { .leases = leases };

/* From the last verdict, whose policy is gone. */
static char driver[POLICY_TEXT_MAX];

/*
 * Asks for the first of n functions as alice, who is in the groups 1000, 100 (render) and 103
 * (ops).
 */
static struct policy_verdict ask_about(const char *text, const struct policy_facts *functions,
				       size_t n_functions, const struct policy_usage *in_use)
{
	static const gid_t groups[] = { 100, 103 };
	struct policy_subject alice = { .uid = 1000, .gid = 1000, .groups = groups, .n_groups = 2 };
	struct policy_verdict verdict;
	struct parsed parsed;
	const char *name;

	parse_right(text, &parsed);
	policy_decide(&parsed.policy, &alice, functions, n_functions, 0, in_use, &verdict);
	name = policy_text(&parsed.policy, verdict.vfio_driver);
	snprintf(driver, sizeof(driver), "%s", name ? name : "");
	parse_done(&parsed);
	return verdict;
}

static struct policy_verdict ask(const char *text, size_t n_functions)
{
	return ask_about(text, card, n_functions, NULL);
}

/*
 * Asks the same about a mediated device or vGPU of the card, or of a parent that is no PCI
 * function.
 */
static enum policy_outcome ask_part(const char *text, const char *profile, const char *name,
				    bool no_pci)
{
	struct policy_facts part = card[0];

	if (no_pci)
		part = (struct policy_facts){
			.iommu_group = UINT32_MAX, .driver = "", .serial = "", .path = ""
		};
	part.profile = profile;
	part.profile_name = name;
	part.no_pci = no_pci;
	return ask_about(text, &part, 1, NULL).outcome;
}

/* Returns true if alice may have some mediated device or vGPU of the card. */
static bool may_grant(const char *text)
{
	static const gid_t groups[] = { 100, 103 };
	struct policy_subject alice = { .uid = 1000, .gid = 1000, .groups = groups, .n_groups = 2 };
	struct parsed parsed;
	bool may;

	parse_right(text, &parsed);
	may = policy_may_grant_part(&parsed.policy, &alice, &card[0], NULL);
	parse_done(&parsed);
	return may;
}

/* The answer before the parts are known: never no where a part would be allowed. */
static void check_may_grant(void)
{
	tap_ok(may_grant("allow user alice claim profile t-1") &&
		       may_grant("allow group render claim class display profile any") &&
		       may_grant("device x vendor 10de profile t-1\nallow any claim x") &&
		       may_grant("device x vendor 10de\nallow any claim x profile t-1") &&
		       may_grant("device x vendor 10de profile t-1\n"
				 "device x vendor 10de\nallow any claim x"),
	       "a rule for some part of it may grant one");
	tap_ok(!may_grant("allow any claim any\nallow user bob claim profile any\n"
			  "allow any claim class audio profile any") &&
		       !may_grant("device x class audio profile t-1\nallow any claim x") &&
		       !may_grant("device x vendor 10de\nallow any claim x") &&
		       !may_grant("device x class audio\nallow any claim x profile t-1"),
	       "one for it whole, for others or for another device does not");
	tap_ok(may_grant("allow any claim profile t-1\ndeny any claim profile t-1"),
	       "denies are for when the part is known");
}

static void check_parts(void)
{
	tap_ok(!ask_part("allow any claim profile NVIDIA_L40S-1Q", "1147", "NVIDIA L40S-1Q",
			 false) &&
		       !ask_part("allow any claim profile a_b", "1", "a_b", false) &&
		       ask_part("allow any claim profile 1_2", "1 2", "", false) ==
			       POLICY_NO_RULE &&
		       ask_part("allow any claim profile a_b", "1", "a-b", false) ==
			       POLICY_NO_RULE &&
		       ask_part("allow any claim profile a_b", "1", "a bc", false) ==
			       POLICY_NO_RULE &&
		       ask_part("allow any claim profile any\ndeny any claim profile a_b", "1",
				"a b", false) == POLICY_DENIED,
	       "for a space in a driver's name, and for nothing else, '_' stands");
	tap_ok(ask_part("allow any claim any\nallow any claim class display", "t-1", "", false) ==
		       POLICY_NO_RULE,
	       "who may have the card whole may have no part of it by that");
	tap_ok(ask("allow any claim profile any\nallow any claim class display profile t-1", 1)
			       .outcome == POLICY_NO_RULE,
	       "who may have a part of it may not have it whole");
	tap_ok(!ask_part("allow any claim profile t-1", "t-1", "", false) &&
		       !ask_part("allow any claim class display profile t-1", "t-1", "", false),
	       "a rule allows a part by its type");
	tap_ok(!ask_part("allow any claim profile big", "t-1", "big", false) &&
		       !ask_part("allow any claim profile any", "t-1", "big", false),
	       "... by what its driver calls it, or any");
	tap_ok(ask_part("allow any claim profile t-1", "t-12", "", false) == POLICY_NO_RULE &&
		       ask_part("allow any claim profile t-12", "t-1", NULL, false) ==
			       POLICY_NO_RULE &&
		       ask_part("allow any claim class audio profile t-1", "t-1", "", false) ==
			       POLICY_NO_RULE,
	       "... and no other part, nor another device's");
	tap_ok(!ask_part("device x vendor 10de profile t-1\nallow any claim x", "t-1", "", false) &&
		       !ask_part("device x vendor 10de\nallow any claim x profile t-1", "t-1", "",
				 false),
	       "a name may say which part, or the rule beside the name");
	tap_ok(ask_part("device x vendor 10de\ndevice x profile t-2\nallow any claim x", "t-1", "",
			false) == POLICY_NO_RULE,
	       "a name's line about another part grants none");
	tap_ok(ask_part("allow any claim profile any\ndeny any claim class display", "t-1", "",
			false) == POLICY_DENIED &&
		       ask_part("device x vendor 10de\nallow any claim profile any\n"
				"deny any claim x",
				"t-1", "", false) == POLICY_DENIED,
	       "who is denied the card is denied its parts");
	tap_ok(ask_part("allow any claim profile any\ndeny any claim profile t-1", "t-1", "",
			false) == POLICY_DENIED &&
		       !ask_part("allow any claim profile any\ndeny any claim profile t-1", "t-2",
				 "", false) &&
		       ask("allow any claim any\ndeny any claim profile any", 1).outcome ==
			       POLICY_ALLOWED,
	       "a deny of one part is of no other, nor of the whole");
	tap_ok(!ask_part("allow any claim profile t-1", "t-1", "", true) &&
		       ask_part("allow any claim profile t-1 address 00:00.0\n"
				"allow any claim profile t-1 vendor 0\n"
				"allow any claim profile t-1 class 00",
				"t-1", "", true) == POLICY_NO_RULE &&
		       !ask_part("allow any claim profile t-1\ndeny any claim address 00:00.0",
				 "t-1", "", true),
	       "of what is no PCI function no attribute of one is true, not even 0");
}

#define ALLOW_CARD "allow user alice claim class display\n"

static void check_verdicts(void)
{
	struct policy_subject nobody = { .uid = UINT32_MAX, .gid = UINT32_MAX };
	struct policy_rule rule = { .verb = POLICY_ALLOW,
				    .who = POLICY_WHO_USER,
				    .id = UINT32_MAX,
				    .name = POLICY_NO_NAME };
	struct policy policy = { .rules = &rule, .n_rules = 1 };
	struct policy_verdict verdict;

	tap_ok(ask("", 1).outcome == POLICY_NO_RULE, "nothing is allowed without a rule");
	tap_ok(ask("allow user bob claim any", 1).outcome == POLICY_NO_RULE, "another's rule");
	verdict = ask("allow user bob claim any\n" ALLOW_CARD, 2);
	tap_ok(verdict.outcome == POLICY_ALLOWED && verdict.rule == 1 && verdict.function == 0 &&
		       verdict.memlock == 0 && !verdict.boot_vga,
	       "functions of the slot come along");
	verdict = ask(ALLOW_CARD, 3);
	tap_ok(verdict.outcome == POLICY_NO_RULE && verdict.function == 2 &&
		       verdict.rule == SIZE_MAX && verdict.memlock == 0,
	       "a function of another slot needs a rule of its own");
	tap_ok(ask(ALLOW_CARD "allow any claim class network", 3).outcome == POLICY_ALLOWED,
	       "and comes along with one");
	verdict = ask("deny any claim class audio\n" ALLOW_CARD, 2);
	tap_ok(verdict.outcome == POLICY_DENIED && verdict.rule == 0 && verdict.function == 1,
	       "a deny for a function that comes along refuses the whole");
	tap_ok(ask("deny user alice claim any\nallow any claim any", 1).outcome == POLICY_DENIED &&
		       ask("allow any claim any\ndeny user alice claim any", 1).outcome ==
			       POLICY_DENIED,
	       "deny beats allow in either order");
	verdict = ask("deny any claim vendor 8086\n", 3);
	tap_ok(verdict.outcome == POLICY_DENIED && verdict.function == 2,
	       "a deny is named also where no rule allows");
	tap_ok(ask("allow group ops claim any", 3).outcome == POLICY_ALLOWED,
	       "a supplementary group");
	tap_ok(ask("allow group 1000 claim any", 3).outcome == POLICY_ALLOWED, "the primary group");
	tap_ok(ask("allow user ghost claim any\nallow group ghosts claim any", 1).outcome ==
		       POLICY_NO_RULE,
	       "an unknown user or group matches nobody");
	tap_ok(ask("device x vendor 8086\ndevice x vendor 10de\nallow any claim x", 1).outcome ==
		       POLICY_ALLOWED,
	       "lines of one name are ORed");
	tap_ok(ask("device x vendor 10de\nallow any claim x class 04", 1).outcome == POLICY_NO_RULE,
	       "a name and attributes are ANDed");
	tap_ok(ask("allow any claim class 040000", 1).outcome == POLICY_NO_RULE, "another class");
	verdict =
		ask("allow any claim any memlock 2M\n" ALLOW_CARD "allow any claim any boot-vga\n"
		    "allow user bob claim any memlock 9G\nallow any claim class audio memlock 8G\n"
		    "allow group render claim iommu-group 7 memlock 1G\n",
		    2);
	tap_ok(verdict.outcome == POLICY_ALLOWED && verdict.memlock == 1 << 30 &&
		       verdict.boot_vga && verdict.rule == 0,
	       "the largest memlock and any boot-vga of the matching rules, and of no others");

	tap_ok(!verdict.require_reset &&
		       ask("allow any claim any memlock 2M\nallow any claim any require-reset", 2)
			       .require_reset,
	       "a reset is required if any of them requires it");

	policy_decide(&policy, &nobody, card, 1, 0, NULL, &verdict);
	tap_ok(verdict.outcome == POLICY_NO_RULE, "the uid -1 matches no rule");
	rule.who = POLICY_WHO_ANY;
	policy_decide(&policy, &nobody, card, 1, 1, NULL, &verdict);
	tap_ok(verdict.outcome == POLICY_NO_RULE, "a function that is not there is not allowed");
	policy_decide(&policy, &nobody, card, 0, 0, NULL, &verdict);
	tap_ok(verdict.outcome == POLICY_NO_RULE, "nor is one of none");
}

/* Asks about the card as it is allotted to alice, or not; with an index and without. */
static struct policy_verdict ask_allotted(const char *text, bool allotted)
{
	struct policy_subject alice = { .uid = 1000, .gid = 1000, .allotted = allotted };
	struct policy_verdict verdict, indexed;
	struct parsed parsed;

	parse_right(text, &parsed);
	policy_decide(&parsed.policy, &alice, card, 1, 0, NULL, &verdict);
	tap_ok(!policy_index_build(&parsed.policy), "an index");
	policy_decide(&parsed.policy, &alice, card, 1, 0, NULL, &indexed);
	tap_ok(verdict.outcome == indexed.outcome && verdict.allotted == indexed.allotted,
	       "... with which the verdict is the same");
	parse_done(&parsed);
	return verdict;
}

static void check_allotted(void)
{
	static const char rule[] = "allow allotted claim any memlock 1G\n";
	struct policy_verdict verdict;

	tap_ok(ask_allotted(rule, false).outcome == POLICY_NO_RULE,
	       "a rule for allotted is nobody's while the card is not allotted");
	verdict = ask_allotted(rule, true);
	tap_ok(verdict.outcome == POLICY_ALLOWED && verdict.allotted && verdict.memlock == 1 << 30,
	       "... and allows it to the user whom it is allotted to");
	verdict = ask_allotted("allow user 1000 claim any\n", true);
	tap_ok(verdict.outcome == POLICY_ALLOWED && !verdict.allotted,
	       "a rule for the user is no rule for allotted");
	tap_ok(ask_allotted("allow allotted claim any\ndeny user 1000 claim any\n", true).outcome ==
		       POLICY_DENIED,
	       "a deny wins");
	tap_ok(ask_allotted("allow any claim any\ndeny allotted claim any\n", true).outcome ==
		       POLICY_DENIED,
	       "a deny for allotted keeps it from being allotted");
	tap_ok(ask_allotted("allow any claim any\ndeny allotted claim any\n", false).outcome ==
		       POLICY_ALLOWED,
	       "... and from nobody else");
}

static bool allows(const char *what, const struct policy_facts *facts)
{
	char text[256];

	snprintf(text, sizeof(text), "allow any claim %s", what);
	return ask_about(text, facts, 1, NULL).outcome == POLICY_ALLOWED;
}

static bool denies(const char *what, const struct policy_facts *facts)
{
	char text[256];

	snprintf(text, sizeof(text), "allow any claim any\ndeny any claim %s", what);
	return ask_about(text, facts, 1, NULL).outcome == POLICY_DENIED;
}

static void check_attributes(void)
{
	static const char *const yes[] = { "subsystem-vendor 1028",
					   "subsystem-device 0x1533",
					   "driver nouveau",
					   "serial 00-aa",
					   "serial 00-AA",
					   "path 01.0/00.0",
					   "path pci0000:00/01.0/00.0" };
	static const char *const no[] = {
		"subsystem-vendor 10de",
		"subsystem-device 20b0",
		"driver Nouveau",
		"driver nouveau2",
		"serial 00-aa0",
		"serial 00-a",
		"path 00.0",
		"path 01.0",
		"path 01.0/00.0/00.0",
		"path pci0000:01/01.0/00.0",
		"path 01.0/00.1",
	};
	static const char *const texts[] = { "driver igb", "serial 1", "path 01.0/02.0" };
	struct policy_facts none = card[0], unknown = card[0];

	for (size_t i = 0; i < ARRAY_SIZE(yes); i++)
		tap_ok(allows(yes[i], card) && denies(yes[i], card), "it has %s", yes[i]);
	for (size_t i = 0; i < ARRAY_SIZE(no); i++)
		tap_ok(!allows(no[i], card) && !denies(no[i], card), "it has not %s", no[i]);

	none.driver = none.serial = none.path = "";
	unknown.driver = unknown.serial = unknown.path = NULL;
	for (size_t i = 0; i < ARRAY_SIZE(texts); i++) {
		tap_ok(!allows(texts[i], &none) && !denies(texts[i], &none),
		       "what has none has not %s", texts[i]);
		tap_ok(!allows(texts[i], &unknown) && denies(texts[i], &unknown),
		       "what is not known is never allowed by %s, and denied", texts[i]);
	}
	tap_ok(ask_about("device x serial 12\nallow any claim any\ndeny any claim x vendor 10de",
			 &unknown, 1, NULL)
			       .outcome == POLICY_DENIED,
	       "by way of a device name too");
	tap_ok(ask_about("device x serial 12\nallow any claim any\ndeny any claim x vendor 8086",
			 &unknown, 1, NULL)
			       .outcome == POLICY_ALLOWED,
	       "but not where something known is otherwise");
	tap_ok(ask_about("device x serial 12\nallow any claim x", &unknown, 1, NULL).outcome ==
		       POLICY_NO_RULE,
	       "and no allow by way of a name");
}

static void check_limits(void)
{
	struct policy_verdict verdict;

	memset(held, 0, sizeof(held));
	held[0] = 2;
	verdict = ask_about("allow any claim any limit 3", card, 1, &usage);
	tap_ok(verdict.outcome == POLICY_ALLOWED && verdict.rule == 0, "below a limit");
	held[0] = 3;
	verdict = ask_about("allow any claim any limit 3 memlock 1G boot-vga", card, 1, &usage);
	tap_ok(verdict.outcome == POLICY_LIMIT && verdict.rule == 0 && verdict.function == 0 &&
		       verdict.memlock == 0 && !verdict.boot_vga,
	       "a limit that is used up grants nothing");
	held[0] = UINT32_MAX;
	tap_ok(ask_about("allow any claim any limit 3", card, 1, &usage).outcome == POLICY_LIMIT,
	       "more than the limit, by a new policy");
	tap_ok(ask("allow any claim any limit 1", 1).outcome == POLICY_ALLOWED,
	       "without usage nothing is in use");
	verdict = ask_about("allow any claim any limit 1 memlock 9G for 9h\n"
			    "allow any claim any limit 2 memlock 2G for 1h\n"
			    "allow any claim any limit 1 memlock 1G for 2h\n",
			    card, 1, &usage);
	tap_ok(verdict.outcome == POLICY_ALLOWED && verdict.rule == 1 &&
		       verdict.memlock == 2ULL << 30 && verdict.lifetime == 7200,
	       "it counts against the first that is not used up, and all of those grant");
	verdict = ask_about("allow any claim any limit 1\nallow any claim any limit 2\n"
			    "allow any claim any\nallow any claim any memlock 1G\n",
			    card, 1, &usage);
	tap_ok(verdict.outcome == POLICY_ALLOWED && verdict.rule == 2 && verdict.memlock == 1 << 30,
	       "or rather against the first without a limit");
	held[1] = 2;
	verdict = ask_about("allow any claim any limit 1\nallow any claim any limit 2\n", card, 1,
			    &usage);
	tap_ok(verdict.outcome == POLICY_LIMIT && verdict.rule == 0, "both are used up");
	tap_ok(ask_about(ALLOW_CARD "allow any claim class network limit 2", card, 3, &usage)
			       .outcome == POLICY_ALLOWED,
	       "the limit of what comes along is not counted");
	verdict = ask_about("allow any claim class display limit 1", card, 3, &usage);
	tap_ok(verdict.outcome == POLICY_NO_RULE && verdict.function == 2,
	       "what waiting does not mend is said before a limit");
	tap_ok(ask_about("allow any claim any limit 1\ndeny user alice claim any", card, 1, &usage)
			       .outcome == POLICY_DENIED,
	       "and so is a deny");
}

static void check_lifetime_and_driver(void)
{
	struct policy_verdict verdict;

	tap_ok(ask("allow any claim any for 1h\nallow any claim any for 2h", 1).lifetime == 7200,
	       "the longest time");
	tap_ok(ask("allow any claim any for 1h\nallow any claim any", 1).lifetime == 0 &&
		       ask("allow any claim any\nallow any claim any for 1h", 1).lifetime == 0,
	       "a rule without a time means no end, in either order");
	tap_ok(ask("allow any claim any for 1h kill", 1).kill == POLICY_KILL_DEFAULT &&
		       ask("allow any claim any kill=5s for 1h\n"
			   "allow any claim any kill=1m for 1h",
			   1)
				       .kill == 60,
	       "the longest time between the two signals");
	tap_ok(!ask("allow any claim any for 1h kill\nallow any claim any for 1s", 1).kill &&
		       !ask("allow any claim any for 1s\nallow any claim any for 1h kill", 1).kill,
	       "a rule without kill spares the holder, in either order");
	ask("allow any claim any", 1);
	tap_ok(!driver[0], "no VFIO driver is named");
	ask("allow any claim any\nallow any claim any vfio-driver xe-vfio-pci\n"
	    "allow any claim any vfio-driver vfio-pci",
	    1);
	tap_ok(strcmp(driver, "xe-vfio-pci") == 0, "the first that is named");
	verdict = ask("allow any claim any limit 1 vfio-driver xe-vfio-pci\n"
		      "allow any claim any vfio-driver vfio-pci",
		      1);
	tap_ok(verdict.rule == 1 && strcmp(driver, "vfio-pci") == 0,
	       "or rather the one of the rule that it counts against");
	ask("allow any claim class audio vfio-driver vfio-pci\n" ALLOW_CARD, 2);
	tap_ok(!driver[0], "not one for a function that comes along");
}

/* Returns the line of the rule that prepares card[function], 0 for none. */
static size_t prepared(const char *text, size_t function, size_t n_functions)
{
	struct parsed parsed;
	size_t rule = SIZE_MAX;
	bool is;

	parse_right(text, &parsed);
	is = policy_prepares(&parsed.policy, &card[function], card, n_functions, &rule);
	rule = is ? parsed.policy.rules[rule].line : rule + 1;
	parse_done(&parsed);
	return rule;
}

static void check_prepare(void)
{
	static const char display[] = "\nprepare class display";

	tap_ok(prepared("allow any claim any", 0, 3) == 0, "nothing is prepared without a rule");
	tap_ok(prepared(display, 0, 3) == 2, "the function itself");
	tap_ok(prepared(display, 1, 3) == 2, "one of the same slot");
	tap_ok(prepared(display, 1, 0) == 0, "not without the others of the slot");
	tap_ok(prepared(display, 2, 3) == 0, "one of another slot is not");
	tap_ok(prepared("device x serial 00-aa\nprepare x", 0, 3) == 2, "by its name");
	tap_ok(prepared("prepare class display\nprepare class audio", 1, 3) == 2,
	       "its own rule before that of another");
	tap_ok(prepared("prepare vendor 10de\nprepare class display vfio-driver vfio-pci\n", 0,
			3) == 2,
	       "one that names a driver before one that does not");
	tap_ok(prepared("deny any claim any\nprepare class display", 0, 3) == 2,
	       "a deny is about users");
}

/*
 * Returns the VFs that card[function] shall have, times 1000, plus the line of the rule that says
 * so.
 */
static size_t vfs_of(const char *text, size_t function)
{
	struct parsed parsed;
	size_t rule = SIZE_MAX, vfs;

	parse_right(text, &parsed);
	vfs = policy_vfs(&parsed.policy, &card[function], &rule);
	vfs = vfs ? vfs * 1000 + parsed.policy.rules[rule].line : rule + 1;
	parse_done(&parsed);
	return vfs;
}

static void check_vfs(void)
{
	static const char both[] = "prepare class display\nprepare class display vfs 4";

	tap_ok(vfs_of("prepare class display", 0) == 0, "no VFs without vfs");
	tap_ok(vfs_of("prepare class display vfs 4", 0) == 4001, "as many as the rule says");
	tap_ok(vfs_of("prepare class display vfs 4", 1) == 0, "not of one of the same slot");
	tap_ok(vfs_of("device x class display\nprepare x vfs 7 vfio-driver vfio-pci", 0) == 7002,
	       "by its name");
	tap_ok(vfs_of("prepare class display vfs 4\nprepare any vfs 8\nprepare any vfs 6", 0) ==
		       8002,
	       "of several rules the most, whatever their order");
	tap_ok(prepared("prepare class display vfs 4", 0, 3) == 0,
	       "what makes VFs stays on its host driver");
	tap_ok(prepared(both, 0, 3) == 0, "... also where another rule prepares it");
	tap_ok(prepared(both, 1, 3) == 1, "... but not what is in its slot");
	tap_ok(prepared("prepare class display vfs 4\nprepare class audio", 0, 3) == 0,
	       "nor does it come along with its slot");
}

int main(void)
{
	check_vfs();
	check_verdicts();
	check_allotted();
	check_parts();
	check_may_grant();
	check_attributes();
	check_limits();
	check_lifetime_and_driver();
	check_prepare();
	return tap_done();
}
