/* SPDX-License-Identifier: MIT */
/*
 * seccomp filters, one for each kind of process. The tables of calls are in filter.c; confine.c
 * says when each is loaded.
 */
#pragma once

#include <stdbool.h>

/* The processes with a filter of their own; the core's is filter_load_core(). */
enum confine_part {
	CONFINE_WATCHER,
	CONFINE_LOADER,
	CONFINE_FINDER,
	CONFINE_ENDER,
	CONFINE_WORKER
};

/* A compiled filter, made ahead of time: a child after fork must not allocate. */
struct confine_filter;

/*
 * Loads the core's filter, with the rows for lending device nodes if `cdevs` is set. Sets
 * no_new_privs first. Returns 0, or -errno.
 */
int filter_load_core(bool cdevs);

/* Loads a part's filter, including the rows that only its start needs. Returns 0, or -errno. */
int filter_load(enum confine_part part);

/*
 * Makes a part's filter, without the rows that only its start needs. Returns 0 with *ret_filter, or
 * -errno.
 */
int filter_new(enum confine_part part, struct confine_filter **ret_filter);
/* Frees a filter. Returns NULL; takes NULL. */
struct confine_filter *filter_free(struct confine_filter *filter);

/*
 * Applies the filter to the calling process; allocates nothing. no_new_privs must be set. Returns
 * 0, or -errno.
 */
int filter_apply(const struct confine_filter *filter);
