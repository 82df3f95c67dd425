/* SPDX-License-Identifier: MIT */
/*
 * The format of the records of claims that wait, see waiting-record.h. No I/O. It must never guess
 * at a damaged record: each record that was read is formatted again, and refused if the result
 * differs in one byte.
 *
 *	gpubroker waiting 1
 *	id 17
 *	uid 1000
 *	since 1764500000
 *	at pod-17 (if it waits at the socket of an allotment: the label)
 *	end
 */
#include "config.h"

#include "brokerd/record/waiting-record.h"
#include "brokerd/record/store.h"

#include <errno.h>
#include <inttypes.h>
#include <stdio.h>
#include <string.h>

void waiting_record_name(uint64_t id, char out[WAITING_RECORD_NAME])
{
	snprintf(out, WAITING_RECORD_NAME, STORE_WAITING_PREFIX "%" PRIu64, id);
}

size_t waiting_record_format(const struct waiting_record *record, char out[WAITING_RECORD_TEXT])
{
	return (size_t)snprintf(out, WAITING_RECORD_TEXT,
				"gpubroker waiting 1\nid %" PRIu64 "\nuid %" PRIu32
				"\nsince %" PRIu64 "\n%s%s%send\n",
				record->id, record->uid, record->since,
				record->through[0] ? "at " : "", record->through,
				record->through[0] ? "\n" : "");
}

int waiting_record_parse(const char *name, const char *text, size_t len,
			 struct waiting_record *ret_record)
{
	char copy[WAITING_RECORD_TEXT], again[WAITING_RECORD_TEXT], own[WAITING_RECORD_NAME];
	struct waiting_record r = { 0 };

	if (len >= sizeof(copy) || memchr(text, '\0', len))
		return -EBADMSG;
	memcpy(copy, text, len);
	copy[len] = '\0';
	if (sscanf(copy,
		   "gpubroker waiting 1 id %" SCNu64 " uid %" SCNu32 " since %" SCNu64 " at %47s",
		   &r.id, &r.uid, &r.since, r.through) < 3 ||
	    !r.id || waiting_record_format(&r, again) != len || memcmp(again, text, len) != 0)
		return -EBADMSG;
	waiting_record_name(r.id, own);
	if (strcmp(own, name) != 0)
		return -EBADMSG;
	*ret_record = r;
	return 0;
}
