/* SPDX-License-Identifier: MIT */
/*
 * What becomes of leases, told to the peers that watch. An event goes to the socket or is counted
 * as lost; nothing is kept for a peer that does not read, and nobody waits for one.
 */
#include "config.h"

#include "brokerd/daemon.h"
#include "client/wire/passfd.h"
#include "client/common/util.h"

#include <string.h>
#include <time.h>

static void tell(struct daemon *daemon, struct message_event *event)
{
	struct peer *peer;

	if (!daemon->n_watching)
		return;
	event->type = MESSAGE_EVENT;
	event->time = (uint64_t)time(NULL);
	TAILQ_FOREACH(peer, &daemon->peers, link) {
		if (peer->busy != PEER_WATCHING || peer->fd < 0)
			continue;
		event->lost = peer->lost;
		if (passfd_send(peer->fd, event, sizeof(*event), NULL, 0))
			peer->lost++;
		else
			peer->lost = 0;
	}
}

static struct message_event of(const struct lease *lease, enum gpubroker_event_kind kind)
{
	struct message_event event = {
		.event = kind,
		.lease = lease->id,
		.ends = lease->ends,
		.group = lease->group,
		.uid = lease->uid,
		.pid = lease->pid,
		.state = lease->state,
		.has_address = lease_has_address(lease),
		.address = lease->asked,
	};

	memcpy(event.parent, lease->mdev.parent, sizeof(event.parent));
	if (lease->state == GPUBROKER_LEASE_STUCK)
		memcpy(event.reason, lease->reason, sizeof(event.reason));
	return event;
}

bool lease_go(struct lease *lease, enum lease_event event)
{
	enum gpubroker_lease_state before = lease->state;
	struct message_event message;

	if (!lease_advance(lease, event))
		return false;
	/* What is stuck says why, a moment later: event_state(). */
	if (lease->state != before && lease->state != GPUBROKER_LEASE_STUCK && lease->owner) {
		message = of(lease, GPUBROKER_EVENT_STATE);
		tell(lease->owner, &message);
	}
	return true;
}

void event_state(const struct lease *lease)
{
	struct message_event message = of(lease, GPUBROKER_EVENT_STATE);

	tell(lease->owner, &message);
}

void event_ending(const struct lease *lease)
{
	struct message_event message = of(lease, GPUBROKER_EVENT_ENDING);

	tell(lease->owner, &message);
}

void event_function(const struct lease *lease, const struct pci_address *address, bool came)
{
	struct message_event message =
		of(lease, came ? GPUBROKER_EVENT_ARRIVED : GPUBROKER_EVENT_VANISHED);

	message.address = *address;
	tell(lease->owner, &message);
}
