/* SPDX-License-Identifier: MIT */
/* The daemon's answers: their sizes, and their fields as gpubroker.h has them. */
#pragma once

#include <stddef.h>
#include <string.h>

#include "client/wire/protocol.h"

/* Every answer, so that a receive buffer fits any. */
union answer {
	uint32_t type;
	struct message_hello welcome;
	struct message_plain end;
	struct message_device device;
	struct message_lease lease;
	struct message_step step;
	struct message_grant grant;
	struct message_refusal refusal;
	struct message_queued queued;
	struct message_waiting waiting;
	struct message_event event;
	struct message_policy_state policy;
	struct message_used used;
	struct message_counted counted;
	struct message_allotment allotment;
};

/* The size of an answer of this type; 0 where it is no answer. */
size_t answer_size(uint32_t type);

/* Copies a string of a message, which may lack its NUL, into a public field, which never does. */
#define ANSWER_TEXT(to, from)                                                                      \
	do {                                                                                       \
		_Static_assert(sizeof(to) == sizeof(from), "wire and public text differ");         \
		memcpy(to, from, sizeof(to));                                                      \
		(to)[sizeof(to) - 1] = '\0';                                                       \
	} while (0)

/*
 * Formats the address that a message has beside `parent`: "" where the parent of an mdev is no PCI
 * function.
 */
void answer_address(const struct pci_address *address, const char *parent,
		    char out[PCI_ADDRESS_TEXT]);
