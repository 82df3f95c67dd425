/* SPDX-License-Identifier: MIT */
/* What becomes of leases, sent to the peers that watch. */
#pragma once

#include "brokerd/peer/peer.h"

/* The peer watches from now on, until it goes. */
void watching_begin(struct peer *peer);

/* The lease came to another state, or the reason of its state is known now. */
void watching_state(struct peers *peers, const struct lease *lease);
/* It ends soon. */
void watching_ending(struct peers *peers, const struct lease *lease);
/* A function came to its group, or vanished from it. */
void watching_function(struct peers *peers, const struct lease *lease,
		       const struct pci_address *address, bool came);
