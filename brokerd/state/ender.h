/* SPDX-License-Identifier: MIT */
/*
 * The order of the core to the ender, and the answer: to send a signal to the processes of one user
 * that have one of these nodes open. Data and checks, no I/O.
 */
#pragma once

#include <stdbool.h>
#include <stdint.h>

#include "client/wire/protocol.h"

#define ENDER_NODES_MAX (1 + PROTOCOL_CDEVS_MAX) /* a group's, and those of its devices */
#define ENDER_RANGES_MAX 8			 /* of uids */
#define ENDER_TEXT 32

struct ender_node {
	uint32_t major, minor;
};

struct ender_range {
	uint32_t first, last;
};

struct ender_order {
	uint64_t lease;	 /* not 0 */
	uint32_t signal; /* SIGTERM or SIGKILL */
	uint32_t n_nodes, n_ranges;
	uint32_t supervisors; /* 0 or 1: what may be one is not spared for another process */
	struct ender_node nodes[ENDER_NODES_MAX];
	struct ender_range uids[ENDER_RANGES_MAX]; /* the user's; none has 0 */
};

struct ender_answer {
	uint64_t lease;
	uint32_t signalled;  /* how many processes */
	uint32_t spared;     /* how many of other users have a node open: they get no signal */
	uint32_t incomplete; /* 0 or 1: it had no time to look at all descriptors */
	uint32_t pid, uid;   /* the first of those that were signalled, or else spared; 0: none */
	char program[ENDER_TEXT]; /* its, printable; "": not known */
	uint32_t reserved;
};

/* Returns true if the core can have made the order, and the ender may carry it out. */
bool ender_order_valid(const struct ender_order *order);
/* Returns true if the ender can have made the answer. Only its form is checked. */
bool ender_believe(const struct ender_answer *answer);
