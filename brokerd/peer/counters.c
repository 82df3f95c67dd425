/* SPDX-License-Identifier: MIT */
/*
 * The counters, see counters.h. They are about all users, and no listing shows as much: so only
 * root gets them, and others learn since when the broker runs.
 */
#include "config.h"

#include "brokerd/peer/counters.h"
#include "brokerd/record/usage.h"

#include <string.h>

void counters_answer(struct peer *peer)
{
	const struct peers *peers = peer->peers;
	struct message_counted counted = {
		.type = MESSAGE_COUNTED,
		.all = peer->claimant.uid == 0,
		.started = peers->started,
	};

	if (counted.all) {
		counted.granted = peers->audit->granted;
		counted.ended = peers->usage->ended;
		counted.lost = peers->usage->lost;
		memcpy(counted.refused, peers->audit->refused, sizeof(counted.refused));
	}
	peer_counted(peer, &counted);
}
