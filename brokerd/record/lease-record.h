/* SPDX-License-Identifier: MIT */
/*
 * Lease records: one small text file a lease in the state directory, written before the first
 * change to the kernel and removed after the last. A record holds what cannot be found out
 * again: how the functions were. The kernel tells whether a lease is held, so no state is
 * recorded.
 */
#pragma once

#include "brokerd/record/store.h"
#include "brokerd/state/lease.h"

/* Writes the record's text. Returns its length, or -E2BIG. */
int lease_record_format(const struct lease *lease, char *out, size_t size);

/*
 * Reads a record's text into the recorded fields of a lease. -EBADMSG with *ret_line (from 1) where
 * it is not exactly what lease_record_format() writes; the lease is then not to be used.
 */
int lease_record_parse(const char *text, size_t len, struct lease *lease, unsigned *ret_line);

/* Writes the lease's file. 0, or -errno. */
int lease_record_write(const struct store *store, const struct lease *lease);
/* Removes it. 0, also where there is none; or -errno. */
int lease_record_remove(const struct store *store, uint64_t id);
