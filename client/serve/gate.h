/* SPDX-License-Identifier: MIT */
/* Whether a request is allowed to be here: against other users, and pages of the user's browser. */
#pragma once

#include <stdbool.h>

#include "client/serve/exchange.h"

#define GATE_TOKEN 65 /* 64 hexadecimal digits */

struct gate {
	unsigned port; /* of the loopback; 0: there is none */
	char token[GATE_TOKEN];
};

/* Returns true if it is; otherwise it is answered. `tcp`: it came over the loopback. */
bool gate_lets_in(const struct gate *gate, bool tcp, struct exchange *x);
