/* SPDX-License-Identifier: MIT */
/* The supervisor as the command's parent, where it is above it (SUPERVISE_ABOVE). */
#pragma once

#include "client/run/supervisor.h"

/*
 * In the forked supervisor, all signals blocked and SIGCHLD at its default, before it forks the
 * command: becomes the parent of all that the command will leave behind. `parent` is the socket to
 * the process that waits, which is our parent. 0 or -errno.
 */
int children_begin(struct supervisor *s, int parent, pid_t parent_pid);

/* In the forked command: closes what the supervisor alone should have. */
void children_leave(struct supervisor *s);

/* When s->children is readable: reaps, and passes on how the command stops, goes on and ends. */
void children_take(struct supervisor *s);

/* Nothing is under the filter any more: waits for the command's end and passes it on. */
void children_finish(struct supervisor *s);

/* The process that waited was killed: that was meant for the command. */
void children_unparented(struct supervisor *s);
