/* SPDX-License-Identifier: MIT */
/*
 * Puts leased descriptors under a program's own open() of /dev/vfio/N, /dev/vfio/devices/vfioN and
 * /dev/iommu.
 *
 * The caller goes on and execs its command; a small supervisor answers the opens. It is forked off
 * and out of the way (not the command's child, not in its process group or session). supervise.c
 * explains how and why.
 */
#pragma once

#include <stddef.h>

#include "client/run/supervisor.h"

enum supervise_place {
	/* The supervisor is no relative of the command, which is the caller. */
	SUPERVISE_BESIDE,
	/*
	 * The supervisor is the command's parent. The command is a new process, in which
	 * supervise_start() returns; the caller waits and ends as the command does. For Yama, see
	 * reach.h.
	 */
	SUPERVISE_ABOVE,
};

/*
 * `mark` is a variable in the environment of the caller, "NAME=VALUE", by which the supervisor
 * finds who outlives the command.
 *
 * Starts the supervisor, which also says what `notices` (NULL: nothing) have to say, and puts the
 * calling process, and all that it will exec and fork, under the filter. Sets no_new_privs (so
 * set-user-ID programs below it run without their privilege). Must be called with one thread. On
 * success the caller should close its own copies of the descriptors and exec; nothing else in it
 * has changed (but its pid and parent, with SUPERVISE_ABOVE). The supervisor ends, and with it its
 * copies of the descriptors, when the last process under the filter has ended.
 *
 * On failure, -errno, and *ret_what is a static string that completes "cannot ...". Nothing was
 * left behind then (but perhaps no_new_privs), and the process is not under the filter; unless what
 * failed is to "hand the seccomp listener to the supervisor", which takes a lack of memory or
 * somebody who kills the supervisor: then every O_RDWR open fails with ENOSYS, so report it and
 * exit. -EBUSY: the process is under a filter with a supervisor already; the kernel allows one.
 */
int supervise_start(const struct supervise_file *files, size_t n_files, const char *mark,
		    const struct supervise_notices *notices, enum supervise_place place,
		    const char **ret_what);
