/* SPDX-License-Identifier: MIT */
/*
 * The question of the core to the finder, and the answer: which processes have nodes of these
 * functions open. Data and checks, no I/O.
 */
#pragma once

#include <stdbool.h>
#include <stdint.h>

#include "client/common/address.h"
#include "client/wire/protocol.h"

#define FINDING_HOLDERS_MAX 4 /* of an answer; one is enough to refuse a claim */
#define FINDING_TEXT 32
#define FINDING_LIMIT_MS 2000 /* within which the finder has to answer */
#define FINDING_CLAIM_MS 6000 /* that a claim waits for all its answers */

struct finder_question {
	uint64_t id; /* not 0 */
	uint32_t n;
	uint32_t reserved;
	struct pci_address functions[PROTOCOL_FUNCTIONS_MAX];
};

struct finder_holder {
	struct pci_address address;
	uint32_t pid, uid;
	char node[FINDING_TEXT];    /* "dri/card0" */
	char program[FINDING_TEXT]; /* "": not known */
};

struct finder_answer {
	uint64_t id;
	uint32_t n;
	uint32_t incomplete; /* 0 or 1: it had no time to look at all descriptors */
	struct finder_holder holders[FINDING_HOLDERS_MAX];
};

/* Returns true if the finder can have made the answer. Only its form is checked. */
bool finding_believe(const struct finder_answer *answer);
