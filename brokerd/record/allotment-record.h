/* SPDX-License-Identifier: MIT */
/*
 * The records of allotments, in the state directory beside the leases: one small text file each,
 * whose name is made of the label. It is written before root gets its answer.
 */
#pragma once

#include <stddef.h>

#include "brokerd/record/store.h"
#include "brokerd/state/allotments.h"

#define ALLOTMENT_RECORD_NAME 64
#define ALLOTMENT_RECORD_TEXT 2048

/* Writes the name of a label's file. */
void allotment_record_name(const char *label, char out[ALLOTMENT_RECORD_NAME]);
/* Reads the label back. Returns false if no broker has made such a name. */
bool allotment_record_label(const char *name, char ret_label[PROTOCOL_LABEL_MAX]);

/* Writes the record's text. Returns its length, or -E2BIG. */
int allotment_record_format(const struct allotment *allotment, char *out, size_t size);
/*
 * Parses the text of the file `name`. Returns 0; or -EBADMSG if it is not exactly what
 * allotment_record_format() writes, or another label's: then *ret_allotment is what can be kept of
 * it, the label of its name and the devices whose addresses can be read, and it is `damaged`.
 */
int allotment_record_parse(const char *name, const char *text, size_t len,
			   struct allotment *ret_allotment);

/* Writes the file. Returns 0, or -errno. */
int allotment_record_write(const struct store *store, const struct allotment *allotment);
/* Removes the file. Returns 0, also if there is none; or -errno. */
int allotment_record_remove(const struct store *store, const char *label);
