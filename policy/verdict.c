/* SPDX-License-Identifier: MIT */
/*
 * The verdict: whether this subject may have this device, by these rules, and which devices are
 * prepared. Runs in the root core under the rules at the top of match.c; and it must never let an
 * allow win over a deny, nor let the order of rules change what is granted.
 */
#include "config.h"

#include "policy/policy.h"

#include "client/common/util.h"
#include "policy/find.h"
#include "policy/index.h"
#include "policy/subject.h"

/* The rules that were looked at so far, about one function. Their order does not matter. */
struct judging {
	const struct policy *policy;
	const struct subject *subject;
	const struct policy_facts *facts;
	const struct policy_usage *usage;
	bool is_part;
	/* without an index: the names that match the function, else NULL */
	const struct name_set *sure, *maybe, *parts;
	/* the first rule of each kind, or SIZE_MAX */
	size_t denied;	   /* a deny */
	size_t allowed;	   /* an allow that is not used up */
	size_t unlimited;  /* the same, without a limit */
	size_t used_up;	   /* an allow that is */
	size_t has_driver; /* an allow that is not used up and names a driver */
	uint64_t *cost;
	struct policy_verdict granted; /* by all allows that are not used up */
};

static void keep_first(size_t *first, size_t rule)
{
	if (rule < *first)
		*first = rule;
}

/* Adds what one more allow rule grants. */
static void grant_more(struct judging *j, size_t index)
{
	const struct policy_rule *rule = &j->policy->rules[index];
	struct policy_verdict *granted = &j->granted;

	if (rule->memlock > granted->memlock)
		granted->memlock = rule->memlock;
	if (rule->boot_vga)
		granted->boot_vga = true;
	if (rule->in_use)
		granted->in_use = true;
	if (rule->require_reset)
		granted->require_reset = true;
	if (rule->who == POLICY_WHO_ALLOTTED)
		granted->allotted = true;
	if (j->allowed == SIZE_MAX)
		granted->kill = rule->kill;
	else if (!granted->kill || !rule->kill)
		granted->kill = 0;
	else if (rule->kill > granted->kill)
		granted->kill = rule->kill;
	if (j->allowed == SIZE_MAX)
		granted->lifetime = rule->lifetime;
	else if (!granted->lifetime || !rule->lifetime)
		granted->lifetime = 0; /* 0, no end, is the longest */
	else if (rule->lifetime > granted->lifetime)
		granted->lifetime = rule->lifetime;
	keep_first(&j->allowed, index);
	if (!rule->limit)
		keep_first(&j->unlimited, index);
	if (policy_text(j->policy, rule->vfio_driver))
		keep_first(&j->has_driver, index);
}

static bool rule_matches(const struct judging *j, const struct policy_rule *rule)
{
	const bool denies = rule->verb == POLICY_DENY;
	const enum match_unknown unknown = denies ? MATCH_MAYBE : MATCH_SURE;

	if (!subject_matches(rule, j->subject))
		return false;
	if (j->sure)
		return match_rule(j->policy, rule, j->facts, denies ? j->maybe : j->sure,
				  unknown) &&
		       (denies || !j->is_part || match_grants_part(rule, j->parts));
	return match_facts(j->policy, &rule->match, j->facts, unknown) &&
	       (rule->name == POLICY_NO_NAME ||
		find_name(j->policy, rule->name, j->facts, unknown, 0, j->cost)) &&
	       (denies || !j->is_part || rule->match.attributes & POLICY_PROFILE ||
		find_name(j->policy, rule->name, j->facts, unknown, POLICY_PROFILE, j->cost));
}

/* Looks at one rule. */
static bool judge_rule(void *userdata, size_t index)
{
	struct judging *j = userdata;
	const struct policy_rule *rule = &j->policy->rules[index];

	if (index >= j->denied || (rule->verb != POLICY_ALLOW && rule->verb != POLICY_DENY) ||
	    (rule->verb == POLICY_ALLOW && j->denied != SIZE_MAX) || !rule_matches(j, rule))
		return true;
	if (rule->verb == POLICY_DENY)
		j->denied = index;
	else if (!j->usage || !rule->limit ||
		 j->usage->leases(j->usage->userdata, index) < rule->limit)
		grant_more(j, index);
	else
		keep_first(&j->used_up, index);
	return true;
}

static struct policy_verdict verdict_of(const struct judging *j)
{
	struct policy_verdict verdict = { .outcome = POLICY_NO_RULE,
					  .rule = SIZE_MAX,
					  .vfio_driver = POLICY_NO_TEXT };
	size_t driver;

	if (j->denied != SIZE_MAX) {
		verdict.outcome = POLICY_DENIED;
		verdict.rule = j->denied;
	} else if (j->allowed != SIZE_MAX) {
		verdict = j->granted;
		verdict.outcome = POLICY_ALLOWED;
		verdict.rule = j->unlimited != SIZE_MAX ? j->unlimited : j->allowed;
		driver = policy_text(j->policy, j->policy->rules[verdict.rule].vfio_driver)
				 ? verdict.rule
				 : j->has_driver;
		verdict.vfio_driver = driver == SIZE_MAX ? POLICY_NO_TEXT
							 : j->policy->rules[driver].vfio_driver;
	} else if (j->used_up != SIZE_MAX) {
		verdict.outcome = POLICY_LIMIT;
		verdict.rule = j->used_up;
	}
	verdict.cost = *j->cost;
	return verdict;
}

/* Looks at every rule, for a policy without an index. */
static void judge_all(struct judging *j)
{
	struct name_set sure, maybe, parts;

	j->sure = j->maybe = &sure;
	j->parts = &parts;
	match_names(j->policy, j->facts, MATCH_SURE, &sure);
	if (!j->facts->driver || !j->facts->serial || !j->facts->path || !j->facts->profile) {
		j->maybe = &maybe;
		match_names(j->policy, j->facts, MATCH_MAYBE, &maybe);
	}
	if (j->is_part)
		match_part_names(j->policy, j->facts, &parts);
	for (size_t i = 0; i < j->policy->n_rules && j->denied == SIZE_MAX; i++, ++*j->cost)
		judge_rule(j, i);
	j->sure = j->maybe = j->parts = NULL;
}

/* The verdict of the rules about one function by itself; `function` is left to the caller. */
static struct policy_verdict judge_one(const struct policy *policy, const struct subject *subject,
				       const struct policy_facts *facts,
				       const struct policy_usage *usage)
{
	uint64_t cost = 0;
	struct judging j = { .policy = policy,
			     .subject = subject,
			     .facts = facts,
			     .usage = usage,
			     .is_part = match_is_part(facts),
			     .denied = SIZE_MAX,
			     .allowed = SIZE_MAX,
			     .unlimited = SIZE_MAX,
			     .used_up = SIZE_MAX,
			     .has_driver = SIZE_MAX,
			     .cost = &cost };
	const struct index_walk walk = { judge_rule, &j, &cost };

	if (policy->index)
		subject_candidates(policy, subject, facts, &walk);
	else
		judge_all(&j);
	return verdict_of(&j);
}

/* A function that was not judged yet: no verdict has this. */
static const struct policy_verdict not_judged = { .outcome = POLICY_ALLOWED, .rule = SIZE_MAX };

static bool is_judged(const struct policy_verdict *verdict)
{
	return verdict->outcome != not_judged.outcome || verdict->rule != not_judged.rule;
}

void policy_judged_none(struct policy_verdict *judged, size_t n_functions)
{
	for (size_t i = 0; i < n_functions; i++)
		judged[i] = not_judged;
}

/* The verdict on a function that comes along. Only the first time has a cost. */
static struct policy_verdict judge_other(const struct policy *policy, const struct subject *subject,
					 const struct policy_facts *functions, size_t which,
					 struct policy_verdict *judged)
{
	struct policy_verdict verdict;

	if (judged && is_judged(&judged[which]))
		return judged[which];
	verdict = judge_one(policy, subject, &functions[which], NULL);
	if (judged) {
		judged[which] = verdict;
		judged[which].cost = 0;
	}
	return verdict;
}

void policy_decide_again(const struct policy *policy, const struct policy_subject *who,
			 const struct policy_facts *functions, size_t n_functions, size_t asked,
			 const struct policy_usage *usage, struct policy_verdict *judged,
			 struct policy_verdict *ret_verdict)
{
	struct policy_verdict verdict = { .outcome = POLICY_NO_RULE,
					  .rule = SIZE_MAX,
					  .vfio_driver = POLICY_NO_TEXT };
	struct subject subject;
	uint64_t cost;

	subject_init(policy, who, &subject);
	if (asked < n_functions)
		verdict = usage ? judge_one(policy, &subject, &functions[asked], usage)
				: judge_other(policy, &subject, functions, asked, judged);
	verdict.function = asked;
	cost = verdict.cost;

	/* Denies are looked for to the end, even if a function already lacks an allow. */
	for (size_t i = 0; i < n_functions && verdict.outcome != POLICY_DENIED; i++) {
		struct policy_verdict other;
		bool lacks;

		if (i == asked || asked >= n_functions)
			continue;
		other = judge_other(policy, &subject, functions, i, judged);
		other.function = i;
		cost += other.cost;
		lacks = other.outcome == POLICY_NO_RULE &&
			!match_same_slot(&functions[i], &functions[asked]);
		if (other.outcome == POLICY_DENIED || (lacks && verdict.outcome != POLICY_NO_RULE))
			verdict = other;
	}
	verdict.cost = cost;
	*ret_verdict = verdict;
}

void policy_decide(const struct policy *policy, const struct policy_subject *subject,
		   const struct policy_facts *functions, size_t n_functions, size_t asked,
		   const struct policy_usage *usage, struct policy_verdict *ret_verdict)
{
	policy_decide_again(policy, subject, functions, n_functions, asked, usage, NULL,
			    ret_verdict);
}

/* All but the profile, which is not known yet. */
static bool may_mean_part(const struct policy *policy, const struct policy_match *match,
			  const struct policy_facts *facts)
{
	struct policy_match rest = *match;

	rest.attributes &= ~(uint32_t)POLICY_PROFILE;
	return match_facts(policy, &rest, facts, MATCH_SURE);
}

struct part_question {
	const struct policy *policy;
	const struct subject *subject;
	const struct policy_facts *facts;
	uint32_t name;
	/* about a name: a line of it may mean the device, and one with `profile` */
	bool may, part;
	bool granted;
	uint64_t *cost;
};

static bool ask_name_line(void *userdata, size_t index)
{
	struct part_question *q = userdata;
	const struct policy_rule *rule = &q->policy->rules[index];

	if (rule->verb == POLICY_DEVICE && rule->name == q->name &&
	    may_mean_part(q->policy, &rule->match, q->facts)) {
		q->may = true;
		q->part = q->part || rule->match.attributes & POLICY_PROFILE;
	}
	return true;
}

static bool ask_allow(void *userdata, size_t index)
{
	struct part_question *q = userdata;
	const struct policy_rule *rule = &q->policy->rules[index];
	const struct index_walk walk = { ask_name_line, q, q->cost };

	if (q->granted) /* by another list of rules */
		return false;
	if (rule->verb != POLICY_ALLOW || !subject_matches(rule, q->subject) ||
	    !may_mean_part(q->policy, &rule->match, q->facts))
		return true;
	q->name = rule->name;
	q->may = rule->name == POLICY_NO_NAME;
	q->part = false;
	if (q->may)
		;
	else if (q->policy->index)
		index_all(q->policy, INDEX_NAME, rule->name, &walk);
	else
		for (size_t i = 0; i < q->policy->n_rules; i++)
			ask_name_line(q, i);
	q->granted = q->may && (q->part || rule->match.attributes & POLICY_PROFILE);
	return !q->granted;
}

bool policy_may_grant_part(const struct policy *policy, const struct policy_subject *who,
			   const struct policy_facts *facts, uint64_t *cost)
{
	struct subject subject;
	struct part_question q = {
		.policy = policy, .subject = &subject, .facts = facts, .cost = cost
	};
	const struct index_walk walk = { ask_allow, &q, cost };
	struct policy_facts any_part = *facts;

	any_part.profile = NULL;
	subject_init(policy, who, &subject);
	if (policy->index)
		subject_candidates(policy, &subject, &any_part, &walk);
	else
		for (size_t i = 0; i < policy->n_rules && ask_allow(&q, i); i++)
			;
	return q.granted;
}

/* The prepare rules that were looked at so far, about one function. */
struct preparing {
	const struct policy *policy;
	const struct policy_facts *facts;
	uint32_t vfs; /* the most of all rules with vfs */
	size_t vfs_rule;
	/* without vfs, or SIZE_MAX: the first rule, and the first that names a driver */
	size_t rule, with_driver;
};

static bool look_at_prepare(void *userdata, size_t index)
{
	struct preparing *p = userdata;
	const struct policy_rule *rule = &p->policy->rules[index];

	if (rule->verb != POLICY_PREPARE ||
	    !match_facts(p->policy, &rule->match, p->facts, MATCH_SURE) ||
	    (rule->name != POLICY_NO_NAME &&
	     !find_name(p->policy, rule->name, p->facts, MATCH_SURE, 0, NULL)))
		return true;
	if (rule->vfs > p->vfs || (rule->vfs && rule->vfs == p->vfs && index < p->vfs_rule)) {
		p->vfs = rule->vfs;
		p->vfs_rule = index;
	} else if (!rule->vfs) {
		keep_first(&p->rule, index);
		if (policy_text(p->policy, rule->vfio_driver))
			keep_first(&p->with_driver, index);
	}
	return true;
}

static struct preparing prepare_rules(const struct policy *policy, const struct policy_facts *facts)
{
	struct preparing p = { .policy = policy,
			       .facts = facts,
			       .vfs_rule = SIZE_MAX,
			       .rule = SIZE_MAX,
			       .with_driver = SIZE_MAX };
	const struct index_walk walk = { look_at_prepare, &p, NULL };

	if (policy->index)
		index_matching(policy, INDEX_PREPARE, 0, facts, &walk);
	else
		for (size_t i = 0; i < policy->n_rules; i++)
			look_at_prepare(&p, i);
	return p;
}

uint32_t policy_vfs(const struct policy *policy, const struct policy_facts *facts, size_t *ret_rule)
{
	struct preparing p = prepare_rules(policy, facts);

	if (p.vfs)
		*ret_rule = p.vfs_rule;
	return p.vfs;
}

/* The prepare rule that matches this function itself, one that names a driver before others. */
static size_t find_prepare(const struct preparing *p)
{
	return p->with_driver != SIZE_MAX ? p->with_driver : p->rule;
}

bool policy_prepares(const struct policy *policy, const struct policy_facts *facts,
		     const struct policy_facts *functions, size_t n_functions, size_t *ret_rule)
{
	const struct preparing own = prepare_rules(policy, facts);
	size_t found = find_prepare(&own);

	if (own.vfs)
		return false;
	for (size_t i = 0; i < n_functions && found == SIZE_MAX; i++) {
		if (match_same_slot(&functions[i], facts)) {
			const struct preparing other = prepare_rules(policy, &functions[i]);

			found = find_prepare(&other);
		}
	}
	if (found == SIZE_MAX)
		return false;
	*ret_rule = found;
	return true;
}
