/* SPDX-License-Identifier: MIT */
/*
 * Opening beneath a directory, and reading its entries or a file. With few system calls, since each
 * is a row in the filter of a confined process: readdir() would take four more than getdents64().
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

/* Reads to the end of the file, or `size` bytes. Returns how many it has read, or -errno. */
ssize_t read_whole(int fd, char *out, size_t size);

/* A position in a directory. The descriptor is the caller's, open for reading, at its start. */
struct directory {
	int fd;
	int error; /* 0, or -errno: entries may be missing */
	size_t at, used;
	_Alignas(uint64_t) char entries[2048];
};

#define DIRECTORY(descriptor)                                                                      \
	{                                                                                          \
		.fd = (descriptor)                                                                 \
	}

/*
 * Returns the next name other than "." and "..", valid until the next call. NULL: there is none, or
 * `error` is set.
 */
const char *directory_next(struct directory *directory);
