/* SPDX-License-Identifier: MIT */
/* The socket that peers connect to. */
#pragma once

#include "brokerd/peer/peer.h"

/*
 * Takes systemd's sockets (LISTEN_FDS), or makes one at `path`. Returns a descriptor, or -errno
 * after logging the reason. *ret_helpers gets the socket that is named "helpers", if there is one;
 * *ret_made becomes true if the socket was made.
 */
int listener_open(const char *path, int *ret_helpers, bool *ret_made);
/* Begins to accept from peers->listen_fd. Returns 0, or -ENOMEM. */
int listener_start(struct peers *peers);
void listener_stop(struct peers *peers);
/* Closes peers->listen_fd. */
void listener_done(struct peers *peers);
