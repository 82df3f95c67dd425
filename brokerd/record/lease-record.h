/* SPDX-License-Identifier: MIT */
/*
 * Lease records: one small text file for each lease in the state directory, written before the
 * first change to the kernel and removed after the last. A record holds what cannot be found out
 * again: how the functions were before. The kernel shows whether a lease is held, so no state is
 * recorded.
 */
#pragma once

#include "brokerd/record/store.h"
#include "brokerd/state/lease.h"

/*
 * Writes the record's text. Returns its length; -E2BIG if it does not fit; -EINVAL if a name holds
 * a newline.
 */
int lease_record_format(const struct lease *lease, char *out, size_t size);

/*
 * Reads a record's text into the recorded fields of a lease. Returns 0; or -EBADMSG with *ret_line
 * (from 1) if it is not exactly what lease_record_format() writes, and then the lease must not be
 * used.
 */
int lease_record_parse(const char *text, size_t len, struct lease *lease, unsigned *ret_line);

/* Writes the lease's file. Returns 0, or -errno. */
int lease_record_write(const struct store *store, const struct lease *lease);
/* Removes the lease's file. Returns 0, also if there is none; or -errno. */
int lease_record_remove(const struct store *store, uint64_t id);
