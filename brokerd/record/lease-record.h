/* SPDX-License-Identifier: MIT */
/*
 * Lease records: one small text file a lease in the state directory, written before the first
 * change to the kernel and removed after the last. What they hold is what cannot be found out
 * again: how the functions were. Whether a lease is held is the kernel's to tell, so no state is
 * recorded.
 */
#pragma once

#include "brokerd/state/lease.h"

#define RECORD_MAX 16384

/* Writes the record's text. Its length, or -E2BIG. */
int record_format(const struct lease *lease, char *out, size_t size);

/*
 * Reads a record's text into the recorded fields of a lease. -EBADMSG with *ret_line (from 1) where
 * it is not exactly what record_format() writes; the lease is then not to be used.
 */
int record_parse(const char *text, size_t len, struct lease *lease, unsigned *ret_line);

/*
 * Writes the lease's file: a temporary one, then renamed, so that a reader finds the whole or
 * nothing.
 */
int record_write(int state_dir, const struct lease *lease);

int record_remove(int state_dir, uint64_t id);

/* The same with a text of another kind, and its end. */
int record_put(int state_dir, const char *name, const char *text, size_t len);
int record_drop(int state_dir, const char *name);

#define RECORD_VFS_PREFIX "vfs-"

enum record_kind {
	RECORD_LEASES,
	RECORD_DAMAGED, /* of leases, set aside */
	RECORD_VFS,	/* vfsrecord.h */
};

/*
 * Calls found() with the text of each record of a kind in the directory. What is not named like
 * that is skipped, a leftover temporary file removed.
 */
int record_each(int state_dir, enum record_kind kind,
		void (*found)(void *userdata, const char *name, const char *text, size_t len),
		void *userdata);

/*
 * Renames a record that cannot be read to NAME.damaged, so that it is neither lost nor read again.
 */
int record_set_aside(int state_dir, const char *name);
/* Renames NAME.damaged to NAME.settled: the host has its devices, or root gave them back. */
int record_settle(int state_dir, const char *damaged);
