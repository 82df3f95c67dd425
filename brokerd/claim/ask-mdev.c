/* SPDX-License-Identifier: MIT */
/*
 * Which mdev a claim gets, of those that it may: a worker asks drivers how many are left, and the first of
 * which there is one is it. Says how many there are where there is none. It must never ask a driver
 * itself, and never choose what the claim was not decided on.
 */
#include "config.h"

#include "brokerd/state/verdict.h"
#include "brokerd/lease/ending.h"
#include "brokerd/lease/mdev.h"
#include "brokerd/process/worker.h"
#include "client/host/mdev.h"
#include "client/common/util.h"

#include <errno.h>
#include <inttypes.h>
#include <string.h>

/* Which of the claim's it is; its own arrays are by that. */
static size_t index_of(const struct lease *lease)
{
	for (size_t i = 0; i < lease->claim->n; i++)
		if (lease->claim->leases[i] == lease)
			return i;
	return SIZE_MAX;
}

struct mdev_choice *mdev_choice_of(const struct lease *lease)
{
	size_t i = lease->claim ? index_of(lease) : SIZE_MAX;

	return i == SIZE_MAX ? NULL : lease->claim->mdevs[i];
}

static void on_told(void *userdata, const struct pci_address *address, const char *text)
{
	struct mdev_choice *choice = mdev_choice_of(userdata);
	char *end;

	(void)address;
	if (!choice || choice->n_told == ARRAY_SIZE(choice->available))
		return;
	/* What is no number is none. */
	choice->available[choice->n_told] = strtoull(text, &end, 10);
	if (*end || end == text || *text == '-')
		choice->available[choice->n_told] = 0;
	choice->n_told++;
}

/* How many leases by the candidate's rule its user has beside this one: of several, it may be another's. */
static bool is_used_up(const struct lease *lease, const struct mdev_candidate *candidate)
{
	const struct daemon *daemon = lease->owner;
	const struct lease *other;
	uint32_t n = 0;

	TAILQ_FOREACH(other, &daemon->leases.list, link)
		n += other != lease && other->uid == lease->uid &&
		     !strcmp(other->terms.rule, candidate->terms.rule);
	return candidate->limit && n >= candidate->limit;
}

/* "mtty-1: 3, mtty-2: 1", of what is left at the first candidate's parent; as much as there is room for. */
static void tell_left(const struct mdev_choice *choice, char *out, size_t size)
{
	size_t used = 0;

	for (size_t i = 0; i < choice->n_others && choice->n + i < choice->n_told; i++) {
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

void mdev_refuse_none_left(struct lease *lease, const struct mdev_choice *choice, int error)
{
	const struct daemon *daemon = lease->owner;
	struct claim *claim = lease->claim;
	struct message_refusal *r = &claim->refusal;
	int n = mdev_count(daemon->kernel.sys, lease->mdev.parent, lease->mdev.type);

	if (claim->failed)
		return;
	claim->failed = true;
	*r = refusal_make(GPUBROKER_REFUSED_NONE_LEFT);
	refusal_name_lease(r, lease);
	r->error = error;
	r->limit = n > 0 ? (uint64_t)n : 0;
	if (!error)
		tell_left(choice, r->text, sizeof(r->text));
}

void mdev_become(struct lease *lease, const struct mdev_candidate *candidate)
{
	const size_t i = index_of(lease);
	struct claim *claim = lease->claim;
	char uuid[sizeof(lease->mdev.uuid)];

	memcpy(uuid, lease->mdev.uuid, sizeof(uuid));
	lease->mdev = candidate->mdev;
	if (!lease->mdev.vendor)
		memcpy(lease->mdev.uuid, uuid, sizeof(uuid));
	lease->asked = candidate->address;
	lease->terms = candidate->terms;
	lease->ends = lease->terms.lifetime ? lease->since + lease->terms.lifetime : 0;
	/* The claim outlives a lease that fails, and log_abandoned() reads these then. */
	claim->mdevs[i]->chosen = *candidate;
	claim->asked[i] = candidate->address;
	claim->terms[i] = candidate->terms;
}

/* Where no mdev is left, virtual functions are asked. 0, or -errno where they could not be. */
static int choose(struct lease *lease)
{
	struct mdev_choice *choice = mdev_choice_of(lease);
	size_t i;

	for (i = 0; i < choice->n; i++)
		if (i < choice->n_told && choice->available[i] &&
		    !is_used_up(lease, &choice->list[i]))
			break;
	if (i < choice->n)
		mdev_become(lease, &choice->list[i]);
	else if (choice->n_vfs)
		return vgpu_ask(lease->owner, lease);
	else
		mdev_refuse_none_left(lease, choice, 0);
	return 0;
}

static void on_asked(void *userdata, const struct work_result *result)
{
	struct lease *lease = userdata;
	struct daemon *daemon = lease->owner;
	struct claim *claim = lease->claim;
	int r;

	lease->work = NULL;
	if (!lease_came_late(lease)) {
		if (result->error)
			claim_fail(claim, lease, NULL, result->what, result->error);
		else if ((r = choose(lease)))
			claim_fail(claim, lease, NULL, result->what, -r);
		claim_advance(claim);
	}
	daemon_quit_if_idle(daemon);
}

int mdev_ask(struct daemon *daemon, struct lease *lease)
{
	static const struct work_ops ops = {
		.told = on_told,
		.done = on_asked,
		.late = on_work_late,
	};
	const struct mdev_choice *choice = mdev_choice_of(lease);
	const char *what = "asking how many are left";
	struct work *work;
	int r;

	if (!choice->n)
		return vgpu_ask(daemon, lease);
	work = work_new(&ops, lease);
	r = work ? 0 : -ENOMEM;
	for (size_t i = 0; !r && i < choice->n; i++)
		r = work_add_read(work,
				  kernel_open_mdev_available(&daemon->kernel,
							     choice->list[i].mdev.parent,
							     choice->list[i].mdev.type),
				  what, &lease->asked);
	for (size_t i = 0; !r && i < choice->n_others; i++)
		r = work_add_read(work,
				  kernel_open_mdev_available(&daemon->kernel,
							     choice->list[0].mdev.parent,
							     choice->others[i]),
				  what, &lease->asked);
	if (!r)
		r = work_start(work, daemon->base, daemon->worker_filter, WORKER_SECONDS);
	if (r) {
		work_free(work);
		return r;
	}
	lease->work = work;
	return 0;
}

bool mdev_settle(struct claim *claim)
{
	if (claim->failed || !claim->memlock_asked)
		return !claim->failed;
	if (claim->memlock_asked <= claim->memlock) {
		claim->memlock = claim->memlock_asked;
		return true;
	}
	claim->failed = true;
	claim->refusal = refusal_make(GPUBROKER_REFUSED_MEMLOCK);
	refusal_name_lease(&claim->refusal, claim->leases[0]);
	claim->refusal.limit = claim->memlock;
	memcpy(claim->refusal.rule, claim->leases[0]->terms.rule, sizeof(claim->refusal.rule));
	return false;
}
