/* SPDX-License-Identifier: MIT */
/*
 * What a claim's selectors mean: addresses, groups, the policy's names and "any" become groups,
 * read from sysfs and put before the policy and the guards (group.c). Reads, changes nothing.
 * Candidates for a name come from the watcher's table, but nothing is decided on what the watcher
 * said.
 */
#include "config.h"

#include "brokerd/claim/claim.h"
#include "brokerd/state/verdict.h"
#include "brokerd/process/log.h"
#include "brokerd/lease/mdev.h"
#include "brokerd/prepare/prepare.h"
#include "brokerd/prepare/sriov.h"
#include "client/host/sysfs.h"
#include "client/common/util.h"

#include <errno.h>
#include <inttypes.h>
#include <string.h>

static int refuse_plain(struct message_refusal *ret_refusal, uint32_t reason,
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

void refusal_name_lease(struct message_refusal *refusal, const struct lease *lease)
{
	refusal->group = lease->group;
	refusal->has_address = lease_has_address(lease);
	if (refusal->has_address)
		refusal->address = lease->asked;
	else
		memcpy(refusal->parent, lease->mdev.parent, sizeof(refusal->parent));
	memcpy(refusal->profile, lease->mdev.type, sizeof(refusal->profile));
}

int refuse_held(struct message_refusal *ret_refusal, const struct lease *lease,
		const struct pci_address *address)
{
	bool stuck = lease->state == GPUBROKER_LEASE_STUCK;
	struct message_refusal r =
		refusal_make(stuck ? GPUBROKER_REFUSED_STUCK : GPUBROKER_REFUSED_BUSY);

	refusal_name_lease(&r, lease);
	if (r.has_address)
		r.address = *address;
	r.holder_uid = lease->uid;
	r.holder_pid = lease->pid;
	r.since = lease->since;
	r.lease = lease->id;
	if (stuck)
		snprintf(r.text, sizeof(r.text), "%.*s", (int)sizeof(r.text) - 1, lease->reason);
	else if (lease_is_leaving(lease))
		r.detail = REFUSAL_RELEASING;
	*ret_refusal = r;
	return (int)r.reason;
}

int refuse_prepared(struct message_refusal *ret_refusal, const struct pci_address *address,
		    uint32_t group, bool late)
{
	*ret_refusal = refusal_make(late ? GPUBROKER_REFUSED_STUCK : GPUBROKER_REFUSED_BUSY);
	ret_refusal->address = *address;
	ret_refusal->has_address = 1;
	ret_refusal->group = group;
	if (late)
		strcpy(ret_refusal->text,
		       "its host driver does not let go of it, as the policy's prepare asks");
	else
		ret_refusal->detail = REFUSAL_PREPARING;
	return (int)ret_refusal->reason;
}

static int refuse_fault(struct message_refusal *ret_refusal, const struct selector *selector,
			const char *what, int error)
{
	int reason = refuse_plain(ret_refusal, GPUBROKER_REFUSED_FAILED, selector);

	snprintf(ret_refusal->text, sizeof(ret_refusal->text), "%s", what);
	ret_refusal->error = -error;
	return reason;
}

/* The claim's own index of a group that an earlier selector brought, or SIZE_MAX. */
static size_t claim_group(const struct claim *claim, uint32_t group)
{
	for (size_t i = 0; i < claim->n; i++)
		if (claim->views[i] && claim->views[i]->group == group)
			return i;
	return SIZE_MAX;
}

static uint64_t larger(uint64_t a, uint64_t b)
{
	return a > b ? a : b;
}

/*
 * How many leases the claimer has by a rule: those that are, and those of this claim so far. A rule
 * is known by its file and line, so that a lease still counts after the policy was loaded anew.
 */
static uint32_t leases_by_rule(void *userdata, size_t rule)
{
	const struct claim *claim = userdata;
	const struct lease *lease;
	char origin[288];
	uint32_t n = 0;

	rule_origin(&claim->daemon->policy, rule, origin);
	TAILQ_FOREACH(lease, &claim->daemon->leases.list, link)
		n += lease->uid == claim->peer->uid && !strcmp(lease->terms.rule, origin);
	for (size_t i = 0; i < claim->n; i++)
		n += !strcmp(claim->terms[i].rule, origin);
	return n;
}

/* Where a rule requires a reset, each function must have one; only whether, it is not done here. */
static int check_reset(const struct daemon *daemon, const struct group_view *view, size_t asked,
		       struct message_refusal *ret_refusal)
{
	for (size_t i = 0; i < view->n_functions; i++) {
		int fd = kernel_open_reset(&daemon->kernel, &view->functions[i].address);

		fd_close(fd);
		if (fd >= 0)
			continue;
		*ret_refusal = refusal_make(GPUBROKER_REFUSED_NO_RESET);
		ret_refusal->group = view->group;
		ret_refusal->address = view->functions[asked].address;
		ret_refusal->has_address = 1;
		ret_refusal->other = view->functions[i].address;
		ret_refusal->has_other = i != asked;
		return GPUBROKER_REFUSED_NO_RESET;
	}
	return 0;
}

/* Takes a group that was read into the claim, if the policy and the guards let it. */
static int claim_take(struct claim *claim, const struct policy_subject *subject, uint32_t flags,
		      struct group_view *view, size_t asked, struct message_refusal *ret_refusal)
{
	struct daemon *daemon = claim->daemon;
	struct pci_address address = view->functions[asked].address;
	struct policy_verdict verdict;
	const struct policy_usage usage = { .leases = leases_by_rule, .userdata = claim };
	struct lease_terms *terms = &claim->terms[claim->n];
	const char *driver;
	struct lease *lease;
	bool late;
	int r;

	r = group_decide(view, &daemon->policy, subject, asked, flags, &usage, &verdict,
			 ret_refusal);
	if (r)
		return r;
	if (verdict.require_reset && (r = check_reset(daemon, view, asked, ret_refusal))) {
		rule_origin(&daemon->policy, verdict.rule, ret_refusal->rule);
		return r;
	}
	claim->memlock = larger(claim->memlock, verdict.memlock);
	/* From here on only others are in the way: worth waiting for. */
	wanted_add(&claim->wanted, view->group);
	lease = lease_find_group(&daemon->leases, view->group);
	if (!lease) /* whose driver would wait for whoever has the mdev */
		lease = mdev_lease_below(daemon, view);
	if (lease)
		return refuse_held(ret_refusal, lease, &address);
	if (queue_holds(daemon, claim->peer->waiting, view)) {
		*ret_refusal = refusal_make(GPUBROKER_REFUSED_BUSY);
		ret_refusal->address = address;
		ret_refusal->has_address = 1;
		ret_refusal->group = view->group;
		ret_refusal->detail = REFUSAL_RESERVED;
		return GPUBROKER_REFUSED_BUSY;
	}
	if (prepare_has_group(daemon, view->group, &late))
		return refuse_prepared(ret_refusal, &address, view->group, late);
	r = vfs_refuse(daemon, view, &address, ret_refusal);
	if (r)
		return r;
	rule_origin(&daemon->policy, verdict.rule, terms->rule);
	terms->lifetime = verdict.lifetime;
	terms->require_reset = verdict.require_reset;
	driver = policy_text(&daemon->policy, verdict.vfio_driver);
	if (driver)
		snprintf(terms->vfio_driver, sizeof(terms->vfio_driver), "%s", driver);
	claim->asked[claim->n] = address;
	claim->views[claim->n++] = view;
	return 0;
}

/*
 * The answer for a function that cannot be lent at all: by its reason only to those whom the policy
 * would let have it.
 */
static int refuse_unlendable(const struct claim *claim, const struct policy_subject *subject,
			     const struct selector *selector, const struct pci_address *address,
			     uint32_t group, uint32_t reason, const char *detail,
			     struct message_refusal *ret_refusal)
{
	struct group_view *view = calloc(1, sizeof(*view));
	struct policy_verdict verdict;
	int r = 0;

	if (!view)
		return refuse_fault(ret_refusal, selector, "claim", -ENOMEM);
	view->group = group;
	if (!sysfs_function_read(claim->daemon->kernel.sys, address, &view->functions[0])) {
		view->n_functions = 1;
		r = group_decide(view, &claim->daemon->policy, subject, 0, 0, NULL, &verdict,
				 ret_refusal);
	}
	free(view);
	if (r == GPUBROKER_REFUSED_POLICY)
		return r;
	refuse_plain(ret_refusal, reason, selector);
	ret_refusal->group = group;
	snprintf(ret_refusal->text, sizeof(ret_refusal->text), "%s", detail);
	return (int)reason;
}

static bool is_policy(int reason)
{
	return reason == GPUBROKER_REFUSED_POLICY || reason == GPUBROKER_REFUSED_LIMIT;
}

/*
 * Reads a group and takes it. `address` is the function asked for, or NULL: the first one that is
 * allowed.
 */
static int claim_group_by(struct claim *claim, const struct policy_subject *subject,
			  const struct message_claim *request, const struct selector *selector,
			  uint32_t group, const struct pci_address *address,
			  struct message_refusal *ret_refusal)
{
	struct message_refusal first;
	struct group_view *view;
	size_t asked = 0;
	int r, first_reason = 0;

	if (claim->n == PROTOCOL_SELECTORS_MAX)
		return refuse_fault(ret_refusal, selector, "too many groups in one claim", 0);
	view = calloc(1, sizeof(*view));
	if (!view)
		return refuse_fault(ret_refusal, selector, "claim", -ENOMEM);
	r = sysfs_group_read(claim->daemon->kernel.sys, group, view);
	if (!r && address)
		asked = group_find(view, address);
	if (r || !view->n_functions || asked == SIZE_MAX) {
		free(view);
		if (r && r != -ENODEV)
			return refuse_fault(ret_refusal, selector, "reading its IOMMU group", r);
		if (r)
			return refuse_plain(ret_refusal, GPUBROKER_REFUSED_NO_DEVICE, selector);
		if (address)
			return refuse_unlendable(claim, subject, selector, address, group,
						 GPUBROKER_REFUSED_NOT_VIABLE,
						 "lends only what is no bridge, and that is one",
						 ret_refusal);
		refuse_plain(ret_refusal, GPUBROKER_REFUSED_NOT_VIABLE, selector);
		ret_refusal->group = group;
		strcpy(ret_refusal->text, "has only bridges");
		return GPUBROKER_REFUSED_NOT_VIABLE;
	}
	do {
		r = claim_take(claim, subject, request->flags, view, asked, ret_refusal);
		/* What the policy refuses is said only where it refuses every function. */
		if (!first_reason || !is_policy(r)) {
			first_reason = r;
			first = *ret_refusal;
		}
	} while (is_policy(r) && !address && ++asked < view->n_functions);
	if (r) {
		free(view);
		*ret_refusal = first;
		return first_reason;
	}
	return 0;
}

static int claim_address(struct claim *claim, const struct policy_subject *subject,
			 const struct message_claim *request, const struct selector *selector,
			 const struct pci_address *address, struct message_refusal *ret_refusal)
{
	uint32_t group;
	size_t i;
	int r = sysfs_group_of(claim->daemon->kernel.sys, address, &group);

	if (r == -ENODEV)
		return refuse_plain(ret_refusal, GPUBROKER_REFUSED_NO_DEVICE, selector);
	if (r)
		return refuse_fault(ret_refusal, selector, "reading its IOMMU group", r);
	if (group == UINT32_MAX)
		return refuse_unlendable(claim, subject, selector, address, group,
					 GPUBROKER_REFUSED_NO_GROUP, "", ret_refusal);
	i = claim_group(claim, group);
	if (i != SIZE_MAX && group_find(claim->views[i], address) != SIZE_MAX)
		return 0; /* comes along already */
	return claim_group_by(claim, subject, request, selector, group, address, ret_refusal);
}

static bool means(const struct daemon *daemon, uint32_t name, const struct device *device)
{
	struct policy_facts facts = device_facts(device);

	return name == POLICY_NO_NAME ? device_is_gpu(device)
				      : policy_name_matches(&daemon->policy, name, &facts);
}

bool selector_means(const struct daemon *daemon, const struct selector *selector,
		    const struct device *device)
{
	uint32_t name = POLICY_NO_NAME;

	if (selector->kind == SELECT_NAME &&
	    policy_name_find(&daemon->policy, selector->name, &name))
		return false;
	return (selector->kind == SELECT_NAME || selector->kind == SELECT_ANY) &&
	       means(daemon, name, device);
}

/*
 * The first free device that a name, or "any", may mean. Candidates come from the watcher's table;
 * each is read from sysfs before anything is decided. If none can be had, the answer is about the
 * nearest miss: one that is only held by somebody, before one that the policy refuses.
 */
static int claim_candidate(struct claim *claim, const struct policy_subject *subject,
			   const struct message_claim *request, const struct selector *selector,
			   uint32_t name, struct message_refusal *ret_refusal)
{
	struct daemon *daemon = claim->daemon;
	struct selector here = { .kind = SELECT_ADDRESS };
	int nearest = 0;

	for (size_t i = 0; i < daemon->devices.n; i++) {
		const struct device *device = &daemon->devices.list[i];
		struct policy_facts facts = device_facts(device);
		struct message_refusal refusal;
		int r;

		if (!means(daemon, name, device))
			continue;
		if (facts.iommu_group != UINT32_MAX &&
		    claim_group(claim, facts.iommu_group) != SIZE_MAX)
			continue; /* of two GPUs asked for, each is another one */
		here.address = facts.address;
		r = claim_address(claim, subject, request, &here, &here.address, &refusal);
		if (!r)
			return 0;
		if (!nearest ||
		    (nearest == GPUBROKER_REFUSED_POLICY && r != GPUBROKER_REFUSED_POLICY) ||
		    (r == GPUBROKER_REFUSED_BUSY && nearest != GPUBROKER_REFUSED_BUSY)) {
			nearest = r;
			*ret_refusal = refusal;
		}
	}
	if (!nearest)
		return refuse_plain(ret_refusal, GPUBROKER_REFUSED_NO_DEVICE, selector);
	/* "No rule allows you any GPU" is true where it would be misleading to name just one. */
	if (nearest == GPUBROKER_REFUSED_POLICY && !ret_refusal->rule[0] && !ret_refusal->has_other)
		return refuse_plain(ret_refusal, GPUBROKER_REFUSED_POLICY, selector);
	return nearest;
}

/* The same for a part of a device: it is not known yet which it becomes. */
static int claim_mdev(struct claim *claim, const struct policy_subject *subject,
		      const struct selector *selector, struct message_refusal *ret_refusal)
{
	const struct policy_usage usage = { .leases = leases_by_rule, .userdata = claim };
	struct mdev_choice *choice;
	int r;

	if (claim->n == PROTOCOL_SELECTORS_MAX)
		return refuse_fault(ret_refusal, selector, "too many devices in one claim", 0);
	r = mdev_select(claim, subject, selector, &usage, &choice, ret_refusal);
	if (r)
		return r;
	claim->memlock = larger(claim->memlock, choice->memlock);
	claim->undecided = claim->undecided || choice->n_vfs;
	claim->terms[claim->n] = choice->list[0].terms;
	claim->asked[claim->n] = choice->list[0].address;
	claim->mdevs[claim->n++] = choice;
	return 0;
}

/* Where both a name and an address are given. 0, or the reason. */
static int check_name(const struct daemon *daemon, const struct selector *selector,
		      struct message_refusal *ret_refusal)
{
	struct selector by_name = *selector;
	struct policy_facts facts;
	struct function function;
	uint32_t name;

	by_name.kind = SELECT_NAME;
	if (policy_name_find(&daemon->policy, selector->name, &name))
		return refuse_plain(ret_refusal, GPUBROKER_REFUSED_NO_NAME, &by_name);
	if (!sysfs_function_read(daemon->kernel.sys, &selector->address, &function)) {
		facts = function_facts(&function);
		if (policy_name_matches(&daemon->policy, name, &facts))
			return 0;
	}
	return refuse_plain(ret_refusal, GPUBROKER_REFUSED_NO_DEVICE, &by_name);
}

static int claim_select(struct claim *claim, const struct policy_subject *subject,
			const struct message_claim *request, const struct selector *selector,
			struct message_refusal *ret_refusal)
{
	uint32_t name = POLICY_NO_NAME;
	int r;

	if (mdev_is_meant(claim->daemon, selector))
		return claim_mdev(claim, subject, selector, ret_refusal);
	switch ((enum selector_kind)selector->kind) {
	case SELECT_ADDRESS:
		if (selector->name[0] && (r = check_name(claim->daemon, selector, ret_refusal)))
			return r;
		return claim_address(claim, subject, request, selector, &selector->address,
				     ret_refusal);
	case SELECT_GROUP:
		if (claim_group(claim, selector->group) != SIZE_MAX)
			return 0;
		return claim_group_by(claim, subject, request, selector, selector->group, NULL,
				      ret_refusal);
	case SELECT_NAME:
		if (policy_name_find(&claim->daemon->policy, selector->name, &name))
			return refuse_plain(ret_refusal, GPUBROKER_REFUSED_NO_NAME, selector);
		return claim_candidate(claim, subject, request, selector, name, ret_refusal);
	case SELECT_ANY:
		return claim_candidate(claim, subject, request, selector, POLICY_NO_NAME,
				       ret_refusal);
	}
	return refuse_plain(ret_refusal, GPUBROKER_REFUSED_NO_DEVICE, selector);
}

static bool has_function(const struct claim *claim, const struct pci_address *address)
{
	for (size_t i = 0; i < claim->n; i++)
		for (size_t k = 0; claim->views[i] && k < claim->views[i]->n_functions; k++)
			if (!pci_address_compare(&claim->views[i]->functions[k].address, address))
				return true;
	return false;
}

/* A function that is lent whole has no driver that could make a part of it. The function, or NULL. */
static const struct pci_address *whole_and_part(const struct claim *claim)
{
	for (size_t i = 0; i < claim->n; i++) {
		const struct mdev_choice *choice = claim->mdevs[i];

		for (size_t k = 0; choice && k < choice->n; k++)
			if (has_function(claim, &choice->list[k].address))
				return &choice->list[k].address;
		for (size_t k = 0; choice && k < choice->n_vfs; k++)
			if (has_function(claim, &choice->vfs[k]))
				return &choice->vfs[k];
	}
	return NULL;
}

int claim_decide(struct claim *claim, const struct message_claim *request,
		 struct message_refusal *ret_refusal)
{
	const struct pci_address *both;
	struct policy_subject subject;
	bool busy = false;
	int r;

	if (!claim->daemon->policy_good || claim->daemon->quitting)
		return refuse_plain(ret_refusal, GPUBROKER_REFUSED_NOT_READY,
				    &request->selectors[0]);
	/* Who cannot be looked up may have nothing. */
	r = peer_subject(claim->peer, &subject);
	if (r) {
		log_error("cannot tell the groups of uid %" PRIu32 ": %s", claim->peer->uid,
			  strerror(-r));
		return refuse_plain(ret_refusal, GPUBROKER_REFUSED_POLICY, &request->selectors[0]);
	}
	for (; claim->n_gids < subject.n_groups && claim->n_gids < LEASE_GIDS_MAX; claim->n_gids++)
		claim->gids[claim->n_gids] = (uint32_t)subject.groups[claim->n_gids];
	for (uint32_t i = 0; i < request->n_selectors; i++) {
		struct message_refusal refusal;

		r = claim_select(claim, &subject, request, &request->selectors[i], &refusal);
		if (r && !busy)
			*ret_refusal = refusal;
		/* One that waits is to want all of it; but what it can never have is said at once. */
		if (r == GPUBROKER_REFUSED_BUSY && request->flags & CLAIM_WAIT) {
			busy = true;
		} else if (r) {
			*ret_refusal = refusal;
			return r;
		}
	}
	both = whole_and_part(claim);
	if (both) {
		refuse_plain(ret_refusal, GPUBROKER_REFUSED_NOT_VIABLE, &request->selectors[0]);
		ret_refusal->address = *both;
		ret_refusal->has_address = 1;
		ret_refusal->detail = REFUSAL_WHOLE_AND_PART;
		return GPUBROKER_REFUSED_NOT_VIABLE;
	}
	if (claim->undecided) {
		claim->memlock_asked = request->memlock;
	} else if (request->memlock > claim->memlock) {
		refuse_plain(ret_refusal, GPUBROKER_REFUSED_MEMLOCK, &request->selectors[0]);
		ret_refusal->limit = claim->memlock;
		memcpy(ret_refusal->rule, claim->terms[0].rule, sizeof(ret_refusal->rule));
		return GPUBROKER_REFUSED_MEMLOCK;
	}
	if (busy)
		return GPUBROKER_REFUSED_BUSY;
	if (request->memlock && !claim->undecided)
		claim->memlock = request->memlock;
	if (claim->daemon->leases.n + claim->n > LEASES_MAX) {
		refuse_plain(ret_refusal, GPUBROKER_REFUSED_QUOTA, &request->selectors[0]);
		snprintf(ret_refusal->text, sizeof(ret_refusal->text),
			 "there are %d leases, which is as many as the broker keeps", LEASES_MAX);
		return GPUBROKER_REFUSED_QUOTA;
	}
	return 0;
}
