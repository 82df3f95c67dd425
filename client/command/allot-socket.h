/* SPDX-License-Identifier: MIT */
/* The sockets of allotments: root's command makes one and hands it to the broker. */
#pragma once

#include "client/gpubroker.h"

struct cli;

struct allot_socket {
	const char *given; /* as on the command line */
	char path[108];
	const char *name; /* in the path */
	int fd;		  /* once it is made, else -1 */
};

/*
 * Parses a path or a name of a socket, which must be in the directory of allotments' sockets.
 * Returns 0, or an exit status after the reason was printed.
 */
int allot_socket_parse(const struct cli *cli, const char *given, struct allot_socket *ret_socket);
/*
 * Gives an allotment the socket, if it has not got it. Returns 0, a refusal, or -errno as the
 * library does; -ECANCELED after the reason was printed.
 */
int allot_socket_give(struct gpubroker *handle, const char *label,
		      const struct gpubroker_user *user, struct allot_socket *socket);
