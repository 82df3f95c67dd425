/* SPDX-License-Identifier: MIT */
/* The requests of peers. */
#pragma once

#include "brokerd/peer/peer.h"

/* The functions that a connection calls for requests. */
extern const struct peers_ops request_ops;
