/* SPDX-License-Identifier: MIT */
/* The daemon's answers, for tests that send or receive them as they are on the wire. */
#pragma once

#include <stddef.h>

#include "client/wire/protocol.h"

union wire_answer {
	uint32_t type;
	struct message_hello welcome;
	struct message_plain end;
	struct message_device device;
	struct message_lease lease;
	struct message_step step;
	struct message_grant grant;
	struct message_refusal refusal;
	struct message_queued queued;
	struct message_event event;
	char all[4 * PROTOCOL_MESSAGE_MAX]; /* more than any message may have */
};

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
};
