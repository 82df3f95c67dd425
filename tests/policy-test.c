/* SPDX-License-Identifier: MIT */
/*
 * The policy language and its verdicts, case by case. The corpora are tests/policy/good, where
 * nothing may be found but what a .expect file beside the policy says, tests/policy/bad, where the
 * .expect file has all that must be found, and policy/examples, which must be clean.
 */
#include "config.h"

#include <glob.h>
#include <time.h>

#include "client/util.h"
#include "tests/policy-parse.h"
#include "tests/tap.h"

/* The whole file, NUL-terminated; NULL where it cannot be read. */
static char *slurp(const char *path, size_t *ret_len)
{
	cleanup_file FILE *file = fopen(path, "rb");
	char *text = NULL;
	size_t len = 0, size = 1 << 16, got;

	if (!file)
		return NULL;
	do {
		size *= 2;
		text = realloc(text, size + 1);
		if (!text)
			exit(99);
		got = fread(text + len, 1, size - len, file);
		len += got;
	} while (got);
	text[len] = '\0';
	*ret_len = len;
	return text;
}

static void show(const char *title, const char *text)
{
	printf("# %s:\n#   ", title);
	for (; *text; text++) {
		putchar(*text);
		if (*text == '\n' && text[1])
			printf("#   ");
	}
	if (text[-1] != '\n')
		putchar('\n');
}

/* One file of a corpus. */
static void check_file(const char *path, bool good, bool may_expect)
{
	cleanup_free char *text = NULL, *expect = NULL, *expect_path = NULL;
	size_t len, expect_len = 0;
	struct parsed parsed;

	text = slurp(path, &len);
	if (!tap_ok(text, "%s can be read", path))
		return;
	if (asprintf(&expect_path, "%.*s.expect", (int)(strlen(path) - strlen(".policy")), path) <
	    0)
		exit(99);
	if (may_expect)
		expect = slurp(expect_path, &expect_len);

	parse_bytes(path, text, len, &parsed);
	if (good)
		tap_ok(parsed.result == 0, "%s is taken", path);
	else
		tap_ok(parsed.result > 0, "%s is not taken", path);
	if (!tap_ok(strcmp(parsed.findings, expect ? expect : "") == 0, "%s: what was found",
		    path)) {
		show("expected", expect ? expect : "nothing");
		show("found", parsed.findings);
	}
	for (size_t i = 0; i < parsed.policy.n_rules; i++)
		if (!policy_rule_valid(&parsed.policy.rules[i], parsed.policy.n_names, 1))
			tap_ok(false, "%s: rule %zu is valid", path, i);
	parse_done(&parsed);
}

static void check_corpus(const char *directory, bool good, bool may_expect)
{
	const char *top = getenv("top_srcdir");
	cleanup_free char *pattern = NULL;
	glob_t found = { 0 };

	if (asprintf(&pattern, "%s/%s/*.policy", top ? top : ".", directory) < 0)
		exit(99);
	if (tap_ok(glob(pattern, 0, NULL, &found) == 0, "%s is there", directory))
		for (size_t i = 0; i < found.gl_pathc; i++)
			check_file(found.gl_pathv[i], good, may_expect);
	globfree(&found);
}

/* ---- the parser ---- */

static void check_names(void)
{
	struct parsed parsed;
	uint32_t a = 9, b = 9, none;

	parse_start(&parsed);
	parse_file(&parsed, "/x/10-use.policy", "allow any claim b\nallow any claim a", 35);
	parse_file(&parsed, "/x/20-define.policy", "device a vendor 1\ndevice b vendor 2\n", 36);
	parse_finish(&parsed);
	tap_ok(parsed.result == 0 && parsed.n_findings == 0,
	       "a name may be defined in a later file");
	tap_ok(policy_name_find(&parsed.policy, "a", &a) == 0 && a < parsed.policy.n_names &&
		       policy_name_find(&parsed.policy, "b", &b) == 0 && a != b,
	       "a defined name is found");
	tap_ok(policy_name_find(&parsed.policy, "c", &none) == -ENOENT &&
		       policy_name_find(&parsed.policy, "", &none) == -ENOENT &&
		       policy_name_find(&parsed.policy, "a234567890123456789012345678901234567890",
					&none) == -ENOENT,
	       "another one is not");
	tap_ok(parsed.policy.n_files == 2 && parsed.policy.n_rules == 4 &&
		       strcmp(parsed.policy.files[1].path, "/x/20-define.policy") == 0 &&
		       parsed.policy.rules[3].file == 1 && parsed.policy.rules[3].line == 2,
	       "a rule knows its file and line");
	parse_done(&parsed);
}

static void check_values(void)
{
	struct parsed parsed;
	const struct policy_rule *rules;

	parse_text(
		"allow user 4294967294 claim class audio memlock 3G\n"
		"deny group render claim class 0x0403 address ff:1f.7 iommu-group 4294967294\n"
		"allow user any claim vendor 0x1 device fFfF class 030001 boot-vga memlock 8388607T\n",
		&parsed);
	if (!tap_ok(parsed.result == 0 && parsed.policy.n_rules == 3, "values are taken"))
		return;
	rules = parsed.policy.rules;
	tap_ok(rules[0].id == 4294967294 && rules[0].memlock == 3ULL << 30, "a uid and a size");
	tap_ok(rules[0].match.class_code == 0x040100 && rules[0].match.class_mask == 0xfffd00,
	       "a class by its word");
	tap_ok(rules[1].who == POLICY_WHO_GROUP && rules[1].id == 100 && rules[1].memlock == 0 &&
		       rules[1].match.class_code == 0x040300 &&
		       rules[1].match.class_mask == 0xffff00,
	       "base class and subclass in hex");
	tap_ok(rules[1].match.address.bus == 0xff && rules[1].match.address.device == 31 &&
		       rules[1].match.iommu_group == UINT32_MAX - 1,
	       "the highest address and group");
	tap_ok(rules[2].id == 1004, "a user who is called like a word of the language");
	tap_ok(rules[2].match.vendor == 1 && rules[2].match.device == 0xffff &&
		       rules[2].match.class_mask == 0xffffff && rules[2].boot_vga == 1 &&
		       rules[2].memlock == 8388607ULL << 40,
	       "short, upper-case and largest values");
	parse_done(&parsed);
}

static void check_whole_files(void)
{
	static const char nul[] = "deny any claim any\0\nallow any claim any\n";
	static const char over[] = "allow any claim any\xff # \xff\0 anything";
	char path[POLICY_FILE_MAX + 1];
	struct parsed parsed;

	parse_bytes("a.policy", NULL, 0, &parsed);
	tap_ok(parsed.result == 0 && parsed.policy.n_rules == 0, "an empty file is taken");
	parse_done(&parsed);

	parse_bytes("a.policy", nul, sizeof(nul) - 1, &parsed);
	tap_ok(parsed.result == 1 && strncmp(parsed.findings, "a.policy:1:19: ", 15) == 0,
	       "a NUL byte does not hide what follows it");
	parse_done(&parsed);
	parse_bytes("a.policy", over, sizeof(over) - 1, &parsed);
	tap_ok(parsed.result == 1 && strstr(parsed.findings, "0xff"), "a byte is named");
	parse_done(&parsed);
	parse_text("allow any claim any # \xc3\xa4\r\n", &parsed);
	tap_ok(parsed.result == 0, "a comment may have any byte");
	parse_done(&parsed);
	parse_text("allow any\rclaim any", &parsed);
	tap_ok(parsed.result == 1, "a carriage return is white space only at the end of a line");
	parse_done(&parsed);

	memset(path, 'p', sizeof(path) - 1);
	path[sizeof(path) - 1] = '\0';
	parse_bytes(path, "", 0, &parsed);
	tap_ok(parsed.result == 1, "a path that is too long is a mistake, not cut");
	parse_done(&parsed);
	parse_bytes("a.policy", "x", SIZE_MAX, &parsed);
	tap_ok(parsed.result == 1, "a length that cannot be is a mistake, not read");
	parse_done(&parsed);
}

static void check_line_length(void)
{
	char text[2 * POLICY_LINE_MAX];
	struct parsed parsed;

	memset(text, ' ', sizeof(text));
	memcpy(text, "allow any claim any", 19);
	text[POLICY_LINE_MAX] = '\r';
	text[POLICY_LINE_MAX + 1] = '\n';
	parse_bytes("a.policy", text, POLICY_LINE_MAX + 2, &parsed);
	tap_ok(parsed.result == 0, "a line of 4096 bytes is taken");
	parse_done(&parsed);
	text[POLICY_LINE_MAX] = 'x';
	text[POLICY_LINE_MAX + 2] = 'y';
	parse_bytes("a.policy", text, POLICY_LINE_MAX + 3, &parsed);
	tap_ok(parsed.result == 2 && strncmp(parsed.findings, "a.policy:1:4097: ", 17) == 0 &&
		       strstr(parsed.findings, "\na.policy:2:1: "),
	       "a longer one is one mistake, and the next line is read");
	parse_done(&parsed);
	memset(text, 'x', sizeof(text));
	parse_bytes("a.policy", text, POLICY_LINE_MAX, &parsed);
	tap_ok(parsed.result == 1, "a word as long as a line is one mistake");
	parse_done(&parsed);
}

/* ---- size ---- */

static double seconds(void)
{
	struct timespec now;

	clock_gettime(CLOCK_MONOTONIC, &now);
	return (double)now.tv_sec + (double)now.tv_nsec / 1e9;
}

/* `count` lines of the format, with the number in it for the first %u. */
static char *repeat(const char *before, const char *format, unsigned int count, size_t *ret_len)
{
	char *text = NULL;
	FILE *out = open_memstream(&text, ret_len);

	if (!out)
		exit(99);
	fputs(before, out);
	for (unsigned int i = 0; i < count; i++) {
		const char *number = strstr(format, "%u");

		if (number)
			fprintf(out, "%.*s%u%s", (int)(number - format), format, i, number + 2);
		else
			fputs(format, out);
	}
	fclose(out);
	return text;
}

static void check_size(void)
{
	static const char definition[] = "device a vendor 10de\n";
	struct policy_subject bob = { .uid = 1001, .gid = 1001 };
	struct policy_facts facts = { .vendor = 0x10de, .iommu_group = 1 };
	struct policy_verdict verdict;
	struct parsed parsed;
	double start;
	size_t len;
	char *text;

	text = repeat(definition, "allow user alice claim a memlock 1G\n", POLICY_RULES_MAX - 1,
		      &len);
	start = seconds();
	parse_bytes("a.policy", text, len, &parsed);
	tap_ok(parsed.result == 0 && parsed.policy.n_rules == POLICY_RULES_MAX, "a million rules");
	tap_ok(parsed.asked == 1, "one user is asked for once, not once a line");
	policy_decide(&parsed.policy, &bob, &facts, 1, 0, &verdict);
	tap_ok(verdict.outcome == POLICY_NO_RULE, "a verdict over them");
	tap_ok(seconds() - start < 30, "in linear time (%.2f s)", seconds() - start);
	parse_done(&parsed);
	parse_start(&parsed);
	parse_file(&parsed, "a.policy", text, len);
	parse_file(&parsed, "b.policy", "deny any claim any\ndeny any claim any", 37);
	parse_finish(&parsed);
	tap_ok(parsed.result == 1 && strncmp(parsed.findings, "b.policy:1:1: ", 14) == 0,
	       "one more is a mistake, said once");
	parse_done(&parsed);
	free(text);

	text = repeat("", "device d%u vendor 10de\n", POLICY_NAMES_MAX, &len);
	parse_bytes("a.policy", text, len, &parsed);
	tap_ok(parsed.result == 0 && parsed.policy.n_names == POLICY_NAMES_MAX, "65,535 names");
	parse_done(&parsed);
	parse_start(&parsed);
	parse_file(&parsed, "a.policy", text, len);
	parse_file(&parsed, "b.policy", "allow any claim one-more\n", 25);
	parse_finish(&parsed);
	tap_ok(parsed.result == 1, "one more is a mistake");
	parse_done(&parsed);
	free(text);

	start = seconds();
	text = repeat(definition, "allow user u%u claim a\nalow any claim an\nallow any claim ab\n",
		      100000, &len);
	parse_bytes("a.policy", text, len, &parsed);
	tap_ok(parsed.result == 200000 && parsed.n_findings == 300000, "every mistake is reported");
	tap_ok(seconds() - start < 30, "in linear time (%.2f s)", seconds() - start);
	parse_done(&parsed);
	free(text);
}

/* ---- the verdict ---- */

static const struct policy_facts card[] = {
	{ .address = { .bus = 1 },
	  .vendor = 0x10de,
	  .device = 0x20b0,
	  .class_code = 0x030000,
	  .iommu_group = 7 },
	{ .address = { .bus = 1, .function = 1 },
	  .vendor = 0x10de,
	  .device = 0x1aef,
	  .class_code = 0x040300,
	  .iommu_group = 7 },
	{ .address = { .bus = 1, .device = 2 },
	  .vendor = 0x8086,
	  .device = 0x1533,
	  .class_code = 0x020000,
	  .iommu_group = 7 },
};

/* alice, of groups 1000, 100 (render) and 103 (ops), asks for the first of n functions. */
static struct policy_verdict ask(const char *text, size_t n_functions)
{
	static const gid_t groups[] = { 100, 103 };
	struct policy_subject alice = { .uid = 1000, .gid = 1000, .groups = groups, .n_groups = 2 };
	struct policy_verdict verdict;
	struct parsed parsed;

	parse_text(text, &parsed);
	if (parsed.result != 0)
		show("a policy of this test is wrong", parsed.findings);
	policy_decide(&parsed.policy, &alice, card, n_functions, 0, &verdict);
	if (parsed.result != 0)
		verdict.outcome = (enum policy_outcome)99;
	parse_done(&parsed);
	return verdict;
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

	policy_decide(&policy, &nobody, card, 1, 0, &verdict);
	tap_ok(verdict.outcome == POLICY_NO_RULE, "the uid -1 matches no rule");
	rule.who = POLICY_WHO_ANY;
	policy_decide(&policy, &nobody, card, 1, 1, &verdict);
	tap_ok(verdict.outcome == POLICY_NO_RULE, "a function that is not there is not allowed");
	policy_decide(&policy, &nobody, card, 0, 0, &verdict);
	tap_ok(verdict.outcome == POLICY_NO_RULE, "nor is one of none");
}

int main(void)
{
	check_corpus("policy/examples", true, false);
	check_corpus("tests/policy/good", true, true);
	check_corpus("tests/policy/bad", false, true);
	check_names();
	check_values();
	check_whole_files();
	check_line_length();
	check_size();
	check_verdicts();
	return tap_done();
}
