/* SPDX-License-Identifier: MIT */
/*
 * Decides a claim: takes a group's facts and the policy, returns a permission or a refusal. No I/O,
 * no state. The policy's rules are evaluated by policy/verdict.c. The guards that hold whatever the
 * policy says are in client/host/function.c.
 */
#include "config.h"

#include "brokerd/state/verdict.h"
#include "brokerd/state/refuse.h"
#include "client/common/util.h"

#include <stdio.h>
#include <string.h>

void rule_origin(const struct policy *policy, size_t rule, char out[RULE_ORIGIN_MAX])
{
	const struct policy_rule *r;

	out[0] = '\0';
	if (rule >= policy->n_rules)
		return;
	r = &policy->rules[rule];
	if (r->file < policy->n_files)
		snprintf(out, RULE_ORIGIN_MAX, "%.255s:%u", policy->files[r->file].path,
			 (unsigned)r->line);
	/* A file name may hold any byte; this text goes into records and to terminals. */
	for (char *p = out; *p; p++)
		if ((unsigned char)*p < ' ' || *p == 0x7f)
			*p = '?';
}

static int refuse_function(struct message_refusal *ret_refusal, uint32_t reason,
			   const struct group_view *view, size_t asked, size_t other)
{
	struct message_refusal r = refusal_make(reason);

	r.group = view->group;
	r.address = view->functions[asked].address;
	r.has_address = 1;
	if (other != asked && other < view->n_functions) {
		r.other = view->functions[other].address;
		r.has_other = 1;
	}
	*ret_refusal = r;
	return (int)reason;
}

int group_permit(const struct group_view *view, const struct policy *policy,
		 const struct policy_subject *subject, size_t asked,
		 const struct policy_usage *usage, struct policy_verdict *judged,
		 struct policy_verdict *ret_verdict, struct message_refusal *ret_refusal)
{
	struct policy_facts facts[PROTOCOL_FUNCTIONS_MAX];
	struct policy_verdict *verdict = ret_verdict;
	int r;

	for (size_t i = 0; i < view->n_functions; i++)
		facts[i] = function_facts(&view->functions[i]);
	policy_decide_again(policy, subject, facts, view->n_functions, asked, usage, judged,
			    verdict);
	if (verdict->outcome == POLICY_ALLOWED)
		return 0;
	r = refuse_function(ret_refusal,
			    verdict->outcome == POLICY_LIMIT ? GPUBROKER_REFUSED_LIMIT
							     : GPUBROKER_REFUSED_POLICY,
			    view, asked, verdict->function);
	rule_origin(policy, verdict->rule, ret_refusal->rule);
	if (verdict->outcome == POLICY_LIMIT)
		ret_refusal->limit = policy->rules[verdict->rule].limit;
	return r;
}

int group_check(const struct group_view *view, const struct policy_verdict *verdict, size_t asked,
		uint32_t claim_flags, struct message_refusal *ret_refusal)
{
	size_t which;
	int r;

	switch (group_guard(view, verdict->boot_vga && claim_flags & CLAIM_FORCE, &which)) {
	case GUARD_NONE:
		break;
	case GUARD_NOT_VIABLE:
		r = refuse_function(ret_refusal, GPUBROKER_REFUSED_NOT_VIABLE, view, asked, asked);
		memcpy(ret_refusal->text, view->not_viable, sizeof(ret_refusal->text));
		ret_refusal->other = view->blocker;
		ret_refusal->has_other = view->has_blocker;
		return r;
	case GUARD_BOOT_VGA:
		r = refuse_function(ret_refusal, GPUBROKER_REFUSED_BOOT_VGA, view, asked, which);
		snprintf(ret_refusal->text, sizeof(ret_refusal->text), "%s",
			 view->functions[which].console);
		if (verdict->boot_vga)
			ret_refusal->detail = REFUSAL_FORCE;
		return r;
	case GUARD_IN_USE:
		r = refuse_function(ret_refusal, GPUBROKER_REFUSED_IN_USE, view, asked, which);
		memcpy(ret_refusal->text, view->functions[which].in_use, sizeof(ret_refusal->text));
		return r;
	}
	return 0;
}

int group_decide(const struct group_view *view, const struct policy *policy,
		 const struct policy_subject *subject, size_t asked, uint32_t claim_flags,
		 const struct policy_usage *usage, struct policy_verdict *ret_verdict,
		 struct message_refusal *ret_refusal)
{
	struct policy_verdict verdict;
	int r = group_permit(view, policy, subject, asked, usage, NULL, &verdict, ret_refusal);

	if (!r)
		r = group_check(view, &verdict, asked, claim_flags, ret_refusal);
	if (!r)
		*ret_verdict = verdict;
	return r;
}

struct policy_subject lease_subject(const struct lease *lease)
{
	return (struct policy_subject){
		.uid = lease->uid,
		.gid = lease->gid,
		.groups = lease->gids,
		.n_groups = lease->n_gids,
		.allotted = lease->label[0],
	};
}

/* Shows a lease's function as it was when it was claimed. */
static void show_as_claimed(struct function *function, const struct lease_function *was)
{
	/* An unknown driver stays the one that is seen, VFIO's. */
	if (strcmp(was->driver, LEASE_DRIVER_UNKNOWN) != 0)
		memcpy(function->driver, was->driver, sizeof(function->driver));
	function->boot_vga = false;
	function->console[0] = '\0';
	function->in_use[0] = '\0';
}

int group_decide_lent(struct group_view *view, const struct policy *policy,
		      const struct lease *lease, struct message_refusal *ret_refusal)
{
	const struct policy_subject subject = lease_subject(lease);
	const size_t asked = group_find(view, &lease->asked);
	struct policy_verdict verdict;

	if (asked == SIZE_MAX) { /* it has vanished */
		*ret_refusal = refusal_make(GPUBROKER_REFUSED_NO_DEVICE);
		return GPUBROKER_REFUSED_NO_DEVICE;
	}
	for (size_t i = 0; i < lease->n_functions; i++) {
		const size_t at = group_find(view, &lease->functions[i].address);

		if (at != SIZE_MAX)
			show_as_claimed(&view->functions[at], &lease->functions[i]);
	}
	return group_decide(view, policy, &subject, asked, 0, NULL, &verdict, ret_refusal);
}
