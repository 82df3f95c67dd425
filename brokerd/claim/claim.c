/* SPDX-License-Identifier: MIT */
/*
 * A claim, from the request to the grant or the refusal:
 *
 *	select.c: which groups, and may they be had -> ask (lending.c) -> record -> bind (lending.c)
 *	-> open -> check -> send -> close
 *
 * Owns claims. A claim is all or nothing: as soon as one of its groups fails, all are put back, and
 * only then is the peer told. It must never begin with a group that is not recorded, nor keep a
 * lent group open: between open and close nothing else happens in this process.
 */
#include "config.h"

#include "brokerd/record/audit.h"
#include "brokerd/lease/cdev.h"
#include "brokerd/claim/claim.h"
#include "brokerd/state/verdict.h"
#include "brokerd/lease/ending.h"
#include "brokerd/process/log.h"
#include "brokerd/lease/mdev.h"
#include "brokerd/record/lease-record.h"
#include "client/wire/passfd.h"
#include "client/common/util.h"

#include <errno.h>
#include <inttypes.h>
#include <string.h>
#include <time.h>

void claim_step(struct lease *lease, enum gpubroker_step step, const struct pci_address *address,
		uint32_t index, uint32_t total)
{
	struct message_step message = {
		.type = MESSAGE_STEP,
		.step = step,
		.address = *address,
		.group = lease->group,
		.index = index,
		.total = total,
	};

	memcpy(message.parent, lease->mdev.parent, sizeof(message.parent));
	if (lease->claim && lease->claim->peer)
		peer_step(lease->claim->peer, &message);
}

void claim_fail(struct claim *claim, const struct lease *lease, const struct pci_address *address,
		const char *what, int error)
{
	if (claim->failed)
		return;
	claim->failed = true;
	claim->refusal = refusal_make(GPUBROKER_REFUSED_FAILED);
	refusal_name_lease(&claim->refusal, lease);
	if (address && pci_address_compare(address, &lease->asked) != 0) {
		claim->refusal.other = *address;
		claim->refusal.has_other = 1;
	}
	snprintf(claim->refusal.text, sizeof(claim->refusal.text), "%s", what);
	claim->refusal.error = error;
}

void claim_stuck(struct claim *claim, const struct lease *lease, const struct pci_address *address)
{
	if (!claim->failed) {
		claim->failed = true;
		refuse_held(&claim->refusal, lease, address);
	}
	claim_advance(claim);
}

void claim_forget(struct claim *claim, struct lease *lease)
{
	lease->claim = NULL;
	for (size_t i = 0; i < claim->n; i++)
		if (claim->leases[i] == lease)
			claim->leases[i] = NULL;
}

static void claim_free(struct claim *claim)
{
	for (size_t i = 0; i < claim->n; i++) {
		free(claim->views[i]);
		free(claim->mdevs[i]);
		if (claim->leases[i])
			claim->leases[i]->claim = NULL;
	}
	if (claim->peer)
		claim->peer->claim = NULL;
	TAILQ_REMOVE(&claim->daemon->claims, claim, link);
	free(claim->request);
	free(claim);
}

/*
 * Sends all groups in one packet, so that a peer has all or none. 0, or what failed for which
 * lease.
 */
static int claim_send(struct claim *claim, struct message_grant *grant, const int *fds,
		      size_t n_fds, size_t *ret_which, const char **ret_what)
{
	struct peer *peer = claim->peer;
	int r;

	*ret_which = 0;
	grant->memlock = claim->memlock;
	if (claim->memlock) {
		*ret_what = "raising the limit of locked memory";
		r = peer_memlock_raise(peer, claim->memlock);
		if (r == -EPERM) {
			/*
			 * Started without CAP_SYS_RESOURCE. The device is as good; `run` will warn
			 * of the limit.
			 */
			log_error(
				"a rule grants memlock, but the broker has no CAP_SYS_RESOURCE to raise it");
			grant->memlock = 0;
		} else if (r) {
			return r;
		}
	}
	for (size_t i = 0; i < claim->n; i++) {
		grant->groups[i].lease = claim->leases[i]->id;
		grant->groups[i].group = claim->leases[i]->group;
		grant->groups[i].address = claim->asked[i];
		memcpy(grant->groups[i].parent, claim->leases[i]->mdev.parent,
		       sizeof(grant->groups[i].parent));
		memcpy(grant->groups[i].uuid, claim->leases[i]->mdev.uuid,
		       sizeof(grant->groups[i].uuid));
	}
	*ret_what = "sending it";
	return peer_grant(peer, grant, fds, n_fds);
}

/* Opens all that is lent, sends, closes. Between open and close nothing else happens in this process. */
static void claim_grant(struct claim *claim)
{
	struct message_grant grant = { .type = MESSAGE_GRANT, .n_groups = (uint32_t)claim->n };
	struct daemon *daemon = claim->daemon;
	size_t n = 0, which = 0;
	const char *what = "";
	int fds[PASSFD_MAX], r = 0;

	while (!r && n < claim->n) {
		struct lease *lease = claim->leases[n];

		which = n;
		what = "opening its IOMMU group";
		claim_step(lease, GPUBROKER_STEP_OPEN, &claim->asked[n], (uint32_t)n + 1,
			   (uint32_t)claim->n);
		r = fds[n] = kernel_group_open(&daemon->kernel, lease->group);
		if (r < 0)
			break;
		r = kernel_group_viable(fds[n++]);
		if (r) {
			what = "the kernel finds its IOMMU group not viable: something in it is still bound to a "
			       "host driver";
			r = r == -EPERM ? -EBUSY : r;
		} else {
			what = "watching its IOMMU group";
			lease->watch = r = kernel_group_watch(&daemon->kernel, lease->group);
			r = r < 0 ? r : 0;
		}
	}
	if (!r && claim->cdevs) {
		what = "opening its device node";
		r = cdevs_open(daemon, claim->leases, claim->n, &grant, fds, &n, &which);
	}
	if (!r)
		r = claim_send(claim, &grant, fds, n, &which, &what);
	for (size_t i = 0; i < claim->n; i++) {
		struct lease *lease = claim->leases[i];

		if (!r) {
			lease->lent = true;
			lease_go(lease, LEASE_SENT);
		} else {
			/* What we close ourselves is no end of a lease. */
			kernel_group_unwatch(&daemon->kernel, lease->watch);
			lease->watch = -1;
			cdevs_unwatch(daemon, lease);
		}
	}
	while (n)
		fd_close(fds[--n]);
	if (r)
		claim_fail(claim, claim->leases[which], NULL, what, -r);
}

static void claim_granted(struct claim *claim)
{
	for (size_t i = 0; i < claim->n; i++) {
		struct audit line = audit_of(claim->leases[i], "granted");
		char reason[128];

		snprintf(reason, sizeof(reason), "mdev %s of %s", claim->leases[i]->mdev.uuid,
			 claim->leases[i]->mdev.parent);
		if (claim->leases[i]->mdev.vendor)
			snprintf(reason, sizeof(reason), "vGPU, %s", claim->leases[i]->mdev.name);
		if (lease_is_mdev(claim->leases[i]))
			line.reason = reason;
		lease_set_clock(claim->daemon, claim->leases[i]);
		audit(&line);
	}
	queue_leave(claim->peer);
	claim_free(claim);
}

/* Every group is asked: records all, then begins with the first. What is not recorded is not touched. */
static void claim_bind(struct claim *claim)
{
	struct daemon *daemon = claim->daemon;
	int r;

	claim->bound = true;
	mdev_settle(claim);
	for (size_t i = 0; !claim->failed && i < claim->n; i++) {
		r = record_write(daemon->state_dir, claim->leases[i]);
		if (r) {
			log_error("a lease cannot be recorded in the state directory: %s",
				  strerror(-r));
			claim_fail(claim, claim->leases[i], NULL, "recording the lease", -r);
		}
		claim->leases[i]->recorded = !r;
	}
	for (size_t i = 0; !claim->failed && i < claim->n; i++) {
		r = lease_bind(daemon, claim->leases[i]);
		if (r)
			claim_fail(claim, claim->leases[i], NULL,
				   claim->mdevs[i] ? mdev_why_not_made(claim->leases[i], r)
				   : r == -ENOENT && claim->terms[i].vfio_driver[0]
					   ? "the VFIO driver that its rule names is not loaded"
					   : "binding to VFIO",
				   -r);
	}
}

bool claim_has_part(const struct claim *claim)
{
	for (size_t i = 0; i < claim->n; i++)
		if (claim->mdevs[i])
			return true;
	return false;
}

static int refuse_to_queue(struct message_refusal *ret_refusal)
{
	*ret_refusal = refusal_make(GPUBROKER_REFUSED_QUOTA);
	snprintf(ret_refusal->text, sizeof(ret_refusal->text),
		 "you have %d claims that wait, which is the most one user may have",
		 WAITING_PER_UID);
	return GPUBROKER_REFUSED_QUOTA;
}

/* Of a profile none is left: does its peer rather wait? If not, *refusal may be why. */
static bool stays(struct claim *claim, struct message_refusal *refusal)
{
	int r = -EINVAL;

	if (refusal->reason == GPUBROKER_REFUSED_NONE_LEFT && claim->request)
		r = queue_stay(claim->peer, claim->request, &claim->wanted);
	if (r == -EDQUOT)
		refuse_to_queue(refusal);
	return !r;
}

static bool is_under_way(const struct claim *claim)
{
	for (size_t i = 0; i < claim->n; i++)
		if (claim->leases[i] && claim->leases[i]->work &&
		    claim->leases[i]->state != GPUBROKER_LEASE_STUCK)
			return true;
	return false;
}

/*
 * Looks where the claim stands and does what is next: nothing while a worker is at it, binding when
 * all groups are asked, the grant when all are ready, and after a failure first the way back, then
 * the answer.
 */
void claim_advance(struct claim *claim)
{
	struct daemon *daemon = claim->daemon;
	size_t ready = 0;
	struct peer *peer;

	if (!claim->peer && !claim->failed)
		claim_fail(claim, claim->leases[0], NULL, "the claimer is gone", 0);
	if (!claim->failed && !claim->bound && !is_under_way(claim))
		claim_bind(claim);
	for (size_t i = 0; i < claim->n; i++)
		ready += claim->leases[i] && claim->leases[i]->state == GPUBROKER_LEASE_READY;
	if (!claim->failed && ready == claim->n) {
		claim_grant(claim);
		if (!claim->failed) {
			claim_granted(claim);
			return;
		}
	}
	if (!claim->failed || is_under_way(claim))
		return;

	/* Failed, and no worker is at it: each group that is not on its way back goes now. */
	for (size_t i = 0; i < claim->n; i++) {
		struct lease *lease = claim->leases[i];

		if (lease && !lease->work && lease->state != GPUBROKER_LEASE_RESTORING &&
		    lease->state != GPUBROKER_LEASE_STUCK && lease_go(lease, LEASE_ABANDON)) {
			/*
			 * Comes back here when it is over, perhaps at once, and then the claim may
			 * be gone.
			 */
			lease_restore(daemon, lease);
			return;
		}
	}
	for (size_t i = 0; i < claim->n; i++) {
		struct lease *lease = claim->leases[i];

		if (lease && lease->state != GPUBROKER_LEASE_STUCK)
			return; /* on its way back */
		if (lease)	/* what could not be put back is the worse news */
			refuse_held(&claim->refusal, lease, &lease->asked);
	}
	peer = claim->peer;
	if (peer) {
		struct message_refusal refusal = claim->refusal;
		bool waits = stays(claim, &refusal);

		claim_free(claim);
		if (waits)
			return;
		queue_leave(peer);
		audit_refused(peer, &refusal);
		peer_refuse(peer, &refusal);
	} else {
		claim_free(claim);
	}
}

static struct lease *lease_begin(struct claim *claim, size_t i)
{
	const struct group_view *view = claim->views[i];
	struct daemon *daemon = claim->daemon;
	const struct mdev_choice *choice = claim->mdevs[i];
	struct lease *lease = lease_new(&daemon->leases, 0, view ? view->group : NO_GROUP);

	if (!lease)
		return NULL;
	lease->uid = claim->peer->uid;
	lease->gid = claim->peer->gid;
	lease->pid = claim->peer->pid;
	lease->terms = claim->terms[i];
	lease->n_gids = claim->n_gids;
	memcpy(lease->gids, claim->gids, sizeof(lease->gids));
	lease->since = (uint64_t)time(NULL);
	lease->asked = claim->asked[i];
	lease->claim = claim;
	lease->owner = daemon;
	if (choice) {
		lease->mdev = choice->list[0].mdev;
		if (!lease->mdev.vendor)
			mdev_number(daemon, lease);
	}
	lease->n_functions = view ? view->n_functions : 0;
	for (size_t k = 0; k < lease->n_functions; k++) {
		const struct function *f = &view->functions[k];
		struct lease_function *was = &lease->functions[k];

		was->address = f->address;
		was->vendor = f->vendor;
		was->device = f->device;
		memcpy(was->driver, f->driver, sizeof(was->driver));
	}
	if (lease->terms.lifetime)
		lease->ends = lease->since + lease->terms.lifetime;
	event_state(lease);
	return lease;
}

/* Takes every group into the table, and has a worker ask what only workers may: see lease_ask(). */
static int claim_begin(struct claim *claim, struct message_refusal *ret_refusal)
{
	struct daemon *daemon = claim->daemon;
	int r = 0;

	for (size_t i = 0; !r && i < claim->n; i++) {
		claim->leases[i] = lease_begin(claim, i);
		r = claim->leases[i] ? 0 : -ENOMEM;
	}
	if (r) {
		*ret_refusal = refusal_make(GPUBROKER_REFUSED_FAILED);
		ret_refusal->address = claim->asked[0];
		ret_refusal->has_address = 1;
		strcpy(ret_refusal->text, "claim");
		ret_refusal->error = -r;
		for (size_t i = 0; i < claim->n; i++)
			claim->leases[i] = lease_free(&daemon->leases, claim->leases[i]);
		return GPUBROKER_REFUSED_FAILED;
	}
	for (size_t i = 0; !claim->failed && i < claim->n; i++) {
		r = lease_ask(daemon, claim->leases[i]);
		if (r)
			claim_fail(claim, claim->leases[i], NULL,
				   claim->mdevs[i] ? "asking how many are left"
						   : "asking for its driver override",
				   -r);
	}
	return 0;
}

/* Rather wait, where only others are in the way and the peer asked for it? */
static bool may_wait(const struct claim *claim, const struct message_claim *request, int reason)
{
	return reason == GPUBROKER_REFUSED_BUSY && request->flags & CLAIM_WAIT && claim->wanted.n;
}

/* Decides one; NULL: no memory, and that is the refusal. */
static struct claim *claim_new(struct peer *peer, const struct message_claim *request, int *ret_r,
			       struct message_refusal *ret_refusal)
{
	struct claim *claim = calloc(1, sizeof(*claim));

	if (!claim) {
		*ret_refusal = refusal_make(GPUBROKER_REFUSED_FAILED);
		strcpy(ret_refusal->text, "claim");
		ret_refusal->error = ENOMEM;
		*ret_r = GPUBROKER_REFUSED_FAILED;
		return NULL;
	}
	claim->daemon = peer->daemon;
	claim->peer = peer;
	claim->cdevs = request->flags & CLAIM_CDEVS;
	TAILQ_INSERT_TAIL(&peer->daemon->claims, claim, link);
	*ret_r = claim_decide(claim, request, ret_refusal);
	return claim;
}

int claim_ask(struct peer *peer, const struct message_claim *request,
	      struct message_refusal *ret_refusal)
{
	int r;
	struct claim *claim = claim_new(peer, request, &r, ret_refusal);

	if (claim)
		claim_free(claim);
	return r;
}

int claim_start(struct peer *peer, const struct message_claim *request,
		struct message_refusal *ret_refusal)
{
	int r;
	struct claim *claim = claim_new(peer, request, &r, ret_refusal);

	if (!claim)
		return r;
	if (may_wait(claim, request, r)) {
		int queued = peer->waiting ? 0 : queue_add(peer, request, &claim->wanted);

		if (peer->waiting)
			queue_wants(peer->waiting, &claim->wanted);
		if (queued == -EDQUOT) {
			r = refuse_to_queue(ret_refusal);
			audit_refused(peer, ret_refusal);
		}
		claim_free(claim);
		return r;
	}
	if (!r)
		r = claim_begin(claim, ret_refusal);
	if (r) {
		audit_refused(peer, ret_refusal);
		claim_free(claim);
		return r;
	}
	if (request->flags & CLAIM_WAIT && claim_has_part(claim))
		claim->request = malloc(sizeof(*request));
	if (claim->request) /* without memory it is not waited for */
		*claim->request = *request;
	peer->busy = PEER_CLAIMING;
	peer->claim = claim;
	claim_advance(claim);
	return 0;
}

/*
 * Says in the line what a claim of an mdev or a vGPU is about: what it has become, or, while no
 * driver has answered, only what the client asked for. The first candidate is neither.
 */
static void name_part(const struct claim *claim, struct audit *line)
{
	const struct mdev_choice *choice = claim->mdevs[0];
	const struct selector *selector = &choice->selector;
	struct pci_address parent;

	if (!choice->chosen.mdev.parent[0]) {
		line->device = selector->kind == SELECT_ADDRESS ? &selector->address : NULL;
		line->name = selector->profile[0] ? selector->profile : selector->name;
		line->rule = NULL;
		return;
	}
	if (pci_address_parse(choice->chosen.mdev.parent, &parent))
		line->device = NULL;
	line->name = choice->chosen.mdev.type;
}

/* Logs the end of a claim whose client is gone: nobody is left to be answered. */
static void log_abandoned(const struct claim *claim)
{
	struct audit line = {
		.outcome = "refused",
		.level = LOG_INFO,
		.uid = claim->peer->uid,
		.pid = claim->peer->pid,
		.device = &claim->asked[0],
		.group = claim->views[0] ? claim->views[0]->group : NO_GROUP,
		.rule = claim->terms[0].rule,
		.by = AUDIT_NOBODY,
		.reason = claim->failed ? refusal_name(claim->refusal.reason) : "gone",
	};

	if (claim->mdevs[0])
		name_part(claim, &line);
	audit(&line);
}

void claim_abandon(struct claim *claim)
{
	log_abandoned(claim);
	claim->peer = NULL;
	claim_advance(claim);
}
