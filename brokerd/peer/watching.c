/* SPDX-License-Identifier: MIT */
/*
 * Sends events to the peers that watch, see watching.h. An event is sent or counted as lost;
 * nothing is stored for a peer that does not read, and nothing waits for one.
 */
#include "config.h"

#include "brokerd/peer/watching.h"
#include "client/wire/passfd.h"

#include <stdio.h>
#include <string.h>
#include <time.h>

void watching_begin(struct peer *peer)
{
	peer->busy = PEER_WATCHING;
	peer->peers->n_watching++;
	peer->lost = 0;
}

static void send_event(struct peers *peers, struct message_event *event)
{
	struct peer *peer;

	if (!peers->n_watching)
		return;
	event->type = MESSAGE_EVENT;
	event->time = (uint64_t)time(NULL);
	TAILQ_FOREACH(peer, &peers->list, link) {
		if (peer->busy != PEER_WATCHING || peer->fd < 0 ||
		    (peer->claimant.through[0] &&
		     strcmp(peer->claimant.through, event->label) != 0))
			continue;
		event->lost = peer->lost;
		if (passfd_send(peer->fd, event, sizeof(*event), NULL, 0))
			peer->lost++;
		else
			peer->lost = 0;
	}
}

static struct message_event event_of_lease(const struct lease *lease,
					   enum gpubroker_event_kind kind)
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
	memcpy(event.label, lease->label, sizeof(event.label));
	if (lease_is_overdue(lease))
		memcpy(event.reason, lease->reason, sizeof(event.reason));
	return event;
}

void watching_state(struct peers *peers, const struct lease *lease)
{
	struct message_event event = event_of_lease(lease, GPUBROKER_EVENT_STATE);

	send_event(peers, &event);
}

void watching_ending(struct peers *peers, const struct lease *lease)
{
	struct message_event event = event_of_lease(lease, GPUBROKER_EVENT_ENDING);

	send_event(peers, &event);
}

void watching_waiting(struct peers *peers, const struct waiting *waiting, bool waits)
{
	const struct selector *first = &waiting->request.selectors[0];
	struct message_event event = {
		.event = waits ? GPUBROKER_EVENT_WAITING : GPUBROKER_EVENT_WAITED,
		.lease = waiting->id,
		.group = first->kind == SELECT_GROUP ? first->group : UINT32_MAX,
		.uid = waiting->claimant->uid,
		.pid = waiting->claimant->pid,
		.has_address = first->kind == SELECT_ADDRESS,
		.address = first->address,
		.place = waiting->now.place,
		.n_selectors = waiting->request.n_selectors,
		.first = *first,
	};

	memcpy(event.label, waiting->claimant->through, sizeof(event.label));
	send_event(peers, &event);
}

void watching_function(struct peers *peers, const struct lease *lease,
		       const struct pci_address *address, bool came, const char *refused)
{
	struct message_event event =
		event_of_lease(lease, came ? GPUBROKER_EVENT_ARRIVED : GPUBROKER_EVENT_VANISHED);

	event.address = *address;
	snprintf(event.reason, sizeof(event.reason), "%s", refused ? refused : "");
	send_event(peers, &event);
}

void watching_allotment(struct peers *peers, const struct allotment *allotment,
			enum gpubroker_event_kind kind)
{
	struct message_event event = {
		.event = kind,
		.ends = allotment->until,
		.uid = allotment->uid,
		.has_address = 1,
	};

	memcpy(event.label, allotment->label, sizeof(event.label));
	for (size_t i = 0; i < allotment->n_devices; i++) {
		event.address = allotment->devices[i].address;
		event.group = allotment->devices[i].group;
		send_event(peers, &event);
	}
}
