/* SPDX-License-Identifier: MIT */
/* The counters of the broker, from its start on. */
#pragma once

#include "brokerd/peer/peer.h"

/* Answers a request for the counters. */
void counters_answer(struct peer *peer);
