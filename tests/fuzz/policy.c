/* SPDX-License-Identifier: MIT */
/*
 * Policy text, whole files, byte 0xff between two. For every input, each finding is printable and
 * has a place. If the policy is accepted, each rule is one that the core would accept from the
 * loader; written out and read again it is the same; the order of the rules does not matter; and
 * the udev rules made of it are whole lines of printable text.
 *
 * About: policy/lexer.c policy/lint.c policy/match.c policy/names.c policy/parser.c
 * policy/findings.c policy/keep.c policy/review.c policy/statement.c policy/valid.c policy/values.c
 * policy/verdict.c policy/words.c client/host/udevrules.c client/host/name-lines.c
 * client/host/places.c
 */
#include "config.h"

#include <errno.h>
#include <inttypes.h>

#include "client/host/udevrules.h"
#include "tests/fuzz/fuzz.h"
#include "tests/unit/policy/card.h"
#include "tests/unit/policy/parse.h"

const char fuzz_name[] = "policy";

#define CARDS (sizeof(card) / sizeof(*card))
#define RULES_LOOKED_AT 64

static size_t mistakes;

int LLVMFuzzerInitialize(int *argc, char ***argv)
{
	(void)argc;
	(void)argv;
	return 0;
}

static void check_finding(void *userdata, const struct policy_finding *finding)
{
	(void)userdata;
	must(finding->line && finding->column && finding->path && *finding->text);
	must(!finding->source || (finding->source_len <= POLICY_LINE_MAX &&
				  !memchr(finding->source, '\n', finding->source_len)));
	for (const char *p = finding->text; *p; p++)
		must(*p >= ' ' && *p <= '~');
	must(finding->severity == POLICY_MISTAKE || finding->severity == POLICY_WARNING);
	must((finding->severity == POLICY_MISTAKE) == (finding->kind == POLICY_KIND_MISTAKE));
	mistakes += finding->severity == POLICY_MISTAKE;
}

/*
 * Answers as the loader's look-ups do, with made-up accounts, one of them in a directory that
 * cannot be reached.
 */
static int find_user(void *userdata, const char *name, uid_t *ret_uid)
{
	struct parsed none = { 0 };

	(void)userdata;
	return parse_user(&none, name, ret_uid);
}

static int find_group(void *userdata, const char *name, gid_t *ret_gid)
{
	struct parsed none = { 0 };

	(void)userdata;
	return parse_group(&none, name, ret_gid);
}

static struct policy_parser *new_parser(void)
{
	const struct policy_parser_ops ops = { .user = find_user,
					       .group = find_group,
					       .found = check_finding };
	struct policy_parser *parser;

	mistakes = 0;
	must(!policy_parser_new(&ops, &parser));
	return parser;
}

/* ---- written out ---- */

static void write_match(FILE *out, const struct policy *policy, const struct policy_rule *rule)
{
	const struct policy_match *m = &rule->match;
	char address[PCI_ADDRESS_TEXT];
	int digits = m->class_mask == 0xffffff ? 6 : m->class_mask == 0xffff00 ? 4 : 2;

	if (rule->name != POLICY_NO_NAME)
		fprintf(out, " %s", policy->names[rule->name].text);
	else if (!m->attributes)
		fprintf(out, " any");
	if (m->attributes & POLICY_ADDRESS)
		fprintf(out, " address %s",
			pci_pattern_format(&m->address, m->address_any, address));
	if (m->attributes & POLICY_VENDOR)
		fprintf(out, " vendor %x", (unsigned)m->vendor);
	if (m->attributes & POLICY_DEVICE_ID)
		fprintf(out, " device %x", (unsigned)m->device);
	if (m->attributes & POLICY_SUBSYSTEM_VENDOR)
		fprintf(out, " subsystem-vendor %x", (unsigned)m->subsystem_vendor);
	if (m->attributes & POLICY_SUBSYSTEM_DEVICE)
		fprintf(out, " subsystem-device %x", (unsigned)m->subsystem_device);
	if (m->attributes & POLICY_CLASS && m->class_mask == 0xfffd00)
		fprintf(out, " class audio");
	else if (m->attributes & POLICY_CLASS)
		fprintf(out, " class %0*x", digits, (unsigned)(m->class_code >> (24 - 4 * digits)));
	if (m->attributes & POLICY_IOMMU_GROUP)
		fprintf(out, " iommu-group %" PRIu32, m->iommu_group);
	if (m->attributes & POLICY_DRIVER)
		fprintf(out, " driver %s", policy_text(policy, m->driver));
	if (m->attributes & POLICY_SERIAL)
		fprintf(out, " serial %s", policy_text(policy, m->serial));
	if (m->attributes & POLICY_PATH)
		fprintf(out, " path %s", policy_text(policy, m->path));
	if (m->attributes & POLICY_PROFILE)
		fprintf(out, " profile %s", policy_text(policy, m->profile));
}

static void write_rule(FILE *out, const struct policy *policy, const struct policy_rule *rule)
{
	static const char *const verbs[] = {
		[POLICY_DEVICE] = "device %s",
		[POLICY_ALLOW] = "allow",
		[POLICY_DENY] = "deny",
		[POLICY_PREPARE] = "prepare",
	};
	struct policy_rule unnamed = *rule;
	const char *driver = policy_text(policy, rule->vfio_driver);

	if (rule->verb == POLICY_DEVICE) {
		unnamed.name = POLICY_NO_NAME;
		fprintf(out, "device %s", policy->names[rule->name].text);
		rule = &unnamed;
	} else {
		fputs(verbs[rule->verb], out);
	}
	if (rule->verb == POLICY_ALLOW || rule->verb == POLICY_DENY) {
		if (rule->who == POLICY_WHO_ANY)
			fputs(" any", out);
		else if (rule->who == POLICY_WHO_NONE)
			fputs(" user nosuchuser", out);
		else if (rule->who == POLICY_WHO_ALLOTTED)
			fputs(" allotted", out);
		else
			fprintf(out, " %s %" PRIu32,
				rule->who == POLICY_WHO_USER ? "user" : "group", rule->id);
		fputs(" claim", out);
	}
	write_match(out, policy, rule);
	if (rule->limit)
		fprintf(out, " limit %" PRIu32, rule->limit);
	if (rule->memlock)
		fprintf(out, " memlock %" PRIu64, rule->memlock);
	if (rule->boot_vga)
		fputs(" boot-vga", out);
	if (rule->lifetime)
		fprintf(out, " for %" PRIu32 "s", rule->lifetime);
	if (rule->kill)
		fprintf(out, " kill=%" PRIu32 "s", rule->kill);
	if (driver)
		fprintf(out, " vfio-driver %s", driver);
	if (rule->in_use)
		fputs(" in-use", out);
	if (rule->require_reset)
		fputs(" require-reset", out);
	if (rule->vfs)
		fprintf(out, " vfs %" PRIu32, rule->vfs);
	if (rule->vf_exec_quantum_ms)
		fprintf(out, " vf-exec-quantum-ms %" PRIu32, rule->vf_exec_quantum_ms);
	if (rule->vf_preempt_timeout_us)
		fprintf(out, " vf-preempt-timeout-us %" PRIu32, rule->vf_preempt_timeout_us);
	fputc('\n', out);
}

static bool same_text(const struct policy *a, uint32_t in_a, const struct policy *b, uint32_t in_b)
{
	const char *text_a = policy_text(a, in_a), *text_b = policy_text(b, in_b);

	return text_a ? text_b && !strcmp(text_a, text_b) : !text_b;
}

static bool same_name(const struct policy *a, uint32_t in_a, const struct policy *b, uint32_t in_b)
{
	if (in_a == POLICY_NO_NAME || in_b == POLICY_NO_NAME)
		return in_a == in_b;
	return !strcmp(a->names[in_a].text, b->names[in_b].text);
}

static bool same_rule(const struct policy *a, const struct policy *b, size_t i)
{
	struct policy_rule ra = a->rules[i], rb = b->rules[i];

	if (!same_name(a, ra.name, b, rb.name) ||
	    !same_text(a, ra.match.driver, b, rb.match.driver) ||
	    !same_text(a, ra.match.serial, b, rb.match.serial) ||
	    !same_text(a, ra.match.path, b, rb.match.path) ||
	    !same_text(a, ra.vfio_driver, b, rb.vfio_driver))
		return false;
	rb.name = ra.name;
	rb.match.driver = ra.match.driver;
	rb.match.serial = ra.match.serial;
	rb.match.path = ra.match.path;
	rb.vfio_driver = ra.vfio_driver;
	rb.file = ra.file;
	rb.line = ra.line;
	rb.column = ra.column;
	return !memcmp(&ra, &rb, sizeof(ra));
}

/* ---- decided ---- */

static const gid_t groups[] = { 101, 103 };
static const struct policy_subject subjects[] = {
	{ .uid = 1000, .gid = 1000, .groups = groups, .n_groups = 2 },
	{ .uid = 1003, .gid = 100 },
	{ .uid = 0, .gid = 0 },
};

static bool same_grant(const struct policy_verdict *a, const struct policy_verdict *b)
{
	return a->outcome == b->outcome && a->memlock == b->memlock && a->boot_vga == b->boot_vga &&
	       a->in_use == b->in_use && a->require_reset == b->require_reset &&
	       a->lifetime == b->lifetime && a->kill == b->kill;
}

/* Checks that both policies decide the same for everybody, in whatever order their rules are. */
static void compare_verdicts(const struct policy *a, const struct policy *b)
{
	struct policy_verdict va, vb;

	for (size_t s = 0; s < sizeof(subjects) / sizeof(*subjects); s++)
		for (size_t asked = 0; asked < CARDS; asked++) {
			policy_decide(a, &subjects[s], card, CARDS, asked, NULL, &va);
			policy_decide(b, &subjects[s], card, CARDS, asked, NULL, &vb);
			must(same_grant(&va, &vb));
			must(va.rule == SIZE_MAX || va.rule < a->n_rules);
		}
}

static void reverse(struct policy *policy)
{
	for (size_t i = 0; i < policy->n_rules / 2; i++) {
		struct policy_rule *other = &policy->rules[policy->n_rules - 1 - i];
		struct policy_rule rule = policy->rules[i];

		policy->rules[i] = *other;
		*other = rule;
	}
}

static void write_and_read(const struct policy *policy)
{
	struct policy_parser *parser = new_parser();
	struct policy again = { 0 };
	char *text = NULL;
	size_t len = 0;
	FILE *out = open_memstream(&text, &len);

	must(out);
	for (size_t i = 0; i < policy->n_rules; i++)
		write_rule(out, policy, &policy->rules[i]);
	must(!fclose(out));
	must(!policy_parser_file(parser, "again.policy", text, len));
	must(!policy_parser_finish(parser, &again));
	policy_parser_free(parser);
	must(again.n_rules == policy->n_rules);
	for (size_t i = 0; i < policy->n_rules; i++)
		must(same_rule(policy, &again, i));
	compare_verdicts(policy, &again);
	reverse(&again);
	compare_verdicts(policy, &again);
	policy_done(&again);
	free(text);
}

static void make_udev_rules(const struct policy *policy)
{
	static const struct function functions[] = {
		{ .address = { .bus = 1 },
		  .vendor = 0x10de,
		  .device = 0x20b0,
		  .class_code = 0x030000,
		  .iommu_group = 17,
		  .boot_vga = true },
		{ .address = { .bus = 1, .function = 1 }, .vendor = 0x10de, .iommu_group = 17 },
	};
	const struct aliases none = { 0 };
	struct places places = { 0 };
	struct spared spared = { 0 };
	char *text = NULL;
	size_t len;
	int r = places_make(policy, NULL, functions, 2, &places);

	must(!r || r == -E2BIG);
	must(!spared_find(functions, 2, &spared) && spared.n == 1);
	must(!udevrules_text(policy, &none, r ? NULL : &places, &spared, &text));
	places_done(&places);
	spared_done(&spared);
	len = strlen(text);
	must(!len || text[len - 1] == '\n');
	for (const char *p = text; *p; p++)
		must(*p == '\n' || (*p >= ' ' && *p <= '~'));
	free(text);
}

static void use(const struct policy *policy)
{
	for (size_t i = 0; i < policy->n_texts; i++)
		must(policy_text_valid(&policy->texts[i]));
	for (size_t i = 0; i < policy->n_rules; i++)
		must(policy_rule_valid(&policy->rules[i], policy->n_names, policy->n_files,
				       policy->texts, policy->n_texts));
	must(!policy_lint(policy, card, CARDS, check_finding, NULL));
	make_udev_rules(policy);
	if (policy->n_rules <= RULES_LOOKED_AT)
		write_and_read(policy);
}

int LLVMFuzzerTestOneInput(const uint8_t *data, size_t size)
{
	struct policy_parser *parser = new_parser();
	struct policy policy = { 0 };
	int r;

	for (unsigned file = 0; size; file++) {
		const uint8_t *end = memchr(data, 0xff, size);
		size_t n = end ? (size_t)(end - data) : size;
		char *text = malloc(n ? n : 1);
		char path[32];

		must(text);
		memcpy(text, data, n);
		snprintf(path, sizeof(path), "%u.policy", file);
		must(!policy_parser_file(parser, path, text, n));
		free(text); /* the parser must not keep a pointer into it */
		data += end ? n + 1 : n;
		size -= end ? n + 1 : n;
	}
	r = policy_parser_finish(parser, &policy);
	must(r >= 0 && (size_t)r == mistakes);
	policy_parser_free(parser);
	if (!r)
		use(&policy);
	else
		must(!policy.rules && !policy.n_rules);
	policy_done(&policy);
	return 0;
}

static const char every[] =
	"device a100  vendor 10de device 20b0            # a name for devices\n"
	"device a100  vendor 10de device 20b2\n"
	"device any-vf class 12 path 1c.4/00.0 driver nouveau serial 00-aa-BB\n"
	"allow user alice     claim a100          limit 1 memlock 64G\n"
	"allow group render   claim class display for 1h30m vfio-driver mlx5_vfio_pci\n"
	"allow user 1001      claim iommu-group 17 require-reset\n"
	"allow user carol     claim address 0000:00:02.0 boot-vga\n"
	"allow any claim subsystem-vendor 1028 subsystem-device 1533 class 0401\n"
	"deny  user mallory   claim any\n"
	"prepare a100 vfio-driver vfio-pci\n"
	"prepare any-vf\n";
static const char two[] = "allow user alice claim a100\n\xff"
			  "device a100 vendor 10de device 20b0\r\n";
static const char wrong[] =
	"alow user alice claim any\nallow user alice claim a100 limit 0 limit 1\ndeny user unreachable claim any\n"
	"device device vendor 10de\nallow group x claim address 00:02.9 for 1x memlock 9999999T\nprepare\n\"\n";
static const char doubled[] =
	"allow any claim any\nallow any claim any\ndeny any claim any\nallow user nobody claim class 030000 vendor 8086\n"
	"device unused class usb\nprepare address 1:00.0\nprepare address 10000:01:00.0\n";

void fuzz_seeds(fuzz_write write)
{
	write("every", every, sizeof(every) - 1);
	write("two-files", two, sizeof(two) - 1);
	write("wrong", wrong, sizeof(wrong) - 1);
	write("doubled", doubled, sizeof(doubled) - 1);
	write("nothing", "", 0);
}
