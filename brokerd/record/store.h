/* SPDX-License-Identifier: MIT */
/*
 * The state directory holds small text files. Each is written under a temporary name and then
 * renamed, so that a reader finds a whole file or none.
 */
#pragma once

#include <stddef.h>

#define STORE_TEXT_MAX 20480
#define STORE_VF_PREFIX "vfs-"
#define STORE_WAITING_PREFIX "waiting-"
#define STORE_PREPARE_PREFIX "prepare-"
#define STORE_ALLOTMENT_PREFIX "allotment-"

struct store {
	int directory; /* -1: not open */
};

enum store_kind {
	STORE_LEASES,	  /* see lease-record.h */
	STORE_DAMAGED,	  /* damaged lease records that were set aside */
	STORE_VFS,	  /* see vf-record.h */
	STORE_WAITING,	  /* see waiting-record.h */
	STORE_PREPARE,	  /* see prepare-record.h */
	STORE_ALLOTMENTS, /* see allotment-record.h */
};

/* Writes a file. Returns 0; or -errno, and then a file of that name is unchanged. */
int store_put(const struct store *store, const char *name, const char *text, size_t len);
/* Removes a file. Returns 0, also if there is none; or -errno. */
int store_drop(const struct store *store, const char *name);

/*
 * Calls found() with the text of each file of a kind. Skips files with other names, and removes
 * leftover temporary files. Returns 0, or -errno if a record could not be read.
 */
int store_each(const struct store *store, enum store_kind kind,
	       void (*found)(void *userdata, const char *name, const char *text, size_t len),
	       void *userdata);

/* Renames a record that cannot be read to NAME.damaged, so that it is kept but not read again. */
int store_set_aside(const struct store *store, const char *name);
/* Renames NAME.damaged to NAME.settled: the host has its devices, or root gave them back. */
int store_settle(const struct store *store, const char *damaged);
