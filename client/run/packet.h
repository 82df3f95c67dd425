/* SPDX-License-Identifier: MIT */
/*
 * The packets between the processes of `gpubroker run`, over a socket pair of SOCK_SEQPACKET, and
 * between its supervisor and `attach`.
 */
#pragma once

#include <stddef.h>

/* Sends one with a descriptor, if fd is not -1. 0 or -errno. */
int packet_send(int socket, const void *packet, size_t size, int fd);

/*
 * Blocks until the other end, which does nothing slow, has sent one or ended (-EPIPE). With ret_fd,
 * a packet without just one descriptor is an error, without it one that has any; what came with it
 * is closed then.
 */
int packet_receive(int socket, void *packet, size_t size, int *ret_fd);
