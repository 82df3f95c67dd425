/* SPDX-License-Identifier: MIT */
/*
 * What a claim of a part of a device means: which parents offer the profile, and which of those the policy allows.
 * Reads, changes nothing, and asks no driver, which is a worker's: how many mdevs are left is not known here, nor
 * what can be made of a VF, until vgpu_choose() is called with what a worker has read. What the policy
 * refuses is refused first, as in select.c.
 */
#include "config.h"

#include "brokerd/state/verdict.h"
#include "brokerd/lease/mdev.h"
#include "brokerd/prepare/prepare.h"
#include "brokerd/prepare/sriov.h"
#include "client/host/mdev.h"
#include "client/host/sysfs.h"
#include "client/common/util.h"

#include <errno.h>
#include <fcntl.h>
#include <inttypes.h>
#include <stdlib.h>
#include <string.h>

_Static_assert(MDEV_PARENT_MAX == PROTOCOL_NAME_MAX && MDEV_TYPE_MAX == PROTOCOL_PROFILE_MAX &&
		       MDEV_UUID_MAX == PROTOCOL_UUID,
	       "names of mdevs go into messages whole");

struct search {
	struct claim *claim;
	const struct policy_subject *subject;
	const struct selector *selector;
	const struct policy_usage *usage;
	const struct lease *own; /* that does not stand in its own way */
	uint32_t name;		 /* of the policy, or POLICY_NO_NAME */
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
	static const uint32_t order[] = { GPUBROKER_REFUSED_BUSY,	GPUBROKER_REFUSED_STUCK,
					  GPUBROKER_REFUSED_LIMIT,	GPUBROKER_REFUSED_IN_USE,
					  GPUBROKER_REFUSED_NO_PROFILE, GPUBROKER_REFUSED_NO_MDEVS,
					  GPUBROKER_REFUSED_POLICY };

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
	if (!lease || lease == search->own)
		return false;
	refuse_held(&refusal, lease, &search->function.address);
	missed(search, &refusal);
	return true;
}

static void fill(const struct search *search, const char *type, const char *name,
		 const struct policy_verdict *verdict, struct mdev_candidate *candidate)
{
	const struct daemon *daemon = search->claim->daemon;
	const char *driver;

	*candidate = (struct mdev_candidate){ 0 };
	snprintf(candidate->mdev.parent, sizeof(candidate->mdev.parent), "%s", search->parent);
	snprintf(candidate->mdev.type, sizeof(candidate->mdev.type), "%s", type);
	snprintf(candidate->mdev.name, sizeof(candidate->mdev.name), "%s", name);
	if (search->is_pci)
		candidate->address = search->function.address;
	rule_origin(&daemon->policy, verdict->rule, candidate->terms.rule);
	candidate->terms.lifetime = verdict->lifetime;
	/* Removing it is more than a reset, and its VFIO driver is its own. */
	driver = policy_text(&daemon->policy, verdict->vfio_driver);
	if (driver)
		snprintf(candidate->terms.vfio_driver, sizeof(candidate->terms.vfio_driver), "%s",
			 driver);
	candidate->limit = daemon->policy.rules[verdict->rule].limit;
}

/* Does somebody wait for a part of it, who came before? */
static bool is_promised(struct search *search, uint32_t part)
{
	struct message_refusal refusal = refusal_of(search, GPUBROKER_REFUSED_BUSY, "");

	if (!queue_holds_part(search->claim->daemon, search->claim->peer->waiting, part))
		return false;
	refusal.detail = REFUSAL_RESERVED;
	missed(search, &refusal);
	return true;
}

static int on_type(void *userdata, const char *type)
{
	struct search *search = userdata;
	struct mdev_choice *choice = search->choice;
	struct policy_verdict verdict;
	char name[PROTOCOL_PROFILE_MAX];
	uint32_t part;

	mdev_type_name(search->claim->daemon->kernel.sys, search->parent, type, name);
	if (!is_meant(search, type, name))
		return 0;
	search->any_type = true;
	if (choice->n == ARRAY_SIZE(choice->list) || decide(search, type, name, &verdict))
		return 0;
	/* From here on only others are in the way: worth waiting for. */
	part = queue_part(search->claim->daemon, search->parent);
	wanted_add(&search->claim->wanted, part);
	if (is_held(search) || is_promised(search, part))
		return 0;
	if (!choice->n || verdict.memlock < choice->memlock)
		choice->memlock = verdict.memlock;
	fill(search, type, name, &verdict, &choice->list[choice->n++]);
	return 0;
}

/* Is it a VF that its driver makes vGPUs of, and may the claimer have one of some type? Then a worker asks which. */
static bool add_vf(struct search *search, const struct pci_address *address)
{
	const struct daemon *daemon = search->claim->daemon;
	struct mdev_choice *choice = search->choice;
	cleanup_fd int fd = sysfs_function_open(daemon->kernel.sys, address, O_PATH,
						"nvidia/current_vgpu_type");
	struct policy_facts facts;
	struct function f;
	size_t i;

	if (fd < 0 || choice->n_vfs == ARRAY_SIZE(choice->vfs) ||
	    sysfs_function_read(daemon->kernel.sys, address, &f) || !f.is_vf ||
	    f.iommu_group == NO_GROUP)
		return false;
	facts = function_facts(&f);
	search->any_type = true;
	if (policy_may_grant_part(&daemon->policy, search->subject, &facts)) {
		char parent[PCI_ADDRESS_TEXT];
		uint32_t part = queue_part(daemon, pci_address_format(address, parent));

		wanted_add(&search->claim->wanted, part);
		if (is_promised(search, part))
			return true;
		/* By address: a directory has no order. */
		for (i = choice->n_vfs++;
		     i && pci_address_compare(&choice->vfs[i - 1], address) > 0; i--)
			choice->vfs[i] = choice->vfs[i - 1];
		choice->vfs[i] = *address;
	}
	return true;
}

/* The VFs of a physical function. */
static bool add_vfs_of(struct search *search)
{
	struct pci_address vfs[VGPU_CANDIDATES_MAX];
	int n = sysfs_vfs_read(search->claim->daemon->kernel.sys, &search->function.address, vfs,
			       ARRAY_SIZE(vfs));
	bool any = false;

	for (int i = 0; i < n && i < (int)ARRAY_SIZE(vfs); i++)
		any = add_vf(search, &vfs[i]) || any;
	return any;
}

/* A name, or "any", may mean any there are: these come from the watcher's table, as whole devices do. */
static void add_vfs(struct search *search)
{
	const struct devices *devices = &search->claim->daemon->devices;

	for (size_t i = 0; i < devices->n; i++)
		if (devices->list[i].record.is_vf)
			add_vf(search, &devices->list[i].record.address);
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
	if (r && fixed && search->is_pci) {
		if (add_vf(search, &address) || (search->function.vfs && add_vfs_of(search)))
			r = 0;
		if (search->choice->n_vfs)
			return 0;
		search->any_type = false; /* none that may be had is a matter for the policy */
	}
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
	if (!policy_name_find(&daemon->policy, name, &search->name)) {
		add_vfs(search);
		return mdev_each_parent(daemon->kernel.sys, on_parent, search);
	}
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

/* So that it is one of something until it is known of what. */
static void provisional(struct mdev_choice *choice, const struct selector *selector)
{
	struct mdev_candidate *first = &choice->list[0];

	first->mdev.vendor = true;
	first->address = choice->vfs[0];
	pci_address_format(&first->address, first->mdev.parent);
	snprintf(first->mdev.type, sizeof(first->mdev.type), "%s",
		 selector->profile[0] ? selector->profile : selector->name);
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
		add_vfs(&search);
		r = mdev_each_parent(sys, on_parent, &search);
	}
	if (!r && (choice->n || choice->n_vfs)) {
		choice->selector = *selector;
		if (choice->n)
			mdev_each_type(sys, choice->list[0].mdev.parent, on_other, choice);
		else
			provisional(choice, selector);
		choice->nearest = search.nearest;
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
		strcpy(ret_refusal->text, "looking for its profiles");
		ret_refusal->error = -r;
	}
	return (int)ret_refusal->reason;
}

/* ---- virtual functions, once it is known what they offer ---- */

struct others {
	const struct lease *own;
};

/* How many leases the claimer has by a rule, of this claim's those that are chosen. */
static uint32_t others_by_rule(void *userdata, size_t rule)
{
	const struct lease *own = ((const struct others *)userdata)->own, *lease;
	const struct daemon *daemon = own->owner;
	char origin[288];
	uint32_t n = 0;

	rule_origin(&daemon->policy, rule, origin);
	TAILQ_FOREACH(lease, &daemon->leases.list, link)
		n += lease != own && lease->uid == own->uid && !strcmp(lease->terms.rule, origin);
	return n;
}

/* Nothing else is at it meanwhile. */
static bool is_left_alone(struct search *search)
{
	const struct daemon *daemon = search->claim->daemon;
	const struct function *f = &search->function;
	struct message_refusal refusal;
	struct group_view *view;
	bool late, alone = true;

	if (is_held(search))
		return false;
	if (prepare_has_group(daemon, f->iommu_group, &late)) {
		refuse_prepared(&refusal, &f->address, f->iommu_group, late);
		missed(search, &refusal);
		return false;
	}
	view = malloc(sizeof(*view));
	if (!view || sysfs_group_read(daemon->kernel.sys, f->iommu_group, view))
		alone = false;
	else if (vfs_refuse(daemon, view, &f->address, &refusal)) {
		missed(search, &refusal);
		alone = false;
	}
	free(view);
	return alone;
}

/* What it is already, no lease has: nobody gets it, and who asked for just this one is told. */
static void refuse_made(struct search *search, const struct mdev_choice *choice)
{
	struct message_refusal refusal = refusal_of(search, GPUBROKER_REFUSED_IN_USE, "");

	snprintf(refusal.text, sizeof(refusal.text),
		 "somebody else has made a vGPU of it, type %" PRIu32, choice->current);
	missed(search, &refusal);
}

bool vgpu_choose(struct lease *lease, struct mdev_choice *choice)
{
	struct claim *claim = lease->claim;
	struct daemon *daemon = claim->daemon;
	const struct pci_address *vf = &choice->vfs[choice->at_vf];
	struct others others = { .own = lease };
	const struct policy_usage usage = { .leases = others_by_rule, .userdata = &others };
	struct policy_subject subject;
	struct search search = { .claim = claim,
				 .subject = &subject,
				 .selector = &choice->selector,
				 .usage = &usage,
				 .own = lease,
				 .name = POLICY_NO_NAME,
				 .choice = choice,
				 .nearest = choice->nearest,
				 .is_pci = true };
	char text[PCI_ADDRESS_TEXT], name[PROTOCOL_NAME_MAX];
	struct mdev_candidate candidate;
	struct policy_verdict verdict;
	bool chosen = false;

	search.parent = pci_address_format(vf, text);
	memcpy(name, choice->selector.name, sizeof(name));
	if (!claim->peer || peer_subject(claim->peer, &subject) ||
	    sysfs_function_read(daemon->kernel.sys, vf, &search.function) ||
	    (choice->selector.kind == SELECT_NAME &&
	     policy_name_find(&daemon->policy, name, &search.name)))
		return false;
	if (choice->current) {
		if (choice->selector.kind == SELECT_ADDRESS &&
		    !pci_address_compare(vf, &choice->selector.address) && !is_held(&search))
			refuse_made(&search, choice);
		choice->nearest = search.nearest;
		return false;
	}
	for (size_t i = 0; !chosen && i < choice->n_rows; i++) {
		const struct vgpu_row *row = &choice->rows[i];

		if (!is_meant(&search, row->type, row->name))
			continue;
		chosen = !decide(&search, row->type, row->name, &verdict) && is_left_alone(&search);
		if (chosen)
			fill(&search, row->type, row->name, &verdict, &candidate);
	}
	choice->nearest = search.nearest;
	if (!chosen)
		return false;
	candidate.mdev.vendor = true;
	mdev_become(lease, &candidate);
	lease->group = search.function.iommu_group; /* nobody gets the VF whole from here on */
	if (verdict.memlock > claim->memlock)
		claim->memlock = verdict.memlock;
	return true;
}

/* "Is not offered" and "is not offered now" cannot be told apart: drivers show only what could be made. */
struct message_refusal vgpu_refusal(struct lease *lease, const struct mdev_choice *choice)
{
	struct claim *claim = lease->claim;
	struct policy_subject subject;
	struct search search = { .claim = claim,
				 .subject = &subject,
				 .selector = &choice->selector,
				 .name = POLICY_NO_NAME,
				 .nearest = choice->nearest };
	const char *profile = choice->selector.profile;
	struct message_refusal refusal;
	struct policy_verdict verdict;

	search.is_pci = choice->selector.kind == SELECT_ADDRESS &&
			!sysfs_function_read(claim->daemon->kernel.sys, &choice->selector.address,
					     &search.function);
	if (search.is_pci && !search.nearest.reason && *profile && claim->peer &&
	    !peer_subject(claim->peer, &subject) && decide(&search, profile, profile, &verdict))
		return search.nearest;
	if (search.nearest.reason)
		return search.nearest;
	refusal = refusal_of(&search,
			     choice->of_type || !choice->free ? GPUBROKER_REFUSED_NONE_LEFT
							      : GPUBROKER_REFUSED_NO_PROFILE,
			     profile);
	refusal.limit = choice->of_type;
	if (refusal.reason == GPUBROKER_REFUSED_NO_PROFILE)
		refusal.limit = choice->in_use;
	if (refusal.limit || refusal.reason == GPUBROKER_REFUSED_NONE_LEFT)
		snprintf(refusal.text, sizeof(refusal.text), "%s", choice->left);
	return refusal;
}

bool mdev_is_allowed(const struct daemon *daemon, const struct lease *lease,
		     const struct policy_subject *subject)
{
	const struct device *device = devices_find(&daemon->devices, &lease->asked);
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
