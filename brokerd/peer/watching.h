/* SPDX-License-Identifier: MIT */
/* Sends the peers that watch what happens to leases. */
#pragma once

#include "brokerd/peer/peer.h"

/* Begins to send events to the peer, until it disconnects. */
void watching_begin(struct peer *peer);

/* Sends that the lease's state, or the reason why it is stuck, has changed. */
void watching_state(struct peers *peers, const struct lease *lease);
/* Sends that the lease ends soon. */
void watching_ending(struct peers *peers, const struct lease *lease);
/*
 * Sends that a function came to the lease's group, or vanished from it. `refused` is why one that
 * came is not lent, or NULL.
 */
void watching_function(struct peers *peers, const struct lease *lease,
		       const struct pci_address *address, bool came, const char *refused);
/* Sends that a claim begins to wait, or waits no longer. */
void watching_waiting(struct peers *peers, const struct waiting *waiting, bool waits);
/* Sends, for each of its devices, that an allotment was made, is being taken away, or is gone. */
void watching_allotment(struct peers *peers, const struct allotment *allotment,
			enum gpubroker_event_kind kind);
