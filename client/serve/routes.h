/* SPDX-License-Identifier: MIT */
/* The endpoints of `gpubroker serve`. No I/O. */
#pragma once

#include "client/serve/exchange.h"

/*
 * Decides about a request that is allowed to be here: answers it at once, or sets what it wants
 * first.
 */
void routes_begin(struct exchange *x);
