/* SPDX-License-Identifier: MIT */
/* The list of holds, see holds.h. It owns no hold. */
#include "config.h"

#include "brokerd/state/holds.h"
#include "brokerd/state/refuse.h"

void holds_init(struct holds *holds)
{
	TAILQ_INIT(&holds->list);
}

void holds_add(struct holds *holds, struct hold *hold)
{
	TAILQ_INSERT_TAIL(&holds->list, hold, link);
}

void holds_remove(struct holds *holds, struct hold *hold)
{
	TAILQ_REMOVE(&holds->list, hold, link);
}

static const struct hold *find_of_kind(const struct holds *holds, enum hold_kind kind,
				       uint32_t group)
{
	const struct hold *hold;

	TAILQ_FOREACH(hold, &holds->list, link)
		if (hold->kind == kind && hold->group == group)
			return hold;
	return NULL;
}

const struct hold *holds_find_group(const struct holds *holds, uint32_t group)
{
	return find_of_kind(holds, HOLD_PREPARING, group);
}

const struct hold *holds_find_foreign(const struct holds *holds, uint32_t group)
{
	return find_of_kind(holds, HOLD_FOREIGN, group);
}

const struct hold *holds_find_sriov(const struct holds *holds, const struct group_view *view)
{
	const struct hold *hold;

	TAILQ_FOREACH(hold, &holds->list, link)
		for (size_t i = 0; hold->kind == HOLD_SRIOV && i < view->n_functions; i++) {
			const struct function *f = &view->functions[i];

			if (!pci_address_compare(f->is_vf ? &f->physfn : &f->address,
						 &hold->function))
				return hold;
		}
	return NULL;
}

int refuse_preparing(struct message_refusal *ret_refusal, const struct hold *hold,
		     const struct pci_address *asked)
{
	refuse_address(ret_refusal, hold->late ? GPUBROKER_REFUSED_STUCK : GPUBROKER_REFUSED_BUSY,
		       asked);
	ret_refusal->group = hold->group;
	if (hold->late)
		refusal_say(ret_refusal,
			    "its host driver does not let go of it, as the policy's prepare asks");
	else
		ret_refusal->detail = REFUSAL_PREPARING;
	return (int)ret_refusal->reason;
}

int refuse_sriov(struct message_refusal *ret_refusal, const struct hold *hold, uint32_t group,
		 const struct pci_address *asked)
{
	refuse_address(ret_refusal, hold->late ? GPUBROKER_REFUSED_STUCK : GPUBROKER_REFUSED_BUSY,
		       asked);
	ret_refusal->group = group;
	if (hold->late)
		refusal_say(ret_refusal, "its virtual functions do not go, or do not come");
	else
		ret_refusal->detail = REFUSAL_SRIOV;
	return (int)ret_refusal->reason;
}

int holds_refuse(const struct holds *holds, const struct group_view *view,
		 const struct pci_address *asked, struct message_refusal *ret_refusal)
{
	const struct hold *hold = holds_find_group(holds, view->group);

	if (hold)
		return refuse_preparing(ret_refusal, hold, asked);
	if (holds_find_foreign(holds, view->group))
		return refuse_foreign(ret_refusal, asked, view->group);
	hold = holds_find_sriov(holds, view);
	if (!hold)
		return 0;
	refuse_sriov(ret_refusal, hold, view->group, asked);
	refusal_set_other(ret_refusal, &hold->function);
	return (int)ret_refusal->reason;
}
