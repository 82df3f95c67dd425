/* SPDX-License-Identifier: MIT */
/*
 * Chooses the vGPU for a claim, see ask-vgpu.h: a worker reads the type of a VF and the types that
 * it offers, one VF after another, until one offers a type that the claim means and the policy
 * allows (parts.c). The driver makes the text of the table. Its lines are parsed in the worker and
 * arrive here as a number and a name, which are checked again.
 *
 * It must never read from a driver in this process, and never from the driver of a VF that another
 * lease has.
 */
#include "config.h"

#include "brokerd/claim/ask-vgpu.h"
#include "brokerd/claim/parts.h"
#include "brokerd/lease/restore.h"
#include "brokerd/lease/vgpu.h"
#include "brokerd/state/refuse.h"
#include "client/common/util.h"
#include "client/host/sysfs.h"

#include <errno.h>
#include <inttypes.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

static const char step_ask[] = "asking what its virtual functions can become";

/* ---- the answer of a VF ---- */

static void on_answer(void *userdata, const struct pci_address *address, const char *text)
{
	struct part_choice *choice = claim_choice_of(userdata);

	(void)address;
	if (!choice)
		return;
	if (!choice->current_known) {
		/* A text that is not a number counts as an unknown type. */
		if (!vgpu_number_parse(text, &choice->current))
			choice->current = UINT32_MAX;
		choice->current_known = true;
	} else if (choice->n_rows < ARRAY_SIZE(choice->rows) &&
		   vgpu_row_parse(text, &choice->rows[choice->n_rows])) {
		choice->n_rows++;
	}
}

/* Counts the VFs that are in use, and remembers the types that the first free VF offers. */
static void count_answer(struct part_choice *choice)
{
	char type[VGPU_TYPE_MAX];
	size_t used = 0;

	snprintf(type, sizeof(type), "%" PRIu32, choice->current);
	choice->in_use += !!choice->current;
	choice->of_type += choice->current && !strcmp(type, choice->selector.profile);
	if (choice->current || choice->free)
		return;
	choice->free = true;
	for (size_t i = 0; i < choice->n_rows; i++) {
		const size_t room = sizeof(choice->left) - used;
		int n = snprintf(choice->left + used, room, "%s%s", used ? ", " : "",
				 choice->rows[i].type);

		if (n < 0 || (size_t)n >= room) {
			choice->left[used] = '\0';
			return;
		}
		used += (size_t)n;
	}
}

/* Counts a VF that another lease has and returns true; its driver need not be asked. */
static bool count_leased(const struct lease *lease, struct part_choice *choice,
			 const struct pci_address *vf)
{
	const char *profile = choice->selector.profile;
	const struct lease *other;
	uint32_t group;

	if (sysfs_group_of(leases_of(lease)->kernel->sys, vf, &group))
		return false;
	other = lease_find_group(lease->table, group);
	if (!other || other == lease)
		return false;
	choice->in_use++;
	choice->of_type +=
		other->mdev.vendor && *profile &&
		(!strcmp(profile, other->mdev.type) || !strcmp(profile, other->mdev.name));
	if (choice->selector.kind == SELECT_ADDRESS &&
	    !pci_address_compare(vf, &choice->selector.address))
		refuse_held(&choice->nearest, other, vf);
	return true;
}

/* ---- choosing ---- */

/* policy_usage.leases: counts the user's leases by a rule, without this lease. */
static uint32_t count_others(void *userdata, size_t rule)
{
	const struct lease *lease = userdata;
	const struct claim *claim = claim_of(lease);
	char origin[RULE_ORIGIN_MAX];

	rule_origin(&claim->claims->policy->policy, rule, origin);
	return claims_count_by_rule(claim->claims, claim->claimant, origin, lease);
}

/* Returns true if neither a lease nor a hold has the VF; otherwise notes the refusal. */
static bool is_left_alone(struct part_search *search)
{
	cleanup_free struct group_view *view = malloc(sizeof(*view));
	const struct function *f = &search->function;
	struct message_refusal refusal;

	if (part_search_is_held(search) || !view ||
	    sysfs_group_read_ids(search->claims->kernel->sys, f->iommu_group, view))
		return false;
	if (!holds_refuse(search->claims->holds, view, &f->address, &refusal))
		return true;
	part_search_miss(search, &refusal);
	return false;
}

/*
 * The VF has a type but no lease, so it cannot be lent. Notes that as the refusal, if the claim
 * names just this VF.
 */
static void miss_typed(struct part_search *search, const struct part_choice *choice,
		       const struct pci_address *vf)
{
	struct message_refusal refusal;

	if (choice->selector.kind != SELECT_ADDRESS ||
	    pci_address_compare(vf, &choice->selector.address) != 0 || part_search_is_held(search))
		return;
	refusal = part_search_refusal(search, GPUBROKER_REFUSED_IN_USE, "");
	refusal_say(&refusal, "somebody else has made a vGPU of it, type %" PRIu32,
		    choice->current);
	part_search_miss(search, &refusal);
}

/*
 * Gives the lease the first type of the VF that the claim means and the policy allows, if the VF is
 * free. Returns false if there is none.
 */
static bool choose_type(struct part_search *search, struct lease *lease)
{
	struct part_candidate candidate;
	struct policy_verdict verdict;

	for (size_t i = 0; i < search->choice->n_rows; i++) {
		const struct vgpu_row *row = &search->choice->rows[i];

		if (!part_search_means(search, row->type, row->name) ||
		    part_search_decide(search, row->type, row->name, &verdict) ||
		    !is_left_alone(search))
			continue;
		part_search_fill(search, row->type, row->name, &verdict, &candidate);
		candidate.mdev.vendor = true;
		claim_fix_choice(lease, &candidate);
		/* From here on nobody can claim the whole VF. */
		lease->group = search->function.iommu_group;
		return true;
	}
	return false;
}

/*
 * Returns true if the current VF offers a type for the claim. Otherwise the choice's nearest miss
 * may have changed.
 */
static bool choose_of_vf(struct lease *lease, struct part_choice *choice)
{
	const struct claim *claim = claim_of(lease);
	const struct policy *policy = &claim->claims->policy->policy;
	const struct pci_address *vf = &choice->vfs[choice->at_vf];
	const struct policy_usage usage = { .leases = count_others, .userdata = lease };
	struct policy_subject subject;
	struct part_search search = { .claims = claim->claims,
				      .claimant = claim->claimant,
				      .subject = &subject,
				      .selector = &choice->selector,
				      .usage = &usage,
				      .own = lease,
				      .name = POLICY_NO_NAME,
				      .choice = choice,
				      .nearest = choice->nearest,
				      .is_pci = true };
	char text[PCI_ADDRESS_TEXT];
	bool chosen = false;

	search.parent = pci_address_format(vf, text);
	if (claim->claimant->ops->subject(claim->claimant, &subject) ||
	    sysfs_function_read_ids(claim->claims->kernel->sys, vf, &search.function) ||
	    (choice->selector.kind == SELECT_NAME &&
	     policy_name_find(policy, choice->selector.name, &search.name)))
		return false;
	if (choice->current)
		miss_typed(&search, choice, vf);
	else
		chosen = choose_type(&search, lease);
	choice->nearest = search.nearest;
	return chosen;
}

/*
 * Returns the refusal if no VF offers a type for the claim. "Never offered" and "not offered now"
 * cannot be told apart: drivers show only types that could be made now.
 */
static struct message_refusal refusal_of_choice(struct lease *lease,
						const struct part_choice *choice)
{
	const struct claim *claim = claim_of(lease);
	const char *profile = choice->selector.profile;
	struct policy_subject subject;
	struct part_search search = { .claims = claim->claims,
				      .claimant = claim->claimant,
				      .subject = &subject,
				      .selector = &choice->selector,
				      .name = POLICY_NO_NAME,
				      .nearest = choice->nearest };
	struct message_refusal refusal;
	struct policy_verdict verdict;

	search.is_pci = choice->selector.kind == SELECT_ADDRESS &&
			!sysfs_function_read_ids(claim->claims->kernel->sys,
						 &choice->selector.address, &search.function);
	/* Do not reveal whether the profile exists to a user whom the policy would refuse. */
	if (search.is_pci && !search.nearest.reason && *profile && claim->claimant &&
	    !claim->claimant->ops->subject(claim->claimant, &subject))
		part_search_decide(&search, profile, profile, &verdict);
	if (search.nearest.reason)
		return search.nearest;
	refusal = part_search_refusal(&search,
				      choice->of_type || !choice->free
					      ? GPUBROKER_REFUSED_NONE_LEFT
					      : GPUBROKER_REFUSED_NO_PROFILE,
				      profile);
	refusal.limit = refusal.reason == GPUBROKER_REFUSED_NO_PROFILE ? choice->in_use
								       : choice->of_type;
	if (refusal.limit || refusal.reason == GPUBROKER_REFUSED_NONE_LEFT)
		refusal_say(&refusal, "%s", choice->left);
	return refusal;
}

/* ---- the worker ---- */

static void on_vf_read(void *userdata, const struct work_result *result)
{
	struct lease *lease = userdata;
	struct part_choice *choice;
	struct claim *claim;
	int r = 0;

	if (!lease_worker_ended(lease))
		return;
	claim = claim_of(lease);
	choice = claim_choice_of(lease);
	if (!result->error)
		count_answer(choice);
	if (result->error && choice->at_vf + 1 == choice->n_vfs && !choice->free &&
	    !choice->in_use) {
		lease_fail(lease, NULL, result->what, result->error);
	} else if (!claim->failed && claim->claimant &&
		   (result->error || !choose_of_vf(lease, choice))) {
		choice->at_vf++;
		r = ask_vgpu(lease);
	}
	if (r)
		lease_fail(lease, NULL, step_ask, -r);
	lease_report_settled(lease);
}

int ask_vgpu(struct lease *lease)
{
	static const struct work_ops ops = {
		.told = on_answer,
		.done = on_vf_read,
		.late = lease_worker_late,
	};
	struct part_choice *choice = claim_choice_of(lease);
	const struct leases *leases = leases_of(lease);
	const struct pci_address *vf;
	struct message_refusal refusal;
	struct work *work;
	int r;

	while (choice->at_vf < choice->n_vfs &&
	       count_leased(lease, choice, &choice->vfs[choice->at_vf]))
		choice->at_vf++;
	if (choice->at_vf == choice->n_vfs) {
		refusal = refusal_of_choice(lease, choice);
		claim_item_of(lease)->none_left = refusal.reason == GPUBROKER_REFUSED_NONE_LEFT;
		claim_refuse(claim_of(lease), &refusal);
		return 0;
	}
	vf = &choice->vfs[choice->at_vf];
	choice->current_known = false;
	choice->n_rows = 0;
	work = work_new(&ops, lease);
	r = work ? work_add_read(work, kernel_open_vgpu_read(leases->kernel, vf), step_ask, vf)
		 : -ENOMEM;
	if (!r)
		r = work_add_table(work, kernel_open_vgpu_types(leases->kernel, vf), vgpu_row,
				   step_ask, vf);
	if (!r)
		r = workers_start(leases->workers, work);
	if (r) {
		work_free(work);
		return r;
	}
	lease->work = work;
	return 0;
}
