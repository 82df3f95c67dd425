/* SPDX-License-Identifier: MIT */
/* The packets between the processes of `gpubroker run`, over a socket pair of SOCK_SEQPACKET. */
#pragma once

#include <stddef.h>

/* Sends one with a descriptor, if fd is not -1. 0 or -errno. */
int packet_send(int socket, const void *packet, size_t size, int fd);

/*
 * Blocks until the other end, which does nothing slow, has sent one or ended (-EPIPE). With ret_fd,
 * a packet without a descriptor is an error.
 */
int packet_receive(int socket, void *packet, size_t size, int *ret_fd);
