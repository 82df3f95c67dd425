/* SPDX-License-Identifier: MIT */
/* Listings of devices and leases. */
#pragma once

#include "brokerd/peer/peer.h"

/* Begins a listing, which ends with MESSAGE_END. */
void listing_devices(struct peer *peer);
void listing_leases(struct peer *peer);
void listing_queue(struct peer *peer);
/* Lists the leases that have ended: for root all, for others those of their user. */
void listing_usage(struct peer *peer);
void listing_allotments(struct peer *peer);
/* peers_ops.room(): writes as much of the listing as the socket takes. */
void listing_continue(struct peer *peer);
