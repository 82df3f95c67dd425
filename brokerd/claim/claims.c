/* SPDX-License-Identifier: MIT */
/* Functions that the files of claim/ share, see claims.h. It starts nothing and decides nothing. */
#include "config.h"

#include "brokerd/claim/claims.h"
#include "brokerd/claim/opening.h"
#include "brokerd/lease/bringup.h"
#include "brokerd/state/refuse.h"
#include "client/host/mdev.h"

#include <event2/event.h>
#include <inttypes.h>
#include <stddef.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

struct claim *claim_of(const struct lease *lease)
{
	return lease->follower ? (struct claim *)(void *)((char *)lease->follower -
							  offsetof(struct claim, follower))
			       : NULL;
}

struct claim_item *claim_item_of(const struct lease *lease)
{
	struct claim *claim = claim_of(lease);
	size_t i = 0;

	while (claim->items[i].lease != lease)
		i++;
	return &claim->items[i];
}

struct part_choice *claim_choice_of(const struct lease *lease)
{
	return lease->follower ? claim_item_of(lease)->choice : NULL;
}

bool claim_has_part(const struct claim *claim)
{
	for (size_t i = 0; i < claim->n; i++)
		if (claim->items[i].choice)
			return true;
	return false;
}

uint32_t claims_count_by_rule(const struct claims *claims, const struct claimant *claimant,
			      const char *rule, const struct lease *own)
{
	return lease_count_by_rule(&claims->leases->table, &claims->policy->policy, claimant->uid,
				   rule, own) +
	       queue_count_by_rule(&claims->queue, claimant, rule);
}

void claim_refuse(struct claim *claim, const struct message_refusal *refusal)
{
	if (claim->failed)
		return;
	claim->failed = true;
	claim->refusal = *refusal;
}

void claim_fail(struct claim *claim, const struct lease *lease, const struct pci_address *address,
		const char *what, int error)
{
	struct message_refusal refusal = refusal_make(GPUBROKER_REFUSED_FAILED);

	if (lease)
		refusal_name_lease(&refusal, lease);
	if (lease && address && pci_address_compare(address, &lease->asked) != 0)
		refusal_set_other(&refusal, address);
	refusal_say(&refusal, "%s", what);
	refusal.error = error;
	claim_refuse(claim, &refusal);
}

int claim_refuse_to_queue(const struct claimant *claimant, struct message_refusal *ret_refusal)
{
	*ret_refusal = refusal_make(GPUBROKER_REFUSED_QUOTA);
	if (claimant->through[0])
		refusal_say(ret_refusal,
			    "%d claims wait at this socket, or %d of its user, which is the most",
			    WAITING_PER_SOCKET, WAITING_PER_UID);
	else
		refusal_say(ret_refusal,
			    "you have %d claims that wait, which is the most for one user",
			    WAITING_PER_UID);
	return GPUBROKER_REFUSED_QUOTA;
}

/*
 * Writes how many instances the first candidate's parent has left of each type, "mtty-1: 3, mtty-2:
 * 1", as far as it fits.
 */
static void list_left(const struct part_choice *choice, char *out, size_t size)
{
	size_t used = 0;

	for (size_t i = 0; i < choice->n_others && choice->n + i < choice->n_available; i++) {
		int n;

		if (!choice->available[choice->n + i])
			continue;
		n = snprintf(out + used, size - used, "%s%s: %" PRIu64, used ? ", " : "",
			     choice->others[i], choice->available[choice->n + i]);
		if (n < 0 || (size_t)n >= size - used) {
			out[used] = '\0';
			return;
		}
		used += (size_t)n;
	}
}

void claim_refuse_none_left(struct claim *claim, const struct lease *lease,
			    const struct part_choice *choice, int error)
{
	struct message_refusal refusal = refusal_make(GPUBROKER_REFUSED_NONE_LEFT);
	int n = mdev_count(claim->claims->kernel->sys, lease->mdev.parent, lease->mdev.type);

	claim_item_of(lease)->none_left = true;
	refusal_name_lease(&refusal, lease);
	refusal.error = error;
	refusal.limit = n > 0 ? (uint64_t)n : 0;
	if (!error)
		list_left(choice, refusal.text, sizeof(refusal.text));
	claim_refuse(claim, &refusal);
}

void claim_fix_choice(struct lease *lease, const struct part_candidate *candidate)
{
	char uuid[sizeof(lease->mdev.uuid)];

	memcpy(uuid, lease->mdev.uuid, sizeof(uuid));
	lease->mdev = candidate->mdev;
	if (!lease->mdev.vendor)
		memcpy(lease->mdev.uuid, uuid, sizeof(uuid));
	lease->asked = candidate->address;
	lease->terms = candidate->terms;
	lease->ends = lease->terms.lifetime ? lease->since + lease->terms.lifetime : 0;
	lease_set_kind(lease);
	claim_item_of(lease)->choice->is_fixed = true;
}

void claim_free(struct claim *claim)
{
	struct workers *workers = claim->claims->workers;

	for (size_t i = 0; i < claim->n; i++) {
		free(claim->items[i].choice);
		if (claim->items[i].lease)
			claim->items[i].lease->follower = NULL;
	}
	if (claim->claimant)
		claim->claimant->claim = NULL;
	TAILQ_REMOVE(&claim->claims->list, claim, link);
	opening_free(claim->opening);
	if (claim->settle)
		event_free(claim->settle);
	free(claim->request);
	free(claim);
	workers_leave(workers);
}
