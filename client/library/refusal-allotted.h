/* SPDX-License-Identifier: MIT */
/* The sentences for refusals about allotments. */
#pragma once

#include <stddef.h>

#include "client/wire/protocol.h"

/*
 * Writes one sentence. `what` is the device, `other` the function in the way or "", `user` the user
 * whom the refusal names.
 */
void refusal_format_allotted(const struct message_refusal *refusal, const char *what,
			     const char *other, const char *user, char *out, size_t size);
