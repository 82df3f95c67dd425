/* SPDX-License-Identifier: MIT */
/* What peers ask for. */
#pragma once

#include "brokerd/peer/peer.h"

/* The functions of a peer that are not the connection's. */
extern const struct peers_ops request_ops;
