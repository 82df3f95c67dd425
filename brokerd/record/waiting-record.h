/* SPDX-License-Identifier: MIT */
/* The records of claims that wait, by which they keep their places when the daemon starts again. */
#pragma once

#include <stddef.h>
#include <stdint.h>

#include "client/wire/protocol.h"

#define WAITING_RECORD_NAME 32
#define WAITING_RECORD_TEXT 192

struct waiting_record {
	uint64_t id;
	uint64_t since; /* seconds since the epoch */
	uint32_t uid;
	char through[PROTOCOL_LABEL_MAX]; /* the allotment at whose socket it waits, or "" */
};

/* Writes the name of the record's file. */
void waiting_record_name(uint64_t id, char out[WAITING_RECORD_NAME]);
/* Writes the text. Returns its length. */
size_t waiting_record_format(const struct waiting_record *record, char out[WAITING_RECORD_TEXT]);
/* Reads a text. Returns 0, or -EBADMSG if it is damaged, or not what `name` stands for. */
int waiting_record_parse(const char *name, const char *text, size_t len,
			 struct waiting_record *ret_record);
