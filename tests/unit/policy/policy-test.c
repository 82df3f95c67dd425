/* SPDX-License-Identifier: MIT */
/*
 * The policy language, case by case; its verdicts are verdict-test.c's. The corpora are
 * tests/policy/good, where nothing may be found but what a .expect file beside the policy says,
 * tests/policy/bad, where the .expect file has all that must be found, and policy/examples, which
 * must be clean.
 */
#include "config.h"

#include <glob.h>
#include <time.h>

#include "client/common/util.h"
#include "tests/unit/policy/parse.h"
#include "tests/tap.h"

/* Reads a whole file and adds a NUL. Returns NULL if it cannot be read. */
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

/* Checks one file of a corpus. */
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
		if (!policy_rule_valid(&parsed.policy.rules[i], parsed.policy.n_names, 1,
				       parsed.policy.texts, parsed.policy.n_texts))
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

static void check_texts(void)
{
	struct parsed parsed;
	const struct policy *p = &parsed.policy;
	const struct policy_rule *r;

	parse_text("allow any claim serial AbCdEfGh path pci00010000:E0/1F.7/0a.0 driver Xhci_hcd "
		   "limit 65535 for 1d2h3m4s vfio-driver vfio-pci\n"
		   "prepare driver vfio-pci serial abcdefGh path 1f.7 vfio-driver vfio-pci\n"
		   "deny any claim subsystem-vendor 0xABCD subsystem-device 1 vendor 2",
		   &parsed);
	if (!tap_ok(parsed.result == 0 && p->n_rules == 3, "texts and limits are taken"))
		return;
	r = p->rules;
	tap_ok(p->n_texts == 5, "the same text is kept once");
	tap_ok(strcmp(policy_text(p, r[0].match.serial), "abcdefGh") == 0 &&
		       r[1].match.serial == r[0].match.serial,
	       "hex digits of a serial number are in lower case");
	tap_ok(strcmp(policy_text(p, r[0].match.path), "pci10000:e0/1f.7/0a.0") == 0 &&
		       strcmp(policy_text(p, r[1].match.path), "1f.7") == 0,
	       "a path is spelled as the kernel does");
	tap_ok(strcmp(policy_text(p, r[0].match.driver), "Xhci_hcd") == 0 &&
		       strcmp(policy_text(p, r[1].vfio_driver), "vfio-pci") == 0 &&
		       r[1].match.driver == r[1].vfio_driver,
	       "drivers as they are written");
	tap_ok(r[0].limit == 65535 && r[0].lifetime == 93784, "a limit and a time");
	tap_ok(r[2].match.subsystem_vendor == 0xabcd && r[2].match.subsystem_device == 1,
	       "the subsystem's ids");
	tap_ok(r[2].match.serial == POLICY_NO_TEXT && r[2].vfio_driver == POLICY_NO_TEXT &&
		       !policy_text(p, POLICY_NO_TEXT) && !policy_text(p, 5),
	       "what is not said is no text");
	parse_done(&parsed);
}

/* Duplicates and shadows across files, with the line of each finding. */
static void check_review(void)
{
	static const char first[] = "\ndeny any claim class storage\nallow any claim any\n";
	static const char second[] = "# a comment\n\n  allow any claim any # again\r\n"
				     "allow any claim class 0108\n";
	struct parsed parsed;

	parse_start(&parsed);
	parse_file(&parsed, "a.policy", first, sizeof(first) - 1);
	parse_file(&parsed, "empty.policy", "", 0);
	parse_file(&parsed, "b.policy", second, sizeof(second) - 1);
	parse_finish(&parsed);
	tap_ok(strcmp(parsed.findings,
		      "b.policy:3:3: warning: this is the same as line 3 of a.policy\n"
		      "b.policy:4:1: warning: this allow decides nothing, since the deny in line 2 "
		      "of a.policy beats it\n") == 0,
	       "a finding names the other file");
	tap_ok(parsed.kinds == (1U << POLICY_KIND_DUPLICATE | 1U << POLICY_KIND_SHADOWED) &&
		       parsed.source[0] == 'a' && strlen(parsed.source) == 26,
	       "and has its kind and its line");
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

/* Makes `count` lines of the format, with the line's number for the first %u. */
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

/* Parses a file, and behind it another one. */
static void parse_both(const char *text, size_t len, const char *second, struct parsed *parsed)
{
	parse_start(parsed);
	parse_file(parsed, "a.policy", text, len);
	parse_file(parsed, "b.policy", second, strlen(second));
	parse_finish(parsed);
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
	policy_decide(&parsed.policy, &bob, &facts, 1, 0, NULL, &verdict);
	tap_ok(verdict.outcome == POLICY_NO_RULE, "a verdict over them");
	tap_ok(seconds() - start < 30, "in linear time (%.2f s)", seconds() - start);
	parse_done(&parsed);
	parse_both(text, len, "deny any claim any\ndeny any claim any", &parsed);
	tap_ok(parsed.result == 1 && strncmp(parsed.findings, "b.policy:1:1: ", 14) == 0,
	       "one more is a mistake, said once");
	parse_done(&parsed);
	free(text);

	text = repeat("", "device d%u vendor 10de\n", POLICY_NAMES_MAX, &len);
	parse_bytes("a.policy", text, len, &parsed);
	tap_ok(parsed.result == 0 && parsed.policy.n_names == POLICY_NAMES_MAX, "65,535 names");
	parse_done(&parsed);
	parse_both(text, len, "allow any claim one-more\n", &parsed);
	tap_ok(parsed.result == 1, "one more is a mistake");
	parse_done(&parsed);
	free(text);

	text = repeat("", "deny any claim serial %u\n", POLICY_TEXTS_MAX, &len);
	parse_bytes("a.policy", text, len, &parsed);
	tap_ok(parsed.result == 0 && parsed.policy.n_texts == POLICY_TEXTS_MAX, "65,535 texts");
	parse_done(&parsed);
	parse_both(text, len, "deny any claim serial 1 driver a\nallow any claim driver b",
		   &parsed);
	tap_ok(parsed.result == 1 && strncmp(parsed.findings, "b.policy:1:32: ", 15) == 0,
	       "one more is a mistake, said once");
	parse_done(&parsed);
	free(text);

	/*
	 * The worst case of the search for duplicates and shadows: all rules differ, and many are
	 * denies.
	 */
	text = repeat("",
		      "allow user %u claim address 01:00.0\ndeny user 7 claim address 01:00.1\n",
		      POLICY_RULES_MAX / 2, &len);
	start = seconds();
	parse_bytes("a.policy", text, len, &parsed);
	tap_ok(parsed.result == 0 && parsed.n_findings == POLICY_RULES_MAX / 2 - 1,
	       "a million rules are looked over");
	tap_ok(seconds() - start < 30, "in near linear time (%.2f s)", seconds() - start);
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

int main(void)
{
	check_corpus("policy/examples", true, false);
	check_corpus("tests/policy/good", true, true);
	check_corpus("tests/policy/bad", false, true);
	check_names();
	check_values();
	check_texts();
	check_review();
	check_whole_files();
	check_line_length();
	check_size();
	return tap_done();
}
