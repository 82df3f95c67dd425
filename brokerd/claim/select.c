/* SPDX-License-Identifier: MIT */
/*
 * Decides what a claim's selectors mean: turns addresses, groups, the policy's names and "any" into
 * groups, reads those from sysfs, and applies the policy and the guards (state/verdict.c). It reads
 * only, changes nothing. Candidates for a name come from the watcher's table, but every decision is
 * made on what is read from sysfs.
 */
#include "config.h"

#include "brokerd/claim/select.h"
#include "brokerd/claim/checks.h"
#include "brokerd/claim/opening.h"
#include "brokerd/claim/parts.h"
#include "brokerd/claim/selecting.h"
#include "brokerd/process/log.h"
#include "brokerd/state/refuse.h"
#include "brokerd/state/users.h"
#include "client/common/util.h"
#include "client/host/sysfs.h"

#include <errno.h>
#include <inttypes.h>
#include <stdlib.h>
#include <string.h>

/* Fills a refusal that names what the selector names. Returns its reason. */
static int refuse_selector(struct message_refusal *ret_refusal, uint32_t reason,
			   const struct selector *selector)
{
	struct message_refusal r = refusal_make(reason);

	if (selector->kind == SELECT_ADDRESS) {
		r.address = selector->address;
		r.has_address = 1;
	} else if (selector->kind == SELECT_GROUP) {
		r.group = selector->group;
	} else if (selector->kind == SELECT_NAME) {
		memcpy(r.name, selector->name, sizeof(r.name));
	}
	*ret_refusal = r;
	return (int)reason;
}

/* The same for a fault, -error, of this process or of the kernel. */
static int refuse_error(struct message_refusal *ret_refusal, const struct selector *selector,
			const char *what, int error)
{
	int reason = refuse_selector(ret_refusal, GPUBROKER_REFUSED_FAILED, selector);

	refusal_say(ret_refusal, "%s", what);
	ret_refusal->error = -error;
	return reason;
}

/* Returns the index of a group that an earlier selector has selected, or SIZE_MAX. */
static size_t find_selected(const struct selection *selection, uint32_t group)
{
	for (size_t i = 0; i < selection->n; i++)
		if (selection->items[i].view && selection->items[i].view->group == group)
			return i;
	return SIZE_MAX;
}

static uint64_t larger(uint64_t a, uint64_t b)
{
	return a > b ? a : b;
}

static void set_terms(const struct selecting *s, const struct policy_verdict *verdict,
		      struct lease_terms *terms)
{
	const struct policy *policy = &s->claims->policy->policy;
	const char *driver = policy_text(policy, verdict->vfio_driver);

	rule_origin(policy, verdict->rule, terms->rule);
	terms->lifetime = verdict->lifetime;
	terms->kill = verdict->kill;
	terms->require_reset = verdict->require_reset;
	terms->in_use = verdict->in_use;
	terms->memlock = verdict->memlock;
	if (driver)
		snprintf(terms->vfio_driver, sizeof(terms->vfio_driver), "%s", driver);
}

/*
 * Reads what the guards need to know of the group, which only a group that the policy allows costs.
 * Returns 0, or the reason.
 */
static int read_use(struct selecting *s, struct view *view, const struct pci_address *address,
		    struct message_refusal *ret_refusal)
{
	int r = views_read_use(s, view);

	if (!r)
		return 0;
	refuse_address(ret_refusal, GPUBROKER_REFUSED_FAILED, address);
	refusal_say(ret_refusal, "reading its IOMMU group");
	ret_refusal->error = -r;
	return GPUBROKER_REFUSED_FAILED;
}

/*
 * Adds a group that was read to the selection, if the policy and the guards allow it. Returns 0, or
 * the reason.
 */
static int take_group(struct selecting *s, struct view *read, size_t asked,
		      struct message_refusal *ret_refusal)
{
	const struct group_view *view = read->group;
	const struct policy *policy = &s->claims->policy->policy;
	const struct policy_usage usage = { .leases = selecting_count_leases, .userdata = s };
	struct selected *item = &s->selection->items[s->selection->n];
	struct pci_address address = view->functions[asked].address;
	struct policy_verdict verdict;
	int r;

	r = check_through(s, view, &address, ret_refusal);
	if (r)
		return r;
	s->subject.allotted = check_allotted(s, view);
	r = group_permit(view, policy, &s->subject, asked, s->claimant->allots ? NULL : &usage,
			 read->judged, &verdict, ret_refusal);
	s->subject.allotted = false;
	s->selection->cost += COST_FUNCTION + verdict.cost;
	if (!r && (r = check_rule(s, view, &address, &verdict, ret_refusal))) {
		rule_origin(policy, verdict.rule, item->terms.rule);
		wanted_add(&s->selection->one, view->group, item->terms.rule);
	}
	if (r)
		return r;
	r = read_use(s, read, &address, ret_refusal);
	if (r)
		return r;
	r = group_check(view, &verdict, asked, s->request->flags, ret_refusal);
	if (!r)
		r = check_interrupts(s, view, asked, ret_refusal);
	if (r)
		return r;
	if (verdict.require_reset &&
	    (r = check_reset(s->claims->kernel, view, asked, ret_refusal))) {
		rule_origin(policy, verdict.rule, ret_refusal->rule);
		return r;
	}
	set_terms(s, &verdict, &item->terms);
	r = check_free(s, view, &address, ret_refusal);
	if (!r && check_node(s, view, &address, ret_refusal))
		return GPUBROKER_REFUSED_NODE;
	/* The claim keeps a device that a program has open from nobody until it is closed. */
	if (r && opening_avoided(s->claimant, view->group))
		return r;
	/* Now only leases, claims and other programs can be in the way, so waiting helps. */
	wanted_add(&s->selection->one, view->group, item->terms.rule);
	if (r) {
		s->busy_memlock = larger(s->busy_memlock, verdict.memlock);
		return r;
	}
	selecting_keep_group_of(s, verdict.rule);
	item->asked = address;
	item->view = views_take(&s->views, read);
	s->selection->n++;
	return 0;
}

/*
 * Fills the refusal for a function that can never be lent. A user whom the policy would refuse does
 * not learn why.
 */
static int refuse_unlendable(const struct selecting *s, const struct selector *selector,
			     const struct pci_address *address, uint32_t group, uint32_t reason,
			     const char *text, struct message_refusal *ret_refusal)
{
	cleanup_free struct group_view *view = calloc(1, sizeof(*view));
	struct policy_verdict verdict;
	int r = 0;

	if (!view)
		return refuse_error(ret_refusal, selector, "claim", -ENOMEM);
	view->group = group;
	if (!sysfs_function_read_ids(s->claims->kernel->sys, address, &view->functions[0])) {
		view->n_functions = 1;
		r = group_permit(view, &s->claims->policy->policy, &s->subject, 0, NULL, NULL,
				 &verdict, ret_refusal);
		s->selection->cost += COST_READ + COST_FUNCTION + verdict.cost;
	}
	if (r == GPUBROKER_REFUSED_POLICY)
		return r;
	refuse_selector(ret_refusal, reason, selector);
	ret_refusal->group = group;
	refusal_say(ret_refusal, "%s", text);
	return (int)reason;
}

/* The same for a group that has more functions than can be lent together. */
static int refuse_too_many(const struct selecting *s, const struct selector *selector,
			   const struct pci_address *address, const struct group_view *view,
			   struct message_refusal *ret_refusal)
{
	if (address)
		return refuse_unlendable(s, selector, address, view->group,
					 GPUBROKER_REFUSED_NOT_VIABLE, view->not_viable,
					 ret_refusal);
	refuse_selector(ret_refusal, GPUBROKER_REFUSED_NOT_VIABLE, selector);
	ret_refusal->group = view->group;
	refusal_say(ret_refusal, "%s", view->not_viable);
	return GPUBROKER_REFUSED_NOT_VIABLE;
}

static bool is_policy(int reason)
{
	return reason == GPUBROKER_REFUSED_POLICY || reason == GPUBROKER_REFUSED_LIMIT;
}

/*
 * Adds the group by the first function that the policy allows (`any`), or by the one that was asked
 * for.
 */
static int take_allowed(struct selecting *s, struct view *view, size_t asked, bool any,
			struct message_refusal *ret_refusal)
{
	const size_t n_functions = view->group->n_functions;
	struct message_refusal first;
	int r, first_reason = 0;

	do {
		r = take_group(s, view, asked, ret_refusal);
		/* A refusal by the policy is returned only if the policy refuses every function. */
		if (!first_reason || !is_policy(r)) {
			first_reason = r;
			first = *ret_refusal;
		}
	} while (is_policy(r) && any && ++asked < n_functions);
	if (r)
		*ret_refusal = first;
	return r ? first_reason : 0;
}

/*
 * Reads a group and adds it. `address` is the function that was asked for; NULL: the first one that
 * the policy allows.
 */
static int select_group(struct selecting *s, const struct selector *selector, uint32_t group,
			const struct pci_address *address, struct message_refusal *ret_refusal)
{
	const struct group_view *view;
	struct view *read;
	size_t asked = 0;
	int r;

	if (s->selection->n == PROTOCOL_SELECTORS_MAX)
		return refuse_error(ret_refusal, selector, "too many groups in one claim", 0);
	r = views_read(s, group, &read);
	if (r == -ENODEV)
		return refuse_selector(ret_refusal, GPUBROKER_REFUSED_NO_DEVICE, selector);
	if (r == -E2BIG)
		return refuse_too_many(s, selector, address, read->group, ret_refusal);
	if (r)
		return refuse_error(ret_refusal, selector, "reading its IOMMU group", r);
	view = read->group;
	if (address)
		asked = group_find(view, address);
	if (address && (!view->n_functions || asked == SIZE_MAX))
		return refuse_unlendable(s, selector, address, group, GPUBROKER_REFUSED_NOT_VIABLE,
					 GROUP_LENDS_NO_BRIDGE, ret_refusal);
	if (!view->n_functions) {
		refuse_selector(ret_refusal, GPUBROKER_REFUSED_NOT_VIABLE, selector);
		ret_refusal->group = group;
		refusal_say(ret_refusal, "has only bridges");
		return GPUBROKER_REFUSED_NOT_VIABLE;
	}
	return take_allowed(s, read, asked, !address, ret_refusal);
}

static int select_address(struct selecting *s, const struct selector *selector,
			  const struct pci_address *address, struct message_refusal *ret_refusal)
{
	uint32_t group;
	size_t i;
	int r = sysfs_group_of(s->claims->kernel->sys, address, &group);

	s->selection->cost += COST_ATTRIBUTE;
	if (r == -ENODEV)
		return refuse_selector(ret_refusal, GPUBROKER_REFUSED_NO_DEVICE, selector);
	if (r)
		return refuse_error(ret_refusal, selector, "reading its IOMMU group", r);
	if (group == NO_GROUP)
		return refuse_unlendable(s, selector, address, group, GPUBROKER_REFUSED_NO_GROUP,
					 "", ret_refusal);
	i = find_selected(s->selection, group);
	if (i != SIZE_MAX && group_find(s->selection->items[i].view, address) != SIZE_MAX)
		return 0; /* the selection already includes it */
	return select_group(s, selector, group, address, ret_refusal);
}

/*
 * Adds the first free device that a name, or "any", may mean. Candidates come from the watcher's
 * table; each is read from sysfs before it is decided on. If none can be lent, the refusal is about
 * the nearest miss: a device that somebody else holds is nearer than one that the policy refuses.
 */
static int select_candidate(struct selecting *s, const struct selector *selector, uint32_t name,
			    struct message_refusal *ret_refusal)
{
	const struct devices *devices = s->claims->devices;
	struct selector here = { .kind = SELECT_ADDRESS };
	int nearest = 0;

	for (size_t i = 0; i < devices->n; i++) {
		const struct device *device = &devices->list[i];
		struct message_refusal refusal;
		int r;

		if (!name_means(&s->claims->policy->policy, name, device, &s->selection->cost))
			continue;
		if (device->record.group != NO_GROUP &&
		    find_selected(s->selection, device->record.group) != SIZE_MAX)
			continue; /* two selectors get two different GPUs */
		here.address = device->record.address;
		r = select_address(s, &here, &here.address, &refusal);
		if (!r)
			return 0;
		if (!nearest ||
		    (nearest == GPUBROKER_REFUSED_POLICY && r != GPUBROKER_REFUSED_POLICY) ||
		    (refusal_is_others(r) && !refusal_is_others(nearest))) {
			nearest = r;
			*ret_refusal = refusal;
		}
	}
	if (!nearest)
		return refuse_selector(ret_refusal, GPUBROKER_REFUSED_NO_DEVICE, selector);
	/* "No rule allows you any GPU" is true; naming one device would be misleading. */
	if (nearest == GPUBROKER_REFUSED_POLICY && !ret_refusal->rule[0] && !ret_refusal->has_other)
		return refuse_selector(ret_refusal, GPUBROKER_REFUSED_POLICY, selector);
	return nearest;
}

/* Root can allot whole functions, virtual ones too, and no parts. */
static int refuse_part(const struct selector *selector, struct message_refusal *ret_refusal)
{
	refuse_selector(ret_refusal, GPUBROKER_REFUSED_NO_MDEVS, selector);
	memcpy(ret_refusal->profile, selector->profile, sizeof(ret_refusal->profile));
	ret_refusal->detail = REFUSAL_NOT_LENT;
	return GPUBROKER_REFUSED_NO_MDEVS;
}

/* Adds a part of a device; a worker chooses later which one. */
static int select_part(struct selecting *s, const struct selector *selector,
		       struct message_refusal *ret_refusal)
{
	struct selected *item = &s->selection->items[s->selection->n];
	struct part_choice *choice;
	int r;

	if (s->selection->n == PROTOCOL_SELECTORS_MAX)
		return refuse_error(ret_refusal, selector, "too many devices in one claim", 0);
	r = parts_select(s, selector, &choice, ret_refusal);
	if (r)
		return r;
	item->terms = choice->list[0].terms;
	item->asked = choice->list[0].address;
	item->choice = choice;
	s->selection->n++;
	return 0;
}

/*
 * Checks that the name means the device, if the client gave both a name and an address. Returns 0,
 * or the reason.
 */
static int check_name(const struct selecting *s, const struct selector *selector,
		      struct message_refusal *ret_refusal)
{
	const struct policy *policy = &s->claims->policy->policy;
	struct selector by_name = *selector;
	struct policy_facts facts;
	struct function function;
	uint32_t name;

	by_name.kind = SELECT_NAME;
	if (policy_name_find(policy, selector->name, &name))
		return refuse_selector(ret_refusal, GPUBROKER_REFUSED_NO_NAME, &by_name);
	s->selection->cost += COST_READ;
	if (!sysfs_function_read_ids(s->claims->kernel->sys, &selector->address, &function)) {
		facts = function_facts(&function);
		if (policy_name_matches(policy, name, &facts, &s->selection->cost))
			return 0;
	}
	return refuse_selector(ret_refusal, GPUBROKER_REFUSED_NO_DEVICE, &by_name);
}

static int select_one(struct selecting *s, const struct selector *selector,
		      struct message_refusal *ret_refusal)
{
	const struct policy *policy = &s->claims->policy->policy;
	uint32_t name = POLICY_NO_NAME;
	int r;

	if (parts_meant(policy, selector, &s->selection->cost) &&
	    (s->claimant->allots || s->claimant->through[0]))
		return refuse_part(selector, ret_refusal);
	if (parts_meant(policy, selector, &s->selection->cost))
		return select_part(s, selector, ret_refusal);
	switch ((enum selector_kind)selector->kind) {
	case SELECT_ADDRESS:
		if (selector->name[0] && (r = check_name(s, selector, ret_refusal)))
			return r;
		return select_address(s, selector, &selector->address, ret_refusal);
	case SELECT_GROUP:
		if (find_selected(s->selection, selector->group) != SIZE_MAX)
			return 0;
		return select_group(s, selector, selector->group, NULL, ret_refusal);
	case SELECT_NAME:
		if (policy_name_find(policy, selector->name, &name))
			return refuse_selector(ret_refusal, GPUBROKER_REFUSED_NO_NAME, selector);
		return select_candidate(s, selector, name, ret_refusal);
	case SELECT_ANY:
		return select_candidate(s, selector, POLICY_NO_NAME, ret_refusal);
	}
	return refuse_selector(ret_refusal, GPUBROKER_REFUSED_NO_DEVICE, selector);
}

/* ---- the selection as a whole ---- */

static bool has_function(const struct selection *selection, const struct pci_address *address)
{
	for (size_t i = 0; i < selection->n; i++)
		if (selection->items[i].view &&
		    group_find(selection->items[i].view, address) != SIZE_MAX)
			return true;
	return false;
}

/*
 * Returns a function that the selection has both whole and as the parent of a part, or NULL. A
 * function that is lent whole has no host driver that could make a part.
 */
static const struct pci_address *whole_and_part(const struct selection *selection)
{
	for (size_t i = 0; i < selection->n; i++) {
		const struct part_choice *choice = selection->items[i].choice;

		for (size_t k = 0; choice && k < choice->n; k++)
			if (has_function(selection, &choice->list[k].address))
				return &choice->list[k].address;
		for (size_t k = 0; choice && k < choice->n_vfs; k++)
			if (has_function(selection, &choice->vfs[k]))
				return &choice->vfs[k];
	}
	return NULL;
}

/* Looks up the claimant's groups. If that fails, the claim is refused. */
static int look_up_subject(struct selecting *s, struct message_refusal *ret_refusal)
{
	int r = s->claimant->ops->subject(s->claimant, &s->subject);

	if (r) {
		log_error("cannot read the groups of uid %" PRIu32 ": %s", s->claimant->uid,
			  strerror(-r));
		return refuse_selector(ret_refusal, GPUBROKER_REFUSED_POLICY,
				       &s->request->selectors[0]);
	}
	policy_look_up(&s->claims->policy->policy, &s->subject, &s->looked_up);
	s->subject.looked_up = &s->looked_up;
	s->selection->cost += COST_GROUPS(s->subject.n_groups);
	return 0;
}

/*
 * Decides the next selector, and notes what the claim wants for it. Returns 0, or the reason.
 */
static int select_next(struct selecting *s, const struct selector *selector,
		       struct message_refusal *ret_refusal)
{
	struct selection *selection = s->selection;
	struct wanted *all = &selection->wanted, *one = &selection->one;
	const size_t before = selection->n;
	int r;

	one->n = one->n_rules = 0;
	r = select_one(s, selector, ret_refusal);
	wanted_add_selector(all, one,
			    selection->n > before ? selection->items[before].terms.rule : NULL);
	if (refusal_is_others(r) && !all->own)
		all->own = wanted_is_own(one, &s->claims->policy->policy, s->claimant->uid,
					 &s->claims->leases->table, s->claims->devices);
	return r;
}

static int select_all(struct selecting *s, struct message_refusal *ret_refusal)
{
	bool busy = false;

	for (uint32_t i = 0; i < s->request->n_selectors; i++) {
		struct message_refusal refusal;
		int r = select_next(s, &s->request->selectors[i], &refusal);

		if (r && !busy)
			*ret_refusal = refusal;
		/*
		 * A claim that may wait needs all its devices, so all selectors are decided; one
		 * that can never be granted is refused at once.
		 */
		if (refusal_is_others(r) && s->request->flags & CLAIM_WAIT) {
			busy = true;
		} else if (r) {
			*ret_refusal = refusal;
			return r;
		}
	}
	return busy ? GPUBROKER_REFUSED_BUSY : 0;
}

/*
 * Returns the most that the rules of an item can grant. For a part, the worker's answer decides
 * which of the candidates it becomes; the types of a VF are not even known yet.
 */
static uint64_t most_memlock(const struct selected *item)
{
	uint64_t most = item->terms.memlock;

	if (!item->choice)
		return most;
	if (item->choice->n_vfs)
		return UINT64_MAX;
	for (size_t i = 0; i < item->choice->n; i++)
		most = larger(most, item->choice->list[i].terms.memlock);
	return most;
}

/*
 * Returns 0; or the reason, if the request asks for more memory than any rule that may apply
 * grants. Once it is known what the claim gets, claim.c compares with exactly those rules.
 */
static int check_memlock(const struct selecting *s, bool busy, struct message_refusal *ret_refusal)
{
	const struct selection *selection = s->selection;
	uint64_t most = busy ? s->busy_memlock : 0;

	for (size_t i = 0; i < selection->n; i++)
		most = larger(most, most_memlock(&selection->items[i]));
	if (s->request->memlock <= most)
		return 0;
	refuse_selector(ret_refusal, GPUBROKER_REFUSED_MEMLOCK, &s->request->selectors[0]);
	ret_refusal->limit = most;
	memcpy(ret_refusal->rule, selection->items[0].terms.rule, sizeof(ret_refusal->rule));
	return GPUBROKER_REFUSED_MEMLOCK;
}

int selection_decide(const struct claims *claims, const struct claimant *claimant,
		     const struct message_claim *request, struct selection *ret_selection,
		     struct message_refusal *ret_refusal)
{
	struct selecting s = { .claims = claims,
			       .claimant = claimant,
			       .request = request,
			       .selection = ret_selection };
	const struct pci_address *both;
	int r, reason;

	if (!claims->policy->good || claims->closed)
		return refuse_selector(ret_refusal, GPUBROKER_REFUSED_NOT_READY,
				       &request->selectors[0]);
	r = look_up_subject(&s, ret_refusal);
	if (r)
		return r;
	r = select_all(&s, ret_refusal);
	views_done(&s.views);
	if (r && r != GPUBROKER_REFUSED_BUSY)
		return r;
	selecting_keep_groups(&s);
	both = whole_and_part(ret_selection);
	if (both) {
		refuse_selector(ret_refusal, GPUBROKER_REFUSED_NOT_VIABLE, &request->selectors[0]);
		ret_refusal->address = *both;
		ret_refusal->has_address = 1;
		ret_refusal->detail = REFUSAL_WHOLE_AND_PART;
		return GPUBROKER_REFUSED_NOT_VIABLE;
	}
	reason = check_memlock(&s, r, ret_refusal);
	if (reason || r)
		return reason ? reason : r;
	if (claims->leases->table.n + ret_selection->n > LEASES_MAX) {
		refuse_selector(ret_refusal, GPUBROKER_REFUSED_QUOTA, &request->selectors[0]);
		refusal_say(ret_refusal,
			    "there are %d leases, which is as many as the broker keeps",
			    LEASES_MAX);
		return GPUBROKER_REFUSED_QUOTA;
	}
	return 0;
}

void selection_done(struct selection *selection)
{
	for (size_t i = 0; i < selection->n; i++) {
		free(selection->items[i].view);
		free(selection->items[i].choice);
	}
	selection->n = 0;
}
