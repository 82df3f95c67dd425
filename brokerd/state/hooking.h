/* SPDX-License-Identifier: MIT */
/*
 * The question of the core to the runner of the administrator's hooks, and the answer: all hooks of
 * one event of one IOMMU group. Data, checks and words, no I/O.
 */
#pragma once

#include <stdbool.h>
#include <stddef.h>
#include <stdint.h>

#include "client/common/address.h"
#include "client/host/hookfiles.h"
#include "client/wire/protocol.h"

#define HOOKS_SECONDS 30   /* that all hooks of one event may take */
#define HOOKS_ASKED_MAX 64 /* questions that the core has asked and that are not answered */

enum hook_event {
	HOOK_NONE,
	HOOK_BIND,    /* nothing of the group was taken from its host driver yet */
	HOOK_RESTORE, /* the host drivers have everything back */
	HOOK_N_EVENTS,
};

struct hook_question {
	uint64_t id; /* not 0 */
	uint64_t lease;
	uint32_t event; /* enum hook_event */
	uint32_t group;
	uint32_t uid; /* who claimed */
	uint32_t n;   /* functions, at least one */
	struct pci_address functions[PROTOCOL_FUNCTIONS_MAX];
};

enum hook_result {
	HOOK_DONE,	   /* all have run, or there is none */
	HOOK_EXITED,	   /* `hook` ended with the status `value`, not 0 */
	HOOK_KILLED,	   /* `hook` ended by the signal `value` */
	HOOK_LATE,	   /* `hook` took too long, and was ended */
	HOOK_NOT_EXECUTED, /* `hook` could not be executed: `value` is an errno */
	HOOK_LOST,	   /* the process that ran the hooks was ended */
	HOOK_MISSING,	   /* never sent: the core has no runner to ask */
	/* Not an answer, and its id is 0: there are `value` hooks now. */
	HOOK_COUNT,
	HOOK_N_RESULTS,
};

struct hook_answer {
	uint64_t id;
	uint32_t result; /* enum hook_result */
	uint32_t value;
	char hook[HOOKFILE_NAME_MAX]; /* the first hook that failed; else "" */
};

/* Returns true if the core can have made the question. */
bool hooking_question_valid(const struct hook_question *question);
/* Returns true if the runner can have made the answer. Only its form is checked. */
bool hooking_believe(const struct hook_answer *answer);
/*
 * Writes what went wrong, "the hook 10-display ended with status 3"; "" for HOOK_DONE and
 * HOOK_MISSING.
 */
void hooking_say(const struct hook_answer *answer, char *out, size_t size);
