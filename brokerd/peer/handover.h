/* SPDX-License-Identifier: MIT */
/*
 * How root hands the listening socket of an allotment over. The core receives no descriptor of a
 * peer: the close of one may wait for as long as its sender likes. So a process of its own, the
 * taker, receives what root sends, looks at it, passes on what is a listening socket, whose close
 * does not wait, and ends with everything else.
 */
#pragma once

#include <stddef.h>
#include <stdint.h>

#include "client/wire/protocol.h"

struct event;
struct peer;
struct peers;

#define HANDOVERS_MAX 16 /* takers, among them those that wait for what they have received */

struct handover {
	struct peers *peers;
	struct peer *peer;     /* who waits for the result; NULL: nobody any more */
	struct event *on_exit; /* NULL: the slot is free */
	int pidfd;
	uint64_t id;
};

struct handovers {
	int ends[2]; /* takers send to the second one */
	struct event *on_handed;
	uint64_t last_id;
	struct handover list[HANDOVERS_MAX];
};

#define HANDOVERS_NONE                                                                             \
	{                                                                                          \
		.ends = { -1, -1 }                                                                 \
	}

/* Makes the pair of sockets, so before the confinement. Returns 0, or -errno. */
int handover_init(struct peers *peers);
void handover_done(struct peers *peers);

/*
 * Root asks to hand a socket over. Returns 0 if it may send it, or has sent it before, after that
 * was answered; or the reason, with *ret_refusal.
 */
int handover_begin(struct peer *peer, const struct message_socket *request,
		   struct message_refusal *ret_refusal);
/* The peer has sent it: peers_ops.handed(). */
void handover_take(struct peer *peer);
/* The peer goes. */
void handover_forget(struct peer *peer);
