/* SPDX-License-Identifier: MIT */
/*
 * Chooses the mediated device for a claim, see ask-mdev.h: a worker reads from the drivers how many
 * instances are left, and the first candidate that has one is chosen. If none has, virtual
 * functions are asked (ask-vgpu.c). It must never read from a driver in this process, and never
 * choose a device that the claim was not decided for.
 */
#include "config.h"

#include "brokerd/claim/ask-mdev.h"
#include "brokerd/claim/ask-vgpu.h"
#include "brokerd/lease/restore.h"
#include "client/common/util.h"
#include "client/host/sysfs.h"

#include <errno.h>
#include <stdlib.h>

static const char step_available[] = "asking how many are left";

static void on_available(void *userdata, const struct pci_address *address, const char *text)
{
	struct part_choice *choice = claim_choice_of(userdata);
	char *end;

	(void)address;
	if (!choice || choice->n_available == ARRAY_SIZE(choice->available))
		return;
	/* A text that is not a number counts as 0. */
	choice->available[choice->n_available] = strtoull(text, &end, 10);
	if (*end || end == text || *text == '-')
		choice->available[choice->n_available] = 0;
	choice->n_available++;
}

/*
 * Returns true if the user has as many leases by the candidate's rule as that rule allows. Each
 * candidate may have another rule.
 */
static bool limit_is_reached(const struct lease *lease, const struct part_candidate *candidate)
{
	const struct claim *claim = claim_of(lease);

	return candidate->limit && claim->claimant &&
	       claims_count_by_rule(claim->claims, claim->claimant, candidate->terms.rule, lease) >=
		       candidate->limit;
}

/*
 * Returns true if the candidate's parent is gone, is being taken off its driver for a prepare rule,
 * is allotted, or has a lease as a whole: that may have come while the worker asked the drivers,
 * since until now this lease stood for its first candidate alone.
 */
static bool parent_is_taken(const struct lease *lease, const struct part_candidate *candidate)
{
	const struct claims *claims = claim_of(lease)->claims;
	struct pci_address parent;
	uint32_t group;

	if (pci_address_parse(candidate->mdev.parent, &parent))
		return false; /* no PCI function, which cannot be lent as a whole */
	if (sysfs_group_of(claims->kernel->sys, &parent, &group))
		return true;
	return lease_find_group(lease->table, group) || holds_find_group(claims->holds, group) ||
	       allotments_of(claims->allotments, claims->devices, &parent, group);
}

/*
 * Chooses the first candidate that has an instance left, asks virtual functions, or refuses the
 * claim. Returns 0, or -errno if virtual functions could not be asked.
 */
static int choose_candidate(struct lease *lease)
{
	struct part_choice *choice = claim_choice_of(lease);
	size_t i;

	for (i = 0; i < choice->n; i++)
		if (i < choice->n_available && choice->available[i] &&
		    !limit_is_reached(lease, &choice->list[i]) &&
		    !parent_is_taken(lease, &choice->list[i]))
			break;
	if (i < choice->n)
		claim_fix_choice(lease, &choice->list[i]);
	else if (choice->n_vfs)
		return ask_vgpu(lease);
	else
		claim_refuse_none_left(claim_of(lease), lease, choice, 0);
	return 0;
}

static void on_availability_read(void *userdata, const struct work_result *result)
{
	struct lease *lease = userdata;
	int r = 0;

	if (!lease_worker_ended(lease))
		return;
	if (result->error)
		lease_fail(lease, NULL, result->what, result->error);
	else
		r = choose_candidate(lease);
	if (r) /* virtual functions could not be asked */
		lease_fail(lease, NULL, step_available, -r);
	lease_report_settled(lease);
}

int ask_part(struct lease *lease)
{
	static const struct work_ops ops = {
		.told = on_available,
		.done = on_availability_read,
		.late = lease_worker_late,
	};
	const struct part_choice *choice = claim_choice_of(lease);
	const struct leases *leases = leases_of(lease);
	struct work *work;
	int r;

	if (!choice->n)
		return ask_vgpu(lease);
	work = work_new(&ops, lease);
	r = work ? 0 : -ENOMEM;
	for (size_t i = 0; !r && i < choice->n; i++)
		r = work_add_read(work,
				  kernel_open_mdev_available(leases->kernel,
							     choice->list[i].mdev.parent,
							     choice->list[i].mdev.type),
				  step_available, &lease->asked);
	for (size_t i = 0; !r && i < choice->n_others; i++)
		r = work_add_read(work,
				  kernel_open_mdev_available(leases->kernel,
							     choice->list[0].mdev.parent,
							     choice->others[i]),
				  step_available, &lease->asked);
	if (!r)
		r = workers_start(leases->workers, work);
	if (r) {
		work_free(work);
		return r;
	}
	lease->work = work;
	return 0;
}
