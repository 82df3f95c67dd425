/* SPDX-License-Identifier: MIT */
/*
 * Records of root's orders to prepare a group, in the state directory beside the lease records. One
 * is written before the first change and removed after the last.
 */
#pragma once

#include <stddef.h>
#include <stdint.h>

#include "client/common/address.h"

#define PREPARE_RECORD_NAME 32
#define PREPARE_RECORD_TEXT 128

struct prepare_record {
	struct pci_address address; /* the function that was named */
	uint16_t vendor, device;
	uint32_t by; /* the uid that asked */
};

/* Writes the name of the record's file. */
void prepare_record_name(const struct pci_address *address, char out[PREPARE_RECORD_NAME]);
/* Writes the record's text. Returns its length. */
size_t prepare_record_format(const struct prepare_record *record, char out[PREPARE_RECORD_TEXT]);
/*
 * Parses the text of the file of that name. Returns 0; or -EBADMSG if it is not exactly what
 * prepare_record_format() writes, and then *ret_record is unchanged.
 */
int prepare_record_parse(const char *name, const char *text, size_t len,
			 struct prepare_record *ret_record);
