/* SPDX-License-Identifier: MIT */
/*
 * The types of the daemon's answers with their sizes, for tests that send or receive them as they
 * are on the wire. The table does not use the library's answer_size(), so that a mistake in that
 * shows.
 */
#pragma once

#include <stddef.h>

#include "client/wire/protocol.h"

static const struct {
	uint32_t type;
	size_t size;
} wire_answers[] = {
	{ MESSAGE_WELCOME, sizeof(struct message_hello) },
	{ MESSAGE_DEVICE, sizeof(struct message_device) },
	{ MESSAGE_LEASE, sizeof(struct message_lease) },
	{ MESSAGE_END, sizeof(struct message_plain) },
	{ MESSAGE_STEP, sizeof(struct message_step) },
	{ MESSAGE_GRANT, sizeof(struct message_grant) },
	{ MESSAGE_REFUSAL, sizeof(struct message_refusal) },
	{ MESSAGE_QUEUED, sizeof(struct message_queued) },
	{ MESSAGE_EVENT, sizeof(struct message_event) },
	{ MESSAGE_WAITING, sizeof(struct message_waiting) },
	{ MESSAGE_POLICY_STATE, sizeof(struct message_policy_state) },
	{ MESSAGE_USED, sizeof(struct message_used) },
	{ MESSAGE_COUNTED, sizeof(struct message_counted) },
	{ MESSAGE_ALLOTMENT, sizeof(struct message_allotment) },
	{ MESSAGE_READY, sizeof(struct message_plain) },
};
