/* SPDX-License-Identifier: MIT */
/* The process of `gpubroker run` that waits for its command, where it cannot become it. */
#pragma once

#include <sys/types.h>

/*
 * Passes signals on to the command until that has ended, and ends as it did. The command is a child
 * of the supervisor, which is ours, and which tells over the socket: first the command's pid, with
 * a pidfd, then its wait status. All signals are blocked, and SIGCHLD has its default.
 * Closes everything else.
 */
_Noreturn void parent_wait(int socket, pid_t supervisor);
