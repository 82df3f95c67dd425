/* SPDX-License-Identifier: MIT */
/*
 * Requests about allotments, see allotting.h. It decides who may make them: root alone. claim/
 * carries them out. It must never believe a uid of anybody else's request.
 */
#include "config.h"

#include "brokerd/peer/allotting.h"
#include "brokerd/claim/allot.h"
#include "brokerd/state/refuse.h"
#include "client/host/sysfs.h"

#include <stdio.h>
#include <string.h>

static int refuse_other(struct message_refusal *ret_refusal, const char *text)
{
	*ret_refusal = refusal_make(GPUBROKER_REFUSED_NOT_YOURS);
	refusal_say(ret_refusal, "%s", text);
	return GPUBROKER_REFUSED_NOT_YOURS;
}

int allotting_make(struct peer *peer, const struct message_allot *request,
		   struct message_refusal *ret_refusal)
{
	int r;

	if (peer->claimant.uid != 0)
		return refuse_other(ret_refusal, "allot a device to a user");
	r = allot_make(peer->peers->claims, peer->claimant.pid, request, ret_refusal);
	/* The sentence is about the user whom the device is for. */
	if (r == GPUBROKER_REFUSED_POLICY) {
		if (ret_refusal->detail != REFUSAL_NO_RULE)
			ret_refusal->detail = REFUSAL_NOT_LENT;
		ret_refusal->holder_uid = request->uid;
	}
	return r;
}

int allotting_retract(struct peer *peer, const struct message_retract *request,
		      struct message_refusal *ret_refusal)
{
	if (peer->claimant.uid != 0)
		return refuse_other(ret_refusal, "take an allotment away");
	return allot_retract(peer->peers->claims, peer->claimant.pid, request->label, ret_refusal);
}

int allotting_socket(struct peer *peer, const struct message_socket *request,
		     struct message_refusal *ret_refusal)
{
	if (peer->claimant.uid != 0)
		return refuse_other(ret_refusal, "give an allotment a socket");
	return handover_begin(peer, request, ret_refusal);
}

int allotting_check(const struct peer *peer, const struct pci_address *address,
		    struct message_refusal *ret_refusal)
{
	const struct peers *peers = peer->peers;
	const struct allotment *allotment;
	uint32_t group;

	if (sysfs_group_of(peers->kernel->sys, address, &group))
		group = NO_GROUP;
	allotment = allotments_of(peers->claims->allotments, peers->devices, address, group);
	return allotment ? refuse_allotted(ret_refusal, allotment, address, group) : 0;
}

struct message_allotment allotting_message(const struct peer *peer,
					   const struct allotment *allotment)
{
	const uint32_t owner = peers_owner(peer->peers, peer->claimant.uid);
	struct message_allotment message = {
		.type = MESSAGE_ALLOTMENT,
		.since = allotment->since,
		.until = allotment->until,
		.uid = allotment->uid,
		.n_devices = (uint32_t)allotment->n_devices,
	};

	memcpy(message.label, allotment->label, sizeof(message.label));
	if (allotment->damaged)
		message.flags |= ALLOTMENT_DAMAGED;
	else if (owner != POLICY_NOBODY && owner == peers_owner(peer->peers, allotment->uid))
		message.flags |= ALLOTMENT_OWN;
	if (allotment->retracting)
		message.flags |= ALLOTMENT_RETRACTING;
	if (sockets_has(peer->peers, allotment->label))
		message.flags |= ALLOTMENT_LISTENS;
	if (allotment->socket[0])
		snprintf(message.socket, sizeof(message.socket), "%.*s/%s",
			 (int)(sizeof(message.socket) - sizeof(allotment->socket) - 1),
			 peer->peers->sockets.path, allotment->socket);
	for (size_t i = 0; i < allotment->n_devices; i++) {
		message.devices[i] = allotment->devices[i].address;
		message.groups[i] = allotment->devices[i].group;
	}
	return message;
}
