/* SPDX-License-Identifier: MIT */
/*
 * The sentences for refusals. The daemon sends numbers; here they become text that names the
 * device, the reason, and what would help.
 */
#pragma once

#include <stddef.h>

#include "client/gpubroker.h"
#include "client/wire/protocol.h"

/* The caller's knowledge beyond the message: names for uids, or NULL to write numbers. */
struct refusal_names {
	/* Writes the user's name into out (size bytes), or nothing if there is none. */
	void (*user)(uint32_t uid, char *out, size_t size);
};

/*
 * Writes one sentence without a final newline into out. The message's strings may lack their NUL.
 */
void refusal_format(const struct message_refusal *refusal, const struct refusal_names *names,
		    char *out, size_t size);

/* Copies what the refusal is about. */
void refusal_facts(const struct message_refusal *refusal, struct gpubroker_refused *ret_refused);
