/* SPDX-License-Identifier: MIT */
/*
 * Hands the sockets of allotments over, see handover.h. The core must never hold a descriptor that
 * the taker has not found to be a listening Unix socket, and never wait for a taker: it may stay
 * for as long as somebody's FUSE server likes. The taker must never touch the heap, libevent or
 * stdio, and keeps none of the core's descriptors but the two that it needs.
 */
#include "config.h"

#include "brokerd/peer/handover.h"
#include "brokerd/claim/allot.h"
#include "brokerd/peer/listener.h"
#include "brokerd/peer/peer.h"
#include "brokerd/peer/sockets.h"
#include "brokerd/process/worker.h"
#include "brokerd/state/refuse.h"
#include "client/common/util.h"
#include "client/wire/passfd.h"

#include <errno.h>
#include <event2/event.h>
#include <signal.h>
#include <stdlib.h>
#include <string.h>
#include <sys/prctl.h>
#include <sys/socket.h>
#include <sys/syscall.h>
#include <unistd.h>

#ifndef SO_PASSPIDFD
#define SO_PASSPIDFD 76
#endif

/* The finding of a taker, with the descriptor if it is HANDED. */
struct handed {
	uint64_t id;
	uint32_t slot;
	enum {
		HANDED,
		HANDED_OTHER,	/* something else than one listening socket */
		HANDED_WRONG,	/* no message of the protocol */
		HANDED_NOTHING, /* not yet */
		HANDED_END,	/* the peer is gone */
	} what;
};

/* ---- the taker ---- */

static bool socket_has_option(int fd, int option, int value)
{
	int found;
	socklen_t size = sizeof(found);

	return !getsockopt(fd, SOL_SOCKET, option, &found, &size) && found == value;
}

/*
 * One that nobody has set to add something to what is received: its connections would inherit that,
 * and the core takes whatever is added for descriptors.
 */
static bool is_listener(int fd)
{
	return socket_has_option(fd, SO_DOMAIN, AF_UNIX) &&
	       socket_has_option(fd, SO_TYPE, SOCK_SEQPACKET) &&
	       socket_has_option(fd, SO_ACCEPTCONN, 1) && socket_has_option(fd, SO_PASSCRED, 0) &&
	       socket_has_option(fd, SO_PASSSEC, 0) && !socket_has_option(fd, SO_PASSPIDFD, 1);
}

/* Closes all but these two: of what the core has, a taker that stays must keep nothing. */
static void keep_two(unsigned a, unsigned b)
{
	const unsigned low = a < b ? a : b, high = a < b ? b : a;

	if (low)
		syscall(SYS_close_range, 0, low - 1, 0);
	if (high > low + 1)
		syscall(SYS_close_range, low + 1, high - 1, 0);
	syscall(SYS_close_range, high + 1, ~0U, 0);
}

static void __attribute__((noreturn)) run_taker(int connection, int end, struct handed *handed)
{
	struct message_plain packet;
	int fds[PASSFD_ANY];
	size_t n_fds;
	ssize_t n;

	prctl(PR_SET_PDEATHSIG, SIGKILL);
	keep_two((unsigned)connection, (unsigned)end);
	n = passfd_receive_any(connection, &packet, sizeof(packet), fds, &n_fds);
	if (n == -EAGAIN)
		handed->what = HANDED_NOTHING;
	else if ((!n && !n_fds) || n == -ECONNRESET)
		handed->what = HANDED_END;
	else if (n == -EBADMSG) /* cut: a security module may have kept descriptors from us */
		handed->what = HANDED_OTHER;
	else if (n != sizeof(packet) || packet.type != MESSAGE_LISTENER || packet.reserved)
		handed->what = HANDED_WRONG;
	else
		handed->what = n_fds == 1 && is_listener(fds[0]) ? HANDED : HANDED_OTHER;
	passfd_send(end, handed, sizeof(*handed), fds, handed->what == HANDED);
	/* Before the others, which may wait: the core's copy ends the connection. */
	close(connection);
	close(end);
	_exit(0);
}

/* ---- the core's side ---- */

static int refuse_handover(struct message_refusal *ret_refusal, const char *why)
{
	*ret_refusal = refusal_make(GPUBROKER_REFUSED_FAILED);
	ret_refusal->detail = REFUSAL_SOCKET;
	refusal_say(ret_refusal, "%s", why);
	return GPUBROKER_REFUSED_FAILED;
}

static void free_handover(struct handover *slot)
{
	if (slot->peer)
		slot->peer->handover = NULL;
	event_free(TAKE_PTR(slot->on_exit));
	slot->pidfd = fd_close(slot->pidfd);
	slot->peer = NULL;
}

/* The peer is read from again as from any other. */
static void settle_peer(struct peer *peer, int reason, const struct message_refusal *refusal)
{
	listener_pass_rights(peer->fd, false);
	free(TAKE_PTR(peer->socket_asked));
	event_add(peer->on_readable, NULL);
	peer_answer(peer, reason, refusal);
}

/* Records it, and begins to serve it. Returns 0, or the reason. */
static int take_socket(struct peer *peer, int fd, struct message_refusal *ret_refusal)
{
	struct peers *peers = peer->peers;
	const struct allotment *allotment;
	int r = 0;

	if (listener_prepare(fd))
		r = refuse_handover(ret_refusal, "what was sent cannot be made non-blocking");
	else if (sockets_has(peers, peer->socket_asked->label))
		r = refuse_handover(ret_refusal, "it has got one meanwhile");
	if (!r)
		r = allot_set_socket(peers->claims, peer->claimant.pid, peer->socket_asked,
				     &allotment, ret_refusal);
	if (r) {
		sockets_drop(peers, fd);
		return r;
	}
	r = sockets_add(peers, allotment, fd);
	return r ? refuse_handover(ret_refusal, "no memory") : 0;
}

static void on_peer_handed(struct peer *peer, const struct handed *handed, int fd)
{
	struct message_refusal refusal;
	int r;

	peer->handover->peer = NULL;
	peer->handover = NULL;
	switch (handed->what) {
	case HANDED:
		r = take_socket(peer, fd, &refusal);
		settle_peer(peer, r, &refusal);
		return;
	case HANDED_OTHER:
		r = refuse_handover(&refusal,
				    "what was sent is not one listening SEQPACKET socket");
		settle_peer(peer, r, &refusal);
		return;
	case HANDED_NOTHING:
		event_add(peer->on_readable, NULL);
		return;
	case HANDED_WRONG:
		peer_log_dropped(peer, "protocol");
		break;
	case HANDED_END:
		break;
	}
	peer_free(peer);
}

static void read_handed(struct peers *peers)
{
	struct handovers *h = &peers->handovers;
	struct handed handed;
	ssize_t n;

	for (;;) {
		int fd = -1;
		size_t n_fds = 0;
		struct handover *slot;

		n = passfd_receive(h->ends[0], &handed, sizeof(handed), &fd, 1, &n_fds);
		if (n != sizeof(handed) || handed.slot >= HANDOVERS_MAX)
			return;
		slot = &h->list[handed.slot];
		if (slot->on_exit && slot->id == handed.id && slot->peer && slot->peer->fd >= 0 &&
		    (n_fds == 1) == (handed.what == HANDED))
			on_peer_handed(slot->peer, &handed, fd);
		else if (n_fds)
			sockets_drop(peers, fd);
	}
}

static void on_handed(int fd, short what, void *userdata)
{
	(void)fd;
	(void)what;
	read_handed(userdata);
}

static void on_taker_exit(int fd, short what, void *userdata)
{
	struct handover *slot = userdata;
	struct message_refusal refusal;
	struct peer *peer;
	int r;

	(void)fd;
	(void)what;
	read_handed(slot->peers); /* what it has sent before */
	peer = slot->peer;
	free_handover(slot);
	if (!peer || peer->fd < 0)
		return;
	r = refuse_handover(&refusal, "the process that received it has ended early");
	settle_peer(peer, r, &refusal);
}

static struct handover *find_slot(struct handovers *h)
{
	for (size_t i = 0; i < HANDOVERS_MAX; i++)
		if (!h->list[i].on_exit)
			return &h->list[i];
	return NULL;
}

static int start_taker(struct peer *peer, struct handover *slot)
{
	struct handovers *h = &peer->peers->handovers;
	struct handed handed = { .id = ++h->last_id, .slot = (uint32_t)(slot - h->list) };
	int pid = worker_fork(false, &slot->pidfd);

	if (!pid)
		run_taker(peer->fd, h->ends[1], &handed);
	if (pid < 0)
		return pid;
	slot->id = handed.id;
	slot->peers = peer->peers;
	slot->on_exit = peers_new_event(peer->peers, slot->pidfd, EV_READ, on_taker_exit, slot);
	if (slot->on_exit && !event_add(slot->on_exit, NULL)) {
		slot->peer = peer;
		peer->handover = slot;
		return 0;
	}
	if (slot->on_exit)
		event_free(TAKE_PTR(slot->on_exit));
	slot->pidfd = fd_close(slot->pidfd);
	return -ENOMEM;
}

void handover_take(struct peer *peer)
{
	struct handover *slot = find_slot(&peer->peers->handovers);
	struct message_refusal refusal;
	int r = slot ? start_taker(peer, slot) : -EAGAIN;

	event_del(peer->on_readable);
	if (!r)
		return;
	/* Its packet stays unread, so the connection ends with the answer. */
	r = refuse_handover(&refusal, "too many are under way; try again");
	peer_answer(peer, r, &refusal);
	if (peer->fd >= 0)
		peer_doom(peer);
}

void handover_forget(struct peer *peer)
{
	if (peer->handover)
		peer->handover->peer = NULL;
	peer->handover = NULL;
	free(TAKE_PTR(peer->socket_asked));
}

int handover_begin(struct peer *peer, const struct message_socket *request,
		   struct message_refusal *ret_refusal)
{
	const struct message_plain ready = { .type = MESSAGE_READY };
	struct peers *peers = peer->peers;
	int r = allot_check_socket(peers->claims, request, ret_refusal);

	if (r)
		return r;
	if (sockets_has(peers, request->label)) {
		peer_end(peer);
		return 0;
	}
	peer->socket_asked = malloc(sizeof(*request));
	if (!peer->socket_asked)
		return refuse_handover(ret_refusal, "no memory");
	*peer->socket_asked = *request;
	peer->busy = PEER_SOCKET;
	listener_pass_rights(peer->fd, true);
	if (passfd_send(peer->fd, &ready, sizeof(ready), NULL, 0))
		peer_doom(peer);
	return 0;
}

int handover_init(struct peers *peers)
{
	struct handovers *h = &peers->handovers;

	for (size_t i = 0; i < HANDOVERS_MAX; i++)
		h->list[i].pidfd = -1;
	if (socketpair(AF_UNIX, SOCK_SEQPACKET | SOCK_CLOEXEC | SOCK_NONBLOCK, 0, h->ends))
		return -errno;
	h->on_handed = peers_new_event(peers, h->ends[0], EV_READ | EV_PERSIST, on_handed, peers);
	return h->on_handed && !event_add(h->on_handed, NULL) ? 0 : -ENOMEM;
}

void handover_done(struct peers *peers)
{
	struct handovers *h = &peers->handovers;

	for (size_t i = 0; i < HANDOVERS_MAX; i++)
		if (h->list[i].on_exit)
			free_handover(&h->list[i]);
	if (h->on_handed)
		event_free(TAKE_PTR(h->on_handed));
	h->ends[0] = fd_close(h->ends[0]);
	h->ends[1] = fd_close(h->ends[1]);
}
