/* SPDX-License-Identifier: MIT */
/*
 * Random policies, each written out as text in a random spelling and order, parsed, and decided;
 * compared with an evaluator that is slow and says what the manual says. Then the same functions on
 * rules and texts that make no sense. The seed of what fails is printed; give it as the argument to
 * run that case alone.
 */
#include "config.h"

#include <stdlib.h>

#include "client/util.h"
#include "tests/policy-parse.h"
#include "tests/tap.h"

#define CASES 6000
#define N_NAMES 4
#define RULES_MAX 24
#define FUNCTIONS_MAX 5

static uint64_t state;

/* xorshift64*: the same everywhere, unlike rand(). */
static uint32_t roll(uint32_t below)
{
	state ^= state >> 12;
	state ^= state << 25;
	state ^= state >> 27;
	return (uint32_t)(state * 0x2545f4914f6cdd1dULL >> 33) % below;
}

static void seed(uint64_t number)
{
	state = number * 0x9e3779b97f4a7c15ULL + 1;
	for (int i = 0; i < 8; i++)
		roll(2);
}

/* ---- a statement as a person thinks of it ---- */

struct statement {
	char verb; /* 'd'evice, 'a'llow, 'n'o */
	char who;  /* 'u'ser, 'g'roup, 'e'verybody */
	unsigned int id;
	int name;					/* -1: none */
	int bus, slot, function, vendor, device, group; /* -1: not said */
	const char *class;				/* NULL: not said */
	unsigned long long memlock;
	bool boot_vga;
};

static const unsigned int class_codes[] = { 0x030000, 0x030200, 0x040000, 0x040100,
					    0x040300, 0x0c0330, 0x020000 };
static const char *const classes[] = { "display", "audio", "usb",  "network", "03",	 "0x0403",
				       "040300",  "0C",	   "0c03", "0302",    "0x030000" };

static bool class_is(const char *class, unsigned int code)
{
	char hex[8];

	if (strcmp(class, "display") == 0)
		return code >> 16 == 3;
	if (strcmp(class, "audio") == 0)
		return code >> 8 == 0x401 || code >> 8 == 0x403;
	if (strcmp(class, "usb") == 0)
		return code >> 8 == 0xc03;
	if (strcmp(class, "network") == 0)
		return code >> 16 == 2;
	if (strncmp(class, "0x", 2) == 0)
		class += 2;
	snprintf(hex, sizeof(hex), "%06x", code);
	return strncasecmp(hex, class, strlen(class)) == 0;
}

static bool says(const struct statement *s, const struct policy_facts *f)
{
	return (s->bus < 0 ||
		(f->address.domain == 0 && s->bus == f->address.bus &&
		 s->slot == f->address.device && s->function == f->address.function)) &&
	       (s->vendor < 0 || s->vendor == f->vendor) &&
	       (s->device < 0 || s->device == f->device) &&
	       (s->group < 0 || (uint32_t)s->group == f->iommu_group) &&
	       (!s->class || class_is(s->class, f->class_code));
}

static bool covers(const struct statement *all, int n, const struct statement *s,
		   const struct policy_facts *f)
{
	bool named = s->name < 0;

	for (int i = 0; i < n; i++)
		if (all[i].verb == 'd' && all[i].name == s->name && says(&all[i], f))
			named = true;
	return named && says(s, f);
}

static bool is_for(const struct statement *s, const struct policy_subject *subject)
{
	bool member = s->id == subject->gid;

	for (size_t i = 0; i < subject->n_groups; i++)
		member = member || s->id == subject->groups[i];
	return s->who == 'e' || (s->who == 'u' && s->id == subject->uid) ||
	       (s->who == 'g' && member);
}

/* ---- the slow evaluator ---- */

struct answer {
	bool denied, allowed, boot_vga;
	unsigned long long memlock;
};

static struct answer reference(const struct statement *all, int n,
			       const struct policy_subject *subject,
			       const struct policy_facts *functions, size_t n_functions,
			       size_t asked)
{
	struct answer answer = { .allowed = true };
	const struct pci_address *slot = &functions[asked].address;

	for (size_t f = 0; f < n_functions; f++) {
		const struct pci_address *address = &functions[f].address;
		bool needed = f == asked || address->domain != slot->domain ||
			      address->bus != slot->bus || address->device != slot->device;
		bool granted = false;

		for (int i = 0; i < n; i++) {
			if (!is_for(&all[i], subject) || !covers(all, n, &all[i], &functions[f]))
				continue;
			if (all[i].verb == 'n')
				answer.denied = true;
			if (all[i].verb != 'a')
				continue;
			granted = true;
			if (f != asked)
				continue;
			if (all[i].memlock > answer.memlock)
				answer.memlock = all[i].memlock;
			answer.boot_vga = answer.boot_vga || all[i].boot_vga;
		}
		if (needed && !granted)
			answer.allowed = false;
	}
	if (answer.denied || !answer.allowed)
		answer = (struct answer){ .denied = answer.denied };
	return answer;
}

/* ---- making and writing ---- */

static struct statement make(int i)
{
	bool definition = i < N_NAMES || roll(5) == 0;
	struct statement s = {
		.verb = definition ? 'd'
			: roll(5)  ? 'a'
				   : 'n',
		.who = definition ? '-' : "ugge"[roll(4)],
		.name = i < N_NAMES  ? i
			: definition ? (int)roll(N_NAMES)
				     : (int)roll(9) - 5,
		.bus = -1,
		.vendor = roll(3) ? -1 : (int)roll(2) + 0x10de,
		.device = roll(5) ? -1 : (int)roll(2) + 1,
		.group = roll(5) ? -1 : (int)roll(3),
		.class = roll(3) ? NULL : classes[roll(ARRAY_SIZE(classes))],
	};

	if (s.name < 0)
		s.name = -1;
	if (s.who == 'u')
		s.id = 1000 + roll(2);
	if (s.who == 'g')
		s.id = 100 + roll(4);
	if (roll(6) == 0) {
		s.bus = (int)roll(2);
		s.slot = (int)roll(2);
		s.function = (int)roll(2);
	}
	if (s.verb == 'a' && roll(2))
		s.memlock = (1ULL + roll(2000)) << 10 * roll(5);
	if (s.verb == 'a')
		s.boot_vga = roll(4) == 0;
	return s;
}

static const char *blank(void)
{
	static const char *const blanks[] = { " ", "  ", "\t", " \t " };

	return blanks[roll(4)];
}

/* WHAT, in a random order. */
static void print_what(FILE *out, const struct statement *s)
{
	bool said = false;

	for (uint32_t start = roll(6), i = start; i < start + 6; i++) {
		if (i % 6 == 0 && s->name >= 0 && s->verb != 'd')
			fprintf(out, "%sname-%d", blank(), s->name);
		else if (i % 6 == 1 && s->bus >= 0)
			fprintf(out, "%saddress %s%02x:%02x.%x", blank(),
				roll(2) ? "" : "0000:", (unsigned int)s->bus, (unsigned int)s->slot,
				(unsigned int)s->function);
		else if (i % 6 == 2 && s->vendor >= 0)
			fprintf(out, roll(2) ? "%svendor %x" : "%svendor 0x%04X", blank(),
				(unsigned int)s->vendor);
		else if (i % 6 == 3 && s->device >= 0)
			fprintf(out, roll(2) ? "%sdevice %x" : "%sdevice 0x%04X", blank(),
				(unsigned int)s->device);
		else if (i % 6 == 4 && s->group >= 0)
			fprintf(out, "%siommu-group %d", blank(), s->group);
		else if (i % 6 == 5 && s->class)
			fprintf(out, "%sclass %s", blank(), s->class);
		else
			continue;
		said = true;
	}
	if (!said)
		fprintf(out, "%sany", blank());
}

static void print_size(FILE *out, unsigned long long size)
{
	static const char suffixes[] = "KMGT";
	int i = -1;

	while (i < 3 && size % 1024 == 0 && roll(4)) {
		size /= 1024;
		i++;
	}
	fprintf(out, "%smemlock %llu%.*s", blank(), size, i >= 0, i >= 0 ? suffixes + i : "");
}

static void print_statement(FILE *out, const struct statement *s)
{
	static const char *const users[] = { "alice", "bob" };
	static const char *const groups[] = { "render", "video", "students", "ops" };
	bool before = roll(2);

	if (s->verb == 'd')
		fprintf(out, "device name-%d", s->name);
	else if (s->who == 'e')
		fprintf(out, "%s any claim", s->verb == 'a' ? "allow" : "deny");
	else if (roll(2))
		fprintf(out, "%s %s %u claim", s->verb == 'a' ? "allow" : "deny",
			s->who == 'u' ? "user" : "group", s->id);
	else
		fprintf(out, "%s%s%s %s claim", s->verb == 'a' ? "allow" : "deny", blank(),
			s->who == 'u' ? "user" : "group",
			s->who == 'u' ? users[s->id - 1000] : groups[s->id - 100]);
	print_what(out, s);
	if (s->boot_vga && before)
		fprintf(out, "%sboot-vga", blank());
	if (s->memlock)
		print_size(out, s->memlock);
	if (s->boot_vga && !before)
		fprintf(out, "%sboot-vga", blank());
	fputs(roll(4) ? "" : "# deny any claim any", out);
	fputs(roll(4) ? "\n" : "\r\n", out);
}

static char *print_policy(const struct statement *all, int n)
{
	char *text = NULL;
	size_t len;
	FILE *out = open_memstream(&text, &len);

	if (!out)
		exit(99);
	for (int i = 0; i < n; i++)
		print_statement(out, &all[i]);
	fclose(out);
	return text;
}

static void shuffle(struct statement *all, int n)
{
	for (int i = n - 1; i > 0; i--) {
		uint32_t j = roll((uint32_t)i + 1);
		struct statement spare = all[i];

		all[i] = all[j];
		all[j] = spare;
	}
}

static void make_functions(struct policy_facts *functions, size_t n)
{
	for (size_t i = 0; i < n; i++)
		functions[i] = (struct policy_facts){
			.address = { .domain = roll(6) == 0,
				     .bus = (uint8_t)roll(2),
				     .device = (uint8_t)roll(2),
				     .function = (uint8_t)roll(2) },
			.vendor = (uint16_t)(0x10de + roll(2)),
			.device = (uint16_t)(1 + roll(2)),
			.class_code = class_codes[roll(ARRAY_SIZE(class_codes))],
			.iommu_group = roll(8) ? roll(3) : UINT32_MAX,
		};
}

/* Does the verdict blame the right thing? all[] is in the order of the rules. */
static bool blame(const struct statement *all, int n, const struct policy_subject *subject,
		  const struct policy_facts *functions, size_t asked,
		  const struct policy_verdict *verdict)
{
	const struct statement *s;

	if (verdict->outcome == POLICY_NO_RULE)
		return verdict->rule == SIZE_MAX;
	if (verdict->rule >= (size_t)n)
		return false;
	s = &all[verdict->rule];
	if (verdict->outcome == POLICY_ALLOWED && verdict->function != asked)
		return false;
	return s->verb == (verdict->outcome == POLICY_ALLOWED ? 'a' : 'n') && is_for(s, subject) &&
	       covers(all, n, s, &functions[verdict->function]);
}

static bool one_case(uint64_t number)
{
	struct statement all[RULES_MAX];
	struct policy_facts functions[FUNCTIONS_MAX];
	gid_t groups[3];
	struct policy_subject subject = { .groups = groups };
	size_t n_functions, asked;
	bool right = true;
	int n;

	seed(number);
	n = N_NAMES + (int)roll(RULES_MAX - N_NAMES + 1);
	for (int i = 0; i < n; i++)
		all[i] = make(i);
	n_functions = 1 + roll(FUNCTIONS_MAX);
	make_functions(functions, n_functions);
	asked = roll((uint32_t)n_functions);
	subject.uid = 1000 + roll(3);
	subject.gid = 100 + roll(5);
	subject.n_groups = roll(ARRAY_SIZE(groups) + 1);
	for (size_t i = 0; i < subject.n_groups; i++)
		groups[i] = 100 + roll(5);

	for (int order = 0; order < 2 && right; order++) {
		cleanup_free char *text = NULL;
		struct answer answer;
		struct policy_verdict verdict = { 0 };
		struct parsed parsed;

		shuffle(all, n);
		text = print_policy(all, n);
		parse_text(text, &parsed);
		policy_decide(&parsed.policy, &subject, functions, n_functions, asked, &verdict);
		answer = reference(all, n, &subject, functions, n_functions, asked);
		right = parsed.result == 0 && parsed.policy.n_rules == (size_t)n &&
			answer.denied == (verdict.outcome == POLICY_DENIED) &&
			answer.allowed == (verdict.outcome == POLICY_ALLOWED) &&
			answer.memlock == verdict.memlock && answer.boot_vga == verdict.boot_vga &&
			blame(all, n, &subject, functions, asked, &verdict);
		for (size_t i = 0; i < parsed.policy.n_rules; i++)
			right = right && policy_rule_valid(&parsed.policy.rules[i],
							   parsed.policy.n_names, 1);
		if (!right)
			printf("# seed %llu, order %d: outcome %d function %zu rule %zu\n%s%s\n",
			       (unsigned long long)number, order, (int)verdict.outcome,
			       verdict.function, verdict.rule, text, parsed.findings);
		parse_done(&parsed);
	}
	return right;
}

/* ---- what makes no sense ---- */

static void fill(void *bytes, size_t len)
{
	for (size_t i = 0; i < len; i++)
		((unsigned char *)bytes)[i] = roll(3) ? (unsigned char)roll(6)
						      : (unsigned char)roll(256);
}

/* Rules of random bytes, in blocks of exact size, so that a sanitizer sees a read outside. */
static bool nonsense_rules(uint64_t number)
{
	struct policy policy = { 0 };
	struct policy_facts facts[2];
	struct policy_verdict verdict;
	gid_t group = 1;
	struct policy_subject subject = { .groups = &group, .n_groups = 1 };
	uint32_t name;

	seed(number);
	policy.n_rules = 1 + roll(20);
	policy.n_names = roll(3) ? roll(6) : 70000; /* more than the language has, too */
	policy.rules = malloc(policy.n_rules * sizeof(*policy.rules));
	policy.names = malloc(policy.n_names * sizeof(*policy.names) + 1);
	if (!policy.rules || !policy.names)
		exit(99);
	fill(policy.rules, policy.n_rules * sizeof(*policy.rules));
	memset(policy.names, 'x', policy.n_names * sizeof(*policy.names));
	for (size_t i = 0; i < policy.n_rules; i++) {
		struct policy_rule *rule = &policy.rules[i];

		rule->verb = roll(5);
		rule->who = roll(2) ? POLICY_WHO_ANY : roll(6);
		rule->match.attributes = roll(4) ? roll(33) : roll(UINT32_MAX);
		rule->name = roll(2) ? roll(70000) : POLICY_NO_NAME - roll(2);
		policy_rule_valid(rule, policy.n_names, 1);
	}
	fill(facts, sizeof(facts));
	policy_decide(&policy, &subject, facts, roll(3), roll(4), &verdict);
	policy_name_matches(&policy, roll(70000), facts);
	policy_name_find(&policy, "xxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxx", &name);
	policy_name_find(&policy, "x", &name);
	policy_done(&policy);
	return policy.rules == NULL;
}

/* A policy that somebody's cat walked over. */
static bool nonsense_text(uint64_t number)
{
	static const char bytes[] = " \t\n\r#0xa:.-\0\x7f\x80\xff\"%s";
	struct statement all[RULES_MAX];
	struct parsed parsed;
	char *text;
	size_t len;
	bool right = true;

	seed(number);
	for (int i = 0; i < RULES_MAX; i++)
		all[i] = make(i);
	text = print_policy(all, RULES_MAX);
	len = strlen(text);
	for (uint32_t n = 1 + roll(20); n; n--)
		text[roll((uint32_t)len)] = bytes[roll(sizeof(bytes) - 1)];
	parse_bytes("a.policy", text, len, &parsed);
	for (const char *p = parsed.findings; *p; p++)
		right = right && (*p == '\n' || (*p >= ' ' && *p <= '~'));
	for (size_t i = 0; i < parsed.policy.n_rules; i++)
		right = right &&
			policy_rule_valid(&parsed.policy.rules[i], parsed.policy.n_names, 1);
	right = right && (parsed.result == 0 || !parsed.policy.rules) &&
		(parsed.result <= (int)parsed.n_findings);
	if (!right)
		printf("# seed %llu\n", (unsigned long long)number);
	parse_done(&parsed);
	free(text);
	return right;
}

int main(int argc, char **argv)
{
	uint64_t first = argc > 1 ? strtoull(argv[1], NULL, 10) : 1,
		 last = argc > 1 ? first : CASES;
	bool verdicts = true, rules = true, texts = true;

	for (uint64_t i = first; i <= last && verdicts; i++)
		verdicts = one_case(i);
	tap_ok(verdicts, "verdicts are those of the slow evaluator, in any order of lines");
	for (uint64_t i = first; i <= last && rules; i++)
		rules = nonsense_rules(i);
	tap_ok(rules, "rules that make no sense do no harm");
	for (uint64_t i = first; i <= last && texts; i++)
		texts = nonsense_text(i);
	tap_ok(texts, "text that makes no sense gives mistakes in plain text, or valid rules");
	return tap_done();
}
