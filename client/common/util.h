/* SPDX-License-Identifier: MIT */
/*
 * Ownership helpers that every part uses: cleanup attributes for locals that own something, and
 * TAKE_FD/TAKE_PTR where ownership is handed over. Nothing here has state or logs.
 */
#pragma once

#include <errno.h>
#include <stddef.h>
#include <stdio.h>
#include <stdlib.h>
#include <unistd.h>

#define ARRAY_SIZE(a) (sizeof(a) / sizeof((a)[0]))

#define cleanup_(f) __attribute__((cleanup(f)))
#define cleanup_fd cleanup_(fd_closep)
#define cleanup_free cleanup_(freep)
#define cleanup_file cleanup_(file_closep)

#define TAKE_PTR(p)                                                                                \
	({                                                                                         \
		typeof(p) *taken_from = &(p);                                                      \
		typeof(p) taken = *taken_from;                                                     \
		*taken_from = NULL;                                                                \
		taken;                                                                             \
	})

#define TAKE_FD(fd)                                                                                \
	({                                                                                         \
		int *taken_from = &(fd);                                                           \
		int taken = *taken_from;                                                           \
		*taken_from = -1;                                                                  \
		taken;                                                                             \
	})

/* Closes fd if it is one, keeps errno, and returns -1, so that `fd = fd_close(fd)` reads well. */
static inline int fd_close(int fd)
{
	if (fd >= 0) {
		int saved = errno;

		close(fd);
		errno = saved;
	}
	return -1;
}

static inline void fd_closep(int *fd)
{
	fd_close(*fd);
}

static inline void freep(void *p)
{
	free(*(void **)p);
}

static inline void file_closep(FILE **file)
{
	if (*file)
		fclose(*file);
}
