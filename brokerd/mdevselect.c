/* SPDX-License-Identifier: MIT */
/*
 * What a claim of an mdev means: which parents offer the profile, and which of those the policy allows. Reads,
 * changes nothing, and asks no driver, which is a worker's: how many are left is not known here. What the
 * policy refuses is refused first, as in select.c.
 */
#include "config.h"

#include "brokerd/group.h"
#include "brokerd/mdev.h"
#include "client/mdev.h"
#include "client/sysfs.h"
#include "client/util.h"

#include <errno.h>
#include <string.h>

_Static_assert(MDEV_PARENT_MAX == PROTOCOL_NAME_MAX && MDEV_TYPE_MAX == PROTOCOL_PROFILE_MAX &&
		       MDEV_UUID_MAX == PROTOCOL_UUID,
	       "names of mdevs go into messages whole");

struct search {
	struct claim *claim;
	const struct policy_subject *subject;
	const struct selector *selector;
	const struct policy_usage *usage;
	uint32_t name; /* of the policy, or POLICY_NO_NAME */
	struct mdev_choice *choice;
	struct message_refusal nearest; /* its reason is 0 while there is none */
	/* the parent that is looked at */
	const char *parent;
	struct function function;
	bool is_pci, any_type;
};

bool mdev_is_meant(const struct daemon *daemon, const struct selector *selector)
{
	uint32_t name;

	if (selector->profile[0])
		return true;
	if (selector->kind != SELECT_NAME ||
	    policy_name_find(&daemon->policy, selector->name, &name))
		return false;
	/* Such a name may mean whole devices too; those are left to who asks for them by their address. */
	for (size_t i = 0; i < daemon->policy.n_rules; i++)
		if (daemon->policy.rules[i].verb == POLICY_DEVICE &&
		    daemon->policy.rules[i].name == name &&
		    daemon->policy.rules[i].match.attributes & POLICY_PROFILE)
			return true;
	return false;
}

static struct policy_facts facts_of(const struct search *search, const char *type, const char *name)
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

static struct message_refusal refusal_of(const struct search *search, uint32_t reason,
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

/* Of what cannot be had, the nearest is told: what is taken before what does not exist, before the policy. */
static void missed(struct search *search, const struct message_refusal *refusal)
{
	static const uint32_t order[] = { GPUBROKER_REFUSED_BUSY,     GPUBROKER_REFUSED_STUCK,
					  GPUBROKER_REFUSED_LIMIT,    GPUBROKER_REFUSED_NO_PROFILE,
					  GPUBROKER_REFUSED_NO_MDEVS, GPUBROKER_REFUSED_POLICY };

	for (size_t i = 0; i < ARRAY_SIZE(order); i++) {
		if (search->nearest.reason == order[i])
			return;
		if (refusal->reason == order[i])
			break;
	}
	search->nearest = *refusal;
}

/* Asks the policy about one type. 0, or the reason; then it was told. */
static int decide(struct search *search, const char *type, const char *name,
		  struct policy_verdict *ret_verdict)
{
	const struct policy *policy = &search->claim->daemon->policy;
	const struct policy_facts facts = facts_of(search, type, name);
	struct message_refusal refusal;

	policy_decide(policy, search->subject, &facts, 1, 0, search->usage, ret_verdict);
	if (ret_verdict->outcome == POLICY_ALLOWED)
		return 0;
	refusal = refusal_of(search,
			     ret_verdict->outcome == POLICY_LIMIT ? GPUBROKER_REFUSED_LIMIT
								  : GPUBROKER_REFUSED_POLICY,
			     type);
	rule_origin(policy, ret_verdict->rule, refusal.rule);
	if (ret_verdict->outcome == POLICY_LIMIT)
		refusal.limit = policy->rules[ret_verdict->rule].limit;
	missed(search, &refusal);
	return (int)refusal.reason;
}

/* Is this the type that was asked for, of a device that was? */
static bool is_meant(const struct search *search, const char *type, const char *name)
{
	const struct policy *policy = &search->claim->daemon->policy;
	const char *profile = search->selector->profile;
	const struct policy_facts facts = facts_of(search, type, name);

	if (*profile && strcmp(profile, type) != 0 && strcmp(profile, name) != 0)
		return false;
	if (search->name == POLICY_NO_NAME)
		return true;
	return *profile ? policy_name_matches(policy, search->name, &facts)
			: policy_name_means_part(policy, search->name, &facts);
}

/* Is the parent itself on its way to somebody? Then nothing is made of it. */
static bool is_held(struct search *search)
{
	const struct daemon *daemon = search->claim->daemon;
	struct message_refusal refusal;
	struct lease *lease;

	if (!search->is_pci || search->function.iommu_group == NO_GROUP)
		return false;
	lease = lease_find_group(&daemon->leases, search->function.iommu_group);
	if (!lease)
		return false;
	refuse_held(&refusal, lease, &search->function.address);
	missed(search, &refusal);
	return true;
}

/* Does somebody wait for a part of it, who came before? */
static bool is_promised(struct search *search, uint32_t part)
{
	struct message_refusal refusal = refusal_of(search, GPUBROKER_REFUSED_BUSY, "");

	if (!queue_holds_part(search->claim->daemon, search->claim->peer->waiting, part))
		return false;
	strcpy(refusal.detail, "promised");
	missed(search, &refusal);
	return true;
}

static int on_type(void *userdata, const char *type)
{
	struct search *search = userdata;
	struct mdev_choice *choice = search->choice;
	struct mdev_candidate *candidate;
	struct policy_verdict verdict;
	struct daemon *daemon = search->claim->daemon;
	char name[PROTOCOL_PROFILE_MAX];
	const char *driver;
	uint32_t part;

	mdev_type_name(daemon->kernel.sys, search->parent, type, name);
	if (!is_meant(search, type, name))
		return 0;
	search->any_type = true;
	if (choice->n == ARRAY_SIZE(choice->list) || decide(search, type, name, &verdict))
		return 0;
	/* From here on only others are in the way: worth waiting for. */
	part = queue_part(daemon, search->parent, &search->function.address);
	wanted_add(&search->claim->wanted, part);
	if (is_held(search) || is_promised(search, part))
		return 0;
	if (!choice->n || verdict.memlock < choice->memlock)
		choice->memlock = verdict.memlock;
	candidate = &choice->list[choice->n++];
	snprintf(candidate->mdev.parent, sizeof(candidate->mdev.parent), "%s", search->parent);
	snprintf(candidate->mdev.type, sizeof(candidate->mdev.type), "%s", type);
	memcpy(candidate->mdev.name, name, sizeof(name));
	if (search->is_pci)
		candidate->address = search->function.address;
	rule_origin(&daemon->policy, verdict.rule, candidate->terms.rule);
	candidate->terms.lifetime = verdict.lifetime;
	/* Removing it is more than a reset, and its VFIO driver is its own. */
	driver = policy_text(&daemon->policy, verdict.vfio_driver);
	if (driver)
		snprintf(candidate->terms.vfio_driver, sizeof(candidate->terms.vfio_driver), "%s",
			 driver);
	candidate->limit = daemon->policy.rules[verdict.rule].limit;
	return 0;
}

/* Looks at one parent. `fixed`: it is the one that was asked for, so what it lacks is told. 0, or -errno. */
static int look_at(struct search *search, const char *parent, bool fixed)
{
	const struct daemon *daemon = search->claim->daemon;
	const char *profile = search->selector->profile;
	struct message_refusal refusal;
	struct policy_verdict verdict;
	struct pci_address address;
	int r;

	search->parent = parent;
	search->any_type = false;
	search->is_pci = !pci_address_parse(parent, &address);
	if (search->is_pci) {
		r = sysfs_function_read(daemon->kernel.sys, &address, &search->function);
		if (r)
			return r == -ENODEV ? 0 : r;
	}
	r = mdev_each_type(daemon->kernel.sys, parent, on_type, search);
	if (r && r != -ENODEV)
		return r;
	/* Whom the policy would refuse it learns nothing else about it. */
	if (search->any_type || !fixed || decide(search, profile, profile, &verdict))
		return 0;
	refusal = refusal_of(search, r ? GPUBROKER_REFUSED_NO_MDEVS : GPUBROKER_REFUSED_NO_PROFILE,
			     profile);
	missed(search, &refusal);
	return 0;
}

static int on_parent(void *userdata, const char *parent)
{
	return look_at(userdata, parent, false);
}

static int is_this(void *userdata, const char *parent)
{
	return !strcmp(userdata, parent);
}

/* By the name that the policy gives it, or else by the kernel's. 0, -errno, or the reason. */
static int look_for_name(struct search *search)
{
	const struct daemon *daemon = search->claim->daemon;
	char name[PROTOCOL_NAME_MAX];
	int r;

	memcpy(name, search->selector->name, sizeof(name));
	if (!policy_name_find(&daemon->policy, name, &search->name))
		return mdev_each_parent(daemon->kernel.sys, on_parent, search);
	search->name = POLICY_NO_NAME;
	r = mdev_each_parent(daemon->kernel.sys, is_this, name);
	if (r == 1)
		return look_at(search, name, true);
	return r ? r : GPUBROKER_REFUSED_NO_NAME;
}

static int on_other(void *userdata, const char *type)
{
	struct mdev_choice *choice = userdata;

	snprintf(choice->others[choice->n_others], sizeof(choice->others[0]), "%s", type);
	return ++choice->n_others == ARRAY_SIZE(choice->others);
}

int mdev_select(struct claim *claim, const struct policy_subject *subject,
		const struct selector *selector, const struct policy_usage *usage,
		struct mdev_choice **ret_choice, struct message_refusal *ret_refusal)
{
	cleanup_free struct mdev_choice *choice = calloc(1, sizeof(*choice));
	struct search search = { .claim = claim,
				 .subject = subject,
				 .selector = selector,
				 .usage = usage,
				 .name = POLICY_NO_NAME,
				 .choice = choice };
	const int sys = claim->daemon->kernel.sys;
	char text[PCI_ADDRESS_TEXT];
	uint32_t group;
	int r = choice ? 0 : -ENOMEM;

	if (!r && selector->kind == SELECT_ADDRESS && selector->name[0] &&
	    policy_name_find(&claim->daemon->policy, selector->name, &search.name)) {
		r = GPUBROKER_REFUSED_NO_NAME;
	} else if (!r && selector->kind == SELECT_ADDRESS) {
		search.function.address = selector->address;
		r = sysfs_group_of(sys, &selector->address, &group);
		search.is_pci = true;
		if (r == -ENODEV)
			r = GPUBROKER_REFUSED_NO_DEVICE;
		if (!r)
			r = look_at(&search, pci_address_format(&selector->address, text), true);
	} else if (!r && selector->kind == SELECT_NAME) {
		r = look_for_name(&search);
	} else if (!r) {
		r = mdev_each_parent(sys, on_parent, &search);
	}
	if (!r && choice->n) {
		mdev_each_type(sys, choice->list[0].mdev.parent, on_other, choice);
		*ret_choice = TAKE_PTR(choice);
		return 0;
	}
	if (!r && search.nearest.reason) {
		*ret_refusal = search.nearest;
		return (int)ret_refusal->reason;
	}
	if (selector->kind != SELECT_ADDRESS) { /* none that was looked at */
		search.parent = NULL;
		search.is_pci = false;
	}
	*ret_refusal = refusal_of(&search,
				  r < 0	  ? GPUBROKER_REFUSED_FAILED
				  : r > 0 ? (uint32_t)r
					  : GPUBROKER_REFUSED_NO_PROFILE,
				  selector->profile);
	if (r < 0) {
		strcpy(ret_refusal->detail, "looking for its profiles");
		ret_refusal->error = -r;
	}
	return (int)ret_refusal->reason;
}

bool mdev_is_allowed(const struct daemon *daemon, const struct lease *lease,
		     const struct policy_subject *subject)
{
	const struct device *device = devices_from(&daemon->devices, &lease->asked);
	struct policy_facts facts = {
		.iommu_group = NO_GROUP, .driver = "", .serial = "", .path = "", .no_pci = true
	};
	struct policy_verdict verdict;

	if (lease_has_address(lease)) {
		if (!device || pci_address_compare(&device->record.address, &lease->asked) != 0)
			return false;
		facts = device_facts(device);
	}
	facts.profile = lease->mdev.type;
	facts.profile_name = lease->mdev.name;
	policy_decide(&daemon->policy, subject, &facts, 1, 0, NULL, &verdict);
	return verdict.outcome == POLICY_ALLOWED;
}

struct lease *mdev_lease_below(const struct daemon *daemon, const struct group_view *view)
{
	struct lease *lease;

	TAILQ_FOREACH(lease, &daemon->leases.list, link)
		if (lease_is_mdev(lease) && lease_has_address(lease) &&
		    group_find(view, &lease->asked) != SIZE_MAX)
			return lease;
	return NULL;
}
