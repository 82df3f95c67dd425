/* SPDX-License-Identifier: MIT */
/* The socket that peers connect to. */
#pragma once

#include "brokerd/peer/peer.h"

/*
 * Takes a descriptor that the service manager has kept, under a name; -1: there will be one.
 * Returns false if that is not its to take.
 */
typedef bool (*listener_keep)(void *userdata, const char *name, int fd);

/*
 * Takes systemd's sockets (LISTEN_FDS), or makes one at `path`. Returns a descriptor, or -errno
 * after logging the reason. *ret_helpers gets the socket that is named "helpers", if there is one;
 * *ret_made becomes true if the socket was made. What `keep` takes is none of these.
 */
int listener_open(const char *path, listener_keep keep, void *userdata, int *ret_helpers,
		  bool *ret_made);
/* Begins to accept from peers->listen_fd. Returns 0, or -ENOMEM. */
int listener_start(struct peers *peers);
void listener_stop(struct peers *peers);
/* Closes peers->listen_fd. */
void listener_done(struct peers *peers);

/* Accepts some connections, of an allotment's socket or, without one, of the broker's own. */
void listener_accept(struct peers *peers, int listen_fd, const struct allotment *allotment);
/*
 * Shuts a listening socket, and ends the connections that nobody has accepted: its last close would
 * close them, and what they have sent.
 */
void listener_drain(struct peers *peers, int listen_fd);
/* Has the kernel let descriptors through to a socket, or refuse them, where it can (Linux 6.16). */
void listener_pass_rights(int fd, bool pass);
/* Makes a listening socket of root's as those of this process are. Returns 0, or -errno. */
int listener_prepare(int fd);
