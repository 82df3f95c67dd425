/* SPDX-License-Identifier: MIT */
/*
 * Closes connections whose other side is not trusted. Descriptors that it has sent are closed with
 * the connection, and some take hours to close: a TCP socket with unsent data and SO_LINGER, a file
 * of a FUSE server that does not answer, gigabytes of locked memory. The core must not be the
 * process that waits.
 *
 * So each connection of a peer or a helper ends in closing_drop(), and nowhere else. If unread
 * packets have descriptors, the connection is parked: kept open, and given to a disposable process,
 * the closer, that holds all parked connections and closes them by ending. (An ending process does
 * not wait for SO_LINGER.)
 */
#pragma once

#include <stdbool.h>
#include <stddef.h>
#include <stdint.h>

struct event;
struct workers;

#define CLOSING_MAX 20480  /* parked connections: all that are counted, and CLOSING_SPARE */
#define CLOSING_SPARE 8192 /* parked connections that are counted for no user */
#define CLOSING_BATCH 4096 /* with so many parked connections a closer starts soon in any case */
#define CLOSERS_MAX 64
#define CLOSING_PAUSE_MS 50	   /* between two closers; doubled for each that has not ended */
#define CLOSING_PAUSE_MOST 60000   /* at most */
#define CLOSING_NOBODY INT64_C(-1) /* in place of a uid: the connection is not counted */

struct parked {
	int fd;
	int64_t uid;
};

/* A process that closes connections. */
struct closer {
	struct closing *closing;
	struct event *on_exit; /* NULL: the slot is free */
	int pidfd;
	int64_t *uids; /* those of its connections that are counted */
	size_t n_uids;
};

struct closing {
	struct workers *workers;
	/* A connection that was counted for uid, and was parked, is closed. May be NULL. */
	void (*closed)(void *userdata, int64_t uid);
	void *userdata;
	struct parked *parked; /* room for CLOSING_MAX, in the order of their numbers */
	size_t n, n_uncounted;
	struct closer closers[CLOSERS_MAX];
	size_t n_closers;
	struct event *on_due;
	bool waits; /* on_due is pending */
};

/* Initializes *closing, whose `workers` must be set. Returns 0, or -ENOMEM. */
int closing_init(struct closing *closing);
/* Gives all parked connections to a last closer. */
void closing_done(struct closing *closing);

/*
 * Ends a connection and closes it; takes what is no connection, and -1. Returns true if it is
 * closed. Returns false if it was parked: then closed() is called later, unless uid is
 * CLOSING_NOBODY.
 */
bool closing_drop(struct closing *closing, int fd, int64_t uid);

/*
 * Returns true if so many connections are parked that one more could not be: then no connection may
 * be accepted.
 */
bool closing_is_full(const struct closing *closing);
