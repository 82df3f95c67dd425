/* SPDX-License-Identifier: MIT */
/*
 * Claims of parts, see parts.h. It reads only, changes nothing, and asks no driver: a worker finds
 * out how many mediated devices are left and what a VF offers (ask-mdev.c, ask-vgpu.c). As in
 * select.c, the policy is asked first.
 */
#include "config.h"

#include "brokerd/claim/parts.h"
#include "brokerd/state/refuse.h"
#include "brokerd/state/users.h"
#include "client/common/util.h"
#include "client/host/mdev.h"
#include "client/host/sysfs.h"

#include <errno.h>
#include <fcntl.h>
#include <inttypes.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

_Static_assert(MDEV_PARENT_MAX == PROTOCOL_NAME_MAX && MDEV_TYPE_MAX == PROTOCOL_PROFILE_MAX &&
		       MDEV_UUID_MAX == PROTOCOL_UUID,
	       "names of mdevs go into messages whole");

bool parts_meant(const struct policy *policy, const struct selector *selector, uint64_t *cost)
{
	uint32_t name;

	if (selector->profile[0])
		return true;
	if (selector->kind != SELECT_NAME || policy_name_find(policy, selector->name, &name))
		return false;
	/* Such a name may mean whole devices too; a user can claim those by their address. */
	return policy_name_has_part(policy, name, cost);
}

static struct policy_facts facts_of(const struct part_search *search, const char *type,
				    const char *name)
{
	struct policy_facts facts = {
		.iommu_group = NO_GROUP, .driver = "", .serial = "", .path = "", .no_pci = true
	};

	if (search->is_pci)
		facts = function_facts(&search->function);
	facts.profile = type;
	facts.profile_name = name;
	return facts;
}

struct message_refusal part_search_refusal(const struct part_search *search, uint32_t reason,
					   const char *type)
{
	struct message_refusal r = refusal_make(reason);

	if (search->is_pci) {
		r.address = search->function.address;
		r.has_address = 1;
	} else if (search->parent) {
		snprintf(r.parent, sizeof(r.parent), "%s", search->parent);
	} else if (search->selector->kind == SELECT_NAME || reason == GPUBROKER_REFUSED_NO_NAME) {
		memcpy(r.name, search->selector->name, sizeof(r.name));
	}
	snprintf(r.profile, sizeof(r.profile), "%s", type);
	return r;
}

/*
 * Keeps the nearest miss: a part that is taken is nearer than one that does not exist, and that is
 * nearer than one that the policy refuses.
 */
void part_search_miss(struct part_search *search, const struct message_refusal *refusal)
{
	static const uint32_t order[] = { GPUBROKER_REFUSED_BUSY,     GPUBROKER_REFUSED_STUCK,
					  GPUBROKER_REFUSED_ALLOTTED, GPUBROKER_REFUSED_LIMIT,
					  GPUBROKER_REFUSED_IN_USE,   GPUBROKER_REFUSED_NO_PROFILE,
					  GPUBROKER_REFUSED_NO_MDEVS, GPUBROKER_REFUSED_POLICY };

	for (size_t i = 0; i < ARRAY_SIZE(order); i++) {
		if (search->nearest.reason == order[i])
			return;
		if (refusal->reason == order[i])
			break;
	}
	search->nearest = *refusal;
}

int part_search_decide(struct part_search *search, const char *type, const char *name,
		       struct policy_verdict *ret_verdict)
{
	const struct policy *policy = &search->claims->policy->policy;
	const struct policy_facts facts = facts_of(search, type, name);
	struct message_refusal refusal;

	policy_decide(policy, search->subject, &facts, 1, 0, search->usage, ret_verdict);
	search->cost += COST_FUNCTION + ret_verdict->cost;
	if (ret_verdict->outcome == POLICY_ALLOWED)
		return 0;
	refusal = part_search_refusal(search,
				      ret_verdict->outcome == POLICY_LIMIT
					      ? GPUBROKER_REFUSED_LIMIT
					      : GPUBROKER_REFUSED_POLICY,
				      type);
	rule_origin(policy, ret_verdict->rule, refusal.rule);
	if (ret_verdict->outcome == POLICY_LIMIT)
		refusal.limit = policy->rules[ret_verdict->rule].limit;
	part_search_miss(search, &refusal);
	return (int)refusal.reason;
}

bool part_search_means(struct part_search *search, const char *type, const char *name)
{
	const struct policy *policy = &search->claims->policy->policy;
	const char *profile = search->selector->profile;
	const struct policy_facts facts = facts_of(search, type, name);

	if (*profile && strcmp(profile, type) != 0 && strcmp(profile, name) != 0)
		return false;
	if (search->name == POLICY_NO_NAME)
		return true;
	return *profile ? policy_name_matches(policy, search->name, &facts, &search->cost)
			: policy_name_means_part(policy, search->name, &facts, &search->cost);
}

/*
 * A function that is allotted is so whole: its user has no parts of it either, which would outlast
 * the allotment.
 */
static bool part_is_allotted(struct part_search *search, const struct pci_address *address,
			     uint32_t group)
{
	const struct allotment *allotment =
		allotments_of(search->claims->allotments, search->claims->devices, address, group);
	struct message_refusal refusal;

	if (!allotment)
		return false;
	refuse_allotted(&refusal, allotment, address, group);
	part_search_miss(search, &refusal);
	return true;
}

/* No part can be made while the parent is lent whole. */
bool part_search_is_held(struct part_search *search)
{
	struct message_refusal refusal;
	struct lease *lease;

	if (!search->is_pci || search->function.iommu_group == NO_GROUP)
		return false;
	if (part_is_allotted(search, &search->function.address, search->function.iommu_group))
		return true;
	lease = lease_find_group(&search->claims->leases->table, search->function.iommu_group);
	if (!lease || lease == search->own)
		return false;
	refuse_held(&refusal, lease, &search->function.address);
	part_search_miss(search, &refusal);
	return true;
}

void part_search_fill(const struct part_search *search, const char *type, const char *name,
		      const struct policy_verdict *verdict, struct part_candidate *candidate)
{
	const struct policy *policy = &search->claims->policy->policy;
	const char *driver;

	*candidate = (struct part_candidate){ 0 };
	snprintf(candidate->mdev.parent, sizeof(candidate->mdev.parent), "%s", search->parent);
	snprintf(candidate->mdev.type, sizeof(candidate->mdev.type), "%s", type);
	snprintf(candidate->mdev.name, sizeof(candidate->mdev.name), "%s", name);
	if (search->is_pci)
		candidate->address = search->function.address;
	rule_origin(policy, verdict->rule, candidate->terms.rule);
	candidate->terms.lifetime = verdict->lifetime;
	candidate->terms.kill = verdict->kill;
	candidate->terms.memlock = verdict->memlock;
	/* require-reset has no effect: removing the part is more than a reset. */
	driver = policy_text(policy, verdict->vfio_driver);
	if (driver)
		snprintf(candidate->terms.vfio_driver, sizeof(candidate->terms.vfio_driver), "%s",
			 driver);
	candidate->limit = policy->rules[verdict->rule].limit;
}

/* Returns true, and notes the refusal, if an earlier claim waits for a part of the parent. */
static bool is_reserved(struct part_search *search, uint32_t key)
{
	struct message_refusal refusal = part_search_refusal(search, GPUBROKER_REFUSED_BUSY, "");

	if (!queue_reserves_key(&search->claims->queue, search->claimant->waiting, key))
		return false;
	refusal.detail = REFUSAL_RESERVED;
	part_search_miss(search, &refusal);
	return true;
}

static int on_offered_type(void *userdata, const char *type)
{
	struct part_search *search = userdata;
	struct part_choice *choice = search->choice;
	struct policy_verdict verdict;
	char name[PROTOCOL_PROFILE_MAX], rule[RULE_ORIGIN_MAX];
	uint32_t key;

	mdev_type_name(search->claims->kernel->sys, search->parent, type, name);
	if (!part_search_means(search, type, name))
		return 0;
	search->any_type = true;
	if (choice->n == ARRAY_SIZE(choice->list) ||
	    part_search_decide(search, type, name, &verdict))
		return 0;
	/* From here on only other leases and claims can be in the way, so waiting helps. */
	key = wanted_key_of_parent(search->claims->devices, search->parent);
	rule_origin(&search->claims->policy->policy, verdict.rule, rule);
	wanted_add(search->wanted, key, rule);
	if (part_search_is_held(search) || is_reserved(search, key))
		return 0;
	part_search_fill(search, type, name, &verdict, &choice->list[choice->n++]);
	return 0;
}

/*
 * Adds a VF to the choice, if its driver can make vGPUs of it and the policy may grant the claimant
 * one of some type; a worker will read which. Returns true if the driver can.
 */
static bool add_vf(struct part_search *search, const struct pci_address *address)
{
	struct part_choice *choice = search->choice;
	cleanup_fd int fd = sysfs_function_open(search->claims->kernel->sys, address, O_PATH,
						"nvidia/current_vgpu_type");
	struct policy_facts facts;
	struct function f;
	size_t i;

	search->cost += COST_READ;
	if (fd < 0 || choice->n_vfs == ARRAY_SIZE(choice->vfs) ||
	    sysfs_function_read_ids(search->claims->kernel->sys, address, &f) || !f.is_vf ||
	    f.iommu_group == NO_GROUP)
		return false;
	facts = function_facts(&f);
	search->any_type = true;
	if (policy_may_grant_part(&search->claims->policy->policy, search->subject, &facts,
				  &search->cost)) {
		char parent[PCI_ADDRESS_TEXT];
		uint32_t key = wanted_key_of_parent(search->claims->devices,
						    pci_address_format(address, parent));

		/* The rule is not known before a worker has read the types. */
		wanted_add(search->wanted, key, "");
		if (part_is_allotted(search, address, f.iommu_group) || is_reserved(search, key))
			return true;
		/* Sorted by address: a directory has no order. */
		for (i = choice->n_vfs++;
		     i && pci_address_compare(&choice->vfs[i - 1], address) > 0; i--)
			choice->vfs[i] = choice->vfs[i - 1];
		choice->vfs[i] = *address;
	}
	return true;
}

/* Adds the VFs of the current parent, a physical function. Returns true if there is one. */
static bool add_vfs_of(struct part_search *search)
{
	struct pci_address vfs[PART_VFS_MAX];
	int n = sysfs_vfs_read(search->claims->kernel->sys, &search->function.address, vfs,
			       ARRAY_SIZE(vfs));
	bool any = false;

	for (int i = 0; i < n && i < (int)ARRAY_SIZE(vfs); i++)
		any = add_vf(search, &vfs[i]) || any;
	return any;
}

/*
 * Adds all VFs that a name, or "any", may mean. Candidates come from the watcher's table, as for
 * whole devices.
 */
static void add_vfs(struct part_search *search)
{
	const struct devices *devices = search->claims->devices;

	for (size_t i = 0; i < devices->n; i++)
		if (devices->list[i].record.is_vf)
			add_vf(search, &devices->list[i].record.address);
}

/*
 * Searches one parent. `fixed`: the client named it, so a missing profile is a miss. Returns 0, or
 * -errno.
 */
static int look_at_parent(struct part_search *search, const char *parent, bool fixed)
{
	const char *profile = search->selector->profile;
	struct message_refusal refusal;
	struct policy_verdict verdict;
	struct pci_address address;
	int r;

	search->parent = parent;
	search->any_type = false;
	search->is_pci = !pci_address_parse(parent, &address);
	if (search->is_pci) {
		search->cost += COST_READ;
		r = sysfs_function_read_ids(search->claims->kernel->sys, &address,
					    &search->function);
		if (r)
			return r == -ENODEV ? 0 : r;
	}
	r = mdev_each_type(search->claims->kernel->sys, parent, on_offered_type, search);
	if (r && r != -ENODEV)
		return r;
	if (r && fixed && search->is_pci) {
		if (add_vf(search, &address) || (search->function.vfs && add_vfs_of(search)))
			r = 0;
		if (search->choice->n_vfs)
			return 0;
		search->any_type = false; /* no VF may be lent, and the policy gives the reason */
	}
	/* Do not reveal whether the profile exists to a user whom the policy would refuse. */
	if (search->any_type || !fixed || part_search_decide(search, profile, profile, &verdict))
		return 0;
	refusal = part_search_refusal(
		search, r ? GPUBROKER_REFUSED_NO_MDEVS : GPUBROKER_REFUSED_NO_PROFILE, profile);
	part_search_miss(search, &refusal);
	return 0;
}

static int on_any_parent(void *userdata, const char *parent)
{
	return look_at_parent(userdata, parent, false);
}

static int is_this(void *userdata, const char *parent)
{
	return !strcmp(userdata, parent);
}

/*
 * Searches the parents with a name from the policy or, if the policy has no such name, the parent
 * with that name in the kernel. Returns 0, -errno, or the reason.
 */
static int look_for_name(struct part_search *search)
{
	char name[PROTOCOL_NAME_MAX];
	int r;

	memcpy(name, search->selector->name, sizeof(name));
	if (!policy_name_find(&search->claims->policy->policy, name, &search->name)) {
		add_vfs(search);
		return mdev_each_parent(search->claims->kernel->sys, on_any_parent, search);
	}
	search->name = POLICY_NO_NAME;
	r = mdev_each_parent(search->claims->kernel->sys, is_this, name);
	if (r == 1)
		return look_at_parent(search, name, true);
	return r ? r : GPUBROKER_REFUSED_NO_NAME;
}

static int on_other(void *userdata, const char *type)
{
	struct part_choice *choice = userdata;

	snprintf(choice->others[choice->n_others], sizeof(choice->others[0]), "%s", type);
	return ++choice->n_others == ARRAY_SIZE(choice->others);
}

/*
 * Fills in a placeholder candidate (the first VF, with the name that the client gave) until a
 * worker has asked the driver.
 */
static void fill_placeholder(struct part_choice *choice, const struct selector *selector)
{
	struct part_candidate *first = &choice->list[0];

	first->mdev.vendor = true;
	first->address = choice->vfs[0];
	pci_address_format(&first->address, first->mdev.parent);
	snprintf(first->mdev.type, sizeof(first->mdev.type), "%s",
		 selector->profile[0] ? selector->profile : selector->name);
}

static int search_all(struct part_search *search)
{
	const struct selector *selector = search->selector;
	const int sys = search->claims->kernel->sys;
	char text[PCI_ADDRESS_TEXT];
	uint32_t group;
	int r;

	if (selector->kind == SELECT_NAME)
		return look_for_name(search);
	if (selector->kind != SELECT_ADDRESS) {
		add_vfs(search);
		return mdev_each_parent(sys, on_any_parent, search);
	}
	if (selector->name[0] &&
	    policy_name_find(&search->claims->policy->policy, selector->name, &search->name))
		return GPUBROKER_REFUSED_NO_NAME;
	search->function.address = selector->address;
	search->is_pci = true;
	r = sysfs_group_of(sys, &selector->address, &group);
	if (r)
		return r == -ENODEV ? GPUBROKER_REFUSED_NO_DEVICE : r;
	return look_at_parent(search, pci_address_format(&selector->address, text), true);
}

/* Fills the refusal if no part can be claimed; `r` is search_all()'s result. Returns its reason. */
static int refuse_search(struct part_search *search, int r, struct message_refusal *ret_refusal)
{
	if (!r && search->nearest.reason) {
		*ret_refusal = search->nearest;
		return (int)ret_refusal->reason;
	}
	if (search->selector->kind != SELECT_ADDRESS) { /* it names no parent */
		search->parent = NULL;
		search->is_pci = false;
	}
	*ret_refusal = part_search_refusal(search,
					   r < 0   ? GPUBROKER_REFUSED_FAILED
					   : r > 0 ? (uint32_t)r
						   : GPUBROKER_REFUSED_NO_PROFILE,
					   search->selector->profile);
	if (r < 0) {
		refusal_say(ret_refusal, "looking for its profiles");
		ret_refusal->error = -r;
	}
	return (int)ret_refusal->reason;
}

int parts_select(struct selecting *selecting, const struct selector *selector,
		 struct part_choice **ret_choice, struct message_refusal *ret_refusal)
{
	const struct policy_usage usage = { .leases = selecting_count_leases,
					    .userdata = selecting };
	cleanup_free struct part_choice *choice = calloc(1, sizeof(*choice));
	struct part_search search = { .claims = selecting->claims,
				      .claimant = selecting->claimant,
				      .subject = &selecting->subject,
				      .selector = selector,
				      .usage = &usage,
				      .name = POLICY_NO_NAME,
				      .choice = choice,
				      .wanted = &selecting->selection->one };
	int r = choice ? search_all(&search) : -ENOMEM;

	selecting->selection->cost += search.cost;
	if (r || (!choice->n && !choice->n_vfs))
		return refuse_search(&search, r, ret_refusal);
	choice->selector = *selector;
	if (choice->n)
		mdev_each_type(search.claims->kernel->sys, choice->list[0].mdev.parent, on_other,
			       choice);
	else
		fill_placeholder(choice, selector);
	choice->nearest = search.nearest;
	*ret_choice = TAKE_PTR(choice);
	return 0;
}

bool parts_allowed(const struct policy *policy, const struct devices *devices,
		   const struct lease *lease, const struct policy_subject *subject)
{
	const struct device *device = devices_find(devices, &lease->asked);
	struct policy_facts facts = {
		.iommu_group = NO_GROUP, .driver = "", .serial = "", .path = "", .no_pci = true
	};
	struct policy_verdict verdict;

	if (lease_has_address(lease)) {
		if (!device)
			return false;
		facts = device_facts(device);
	}
	facts.profile = lease->mdev.type;
	facts.profile_name = lease->mdev.name;
	policy_decide(policy, subject, &facts, 1, 0, NULL, &verdict);
	return verdict.outcome == POLICY_ALLOWED;
}
