/* SPDX-License-Identifier: MIT */
/* The sockets that `gpubroker serve` listens on, and the token of the loopback. */
#pragma once

#include <stdbool.h>

#include "client/serve/server.h"

/* Makes the directory, 0700, and checks that it is the caller's own. 0, or an exit status. */
int listen_directory(const char *path);
/* Takes the sockets of socket activation. Returns how many there are, or -1 after a message. */
int listen_inherited(struct server_setup *setup);
/* Listens on a Unix socket of mode 0600. 0, or an exit status. */
int listen_unix(struct server_setup *setup, const char *path);
/*
 * Listens on the loopback, 127.0.0.1 and [::1], and writes a new token into the file. Returns 0, or
 * an exit status.
 */
int listen_loopback(struct server_setup *setup, unsigned port, const char *token_path);
