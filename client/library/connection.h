/* SPDX-License-Identifier: MIT */
/* A connection as the files of the library share it. */
#pragma once

#include "client/gpubroker.h"
#include "client/library/answer.h"

#include <stddef.h>
#include <sys/socket.h>
#include <sys/un.h>

struct gpubroker {
	int fd;
	struct sockaddr_un address;	  /* of the broker's socket */
	char reason[1024];		  /* of the last refusal */
	struct gpubroker_refused refused; /* number 0: none yet */
};

/* Connects again, to the next broker, as gpubroker_open() does. */
int connection_reopen(struct gpubroker *handle);

/* Keeps the refusal's sentence. Returns its reason, which is positive, or -EPROTO. */
int connection_refused(struct gpubroker *handle, const struct message_refusal *refusal);

int connection_send(struct gpubroker *handle, const void *request, size_t size);

/*
 * Receives one answer of the exact size of its type, with at most max_fds descriptors, which are
 * then the caller's. -EAGAIN: there is none yet.
 */
int connection_receive(struct gpubroker *handle, union answer *answer, int *fds, size_t max_fds,
		       size_t *ret_n_fds);

/* Waits for an answer without descriptors and receives it. */
int connection_receive_wait(struct gpubroker *handle, union answer *answer);

/* Waits until there is something to receive, or the connection has ended. */
int connection_wait(const struct gpubroker *handle);

/* Sends a request and waits for its `end`. 0, a refusal, or -errno. */
int connection_ask(struct gpubroker *handle, const void *request, size_t size);
