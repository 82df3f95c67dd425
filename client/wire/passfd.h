/* SPDX-License-Identifier: MIT */
/*
 * Sends and receives one packet with its descriptors over a SOCK_SEQPACKET socket. The other side
 * is not trusted.
 */
#pragma once

#include <stddef.h>
#include <sys/types.h>

#define PASSFD_MAX 48

/*
 * Sends one packet with n_fds descriptors, which stay the caller's. Never blocks and never raises
 * SIGPIPE. 0, or -errno: -EAGAIN when the other side does not read, -EPIPE when it is gone,
 * -ETOOMANYREFS when too many descriptors are under way unread.
 */
int passfd_send(int socket, const void *packet, size_t size, const int *fds, size_t n_fds);

/*
 * Receives one packet of at most `size` bytes into packet and at most max_fds descriptors
 * (close-on-exec) into fds, which are then the caller's. Never blocks. Returns the packet's size, 0
 * at the end of the connection, -EAGAIN when there is none, or -EBADMSG for a packet that was cut
 * (too large, or more descriptors than asked for): then every descriptor that came with it has been
 * closed.
 */
ssize_t passfd_receive(int socket, void *packet, size_t size, int *fds, size_t max_fds,
		       size_t *ret_n_fds);
