/* SPDX-License-Identifier: MIT */
/* The socket that peers connect to. */
#pragma once

#include "brokerd/peer/peer.h"

/*
 * Takes systemd's sockets (LISTEN_FDS), or makes one at `path`. Returns a descriptor, or -errno
 * after logging the reason. *ret_helpers gets the socket that is named "helpers", if there is one.
 */
int listener_open(const char *path, int *ret_helpers);
/* Begins to accept from peers->listen_fd. Returns 0, or -ENOMEM. */
int listener_start(struct peers *peers);
void listener_stop(struct peers *peers);
