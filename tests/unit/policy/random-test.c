/* SPDX-License-Identifier: MIT */
/*
 * Writes random policies as text in a random spelling and order, parses them, and decides for some
 * users. A slow evaluator that follows the manual must agree. Then the same functions get rules and
 * texts that make no sense. A failure prints its seed; give that as the argument to run the case
 * alone.
 */
#include "config.h"

#include <stdlib.h>

#include "client/common/util.h"
#include "tests/unit/policy/make.h"
#include "tests/unit/policy/parse.h"
#include "tests/tap.h"

#define CASES 600
#define CASES_THOROUGH 3000 /* with THOROUGH in the environment, as in tests/sanitized */
#define USERS 3
#define RULES_MAX 700 /* the index has keys where there are many */
#define RULES_MOST 24 /* in most cases */
#define FUNCTIONS_MAX 5

/* Cases that the test met, to show that it tried. */
enum { MET_ALLOWED, MET_NO_RULE, MET_DENIED, MET_LIMIT, MET_LIFETIME, MET_DRIVER, MET_PREPARED };
static const char *const met_names[] = { "allowed",  "no rule", "denied",  "limit",
					 "lifetime", "driver",	"prepared" };
static unsigned int met[ARRAY_SIZE(met_names)];

struct question {
	struct statement all[RULES_MAX]; /* in the order of the rules */
	int n;
	struct policy_facts functions[FUNCTIONS_MAX];
	size_t n_functions, asked;
	gid_t groups[3];
	struct policy_subject subject;
};

static uint32_t leases(void *userdata, size_t rule)
{
	const struct question *q = userdata;

	return q->all[rule].held;
}

/* Returns true if the refusal names the right function and rule. */
static bool blames(const struct question *q, const struct policy_verdict *verdict)
{
	const struct policy_facts *function = &q->functions[verdict->function];

	if (verdict->function >= q->n_functions || verdict->memlock || verdict->boot_vga ||
	    verdict->in_use || verdict->require_reset || verdict->lifetime || verdict->kill ||
	    verdict->vfio_driver != POLICY_NO_TEXT)
		return false;
	if (verdict->outcome == POLICY_DENIED)
		return verdict->rule < (size_t)q->n && q->all[verdict->rule].verb == 'n' &&
		       model_is_for(&q->all[verdict->rule], &q->subject) &&
		       model_covers(q->all, q->n, &q->all[verdict->rule], function, true);
	if (verdict->rule != SIZE_MAX ||
	    (verdict->function != q->asked && model_same_slot(function, &q->functions[q->asked])))
		return false;
	for (int i = 0; i < q->n; i++)
		if (q->all[i].verb == 'a' && model_is_for(&q->all[i], &q->subject) &&
		    model_covers(q->all, q->n, &q->all[i], function, false) &&
		    model_grants(q->all, q->n, &q->all[i], function))
			return false;
	return true;
}

static bool same_verdict(const struct question *q, const struct policy *policy,
			 const struct policy_verdict *verdict)
{
	struct answer answer =
		model_decide(q->all, q->n, &q->subject, q->functions, q->n_functions, q->asked);
	static const char outcomes[] = {
		[POLICY_ALLOWED] = 'a', [POLICY_NO_RULE] = 'n', [POLICY_DENIED] = 'd', [POLICY_LIMIT] = 'l'
	};
	const char *driver = policy_text(policy, verdict->vfio_driver);

	if (answer.outcome != outcomes[verdict->outcome])
		return false;
	met[MET_ALLOWED + (int)verdict->outcome]++;
	if (answer.outcome == 'd' || answer.outcome == 'n')
		return blames(q, verdict);
	met[MET_LIFETIME] += answer.lifetime > 0;
	met[MET_DRIVER] += answer.vfio_driver != NULL;
	return verdict->function == q->asked && verdict->rule == (size_t)answer.rule &&
	       verdict->memlock == answer.memlock && verdict->boot_vga == answer.boot_vga &&
	       verdict->in_use == answer.in_use && verdict->require_reset == answer.require_reset &&
	       verdict->lifetime == answer.lifetime && verdict->kill == answer.kill &&
	       (answer.vfio_driver ? driver && strcmp(driver, answer.vfio_driver) == 0 : !driver);
}

/* For the same usage, every order of the lines must give the same grant. */
static bool same_grant(const struct policy_verdict *a, const struct policy_verdict *b)
{
	return a->outcome == b->outcome && a->memlock == b->memlock && a->boot_vga == b->boot_vga &&
	       a->in_use == b->in_use && a->require_reset == b->require_reset &&
	       a->lifetime == b->lifetime && a->kill == b->kill;
}

static bool same_prepared(const struct question *q, const struct policy *policy, size_t function)
{
	const struct policy_facts *facts = &q->functions[function];
	bool named, other_named, direct = model_prepares(q->all, q->n, facts, &named);
	bool expected = direct, by_rule = false, prepared;
	size_t rule = SIZE_MAX;

	for (size_t i = 0; i < q->n_functions; i++)
		if (model_same_slot(&q->functions[i], facts) &&
		    model_prepares(q->all, q->n, &q->functions[i], &other_named))
			expected = true;
	prepared = policy_prepares(policy, facts, q->functions, q->n_functions, &rule);
	if (prepared != expected || policy_prepares(policy, facts, NULL, 0, &rule) != direct)
		return false;
	if (!prepared)
		return rule == SIZE_MAX;
	met[MET_PREPARED]++;
	if (direct && named && !q->all[rule].vfio_driver)
		return false;
	for (size_t i = 0; i < q->n_functions; i++)
		if (direct ? i == function : model_same_slot(&q->functions[i], facts))
			by_rule = by_rule || model_covers(q->all, q->n, &q->all[rule],
							  &q->functions[i], false);
	return q->all[rule].verb == 'p' && by_rule;
}

static void make_subject(struct question *q)
{
	q->subject = (struct policy_subject){
		.uid = 1000 + make_roll(3),
		.gid = 100 + make_roll(5),
		.groups = q->groups,
		.n_groups = make_roll(ARRAY_SIZE(q->groups) + 1),
	};
	for (size_t i = 0; i < q->subject.n_groups; i++)
		q->groups[i] = 100 + make_roll(5);
}

/*
 * Decides the question with its lines in their present order. Keeps the verdict, or compares it
 * with the one kept.
 */
static bool decide(struct question *q, bool first, struct policy_verdict *kept, char **ret_text)
{
	struct policy_usage usage = { .leases = leases, .userdata = q };
	struct policy_verdict verdict = { 0 };
	struct parsed parsed;
	bool right;

	*ret_text = make_text(q->all, q->n);
	parse_text(*ret_text, &parsed);
	right = parsed.result == 0 && parsed.policy.n_rules == (size_t)q->n;
	for (size_t i = 0; i < parsed.policy.n_rules; i++)
		right = right && policy_rule_valid(&parsed.policy.rules[i], parsed.policy.n_names,
						   1, parsed.policy.texts, parsed.policy.n_texts);
	for (size_t i = 0; i < parsed.policy.n_texts; i++)
		right = right && policy_text_valid(&parsed.policy.texts[i]);
	if (right) {
		policy_decide(&parsed.policy, &q->subject, q->functions, q->n_functions, q->asked,
			      &usage, &verdict);
		right = same_verdict(q, &parsed.policy, &verdict) &&
			(first || same_grant(&verdict, kept));
		/* The same by the index. */
		if (policy_index_build(&parsed.policy))
			exit(99);
		policy_decide(&parsed.policy, &q->subject, q->functions, q->n_functions, q->asked,
			      &usage, &verdict);
		right = right && same_verdict(q, &parsed.policy, &verdict);
		for (size_t i = 0; i < q->n_functions; i++)
			right = right && same_prepared(q, &parsed.policy, i);
	}
	if (!right)
		printf("# outcome %d function %zu rule %zu\n%s", (int)verdict.outcome,
		       verdict.function, verdict.rule, parsed.findings);
	*kept = verdict;
	parse_done(&parsed);
	return right;
}

static bool one_case(uint64_t number)
{
	struct question q = { 0 };
	struct policy_verdict kept = { 0 };
	bool right = true;

	make_seed(number);
	q.n = make_roll(20) ? MAKE_NAMES + (int)make_roll(RULES_MOST - MAKE_NAMES + 1)
			    : RULES_MOST + (int)make_roll(RULES_MAX - RULES_MOST + 1);
	for (int i = 0; i < q.n; i++) {
		q.all[i] = make_statement(i);
		/* With many lines as they come, somebody would always be denied. */
		if (q.n > RULES_MOST && q.all[i].verb == 'n' && make_roll(20))
			i--;
	}
	q.n_functions = 1 + make_roll(FUNCTIONS_MAX);
	make_functions(q.functions, q.n_functions);
	for (int user = 0; user < USERS && right; user++) {
		q.asked = make_roll((uint32_t)q.n_functions);
		make_subject(&q);
		for (int order = 0; order < 2 && right; order++) {
			cleanup_free char *text = NULL;

			make_shuffle(q.all, q.n);
			right = decide(&q, order == 0, &kept, &text);
			if (!right)
				printf("# seed %llu, user %d, order %d\n%s",
				       (unsigned long long)number, user, order, text);
		}
	}
	return right;
}

/* ---- rules and texts that make no sense ---- */

static void fill(void *bytes, size_t len)
{
	for (size_t i = 0; i < len; i++)
		((unsigned char *)bytes)[i] = make_roll(3) ? (unsigned char)make_roll(6)
							   : (unsigned char)make_roll(256);
}

static uint32_t some_leases(void *userdata, size_t rule)
{
	(void)userdata;
	return (uint32_t)rule;
}

/* Rules of random bytes, in blocks of exact size, so that a sanitizer sees reads outside them. */
static bool nonsense_rules(uint64_t number)
{
	struct policy policy = { 0 };
	struct policy_facts facts[2];
	struct policy_verdict verdict;
	gid_t group = 1;
	struct policy_subject subject = { .groups = &group, .n_groups = 1 };
	struct policy_usage usage = { .leases = some_leases };
	bool all_valid = true;
	size_t found;
	uint32_t name;

	make_seed(number);
	policy.n_rules = 1 + make_roll(20);
	policy.n_names = make_roll(3) ? make_roll(6) : 70000; /* also more than the language has */
	policy.n_texts = make_roll(5);
	policy.rules = malloc(policy.n_rules * sizeof(*policy.rules));
	policy.names = malloc(policy.n_names * sizeof(*policy.names) + 1);
	policy.texts = malloc(policy.n_texts * sizeof(*policy.texts) + 1);
	if (!policy.rules || !policy.names || !policy.texts)
		exit(99);
	fill(policy.rules, policy.n_rules * sizeof(*policy.rules));
	memset(policy.names, 'x', policy.n_names * sizeof(*policy.names));
	fill(policy.texts, policy.n_texts * sizeof(*policy.texts));
	for (size_t i = 0; i < policy.n_texts; i++)
		all_valid = policy_text_valid(&policy.texts[i]) && all_valid;
	for (size_t i = 0; i < policy.n_rules; i++) {
		struct policy_rule *rule = &policy.rules[i];

		rule->verb = make_roll(6);
		rule->who = make_roll(2) ? POLICY_WHO_ANY : make_roll(6);
		rule->match.attributes = make_roll(4) ? make_roll(2049) : make_roll(UINT32_MAX);
		rule->name = make_roll(2) ? make_roll(70000) : POLICY_NO_NAME - make_roll(2);
		rule->match.serial = make_roll(8);
		rule->match.path = make_roll(8);
		rule->match.profile = make_roll(8);
		rule->vfio_driver = make_roll(8);
		policy_rule_valid(rule, policy.n_names, 1, policy.texts,
				  all_valid ? policy.n_texts : 0);
	}
	make_functions(facts, 2);
	policy_decide(&policy, &subject, facts, make_roll(3), make_roll(4), &usage, &verdict);
	if (!make_roll(8) && policy_index_build(&policy))
		exit(99);
	policy_decide(&policy, &subject, facts, make_roll(3), make_roll(4), &usage, &verdict);
	policy_prepares(&policy, &facts[0], facts, 2, &found);
	policy_name_matches(&policy, make_roll(70000), facts, NULL);
	policy_name_means_part(&policy, make_roll(70000), facts, NULL);
	policy_name_find(&policy, "xxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxx", &name);
	policy_name_find(&policy, "x", &name);
	policy_done(&policy);
	return policy.rules == NULL;
}

/* Parses a policy text in which some bytes were replaced by others. */
static bool nonsense_text(uint64_t number)
{
	static const char bytes[] = " \t\n\r#0xa:.-\0\x7f\x80\xff\"%s";
	struct statement all[RULES_MOST];
	struct parsed parsed;
	char *text;
	size_t len;
	bool right = true;

	make_seed(number);
	for (int i = 0; i < RULES_MOST; i++)
		all[i] = make_statement(i);
	text = make_text(all, RULES_MOST);
	len = strlen(text);
	for (uint32_t n = 1 + make_roll(20); n; n--)
		text[make_roll((uint32_t)len)] = bytes[make_roll(sizeof(bytes) - 1)];
	parse_bytes("a.policy", text, len, &parsed);
	for (const char *p = parsed.findings; *p; p++)
		right = right && (*p == '\n' || (*p >= ' ' && *p <= '~'));
	for (size_t i = 0; i < parsed.policy.n_rules; i++)
		right = right && policy_rule_valid(&parsed.policy.rules[i], parsed.policy.n_names,
						   1, parsed.policy.texts, parsed.policy.n_texts);
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
		 cases = getenv("THOROUGH") ? CASES_THOROUGH : CASES,
		 last = argc > 1 ? first : cases;
	bool verdicts = true, rules = true, texts = true;

	for (uint64_t i = first; i <= last && verdicts; i++)
		verdicts = one_case(i);
	tap_ok(verdicts, "verdicts are those of the slow evaluator, in any order of lines");
	/* A test that met only refusals would show little. */
	if (argc == 1)
		for (size_t i = 0; i < ARRAY_SIZE(met); i++)
			tap_ok(met[i] > cases / 10, "%s: %u times", met_names[i], met[i]);
	for (uint64_t i = first; i <= last && rules; i++)
		rules = nonsense_rules(i);
	tap_ok(rules, "rules that make no sense do no harm");
	for (uint64_t i = first; i <= last && texts; i++)
		texts = nonsense_text(i);
	tap_ok(texts, "text that makes no sense gives mistakes in plain text, or valid rules");
	return tap_done();
}
