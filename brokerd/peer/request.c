/* SPDX-License-Identifier: MIT */
/*
 * Requests, see request.h. The form of each is checked, and it is handed to the part that decides
 * it. It must never trust a field that is not checked here, and never serve two requests of one
 * peer at a time.
 */
#include "config.h"

#include "brokerd/peer/request.h"
#include "brokerd/peer/allotting.h"
#include "brokerd/claim/asking.h"
#include "brokerd/claim/begin.h"
#include "brokerd/claim/claim.h"
#include "brokerd/peer/counters.h"
#include "brokerd/peer/listing.h"
#include "brokerd/peer/release.h"
#include "brokerd/peer/reload.h"
#include "brokerd/peer/watching.h"
#include "brokerd/state/allotments.h"
#include "brokerd/state/refuse.h"
#include "client/common/name.h"
#include "client/wire/passfd.h"

/* ---- checks of the form ---- */

static bool is_plain_request(const union peer_packet *packet, size_t size, enum message_type type)
{
	return size == sizeof(packet->plain) && packet->type == type && !packet->plain.reserved;
}

static bool valid_selectors(const struct selector *selectors, uint32_t n)
{
	if (!n || n > PROTOCOL_SELECTORS_MAX)
		return false;
	for (uint32_t i = 0; i < n; i++) {
		const struct selector *s = &selectors[i];

		if (s->profile[sizeof(s->profile) - 1] ||
		    (s->profile[0] &&
		     (s->kind == SELECT_GROUP || !mdev_is_name(s->profile, sizeof(s->profile)))))
			return false;
		if (s->kind < SELECT_ADDRESS || s->kind > SELECT_ANY || s->address.device > 31 ||
		    s->address.function > 7 || s->address.reserved || s->name[sizeof(s->name) - 1])
			return false;
	}
	return true;
}

static bool valid_claim(const struct message_claim *claim)
{
	return !(claim->flags & ~(uint32_t)(CLAIM_FORCE | CLAIM_WAIT | CLAIM_CDEVS | CLAIM_ASK)) &&
	       !claim->reserved && valid_selectors(claim->selectors, claim->n_selectors);
}

static bool valid_allot(const struct message_allot *allot)
{
	return !allot->reserved && allotment_is_label(allot->label) && allot->until <= INT64_MAX &&
	       allot->uid != UINT32_MAX && allot->gid != UINT32_MAX &&
	       allot->n_gids <= PROTOCOL_GIDS_MAX &&
	       valid_selectors(allot->selectors, allot->n_selectors);
}

static bool valid_retract(const struct message_retract *retract)
{
	return !retract->reserved && allotment_is_label(retract->label);
}

static bool valid_socket(const struct message_socket *s)
{
	return s->uid != UINT32_MAX && allotment_is_label(s->label) &&
	       allotment_is_socket(s->name) && s->gid != UINT32_MAX &&
	       s->n_gids <= PROTOCOL_GIDS_MAX;
}

static bool greet(struct peer *peer, const struct message_hello *hello)
{
	const struct message_hello welcome = { .type = MESSAGE_WELCOME,
					       .version = PROTOCOL_VERSION };
	struct message_refusal refusal = refusal_make(GPUBROKER_REFUSED_VERSION);

	if (hello->version != PROTOCOL_VERSION) {
		passfd_send(peer->fd, &refusal, sizeof(refusal), NULL, 0);
		audit_refused(peer->peers->audit, peer->claimant.uid, peer->claimant.pid, &refusal);
		return false;
	}
	peer_greeted(peer);
	return !passfd_send(peer->fd, &welcome, sizeof(welcome), NULL, 0);
}

static bool valid_release(const struct message_release *release)
{
	const bool revoke = release->flags & RELEASE_REVOKE, kill = release->flags & RELEASE_KILL;

	return !(release->flags & ~(uint32_t)(RELEASE_REVOKE | RELEASE_KILL)) &&
	       release->after <= INT32_MAX && (revoke || (!release->after && !kill)) &&
	       release->grace <= PROTOCOL_GRACE_MAX && kill == (release->grace != 0);
}

static bool valid_restore(const struct message_restore *restore)
{
	return !restore->reserved && restore->address.device <= 31 &&
	       restore->address.function <= 7 && !restore->address.reserved;
}

static bool valid_vfs(const struct message_vfs *vfs)
{
	return vfs->vfs <= UINT16_MAX && vfs->address.device <= 31 && vfs->address.function <= 7 &&
	       !vfs->address.reserved;
}

static bool valid_migration(const struct message_migration *migration)
{
	return migration->migration == GPUBROKER_MIGRATION_YES ||
	       migration->migration == GPUBROKER_MIGRATION_NO;
}

/* ---- requests ---- */

static void do_list(struct peer *peer, const union peer_packet *packet)
{
	if (packet->type == MESSAGE_LIST)
		listing_devices(peer);
	else if (packet->type == MESSAGE_LEASES)
		listing_leases(peer);
	else if (packet->type == MESSAGE_USAGE)
		listing_usage(peer);
	else if (packet->type == MESSAGE_ALLOTMENTS)
		listing_allotments(peer);
	else
		listing_queue(peer);
}

static void do_counters(struct peer *peer, const union peer_packet *packet)
{
	(void)packet;
	counters_answer(peer);
}

static void do_claim(struct peer *peer, const union peer_packet *packet)
{
	struct message_refusal refusal;
	struct claims *claims = peer->peers->claims;

	if (!(packet->claim.flags & CLAIM_ASK)) {
		if (claim_start(claims, &peer->claimant, &packet->claim, &refusal))
			peer_refuse(peer, &refusal);
		return;
	}
	claim_check(claims, &peer->claimant, &packet->claim);
}

static void do_allot(struct peer *peer, const union peer_packet *packet)
{
	struct message_refusal refusal;

	peer_answer(peer, allotting_make(peer, &packet->allot, &refusal), &refusal);
}

static void do_retract(struct peer *peer, const union peer_packet *packet)
{
	struct message_refusal refusal;

	peer_answer(peer, allotting_retract(peer, &packet->retract, &refusal), &refusal);
}

static void do_socket(struct peer *peer, const union peer_packet *packet)
{
	struct message_refusal refusal;
	int r = allotting_socket(peer, &packet->socket, &refusal);

	if (r)
		peer_answer(peer, r, &refusal);
}

static void do_release(struct peer *peer, const union peer_packet *packet)
{
	struct message_refusal refusal;

	peer_answer(peer, release_lease(peer, &packet->release, &refusal), &refusal);
}

static void do_restore(struct peer *peer, const union peer_packet *packet)
{
	struct message_refusal refusal;

	peer_answer(peer, release_device(peer, &packet->restore, &refusal), &refusal);
}

static void do_vfs(struct peer *peer, const union peer_packet *packet)
{
	struct message_refusal refusal;
	int r;

	peer->busy = PEER_SRIOV;
	r = sriov_start(peer->peers->sriov, &peer->sriov, &packet->vfs, &refusal);
	if (r)
		peer_answer(peer, r, &refusal);
}

static void do_prepare(struct peer *peer, const union peer_packet *packet)
{
	struct message_refusal refusal;
	int r;

	peer->busy = PEER_ORDER;
	/* Others than root are refused for that, whoever has it. */
	r = peer->claimant.uid ? 0 : allotting_check(peer, &packet->restore.address, &refusal);
	if (!r)
		r = order_start(peer->peers->orders, &peer->order, &packet->restore.address,
				&refusal);
	if (r)
		peer_answer(peer, r, &refusal);
}

static void do_migration(struct peer *peer, const union peer_packet *packet)
{
	struct message_refusal refusal;

	peer_answer(peer, release_note_migration(peer, &packet->migration, &refusal), &refusal);
}

static void do_policy(struct peer *peer, const union peer_packet *packet)
{
	struct message_refusal refusal;
	int r = reload_ask(peer, &packet->policy, &refusal);

	if (r)
		peer_answer(peer, r, &refusal);
}

static void do_watch(struct peer *peer, const union peer_packet *packet)
{
	(void)packet;
	watching_begin(peer);
}

typedef void (*request_handler)(struct peer *peer, const union peer_packet *packet);

/* Returns the function for a request, or NULL if its form is wrong. */
static request_handler handler_of(const union peer_packet *packet, size_t size)
{
	switch ((enum message_type)packet->type) {
	case MESSAGE_LIST:
	case MESSAGE_LEASES:
	case MESSAGE_QUEUE:
	case MESSAGE_USAGE:
	case MESSAGE_ALLOTMENTS:
		return is_plain_request(packet, size, packet->type) ? do_list : NULL;
	case MESSAGE_COUNTERS:
		return is_plain_request(packet, size, packet->type) ? do_counters : NULL;
	case MESSAGE_WATCH:
		return is_plain_request(packet, size, packet->type) ? do_watch : NULL;
	case MESSAGE_CLAIM:
		return size == sizeof(packet->claim) && valid_claim(&packet->claim) ? do_claim
										    : NULL;
	case MESSAGE_ALLOT:
		return size == sizeof(packet->allot) && valid_allot(&packet->allot) ? do_allot
										    : NULL;
	case MESSAGE_RETRACT:
		return size == sizeof(packet->retract) && valid_retract(&packet->retract)
			       ? do_retract
			       : NULL;
	case MESSAGE_SOCKET:
		return size == sizeof(packet->socket) && valid_socket(&packet->socket) ? do_socket
										       : NULL;
	case MESSAGE_RELEASE:
		return size == sizeof(packet->release) && valid_release(&packet->release)
			       ? do_release
			       : NULL;
	case MESSAGE_RESTORE:
		return size == sizeof(packet->restore) && valid_restore(&packet->restore)
			       ? do_restore
			       : NULL;
	case MESSAGE_PREPARE:
		return size == sizeof(packet->restore) && valid_restore(&packet->restore)
			       ? do_prepare
			       : NULL;
	case MESSAGE_VFS:
		return size == sizeof(packet->vfs) && valid_vfs(&packet->vfs) ? do_vfs : NULL;
	case MESSAGE_POLICY:
		return size == sizeof(packet->policy) && !(packet->policy.flags &
							   ~(uint32_t)(POLICY_RELOAD | POLICY_WAIT))
			       ? do_policy
			       : NULL;
	case MESSAGE_MIGRATION:
		return size == sizeof(packet->migration) && valid_migration(&packet->migration)
			       ? do_migration
			       : NULL;
	default:
		return NULL;
	}
}

/* Returns true for what may be asked at the socket of an allotment, of what is its own. */
static bool is_for_allotment(uint32_t type)
{
	return type == MESSAGE_LIST || type == MESSAGE_LEASES || type == MESSAGE_QUEUE ||
	       type == MESSAGE_ALLOTMENTS || type == MESSAGE_USAGE || type == MESSAGE_COUNTERS ||
	       type == MESSAGE_WATCH || type == MESSAGE_CLAIM || type == MESSAGE_RELEASE ||
	       type == MESSAGE_MIGRATION;
}

static void refuse_at_socket(struct peer *peer, const union peer_packet *packet)
{
	struct message_refusal refusal = refusal_make(GPUBROKER_REFUSED_NOT_YOURS);

	(void)packet;
	refusal.detail = REFUSAL_AT_SOCKET;
	refusal_say(&refusal, "%s", peer->claimant.through);
	peer_answer(peer, GPUBROKER_REFUSED_NOT_YOURS, &refusal);
}

static bool take_request(struct peer *peer, const union peer_packet *packet, size_t size)
{
	request_handler handler;

	if (size < sizeof(packet->type) || peer_is_busy(peer))
		return false;
	if (!peer->greeted)
		return packet->type == MESSAGE_HELLO && size == sizeof(packet->hello) &&
		       greet(peer, &packet->hello);
	handler = handler_of(packet, size);
	if (handler && peer->claimant.through[0] && !is_for_allotment(packet->type))
		handler = refuse_at_socket;
	if (handler)
		handler(peer, packet);
	return handler;
}

static void forget_peer(struct peer *peer)
{
	sriov_forget(peer->peers->sriov, &peer->sriov);
	order_forget(peer->peers->orders, &peer->order);
	claims_forget(&peer->claimant);
	handover_forget(peer);
}

const struct peers_ops request_ops = {
	.request = take_request,
	.handed = handover_take,
	.room = listing_continue,
	.gone = forget_peer,
};
