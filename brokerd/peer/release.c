/* SPDX-License-Identifier: MIT */
/*
 * What is asked of a lease that there is. Leases ended otherwise than by their holder's letting go: released
 * by who claimed them, revoked by root, and functions that root wants back on their host drivers; and
 * what a holder has found out of the device. Decides who may; how things go
 * back is lending.c's and restore.c's. It must never make anybody wait: it begins, and what comes
 * of it is seen in the listing.
 */
#include "config.h"

#include "brokerd/record/audit.h"
#include "brokerd/claim/claim.h"
#include "brokerd/state/verdict.h"
#include "brokerd/lease/ending.h"
#include "brokerd/process/log.h"
#include "brokerd/lease/mdev.h"
#include "brokerd/prepare/prepare.h"
#include "brokerd/record/lease-record.h"
#include "brokerd/prepare/sriov.h"
#include "client/host/sysfs.h"
#include "client/common/util.h"

#include <errno.h>
#include <inttypes.h>
#include <string.h>
#include <time.h>

static int refuse(struct message_refusal *ret_refusal, uint32_t reason, uint64_t lease,
		  const char *detail)
{
	*ret_refusal = refusal_make(reason);
	ret_refusal->lease = lease;
	snprintf(ret_refusal->text, sizeof(ret_refusal->text), "%s", detail);
	return (int)reason;
}

static int refuse_fault(struct message_refusal *ret_refusal, const struct pci_address *address,
			const char *what, int error)
{
	*ret_refusal = refusal_make(GPUBROKER_REFUSED_FAILED);
	ret_refusal->address = *address;
	ret_refusal->has_address = 1;
	snprintf(ret_refusal->text, sizeof(ret_refusal->text), "%s", what);
	ret_refusal->error = error;
	return GPUBROKER_REFUSED_FAILED;
}

/* Root has said that it is to go back, so what kept it does not count any more. */
static int force_back(struct daemon *daemon, struct lease *lease,
		      struct message_refusal *ret_refusal)
{
	int r;

	if (lease->work)
		return refuse_held(ret_refusal, lease, &lease->asked);
	lease->forced = true;
	if (!lease->recorded) {
		r = record_write(daemon->state_dir, lease);
		if (r)
			return refuse_fault(ret_refusal, &lease->asked, "recording it", -r);
		lease->recorded = true;
	}
	lease_retry(lease);
	return 0;
}

/* Its end is set: now, or after a time, which a later one does not put off. */
static int end_at(struct daemon *daemon, struct lease *lease, uint64_t after,
		  struct message_refusal *ret_refusal)
{
	const uint64_t now = (uint64_t)time(NULL), before = lease->ends;
	int r;

	if (before && before <= now + after)
		return 0;
	lease->ends = now + after;
	r = lease->recorded ? record_write(daemon->state_dir, lease) : 0;
	if (r) {
		lease->ends = before;
		return refuse_fault(ret_refusal, &lease->asked, "recording its end", -r);
	}
	lease->warned = false;
	lease->warn_at = 0;
	if (after)
		lease_set_clock(daemon, lease);
	return 0;
}

static void tell(const struct peer *peer, const struct lease *lease, const char *outcome,
		 uint64_t after)
{
	struct audit line = audit_of(lease, outcome);
	char reason[48];

	line.level = LOG_NOTICE;
	line.by = peer->uid;
	snprintf(reason, sizeof(reason), "after %" PRIu64 " s", after);
	if (after)
		line.reason = reason;
	audit_asked(peer->daemon, peer->uid, &line);
}

int release_lease(struct peer *peer, const struct message_release *request,
		  struct message_refusal *ret_refusal)
{
	struct lease *lease = lease_find_from(&peer->daemon->leases, request->lease);
	bool revoke = request->flags & RELEASE_REVOKE;

	if (revoke && peer->uid != 0)
		return refuse(ret_refusal, GPUBROKER_REFUSED_NOT_YOURS, 0,
			      "revoke a lease; 'gpubroker release' ends one of your own");
	if (!lease || lease->id != request->lease)
		return refuse(ret_refusal, GPUBROKER_REFUSED_NO_LEASE, request->lease, "");
	if (peer->uid != 0 && peer->uid != lease->uid)
		return refuse(ret_refusal, GPUBROKER_REFUSED_NOT_YOURS, lease->id, "");
	tell(peer, lease, revoke ? "revoking" : "releasing", request->after);
	if (lease->claim && !request->after) {
		struct claim *claim = lease->claim;

		claim_fail(claim, lease, NULL, "released before it was granted", 0);
		claim_advance(claim);
		return 0;
	}
	if (lease->state == GPUBROKER_LEASE_STUCK) {
		if (lease->damaged[0])
			return force_back(peer->daemon, lease, ret_refusal);
		lease_retry(lease); /* it is on its way back, whatever the time */
		return 0;
	}
	if (request->after)
		return end_at(peer->daemon, lease, request->after, ret_refusal);
	/* So that a restart in between does not forget it. */
	if (lease->state == GPUBROKER_LEASE_LEASED && end_at(peer->daemon, lease, 0, ret_refusal))
		log_error("lease %" PRIu64 ": that it is to end cannot be recorded: %s", lease->id,
			  strerror(ret_refusal->error));
	lease_recall(lease, revoke ? "revoked" : "released");
	return 0;
}

/*
 * A group that no lease has: it is given back all the same, by a lease that nobody holds, so that a
 * crash in between finds a record.
 */
static int restore_group(struct peer *peer, uint32_t group, const struct pci_address *address,
			 struct message_refusal *ret_refusal)
{
	struct daemon *daemon = peer->daemon;
	struct group_view *view = malloc(sizeof(*view));
	struct lease *lease;
	int r = view ? sysfs_group_read(daemon->kernel.sys, group, view) : -ENOMEM;

	if (r || !view->n_functions) {
		free(view);
		return refuse_fault(ret_refusal, address, "reading its IOMMU group", -r);
	}
	r = vfs_refuse(daemon, view, address, ret_refusal);
	lease = mdev_lease_below(daemon, view);
	if (!r && lease) {
		r = refuse_held(ret_refusal, lease, address);
		if (lease->state == GPUBROKER_LEASE_LEASED)
			ret_refusal->detail = REFUSAL_LEASED;
	}
	if (r) {
		free(view);
		return r;
	}
	lease = lease_new(&daemon->leases, 0, group);
	if (!lease) {
		free(view);
		return refuse_fault(ret_refusal, address, "restore", ENOMEM);
	}
	lease_of_unknown(lease, view);
	free(view);
	lease->owner = daemon;
	lease->asked = *address;
	lease->uid = peer->uid;
	lease->gid = peer->gid;
	lease->pid = peer->pid;
	lease->since = (uint64_t)time(NULL);
	lease->forced = true;
	strcpy(lease->terms.rule, "gpubroker restore");
	r = record_write(daemon->state_dir, lease);
	if (r) {
		lease_free(&daemon->leases, lease);
		return refuse_fault(ret_refusal, address, "recording it", -r);
	}
	lease->recorded = true;
	tell(peer, lease, "restoring", 0);
	prepare_leave(daemon, group);
	/* Perhaps somebody has it without us: it goes back when they let go. */
	lease_go(lease, LEASE_SENT);
	lease_closed(daemon, lease);
	return 0;
}

int restore_device(struct peer *peer, const struct message_restore *request,
		   struct message_refusal *ret_refusal)
{
	struct daemon *daemon = peer->daemon;
	struct lease *lease;
	uint32_t group;
	bool late;
	int r;

	if (peer->uid != 0)
		return refuse(ret_refusal, GPUBROKER_REFUSED_NOT_YOURS, 0,
			      "give a device back to its host driver; 'gpubroker release' ends a "
			      "lease of your own");
	r = sysfs_group_of(daemon->kernel.sys, &request->address, &group);
	if (r || group == NO_GROUP) {
		*ret_refusal =
			refusal_make(r ? GPUBROKER_REFUSED_NO_DEVICE : GPUBROKER_REFUSED_NO_GROUP);
		ret_refusal->address = request->address;
		ret_refusal->has_address = 1;
		return (int)ret_refusal->reason;
	}
	lease = lease_find_group(&daemon->leases, group);
	if (lease && lease->state == GPUBROKER_LEASE_STUCK) {
		tell(peer, lease, "restoring", 0);
		return force_back(daemon, lease, ret_refusal);
	}
	if (lease) {
		r = refuse_held(ret_refusal, lease, &request->address);
		if (lease->state == GPUBROKER_LEASE_LEASED)
			ret_refusal->detail = REFUSAL_LEASED;
		return r;
	}
	if (prepare_has_group(daemon, group, &late))
		return refuse_prepared(ret_refusal, &request->address, group, late);
	return restore_group(peer, group, &request->address, ret_refusal);
}

int note_migration(struct peer *peer, const struct message_migration *note,
		   struct message_refusal *ret_refusal)
{
	struct lease *lease = lease_find_from(&peer->daemon->leases, note->lease);
	enum gpubroker_migration before;
	int r;

	if (!lease || lease->id != note->lease)
		return refuse(ret_refusal, GPUBROKER_REFUSED_NO_LEASE, note->lease, "");
	if (peer->uid != lease->uid)
		return refuse(ret_refusal, GPUBROKER_REFUSED_NOT_YOURS, lease->id, "");
	before = lease->migration;
	if (before == (enum gpubroker_migration)note->migration)
		return 0;
	lease->migration = (enum gpubroker_migration)note->migration;
	r = lease->recorded ? record_write(peer->daemon->state_dir, lease) : 0;
	if (r) {
		lease->migration = before;
		return refuse_fault(ret_refusal, &lease->asked, "recording whether it migrates",
				    -r);
	}
	return 0;
}
