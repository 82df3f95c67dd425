/* SPDX-License-Identifier: MIT */
/*
 * One connection, see peer.h: the identity of its process, its socket, and the answers to it.
 *
 * It must never accept a descriptor, nor close one that a peer has sent; never wait for a peer; and
 * never free a peer while a caller still uses it: such a peer is marked, and freed in the next turn
 * of the loop.
 */
#include "config.h"

#include "brokerd/peer/peer.h"
#include "brokerd/process/log.h"
#include "brokerd/process/loop.h"
#include "brokerd/process/worker.h"
#include "brokerd/state/refuse.h"
#include "client/common/util.h"
#include "client/wire/passfd.h"

#include <errno.h>
#include <event2/event.h>
#include <limits.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/socket.h>
#include <sys/syscall.h>
#include <time.h>
#include <unistd.h>

#ifndef SO_PEERPIDFD
#define SO_PEERPIDFD 77
#endif

#define GROUPS_MAX 65536 /* NGROUPS_MAX: a process cannot have more */
#define REQUEST_BURST 8	 /* requests a turn */

/* Each connection has room among those that are parked, see closing_is_full(). */
_Static_assert(PEERS_MAX + CLOSING_SPARE <= CLOSING_MAX, "parked connections");

uint64_t peers_now(void)
{
	struct timespec now;

	clock_gettime(CLOCK_MONOTONIC, &now);
	return (uint64_t)now.tv_sec * 1000 + (uint64_t)now.tv_nsec / 1000000;
}

/* ---- identity ---- */

/* Returns a pidfd of the process that connected, or -errno; -ENOPROTOOPT before Linux 6.5. */
static int process_of(int fd)
{
	socklen_t size = sizeof(int);
	int pidfd;

	return getsockopt(fd, SOL_SOCKET, SO_PEERPIDFD, &pidfd, &size) ? -errno : pidfd;
}

/*
 * Returns true if the kernel has SO_PEERPIDFD. The answer is the same for all sockets, so it is
 * asked once.
 */
static bool kernel_knows_process(int fd)
{
	static enum { NOT_ASKED, KNOWS, KNOWS_NOT } answer;

	if (answer == NOT_ASKED) {
		cleanup_fd int pidfd = process_of(fd);

		answer = pidfd == -ENOPROTOOPT ? KNOWS_NOT : KNOWS;
	}
	return answer == KNOWS;
}

/*
 * Opens a pidfd of the peer before Linux 6.5. Since then the socket remembers the process and gives
 * a pidfd when it is needed, which saves a descriptor for each peer that is only connected.
 */
static void hold_process(struct peer *peer)
{
	if (!kernel_knows_process(peer->fd))
		peer->pidfd = (int)syscall(SYS_pidfd_open, (pid_t)peer->claimant.pid, 0);
}

/* At the socket of an allotment its user counts, and not who has connected. */
static int subject_of_allotment(const struct peer *peer, struct policy_subject *ret_subject)
{
	const struct allotment *allotment =
		allotments_find(peer->peers->claims->allotments, peer->claimant.through);

	if (!allotment)
		return -ESTALE;
	*ret_subject = (struct policy_subject){
		.uid = peer->claimant.uid,
		.gid = peer->claimant.gid,
		.groups = allotment->gids,
		.n_groups = allotment->n_gids,
		.only_allotted = true,
	};
	return 0;
}

int peer_subject(const struct peer *peer, struct policy_subject *ret_subject)
{
	gid_t *groups = peer->peers->groups;
	socklen_t size = GROUPS_MAX * sizeof(*groups);

	if (peer->claimant.through[0])
		return subject_of_allotment(peer, ret_subject);
	if (getsockopt(peer->fd, SOL_SOCKET, SO_PEERGROUPS, groups, &size))
		return -errno;
	*ret_subject = (struct policy_subject){
		.uid = peer->claimant.uid,
		.gid = peer->claimant.gid,
		.groups = groups,
		.n_groups = size / sizeof(gid_t),
	};
	return 0;
}

/* ---- answers ---- */

static void on_readable(evutil_socket_t fd, short what, void *userdata);

struct event *peers_new_event(struct peers *peers, int fd, short what,
			      void (*call)(int fd, short what, void *userdata), void *userdata)
{
	struct event *event = event_new(peers->base, fd, what, call, userdata);

	if (event && event_priority_set(event, PRIORITY_PEERS)) {
		event_free(event);
		return NULL;
	}
	return event;
}

static void on_writable(evutil_socket_t fd, short what, void *userdata)
{
	struct peer *peer = userdata;

	(void)fd;
	(void)what;
	peer->peers->ops->room(peer);
}

bool peer_wait_for_room(struct peer *peer, bool wait)
{
	if (wait && !peer->on_writable)
		peer->on_writable = peers_new_event(peer->peers, peer->fd, EV_WRITE | EV_PERSIST,
						    on_writable, peer);
	if (wait)
		return peer->on_writable && !event_add(peer->on_writable, NULL);
	if (peer->on_writable)
		event_free(TAKE_PTR(peer->on_writable));
	return true;
}

/* The peer is not busy any more, or not for long: it is about to go. */
static void be_idle(struct peer *peer)
{
	if (peer->busy == PEER_WATCHING)
		peer->peers->n_watching--;
	if (peer->busy == PEER_POLICY)
		peer->peers->n_awaiting--;
	peer->busy = PEER_IDLE;
}

bool peer_is_busy(const struct peer *peer)
{
	return peer->busy != PEER_IDLE || peer->claimant.claim || peer->claimant.waiting ||
	       peer->claimant.check;
}

static void send_answer(struct peer *peer, const void *packet, size_t size)
{
	be_idle(peer);
	users_touch(&peer->member);
	if (peer->fd >= 0 && passfd_send(peer->fd, packet, size, NULL, 0))
		peer_doom(peer);
}

void peer_refuse(struct peer *peer, const struct message_refusal *refusal)
{
	send_answer(peer, refusal, sizeof(*refusal));
}

void peer_end(struct peer *peer)
{
	const struct message_plain end = { .type = MESSAGE_END };

	send_answer(peer, &end, sizeof(end));
}

void peer_counted(struct peer *peer, const struct message_counted *counted)
{
	send_answer(peer, counted, sizeof(*counted));
}

void peer_policy_state(struct peer *peer, const struct message_policy_state *state)
{
	send_answer(peer, state, sizeof(*state));
}

void peer_answer(struct peer *peer, int reason, const struct message_refusal *refusal)
{
	if (!reason) {
		peer_end(peer);
		return;
	}
	audit_refused(peer->peers->audit, peer->claimant.uid, peer->claimant.pid, refusal);
	peer_refuse(peer, refusal);
}

/* ---- functions for claim/ and prepare/ ---- */

static struct peer *peer_of(const struct claimant *claimant)
{
	return (struct peer *)(void *)((const char *)claimant - offsetof(struct peer, claimant));
}

static int claimant_subject(const struct claimant *claimant, struct policy_subject *ret_subject)
{
	return peer_subject(peer_of(claimant), ret_subject);
}

static bool claimant_spend(struct claimant *claimant, uint64_t cost)
{
	struct peer *peer = peer_of(claimant);
	const bool may = peer_spend(peer, 0);

	peer_owe(peer, cost);
	return may;
}

static int claimant_raise_memlock(const struct claimant *claimant, uint64_t bytes)
{
	const struct peer *peer = peer_of(claimant);
	cleanup_fd int own = peer->pidfd < 0 ? process_of(peer->fd) : -1;

	return kernel_memlock_raise(peer->peers->kernel, peer->pidfd < 0 ? own : peer->pidfd,
				    (int)claimant->pid, bytes);
}

static int claimant_grant(struct claimant *claimant, const struct message_grant *grant,
			  const int *fds, size_t n_fds)
{
	const struct peer *peer = peer_of(claimant);

	/*
	 * passfd_send() fails if the peer has not read its progress messages: it would leave the
	 * descriptors unread.
	 */
	return peer->fd < 0 ? -EPIPE : passfd_send(peer->fd, grant, sizeof(*grant), fds, n_fds);
}

static void claimant_refuse(struct claimant *claimant, const struct message_refusal *refusal)
{
	peer_refuse(peer_of(claimant), refusal);
}

static void claimant_checked(struct claimant *claimant)
{
	peer_end(peer_of(claimant));
}

static void claimant_progress(struct claimant *claimant, const struct message_step *step)
{
	const struct peer *peer = peer_of(claimant);

	if (peer->fd >= 0)
		passfd_send(peer->fd, step, sizeof(*step), NULL, 0);
}

static bool claimant_queued(struct claimant *claimant, const struct message_queued *queued)
{
	const struct peer *peer = peer_of(claimant);

	return peer->fd >= 0 && !passfd_send(peer->fd, queued, sizeof(*queued), NULL, 0);
}

static bool claimant_is_gone(const struct claimant *claimant)
{
	return peer_of(claimant)->fd < 0;
}

static const struct claimant_ops claimant_ops = {
	.subject = claimant_subject,
	.spend = claimant_spend,
	.raise_memlock = claimant_raise_memlock,
	.grant = claimant_grant,
	.refuse = claimant_refuse,
	.checked = claimant_checked,
	.progress = claimant_progress,
	.queued = claimant_queued,
	.is_gone = claimant_is_gone,
};

static void on_sriov_done(struct sriov_request *request, const struct message_refusal *refusal)
{
	struct peer *peer = (struct peer *)(void *)((char *)request - offsetof(struct peer, sriov));

	peer_answer(peer, refusal ? (int)refusal->reason : 0, refusal);
}

static void on_order_done(struct order_request *request, const struct message_refusal *refusal)
{
	struct peer *peer = (struct peer *)(void *)((char *)request - offsetof(struct peer, order));

	peer_answer(peer, refusal ? (int)refusal->reason : 0, refusal);
}

/* ---- connecting and disconnecting ---- */

uint32_t peers_owner(const struct peers *peers, uint32_t uid)
{
	return policy_owner(&peers->policy->policy, uid);
}

void peer_log_dropped(const struct peer *peer, const char *why)
{
	const struct audit_line line = {
		.outcome = "dropped",
		.level = LOG_INFO,
		.uid = peer->claimant.uid,
		.pid = peer->claimant.pid,
		.group = NO_GROUP,
		.by = AUDIT_NOBODY,
		.reason = why,
	};

	audit_asked(peer->peers->audit, peer->claimant.uid, &line);
}

int peer_make(struct peers *peers, const struct claimant *incoming, int *fd)
{
	struct peer *peer = malloc(sizeof(*peer));
	struct allotment *allotment;

	if (!peer)
		return -ENOMEM;
	allotment = incoming->through[0]
			    ? allotments_find(peers->claims->allotments, incoming->through)
			    : NULL;
	*fd = worker_move_high(*fd);
	*peer = (struct peer){
		.peers = peers,
		.fd = *fd,
		.pidfd = -1,
		.claimant = *incoming,
		.counted_as = peers_owner(peers, incoming->uid),
		.counted_at = allotment ? allotment->number : 0,
		.sriov = { .done = on_sriov_done, .uid = incoming->uid },
		.order = { .done = on_order_done, .uid = incoming->uid },
		.since = peers_now(),
	};
	peer->claimant.ops = &claimant_ops;
	peer->on_readable = peers_new_event(peers, *fd, EV_READ | EV_PERSIST, on_readable, peer);
	if (!peer->on_readable || event_add(peer->on_readable, NULL)) {
		if (peer->on_readable)
			event_free(peer->on_readable);
		free(peer);
		return -ENOMEM;
	}
	hold_process(peer);
	TAILQ_INSERT_TAIL(&peers->list, peer, link);
	TAILQ_INSERT_TAIL(&peers->strangers, peer, stranger);
	peer->is_stranger = true;
	users_add(&peers->users, peer->counted_as, &peer->member);
	peers->n++;
	if (allotment)
		allotment->connections++;
	return 0;
}

/* Counts a connection as another user's, whose it is now. */
static void count_as(struct peer *peer, uint32_t owner)
{
	struct users *users = &peer->peers->users;
	const bool may_make_room = peer->member.entry;

	if (users_take(users, owner, UINT_MAX))
		return; /* without memory it still counts as before */
	users_remove(users, &peer->member);
	users_give(users, peer->counted_as);
	peer->counted_as = owner;
	if (may_make_room)
		users_add(users, owner, &peer->member);
}

void peers_count_again(struct peers *peers)
{
	struct peer *peer;

	TAILQ_FOREACH(peer, &peers->list, link) {
		const uint32_t owner = peers_owner(peers, peer->claimant.uid);

		/* One that is parked is given back as whose it was when it was dropped. */
		if (!peer->parked && owner != peer->counted_as)
			count_as(peer, owner);
	}
}

int64_t peer_counted_as(const struct peer *peer)
{
	return (int64_t)peer->counted_at << 32 | peer->counted_as;
}

void peers_closed(struct peers *peers, int64_t counted)
{
	const uint32_t number = (uint32_t)(counted >> 32);
	struct allotment *allotment = number ? allotments_from(peers->claims->allotments, number)
					     : NULL;

	peers->n--;
	users_give(&peers->users, (uint32_t)counted);
	if (allotment && allotment->number == number) /* else it has ended meanwhile */
		allotment->connections--;
}

static void forget_stranger(struct peer *peer)
{
	if (peer->is_stranger)
		TAILQ_REMOVE(&peer->peers->strangers, peer, stranger);
	peer->is_stranger = false;
}

void peer_greeted(struct peer *peer)
{
	peer->greeted = true;
	forget_stranger(peer);
}

bool peer_may_go(const struct peer *peer)
{
	return !peer->claimant.claim && !peer->claimant.waiting && !peer->claimant.check &&
	       peer->busy != PEER_SRIOV && peer->busy != PEER_ORDER;
}

/* Closes the connection, at once or later. Until then it counts among its user's. */
static void drop_connection(struct peer *peer)
{
	int fd = TAKE_FD(peer->fd);

	if (fd >= 0)
		peer->parked = !closing_drop(peer->peers->closing, fd, peer_counted_as(peer));
}

void peer_doom(struct peer *peer)
{
	/* Before the close: the descriptor's number may be another peer's before the next turn. */
	event_del(peer->on_readable);
	peer_wait_for_room(peer, false);
	be_idle(peer);
	forget_stranger(peer);
	users_remove(&peer->peers->users, &peer->member);
	peer->greeted = false;
	drop_connection(peer);
	event_active(peer->on_readable, EV_READ, 1);
}

void peer_free(struct peer *peer)
{
	struct peers *peers = peer->peers;

	be_idle(peer);
	peers->ops->gone(peer);
	event_free(peer->on_readable);
	peer_wait_for_room(peer, false);
	forget_stranger(peer);
	users_remove(&peers->users, &peer->member);
	drop_connection(peer);
	fd_close(peer->pidfd);
	TAILQ_REMOVE(&peers->list, peer, link);
	if (!peer->parked)
		peers_closed(peers, peer_counted_as(peer));
	free(peer);
}

/* ---- a turn of the loop ---- */

/*
 * The end of a turn: activated by the first peer that does something in the turn, so it runs after
 * all peers that were ready in it. (libevent's cached time comes from a coarse clock, which is the
 * same for hundreds of turns.)
 */
static void on_turn_end(evutil_socket_t fd, short what, void *userdata)
{
	struct peers *peers = userdata;

	(void)fd;
	(void)what;
	peers->turn++;
	peers->in_turn = false;
}

/* Returns false if turns cannot be counted, for lack of memory. */
static bool begin_turn(struct peers *peers)
{
	if (peers->in_turn)
		return true;
	if (!peers->on_turn_end)
		peers->on_turn_end = peers_new_event(peers, -1, 0, on_turn_end, peers);
	if (!peers->on_turn_end)
		return false;
	event_active(peers->on_turn_end, EV_TIMEOUT, 1);
	peers->in_turn = true;
	return true;
}

/*
 * A turn is limited for each user, not for each connection: a user with 128 busy connections makes
 * others wait no longer than with one. A peer whose user is over the limit is served in the next
 * turn, since its socket is still ready then.
 */
bool peer_spend(struct peer *peer, uint64_t cost)
{
	struct peers *peers = peer->peers;

	return !begin_turn(peers) ||
	       users_spend(&peers->users, peer->counted_as, peers->turn, cost);
}

void peer_owe(struct peer *peer, uint64_t cost)
{
	struct peers *peers = peer->peers;

	if (begin_turn(peers))
		users_owe(&peers->users, peer->counted_as, peers->turn, cost);
}

static void on_readable(evutil_socket_t fd, short what, void *userdata)
{
	struct peer *peer = userdata;

	(void)fd;
	(void)what;
	for (int i = 0; i < REQUEST_BURST; i++) {
		union peer_packet packet;
		ssize_t n;

		if (peer->fd < 0)
			break; /* doomed */
		/*
		 * Reading is free of cost, so that a peer that has left is noticed before the queue
		 * lends it anything.
		 */
		if (!peer_spend(peer, 0))
			return;
		if (peer->busy == PEER_SOCKET) {
			peer->peers->ops->handed(peer);
			return;
		}
		/* No descriptor is accepted: for one that comes, the peer is dropped. */
		n = passfd_receive_plain(peer->fd, &packet, sizeof(packet));
		if (n == -EAGAIN)
			return;
		if (n > 0) {
			users_touch(&peer->member);
			peer_owe(peer, COST_REQUEST);
			if (peer->peers->ops->request(peer, &packet, (size_t)n))
				continue;
		}
		if (n && n != -ECONNRESET)
			peer_log_dropped(peer, n > 0 ? "protocol" : strerror((int)-n));
		peer_free(peer);
		return;
	}
	if (peer->fd < 0)
		peer_free(peer);
}

/* ---- all peers ---- */

int peers_init(struct peers *peers)
{
	TAILQ_INIT(&peers->list);
	TAILQ_INIT(&peers->strangers);
	TAILQ_INIT(&peers->sockets.ended);
	/* Pages are used only as far as a process has groups, so it costs little memory. */
	peers->groups = malloc(GROUPS_MAX * sizeof(*peers->groups));
	return peers->groups ? 0 : -ENOMEM;
}

void peers_abandon(struct peers *peers)
{
	struct peer *peer;

	TAILQ_FOREACH(peer, &peers->list, link)
		drop_connection(peer);
}

void peers_done(struct peers *peers)
{
	if (peers->on_no_hello)
		event_free(TAKE_PTR(peers->on_no_hello));
	if (peers->on_turn_end)
		event_free(TAKE_PTR(peers->on_turn_end));
	free(TAKE_PTR(peers->groups));
	users_done(&peers->users);
}
