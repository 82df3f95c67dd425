/* SPDX-License-Identifier: MIT */
/*
 * Requests about existing leases and waiting claims, see release.h. It decides who may make them;
 * lease/ carries them out. It must never wait: it begins the release, and the listing shows the
 * result.
 */
#include "config.h"

#include "brokerd/peer/release.h"
#include "brokerd/peer/allotting.h"
#include "brokerd/claim/claim.h"
#include "brokerd/lease/bringup.h"
#include "brokerd/lease/ending.h"
#include "brokerd/lease/kill.h"
#include "brokerd/lease/restore.h"
#include "brokerd/process/log.h"
#include "brokerd/record/lease-record.h"
#include "brokerd/state/refuse.h"
#include "client/common/util.h"
#include "client/host/sysfs.h"

#include <errno.h>
#include <inttypes.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <time.h>

static int refuse_lease(struct message_refusal *ret_refusal, uint32_t reason, uint64_t lease,
			const char *text)
{
	*ret_refusal = refusal_make(reason);
	ret_refusal->lease = lease;
	refusal_say(ret_refusal, "%s", text);
	return (int)reason;
}

/*
 * Restores a stuck lease for root, with or without the reset that its rule requires. Returns 0, or
 * the reason.
 */
static int force_back(struct lease *lease, struct message_refusal *ret_refusal)
{
	int r;

	if (lease->work || lease->hook.event)
		return refuse_held(ret_refusal, lease, &lease->asked);
	lease->forced = true;
	if (!lease->recorded) {
		r = lease_record(lease);
		if (r)
			return refuse_fault(ret_refusal, &lease->asked, "recording it", -r);
		lease->recorded = true;
	}
	lease_retry(lease);
	return 0;
}

/*
 * Sets the lease's end: now, or after a time. A later request does not postpone an earlier end.
 * Returns 0, or the reason.
 */
static int set_end(struct lease *lease, uint64_t after, struct message_refusal *ret_refusal)
{
	const uint64_t now = (uint64_t)time(NULL), before = lease->ends;
	int r;

	if (before && before <= now + after)
		return 0;
	lease->ends = now + after;
	r = lease->recorded ? lease_record(lease) : 0;
	if (r) {
		lease->ends = before;
		return refuse_fault(ret_refusal, &lease->asked, "recording its end", -r);
	}
	lease->warned = false;
	lease->warn_at = 0;
	if (after)
		lease_set_clock(lease);
	return 0;
}

static void log_request(const struct peer *peer, const struct lease *lease, const char *outcome,
			uint64_t after)
{
	struct audit_line line = audit_line_of(lease, outcome);
	char reason[48];

	line.level = LOG_NOTICE;
	line.by = peer->claimant.uid;
	snprintf(reason, sizeof(reason), "after %" PRIu64 " s", after);
	if (after)
		line.reason = reason;
	audit_act(peer->peers->audit, peer->claimant.uid, &line);
}

/*
 * Returns true if what a uid has is the peer's own: of the same owner, by whichever of the owner's
 * uids.
 */
static bool is_own(const struct peer *peer, uint32_t uid)
{
	const struct policy *policy = &peer->peers->policy->policy;
	const uint32_t owner = policy_owner(policy, peer->claimant.uid);

	return peer->claimant.uid == uid ||
	       (owner != POLICY_NOBODY && owner == policy_owner(policy, uid));
}

/* Returns true if a lease is the peer's own; at the socket of an allotment, if it is by that. */
static bool is_own_lease(const struct peer *peer, const struct lease *lease)
{
	return is_own(peer, lease->uid) &&
	       (!peer->claimant.through[0] || !strcmp(peer->claimant.through, lease->label));
}

/* As log_request(), for a claim that waits. */
static void log_ended(const struct peer *peer, const struct waiting *waiting, const char *outcome)
{
	const struct audit_line line = {
		.lease = waiting->id,
		.outcome = outcome,
		.level = LOG_NOTICE,
		.uid = waiting->claimant->uid,
		.pid = waiting->claimant->pid,
		.group = NO_GROUP,
		.by = peer->claimant.uid,
		.reason = "waiting",
	};

	audit_act(peer->peers->audit, peer->claimant.uid, &line);
}

/* Ends a waiting claim for its user or root: at once, since it holds nothing. */
static int end_waiting(struct peer *peer, struct waiting *waiting, bool revoke,
		       struct message_refusal *ret_refusal)
{
	const uint32_t uid = peer->claimant.uid;

	if (uid != 0 && (!is_own(peer, waiting->claimant->uid) ||
			 (peer->claimant.through[0] &&
			  strcmp(peer->claimant.through, waiting->claimant->through) != 0)))
		return refuse_lease(ret_refusal, GPUBROKER_REFUSED_NOT_YOURS, waiting->id, "");
	log_ended(peer, waiting, revoke ? "revoking" : "releasing");
	claim_end_waiting(waiting, uid);
	return 0;
}

/*
 * Has the lease's holder ended when it is taken back and does not let go. Returns 0, or the reason.
 */
static int set_kill(struct peer *peer, struct lease *lease, uint64_t grace,
		    struct message_refusal *ret_refusal)
{
	const uint64_t before = lease->terms.kill;
	int r;

	if (!kill_is_possible(peer->peers->leases))
		return refuse_fault(ret_refusal, &lease->asked,
				    "ending its holder, for which gpubroker-end.service has to run",
				    0);
	if (!lease->uid)
		return refuse_fault(ret_refusal, &lease->asked,
				    "ending its holder, which is root's own", 0);
	lease->terms.kill = grace;
	r = lease->recorded ? lease_record(lease) : 0;
	if (r) {
		lease->terms.kill = before;
		return refuse_fault(ret_refusal, &lease->asked, "recording it", -r);
	}
	kill_again(lease);
	return 0;
}

int release_lease(struct peer *peer, const struct message_release *request,
		  struct message_refusal *ret_refusal)
{
	struct lease *lease = lease_find_id(&peer->peers->leases->table, request->lease);
	struct waiting *waiting = queue_find_id(&peer->peers->claims->queue, request->lease);
	const uint32_t uid = peer->claimant.uid;
	bool revoke = request->flags & RELEASE_REVOKE;

	if (revoke && uid != 0)
		return refuse_lease(ret_refusal, GPUBROKER_REFUSED_NOT_YOURS, 0,
				    "revoke a lease; 'gpubroker release' ends one of your own");
	if (waiting)
		return end_waiting(peer, waiting, revoke, ret_refusal);
	if (!lease)
		return refuse_lease(ret_refusal, GPUBROKER_REFUSED_NO_LEASE, request->lease, "");
	if (uid != 0 && !is_own_lease(peer, lease))
		return refuse_lease(ret_refusal, GPUBROKER_REFUSED_NOT_YOURS, lease->id, "");
	if (request->flags & RELEASE_KILL) {
		int r = set_kill(peer, lease, request->grace, ret_refusal);

		if (r)
			return r;
	}
	log_request(peer, lease,
		    request->flags & RELEASE_KILL ? "killing"
		    : revoke			  ? "revoking"
						  : "releasing",
		    request->after);
	if (lease->follower && !request->after) {
		claim_release(claim_of(lease), lease);
		return 0;
	}
	if (lease->state == GPUBROKER_LEASE_STUCK) {
		if (lease->damaged[0])
			return force_back(lease, ret_refusal);
		lease_retry(lease); /* a stuck lease is restored at once, whatever the time */
		return 0;
	}
	if (request->after)
		return set_end(lease, request->after, ret_refusal);
	/* Recorded, so that a restart in between does not forget the release. */
	if (lease->state == GPUBROKER_LEASE_LEASED && set_end(lease, 0, ret_refusal))
		log_error("lease %" PRIu64 ": cannot record that it is to end: %s", lease->id,
			  strerror(ret_refusal->error));
	/*
	 * Its holder has let go already: only root's revocation asks a process that has it again.
	 */
	if (revoke || lease->state != GPUBROKER_LEASE_RELEASING)
		lease_recall(lease, revoke ? "revoked" : "released");
	return 0;
}

/*
 * Makes and records a lease for a group that has none, so that a crash in between does not lose it.
 * Returns NULL, with *ret_reason, if that fails.
 */
static struct lease *make_unheld(struct peer *peer, const struct group_view *view,
				 const struct pci_address *address, int *ret_reason,
				 struct message_refusal *ret_refusal)
{
	struct lease *lease = lease_new(&peer->peers->leases->table, 0, view->group);
	int r;

	if (!lease) {
		*ret_reason = refuse_fault(ret_refusal, address, "restore", ENOMEM);
		return NULL;
	}
	lease_adopt_group(lease, view);
	lease_set_kind(lease);
	lease->asked = *address;
	lease->uid = peer->claimant.uid;
	lease->gid = peer->claimant.gid;
	lease->pid = peer->claimant.pid;
	lease->since = (uint64_t)time(NULL);
	lease->forced = true;
	strcpy(lease->terms.rule, LEASE_RULE_RESTORE);
	r = lease_record(lease);
	if (r) {
		lease_free(lease);
		*ret_reason = refuse_fault(ret_refusal, address, "recording it", -r);
		return NULL;
	}
	lease->recorded = true;
	return lease;
}

/* Gives a group that has no lease back to its host drivers. Returns 0, or the reason. */
static int restore_group(struct peer *peer, uint32_t group, const struct pci_address *address,
			 struct message_refusal *ret_refusal)
{
	const struct peers *peers = peer->peers;
	cleanup_free struct group_view *view = malloc(sizeof(*view));
	struct lease *lease;
	int r = view ? sysfs_group_read(peers->kernel->sys, group, view) : -ENOMEM;

	if (r == -E2BIG) {
		refuse_address(ret_refusal, GPUBROKER_REFUSED_NOT_VIABLE, address);
		ret_refusal->group = group;
		refusal_say(ret_refusal, "%s", view->not_viable);
		return GPUBROKER_REFUSED_NOT_VIABLE;
	}
	if (r || !view->n_functions)
		return refuse_fault(ret_refusal, address, "reading its IOMMU group", -r);
	r = holds_refuse(peers->holds, view, address, ret_refusal);
	if (r)
		return r;
	lease = lease_find_below(&peers->leases->table, view);
	if (lease)
		return refuse_held_for_root(ret_refusal, lease, address);
	lease = make_unheld(peer, view, address, &r, ret_refusal);
	if (!lease)
		return r;
	log_request(peer, lease, "restoring", 0);
	prepare_leave(peers->prepare, group);
	/* A process may hold the group without a lease. The group is restored when it lets go. */
	lease_transition(lease, LEASE_SENT);
	lease_closed(lease);
	return 0;
}

int release_device(struct peer *peer, const struct message_restore *request,
		   struct message_refusal *ret_refusal)
{
	const struct peers *peers = peer->peers;
	const struct hold *hold;
	struct lease *lease;
	uint32_t group;
	int r;

	if (peer->claimant.uid != 0)
		return refuse_lease(ret_refusal, GPUBROKER_REFUSED_NOT_YOURS, 0,
				    "give a device back to its host driver; 'gpubroker release' "
				    "ends a lease of your own");
	r = sysfs_group_of(peers->kernel->sys, &request->address, &group);
	if (r || group == NO_GROUP)
		return refuse_address(ret_refusal,
				      r ? GPUBROKER_REFUSED_NO_DEVICE : GPUBROKER_REFUSED_NO_GROUP,
				      &request->address);
	lease = lease_find_group(&peers->leases->table, group);
	if (lease && lease->state == GPUBROKER_LEASE_STUCK) {
		log_request(peer, lease, "restoring", 0);
		return force_back(lease, ret_refusal);
	}
	if (lease)
		return refuse_held_for_root(ret_refusal, lease, &request->address);
	r = allotting_check(peer, &request->address, ret_refusal);
	if (r)
		return r;
	hold = holds_find_group(peers->holds, group);
	if (hold)
		return refuse_preparing(ret_refusal, hold, &request->address);
	return restore_group(peer, group, &request->address, ret_refusal);
}

int release_note_migration(struct peer *peer, const struct message_migration *note,
			   struct message_refusal *ret_refusal)
{
	struct lease *lease = lease_find_id(&peer->peers->leases->table, note->lease);
	enum gpubroker_migration before;
	int r;

	if (!lease)
		return refuse_lease(ret_refusal, GPUBROKER_REFUSED_NO_LEASE, note->lease, "");
	if (!is_own_lease(peer, lease))
		return refuse_lease(ret_refusal, GPUBROKER_REFUSED_NOT_YOURS, lease->id, "");
	before = lease->migration;
	if (before == (enum gpubroker_migration)note->migration)
		return 0;
	lease->migration = (enum gpubroker_migration)note->migration;
	r = lease->recorded ? lease_record(lease) : 0;
	if (r) {
		lease->migration = before;
		return refuse_fault(ret_refusal, &lease->asked, "recording whether it migrates",
				    -r);
	}
	return 0;
}
