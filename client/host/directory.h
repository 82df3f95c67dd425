/* SPDX-License-Identifier: MIT */
/*
 * Opening beneath a directory, and what is in one. With few system calls, since each is a row in
 * the filter of a process that may do little: readdir() would take four more than getdents64().
 */
#pragma once

#include <stddef.h>
#include <stdint.h>
#include <sys/types.h>

/*
 * openat2(2), close-on-exec: a descriptor, or -errno. `resolve` is RESOLVE_BENEATH and the like, of
 * linux/openat2.h.
 */
int open_beneath(int directory, const char *path, uint64_t flags, mode_t mode, uint64_t resolve);

/* Where in a directory one is. The descriptor is the caller's, open for reading, at its beginning. */
struct directory {
	int fd;
	int error; /* 0, or -errno: what was not read is not known */
	size_t at, used;
	_Alignas(uint64_t) char entries[2048];
};

#define DIRECTORY(descriptor)                                                                      \
	{                                                                                          \
		.fd = (descriptor)                                                                 \
	}

/*
 * The next name, "." and ".." left out, good until the next call. NULL: there is none, or `error`
 * tells why.
 */
const char *directory_next(struct directory *directory);
