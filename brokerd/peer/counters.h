/* SPDX-License-Identifier: MIT */
/* What the broker has counted since its start. */
#pragma once

#include "brokerd/peer/peer.h"

/* Answers a request for the counters. */
void counters_answer(struct peer *peer);
