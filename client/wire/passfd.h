/* SPDX-License-Identifier: MIT */
/*
 * Sends and receives one packet with its descriptors over a SOCK_SEQPACKET socket. The other side
 * is not trusted.
 */
#pragma once

#include <stdbool.h>
#include <stddef.h>
#include <sys/types.h>

#define PASSFD_MAX 48
#define PASSFD_ANY 253 /* the kernel passes no more in a packet */

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
 * closed. Closing may wait, see passfd_receive_plain().
 */
ssize_t passfd_receive(int socket, void *packet, size_t size, int *fds, size_t max_fds,
		       size_t *ret_n_fds);

/*
 * The same with room for all descriptors that there may be, PASSFD_ANY: nothing is closed here.
 * Returns 0 for an empty packet too, and then there may be descriptors; also after -EBADMSG, for a
 * packet that was cut.
 */
ssize_t passfd_receive_any(int socket, void *packet, size_t size, int *fds, size_t *ret_n_fds);

/*
 * The same for a receiver that accepts no descriptors and must not wait for one to be closed.
 * Returns the packet's size, 0 at the end of the connection or for an empty packet, -EAGAIN when
 * there is none, or -EBADMSG for a packet that is too large or has descriptors. That packet stays
 * unread, and passfd_end() must come next.
 */
ssize_t passfd_receive_plain(int socket, void *packet, size_t size);

/*
 * Ends a connection of which no packet with descriptors has been received: the other side can still
 * read what was sent to it, and can send nothing more. Returns true if closing the socket does not
 * wait, because nothing is unread. Returns false if there are unread packets with descriptors,
 * which the last close of the socket closes, or too many unread packets to look through.
 */
bool passfd_end(int socket);
