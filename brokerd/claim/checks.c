/* SPDX-License-Identifier: MIT */
/*
 * Checks of a group that a claim has selected, see checks.h. Whether another program has it is not
 * known here, since only a worker may try to open it: see lease/functions.c.
 */
#include "config.h"

#include "brokerd/claim/checks.h"
#include "brokerd/claim/opening.h"
#include "brokerd/state/refuse.h"
#include "client/common/util.h"
#include "client/host/interrupts.h"

#include <inttypes.h>
#include <stdio.h>
#include <string.h>

int check_reset(const struct kernel *kernel, const struct group_view *view, size_t asked,
		struct message_refusal *ret_refusal)
{
	for (size_t i = 0; i < view->n_functions; i++) {
		int fd = kernel_open_reset(kernel, &view->functions[i].address);

		fd_close(fd);
		if (fd >= 0)
			continue;
		refuse_address(ret_refusal, GPUBROKER_REFUSED_NO_RESET,
			       &view->functions[asked].address);
		ret_refusal->group = view->group;
		if (i != asked)
			refusal_set_other(ret_refusal, &view->functions[i].address);
		return GPUBROKER_REFUSED_NO_RESET;
	}
	return 0;
}

int check_interrupts(const struct selecting *s, const struct group_view *view, size_t asked,
		     struct message_refusal *ret_refusal)
{
	const struct kernel *kernel = s->claims->kernel;

	if (!kernel->no_remapping || interrupts_may_be_unsafe(kernel->sys, false) ||
	    (s->request->flags & CLAIM_CDEVS && kernel->cdevs &&
	     interrupts_may_be_unsafe(kernel->sys, true)))
		return 0;
	refuse_address(ret_refusal, GPUBROKER_REFUSED_NOT_VIABLE, &view->functions[asked].address);
	ret_refusal->group = view->group;
	ret_refusal->detail = REFUSAL_INTERRUPTS;
	return GPUBROKER_REFUSED_NOT_VIABLE;
}

/*
 * Returns true if the group is allotted to the claimant, or to the user and under the label that
 * root allots it to.
 */
static bool is_own_allotment(const struct selecting *s, const struct allotment *allotment,
			     const struct group_view *view)
{
	return allotment_serves(allotment, &s->claims->policy->policy, s->claimant->uid, view) &&
	       (!s->claimant->through[0] || !strcmp(s->claimant->through, allotment->label)) &&
	       (!s->claimant->allots || !strcmp(s->claimant->allots, allotment->label));
}

bool check_allotted(const struct selecting *s, const struct group_view *view)
{
	const struct allotment *allotment = allotments_of_view(s->claims->allotments, view);

	s->selection->cost += s->claims->allotments->n;
	return s->claimant->allots ||
	       (allotment &&
		allotment_is_for(allotment, &s->claims->policy->policy, s->claimant->uid));
}

/* Fills the refusal for a group that is reserved by an allotment. Returns its reason. */
static int refuse_reserving(const struct selecting *s, const struct allotment *allotment,
			    const struct group_view *view, const struct pci_address *address,
			    struct message_refusal *ret_refusal)
{
	const struct policy *policy = &s->claims->policy->policy;
	const uint32_t owner = policy_owner(policy, s->claimant->uid);
	int reason = refuse_allotted(ret_refusal, allotment, address, view->group);

	if (ret_refusal->detail == REFUSAL_PLAIN && !s->claimant->allots &&
	    owner != POLICY_NOBODY && owner == policy_owner(policy, allotment->uid))
		ret_refusal->detail = REFUSAL_CHANGED;
	return reason;
}

int check_through(const struct selecting *s, const struct group_view *view,
		  const struct pci_address *address, struct message_refusal *ret_refusal)
{
	const struct allotment *allotment =
		s->claimant->through[0] ? allotments_of_view(s->claims->allotments, view) : NULL;

	if (!s->claimant->through[0] ||
	    (allotment && !strcmp(s->claimant->through, allotment->label)))
		return 0;
	refuse_address(ret_refusal, GPUBROKER_REFUSED_POLICY, address);
	ret_refusal->detail = REFUSAL_AT_SOCKET;
	refusal_say(ret_refusal, "%s", s->claimant->through);
	return GPUBROKER_REFUSED_POLICY;
}

int check_rule(const struct selecting *s, const struct group_view *view,
	       const struct pci_address *address, const struct policy_verdict *verdict,
	       struct message_refusal *ret_refusal)
{
	const struct allotment *allotment;

	if (s->claimant->allots && !verdict->allotted) {
		refuse_address(ret_refusal, GPUBROKER_REFUSED_POLICY, address);
		ret_refusal->detail = REFUSAL_NO_RULE;
		return GPUBROKER_REFUSED_POLICY;
	}
	if (s->claimant->allots || !verdict->allotted)
		return 0;
	/* The rule is about what is allotted, and this is not any more: nothing else is said. */
	allotment = allotments_of_view(s->claims->allotments, view);
	return allotment && !is_own_allotment(s, allotment, view)
		       ? refuse_reserving(s, allotment, view, address, ret_refusal)
		       : 0;
}

int check_free(const struct selecting *s, const struct group_view *view,
	       const struct pci_address *address, struct message_refusal *ret_refusal)
{
	const struct lease_table *table = &s->claims->leases->table;
	const struct lease *lease = lease_find_group(table, view->group);
	const struct message_refusal *avoided = opening_avoided(s->claimant, view->group);
	const struct allotment *allotment = allotments_of_view(s->claims->allotments, view);

	if (avoided) {
		*ret_refusal = *avoided;
		return (int)avoided->reason;
	}
	if (allotment && !is_own_allotment(s, allotment, view))
		return refuse_reserving(s, allotment, view, address, ret_refusal);
	if (allotment && s->claimant->allots)
		return 0; /* it has it already, perhaps with a lease */

	if (!lease) /* unbinding its host driver would wait for the holder of a part */
		lease = lease_find_below(table, view);
	if (lease)
		return refuse_held(ret_refusal, lease, address);
	/* Root decides before whoever waits. */
	if (!allotment && !s->claimant->allots &&
	    queue_reserves(&s->claims->queue, s->claimant->waiting, view))
		return refuse_reserved(ret_refusal, address, view->group);
	return holds_refuse(s->claims->holds, view, address, ret_refusal);
}

int check_node(const struct selecting *s, const struct group_view *view,
	       const struct pci_address *address, struct message_refusal *ret_refusal)
{
	struct kernel_node node;
	char path[32];

	if (!kernel_group_is_open(s->claims->kernel, view->group, &node))
		return 0;
	snprintf(path, sizeof(path), "/dev/vfio/%" PRIu32, view->group);
	return refuse_node(ret_refusal, address, view->group, path, node.uid, node.mode);
}
