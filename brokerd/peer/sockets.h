/* SPDX-License-Identifier: MIT */
/*
 * The sockets of allotments: whoever connects to one is that allotment, whatever its uid. Root
 * makes and binds them, and hands the listening descriptors over, see handover.h. The service
 * manager keeps a copy of each, so that they outlive this process.
 */
#pragma once

#include <stdbool.h>
#include <stddef.h>
#include <sys/queue.h>

#include "client/wire/protocol.h"

struct allotment;
struct event;
struct peer;
struct peers;

struct allotment_socket {
	TAILQ_ENTRY(allotment_socket) link;
	struct peers *peers;
	char name[PROTOCOL_SOCKET_NAME];
	char label[PROTOCOL_LABEL_MAX]; /* "": of a daemon before, whose allotments are not read */
	int fd;			  /* -1: it has ended, and the service manager is to forget it */
	bool told;		  /* the service manager has been told to keep it */
	struct event *on_connect; /* NULL until it serves */
};

struct sockets {
	TAILQ_HEAD(allotment_sockets, allotment_socket) list;
	struct allotment_sockets ended; /* that the service manager has not been told of */
	size_t n_ended;
	struct event *tell_again;     /* set while it could not be told of one */
	int directory;		      /* where their files are, or -1 */
	char path[PROTOCOL_PATH_MAX]; /* of the directory */
	int notify_fd;		      /* the service manager, which keeps copies; or -1 */
};

#define SOCKETS_NONE                                                                               \
	{                                                                                          \
		.directory = -1, .notify_fd = -1                                                   \
	}

/* Opens the directory beside the broker's socket, or makes it. Returns 0, or -errno. */
int sockets_open(struct sockets *sockets, const char *broker_socket);
/*
 * A listener_keep, of a struct sockets: takes what the service manager has kept. Returns false if
 * the name is no allotment's socket's, and then nothing is taken.
 */
bool sockets_keep(void *userdata, const char *name, int fd);

/*
 * Begins to serve those that were kept and whose allotments there still are.
 */
void sockets_serve(struct peers *peers);
/* Serves one more, for the allotment. Takes the descriptor. Returns 0, or -ENOMEM. */
int sockets_add(struct peers *peers, const struct allotment *allotment, int fd);
/* Returns true if the allotment has its socket. */
bool sockets_has(const struct peers *peers, const char *label);
/* The allotment is about to be forgotten: removes its socket, and ends the connections by it. */
void sockets_end(struct peers *peers, const struct allotment *allotment);
/* Ends a listening socket that is not to be served: nobody may be left in its backlog. */
void sockets_drop(struct peers *peers, int fd);

/* Stops accepting. */
void sockets_stop(struct peers *peers);
void sockets_done(struct peers *peers);
