/* SPDX-License-Identifier: MIT */
/*
 * The life cycle of a claim, from its beginning (begin.c) to the grant or the refusal:
 *
 *	ask (lease/bringup.c, ask-mdev.c) -> record -> hooks (lease/hooks.c)
 *	-> make (lease/bringup.c) -> open, check, send, close (grant.c)
 *
 * A claim is all or nothing: if one of its leases fails, all of them are restored, and then the
 * claimant gets the refusal. It must never begin to make a lease that is not recorded.
 */
#include "config.h"

#include "brokerd/claim/claim.h"
#include "brokerd/claim/asking.h"
#include "brokerd/claim/foreign.h"
#include "brokerd/claim/grant.h"
#include "brokerd/claim/opening.h"
#include "brokerd/lease/bringup.h"
#include "brokerd/lease/cdev.h"
#include "brokerd/lease/ending.h"
#include "brokerd/lease/hooks.h"
#include "brokerd/lease/restore.h"
#include "brokerd/process/log.h"
#include "brokerd/state/refuse.h"
#include "client/common/util.h"
#include "client/host/function.h"

#include <errno.h>
#include <event2/event.h>
#include <stddef.h>
#include <stdio.h>
#include <string.h>

/* ---- the life cycle ---- */

static void claim_granted(struct claim *claim)
{
	struct claimant *claimant = claim->claimant;

	for (size_t i = 0; i < claim->n; i++) {
		struct lease *lease = claim->items[i].lease;
		char reason[128] = "";

		if (lease->mdev.vendor)
			snprintf(reason, sizeof(reason), "vGPU, %s", lease->mdev.name);
		else if (lease_is_made(lease))
			snprintf(reason, sizeof(reason), "mdev %s of %s", lease->mdev.uuid,
				 lease->mdev.parent);
		lease_set_clock(lease);
		audit_lease(lease, "granted", LOG_INFO, reason);
		claim->claims->audit->granted++;
	}
	queue_leave(claimant);
	claim_free(claim);
}

/*
 * Sets the limit of locked memory: what the rules of the claim's own leases grant, and no rule of
 * a candidate that it did not get; or less, if the client asked for less. More is refused. Comes
 * when every part is chosen.
 */
static void settle_memlock(struct claim *claim)
{
	struct message_refusal refusal = refusal_make(GPUBROKER_REFUSED_MEMLOCK);
	const struct lease *first = claim->items[0].lease;

	if (claim->failed)
		return;
	for (size_t i = 0; i < claim->n; i++)
		if (claim->items[i].lease->terms.memlock > claim->memlock)
			claim->memlock = claim->items[i].lease->terms.memlock;
	if (claim->memlock_asked <= claim->memlock) {
		if (claim->memlock_asked)
			claim->memlock = claim->memlock_asked;
		return;
	}
	refusal_name_lease(&refusal, first);
	refusal.limit = claim->memlock;
	memcpy(refusal.rule, first->terms.rule, sizeof(refusal.rule));
	claim_refuse(claim, &refusal);
}

bool claims_are_failing(const struct claims *claims)
{
	const struct claim *claim;

	TAILQ_FOREACH(claim, &claims->list, link)
		if (claim->failed)
			return true;
	return false;
}

/*
 * Checks that VFIO's nodes can be opened, before a device is taken off its driver for a claim that
 * could not be granted afterwards.
 */
static void check_vfio(struct claim *claim)
{
	const struct claims *claims = claim->claims;
	const struct lease *lease = claim->items[0].lease;
	int r = claim->failed ? 0 : kernel_vfio_check(claims->kernel, claim->cdevs);

	if (r == -ENOENT) {
		claim_fail(claim, lease, NULL,
			   "VFIO is not loaded; 'modprobe vfio-pci' as root loads it", 0);
	} else if (r == -ESTALE) {
		claim_fail(claim, lease, NULL,
			   "VFIO's nodes are newer than the broker, which starts again; try again",
			   0);
		if (claims->stale)
			claims->stale(claims->userdata, !kernel_vfio_check(claims->kernel, false));
	} else if (r) {
		claim_fail(claim, lease, NULL, "looking for VFIO's nodes", -r);
	}
}

/* The hooks of a lease have run, or one has failed. */
static void on_bind_hooked(struct lease *lease, const struct hook_answer *answer)
{
	if (answer->result != HOOK_DONE) {
		lease_fail(lease, &lease->asked, "a hook", 0);
		lease->failure.hook = true;
		lease->failure.hooked = *answer;
	}
	lease_report_settled(lease);
}

/* All ask workers have ended: records all leases, and has the hooks of each run. */
static void record_all(struct claim *claim)
{
	int r;

	claim->recorded = true;
	settle_memlock(claim);
	check_vfio(claim);
	for (size_t i = 0; !claim->failed && i < claim->n; i++) {
		struct lease *lease = claim->items[i].lease;

		r = lease_record(lease);
		if (r) {
			log_error("a lease cannot be recorded in the state directory: %s",
				  strerror(-r));
			claim_fail(claim, lease, NULL, "recording the lease", -r);
		}
		lease->recorded = !r;
	}
	for (size_t i = 0; !claim->failed && i < claim->n; i++)
		if (hooks_run(claim->items[i].lease, HOOK_BIND, on_bind_hooked))
			claim->hooked = true;
}

/*
 * All hooks have run. Returns true if it has to be asked who has the devices open now: after hooks,
 * which are to end such programs, and not before.
 */
static bool look_after_hooks(struct claim *claim)
{
	if (!claim->hooked)
		return false;
	claim->hooked = false;
	claim->opening = opening_ask_hooked(claim, claim_opened);
	return claim->opening;
}

/* Begins to make all leases. A lease that is not recorded is not made. */
static void make_all(struct claim *claim)
{
	int r;

	claim->bound = true;
	claim->bound_at = kernel_nodes_mark(&claim->claims->touches, claim->claims->kernel);
	for (size_t i = 0; !claim->failed && i < claim->n; i++) {
		struct lease *lease = claim->items[i].lease;

		r = lease_make(lease);
		if (r)
			claim_fail(claim, lease, NULL, lease->kind->why_not_begun(lease, r), -r);
	}
}

/*
 * Returns true if a part of which no instance is left is one that only the user's own leases use.
 */
static bool waits_for_own(const struct claim *claim)
{
	const struct claims *claims = claim->claims;
	bool own = false;

	for (size_t i = 0; !own && i < claim->n; i++) {
		const struct part_choice *choice = claim->items[i].choice;
		struct wanted one = { 0 };
		char text[PCI_ADDRESS_TEXT];

		if (!claim->items[i].none_left)
			continue;
		for (size_t k = 0; k < choice->n; k++)
			wanted_add(&one,
				   wanted_key_of_parent(claims->devices,
							choice->list[k].mdev.parent),
				   "");
		for (size_t k = 0; k < choice->n_vfs; k++)
			wanted_add(&one,
				   wanted_key_of_parent(claims->devices,
							pci_address_format(&choice->vfs[k], text)),
				   "");
		own = wanted_is_own(&one, &claims->policy->policy, claim->claimant->uid,
				    &claims->leases->table, claims->devices);
	}
	return own;
}

/*
 * No instance of the profile is left, or another program has the group or its nodes open. Returns
 * true if the claim has been queued instead; otherwise *refusal may be changed to say why it could
 * not.
 */
static bool queue_instead(struct claim *claim, struct message_refusal *refusal)
{
	const bool foreign = refusal->reason == GPUBROKER_REFUSED_BUSY &&
			     refusal->detail == REFUSAL_FOREIGN;
	const bool opened = claim->request &&
			    opening_avoid(claim->claimant, claim->request, refusal);
	const bool waits = claim->request && claim->request->flags & CLAIM_WAIT;
	struct waiting *waiting = claim->claimant->waiting;
	const bool outwaits = !opened && opening_is_refusal(refusal) && waiting && waiting->slept;
	int r;

	if (!claim->request || claim->claims->closed ||
	    (!foreign && !opened && !outwaits &&
	     (refusal->reason != GPUBROKER_REFUSED_NONE_LEFT || !waits)))
		return false;
	claim->wanted.own = waits_for_own(claim);
	r = queue_stay(&claim->claims->queue, claim->claimant, claim->request, &claim->wanted);
	if (r == -EDQUOT && waits)
		claim_refuse_to_queue(claim->claimant, refusal);
	waiting = claim->claimant->waiting;
	if (!r && outwaits) {
		/* The end of its own leases has marked it, which is no reason to hurry. */
		waiting->look = waiting->again = false;
		opening_avoid_none(claim->claimant);
		return !queue_look_later(waiting, QUEUE_OPENED_MS);
	}
	if (!r && !foreign && !opened)
		waiting->slept = true;
	/* It is tried again at once, and finds another device that its names mean, or waits. */
	if (!r && (foreign || opened))
		queue_look(waiting);
	return !r;
}

static bool is_under_way(const struct claim *claim)
{
	for (size_t i = 0; i < claim->n; i++) {
		const struct lease *lease = claim->items[i].lease;

		if (lease && lease->state != GPUBROKER_LEASE_STUCK &&
		    ((lease->work && lease->asking != ASKING_WAITS) ||
		     lease->hook.event == HOOK_BIND))
			return true;
	}
	return false;
}

static bool is_ready(const struct claim *claim)
{
	for (size_t i = 0; i < claim->n; i++)
		if (!claim->items[i].lease || claim->items[i].lease->state != GPUBROKER_LEASE_READY)
			return false;
	return true;
}

/*
 * Begins to restore the next lease that is not being restored. Returns true if there was one: then
 * settled() continues the claim, perhaps already, and the claim may be gone.
 */
static bool restore_next(struct claim *claim)
{
	for (size_t i = 0; i < claim->n; i++) {
		struct lease *lease = claim->items[i].lease;

		if (lease && !lease->work && lease->state != GPUBROKER_LEASE_RESTORING &&
		    lease->state != GPUBROKER_LEASE_STUCK &&
		    lease_transition(lease, LEASE_ABANDON)) {
			lease_restore(lease);
			return true;
		}
	}
	return false;
}

/* The host has everything back, or the rest is stuck: answers the claimant. */
static void answer_failed(struct claim *claim)
{
	struct claims *claims = claim->claims;
	struct claimant *claimant = claim->claimant;
	struct message_refusal refusal = claim->refusal;
	bool queued = claimant && queue_instead(claim, &refusal);

	claim_free(claim);
	if (refusal.reason == GPUBROKER_REFUSED_BUSY && refusal.detail == REFUSAL_FOREIGN)
		foreign_note(claims, refusal.group, &refusal.address);
	if (!claimant || queued)
		return;
	queue_leave(claimant);
	audit_refused(claims->audit, claimant->uid, claimant->pid, &refusal);
	claimant->ops->refuse(claimant, &refusal);
}

/* ---- what udev does with new nodes ---- */

#define QUICK_LOOKS 10 /* at 5 ms; then at 20 ms, for about three seconds */
#define MOST_LOOKS 160

/* Returns true if the kernel has made the node of a lease's group for the claim. */
static bool has_new_node(const struct lease *lease)
{
	for (size_t i = 0; i < lease->n_functions; i++)
		if (!driver_is_vfio(lease->functions[i].driver))
			return true;
	return lease_is_made(lease);
}

static bool are_touched(const struct claim *claim)
{
	struct claims *claims = claim->claims;

	for (size_t i = 0; i < claim->n; i++) {
		const struct lease *lease = claim->items[i].lease;

		if (has_new_node(lease) &&
		    (!kernel_node_touched(&claims->touches, claims->kernel, lease->group,
					  claim->bound_at) ||
		     !cdevs_are_touched(lease, &claims->touches, claim->bound_at)))
			return false;
	}
	return true;
}

static void on_settle(evutil_socket_t fd, short what, void *userdata)
{
	(void)fd;
	(void)what;
	claim_advance(userdata);
}

/*
 * Returns true if the grant has to wait until udev has applied its rules to the nodes that the
 * claim has made: one of them may give a node away, and then the device is not lent. A host without
 * udev makes one claim wait in vain, and the next ones hardly.
 */
static bool pause_for_nodes(struct claim *claim)
{
	struct claims *claims = claim->claims;
	struct timeval after = { .tv_usec = claim->looks < QUICK_LOOKS ? 5000 : 20000 };

	if (claim->settled)
		return false;
	if (are_touched(claim)) {
		claim->settled = true;
		if (!claim->looks) /* no node is new, or udev was quick */
			return false;
		claims->untouched = false;
		after.tv_usec = 2000; /* udev may be between two changes */
	} else if (claim->looks++ >= (claims->untouched ? QUICK_LOOKS : MOST_LOOKS)) {
		claim->settled = claims->untouched = true;
		return false;
	}
	if (!claim->settle)
		claim->settle = evtimer_new(claims->base, on_settle, claim);
	return claim->settle && !evtimer_add(claim->settle, &after);
}

void claims_look_at_nodes(struct claims *claims)
{
	struct claim *claim;

	TAILQ_FOREACH(claim, &claims->list, link)
		if (claim->settle && !claim->settled && evtimer_pending(claim->settle, NULL) &&
		    are_touched(claim))
			event_active(claim->settle, EV_TIMEOUT, 1);
}

void claim_advance(struct claim *claim)
{
	if (!claim->claimant && !claim->failed)
		claim_fail(claim, claim->items[0].lease, NULL, "the claimer is gone", 0);
	if (!claim->failed && !claim->recorded && !claim->opening && !is_under_way(claim))
		record_all(claim);
	if (!claim->failed && claim->recorded && !claim->bound && !claim->opening &&
	    !is_under_way(claim) && !look_after_hooks(claim))
		make_all(claim);
	if (!claim->failed && is_ready(claim) && !pause_for_nodes(claim) && claim_grant(claim)) {
		claim_granted(claim);
		return;
	}
	for (size_t i = 0; claim->failed && i < claim->n; i++)
		if (claim->items[i].lease)
			lease_give_up(claim->items[i].lease);
	if (!claim->failed || is_under_way(claim) || restore_next(claim))
		return;
	for (size_t i = 0; i < claim->n; i++) {
		const struct lease *lease = claim->items[i].lease;

		if (lease && lease->state != GPUBROKER_LEASE_STUCK)
			return; /* being restored */
		if (lease)	/* a stuck lease is the more important reason */
			refuse_held(&claim->refusal, lease, &lease->asked);
	}
	answer_failed(claim);
}

void claim_opened(void *userdata, const struct message_refusal *refusal)
{
	struct claim *claim = userdata;

	claim->opening = NULL;
	if (refusal)
		claim_refuse(claim, refusal);
	claim_advance(claim);
}

/* ---- reports of its leases ---- */

static void refuse_hook(struct claim *claim, const struct lease *lease)
{
	struct message_refusal refusal = refusal_make(GPUBROKER_REFUSED_HOOK);
	char text[sizeof(refusal.text)];

	refusal_name_lease(&refusal, lease);
	hooking_say(&lease->failure.hooked, text, sizeof(text));
	refusal_say(&refusal, "%s", text);
	claim_refuse(claim, &refusal);
}

static struct claim *claim_of_follower(struct lease_follower *follower)
{
	return (struct claim *)(void *)((char *)follower - offsetof(struct claim, follower));
}

static void on_lease_progress(struct lease_follower *follower, const struct lease *lease,
			      enum gpubroker_step step, const struct pci_address *address,
			      uint32_t index, uint32_t total)
{
	struct claimant *claimant = claim_of_follower(follower)->claimant;
	struct message_step message = {
		.type = MESSAGE_STEP,
		.step = step,
		.address = *address,
		.group = lease->group,
		.index = index,
		.total = total,
	};

	memcpy(message.parent, lease->mdev.parent, sizeof(message.parent));
	if (claimant)
		claimant->ops->progress(claimant, &message);
}

static void on_settled(struct lease_follower *follower, struct lease *lease)
{
	struct claim *claim = claim_of_follower(follower);
	struct message_refusal refusal;

	if (lease && !claim->failed && lease->state == GPUBROKER_LEASE_STUCK) {
		refuse_held(&claim->refusal, lease,
			    lease->failure.has_address ? &lease->failure.address : &lease->asked);
		claim->failed = true;
	} else if (lease && lease->failure.what && lease->failure.foreign) {
		refuse_foreign(&refusal, &lease->asked, lease->group);
		claim_refuse(claim, &refusal);
	} else if (lease && lease->failure.what && lease->failure.hook) {
		refuse_hook(claim, lease);
	} else if (lease && lease->failure.what && lease->failure.none_left) {
		claim_refuse_none_left(claim, lease, NULL, lease->failure.error);
	} else if (lease && lease->failure.what) {
		claim_fail(claim, lease,
			   lease->failure.has_address ? &lease->failure.address : NULL,
			   lease->failure.what, lease->failure.error);
	}
	claim_advance(claim);
}

static void on_over(struct lease_follower *follower, struct lease *lease)
{
	struct claim *claim = claim_of_follower(follower);
	struct claim_item *item = claim_item_of(lease);

	if (item == &claim->items[0]) {
		claim->ended.has_address = lease_has_address(lease);
		claim->ended.asked = lease->asked;
		claim->ended.group = lease->group;
		memcpy(claim->ended.rule, lease->terms.rule, sizeof(claim->ended.rule));
		memcpy(claim->ended.profile, lease->mdev.type, sizeof(claim->ended.profile));
	}
	item->lease = NULL;
	lease->follower = NULL;
}

const struct lease_follower_ops claim_follower_ops = {
	.progress = on_lease_progress,
	.settled = on_settled,
	.over = on_over,
};

/* ---- release and disconnection ---- */

void claim_end_waiting(struct waiting *waiting, uint32_t by)
{
	struct audit *audit = waiting->queue->audit;
	struct claimant *claimant = waiting->claimant;
	struct claim *claim = claimant->claim;
	struct message_refusal refusal = refusal_make(GPUBROKER_REFUSED_BUSY);

	refusal.detail = REFUSAL_ENDED;
	refusal.lease = waiting->id;
	refusal.holder_uid = by;
	if (claim) { /* it is being tried again */
		free(TAKE_PTR(claim->request));
		claim->refusal = refusal;
		claim->failed = true;
		claim_advance(claim);
		return;
	}
	queue_leave(claimant);
	audit_refused(audit, claimant->uid, claimant->pid, &refusal);
	claimant->ops->refuse(claimant, &refusal);
}

void claim_release(struct claim *claim, struct lease *lease)
{
	claim_fail(claim, lease, NULL, "released before it was granted", 0);
	claim_advance(claim);
}

/*
 * Fills in what a claim of a part is about: the chosen part, or, before a worker has chosen, only
 * what the client asked for. (The first candidate would be wrong.)
 */
static void name_choice(const struct part_choice *choice, struct audit_line *line)
{
	const struct selector *selector = &choice->selector;

	line->group = NO_GROUP;
	if (choice->is_fixed)
		return;
	line->device = selector->kind == SELECT_ADDRESS ? &selector->address : NULL;
	line->name = selector->profile[0] ? selector->profile : selector->name;
	line->rule = NULL;
}

/*
 * Logs the end of a claim whose claimant is gone and cannot be answered: as a refusal, since a
 * client can cause many without a change of anything.
 */
static void log_abandoned(const struct claim *claim)
{
	const struct claim_item *first = &claim->items[0];
	const struct claim_ended *ended = &claim->ended;
	struct audit_line line;
	char reason[256];

	if (first->lease)
		line = audit_line_of(first->lease, "refused");
	else
		line = (struct audit_line){
			.level = LOG_INFO,
			.uid = claim->claimant->uid,
			.pid = claim->claimant->pid,
			.device = ended->has_address ? &ended->asked : NULL,
			.name = ended->profile[0] ? ended->profile : NULL,
			.group = ended->group,
			.rule = ended->rule,
			.by = AUDIT_NOBODY,
		};
	line.outcome = "refused";
	line.lease = 0;
	line.reason = claim->failed ? audit_reason(&claim->refusal, reason, sizeof(reason))
				    : "gone";
	if (first->choice)
		name_choice(first->choice, &line);
	audit_asked(claim->claims->audit, claim->claimant->uid, &line);
}

void claims_forget(struct claimant *claimant)
{
	struct claim *claim = TAKE_PTR(claimant->claim);

	claim_check_forget(claimant);
	opening_avoid_none(claimant);
	queue_leave(claimant);
	if (!claim)
		return;
	log_abandoned(claim);
	claim->claimant = NULL;
	claim_advance(claim);
}
