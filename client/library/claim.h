/* SPDX-License-Identifier: MIT */
/* A claim as the other files of the library see it. */
#pragma once

#include "client/gpubroker.h"
#include "client/wire/protocol.h"

/* Returns what the claim asks for. It stays the claim's. */
const struct message_claim *claim_request(const struct gpubroker_claim *claim);
