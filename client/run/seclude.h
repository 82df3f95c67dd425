/* SPDX-License-Identifier: MIT */
/* Takes the supervisor of `gpubroker run` out of the way of its command. */
#pragma once

#include "client/run/supervisor.h"

/*
 * In the forked process, before anything is under the filter: out of the way of terminal and
 * session, and rid of every descriptor but the lent ones, *socket (which may get another number)
 * and stderr.
 */
int seclude_supervisor(struct supervisor *s, int *socket, pid_t command, const char **ret_what);
