/* SPDX-License-Identifier: MIT */
/*
 * The state directory: small text files, each whole or not there at all. A file is written beside
 * its name and renamed, so a reader finds the whole of it or nothing.
 */
#pragma once

#include <stddef.h>

#define STORE_TEXT_MAX 16384
#define STORE_VF_PREFIX "vfs-"

struct store {
	int directory; /* -1: not open */
};

enum store_kind {
	STORE_LEASES,  /* lease-record.h */
	STORE_DAMAGED, /* of leases, set aside */
	STORE_VFS,     /* vf-record.h */
};

/* Writes a file. 0, or -errno; then the file of that name is as it was. */
int store_put(const struct store *store, const char *name, const char *text, size_t len);
/* Removes a file. 0, also where there is none; or -errno. */
int store_drop(const struct store *store, const char *name);

/*
 * Calls found() with the text of each file of a kind. Skips what is not named like that, and
 * removes a leftover temporary file. 0, or -errno where a record could not be read.
 */
int store_each(const struct store *store, enum store_kind kind,
	       void (*found)(void *userdata, const char *name, const char *text, size_t len),
	       void *userdata);

/*
 * Renames a record that cannot be read to NAME.damaged, so that it is neither lost nor read again.
 */
int store_set_aside(const struct store *store, const char *name);
/* Renames NAME.damaged to NAME.settled: the host has its devices, or root gave them back. */
int store_settle(const struct store *store, const char *damaged);
