/* SPDX-License-Identifier: MIT */
/*
 * One connection, see peer.h: the identity of its process, its socket, and the answers to it.
 *
 * It must never accept a descriptor, never wait for a peer, and never free a peer while a caller
 * still uses it: such a peer is marked, and freed in the next turn of the loop.
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
#include <unistd.h>

#ifndef SO_PEERPIDFD
#define SO_PEERPIDFD 77
#endif

#define GROUPS_MAX 65536 /* NGROUPS_MAX: a process cannot have more */
#define REQUEST_BURST 8	 /* requests a turn */

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

static int identify(struct peer *peer)
{
	struct ucred cred;
	socklen_t size = sizeof(cred);

	if (getsockopt(peer->fd, SOL_SOCKET, SO_PEERCRED, &cred, &size))
		return -errno;
	if (size != sizeof(cred) || cred.uid == (uid_t)-1 || cred.pid <= 0)
		return -EPERM; /* from outside our pid namespace: it has no pid here */
	peer->claimant.uid = cred.uid;
	peer->claimant.gid = cred.gid;
	peer->claimant.pid = (uint32_t)cred.pid;
	return 0;
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

int peer_subject(const struct peer *peer, struct policy_subject *ret_subject)
{
	gid_t *groups = peer->peers->groups;
	socklen_t size = GROUPS_MAX * sizeof(*groups);

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

static struct event *new_event(struct peers *peers, int fd, short what, event_callback_fn call,
			       void *userdata)
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
		peer->on_writable =
			new_event(peer->peers, peer->fd, EV_WRITE | EV_PERSIST, on_writable, peer);
	if (wait)
		return peer->on_writable && !event_add(peer->on_writable, NULL);
	if (peer->on_writable)
		event_free(TAKE_PTR(peer->on_writable));
	return true;
}

static void stop_watching(struct peer *peer)
{
	if (peer->busy == PEER_WATCHING)
		peer->peers->n_watching--;
	peer->busy = PEER_IDLE;
}

void peer_doom(struct peer *peer)
{
	/* Before the close: the descriptor's number may be another peer's before the next turn. */
	event_del(peer->on_readable);
	peer_wait_for_room(peer, false);
	stop_watching(peer);
	peer->greeted = false;
	peer->fd = fd_close(peer->fd);
	event_active(peer->on_readable, EV_READ, 1);
}

bool peer_is_busy(const struct peer *peer)
{
	return peer->busy != PEER_IDLE || peer->claimant.claim || peer->claimant.waiting;
}

static void send_answer(struct peer *peer, const void *packet, size_t size)
{
	peer->busy = PEER_IDLE;
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
	struct peer *peer =
		(struct peer *)(void *)((char *)claimant - offsetof(struct peer, claimant));
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
	.progress = claimant_progress,
	.queued = claimant_queued,
	.is_gone = claimant_is_gone,
};

static void on_sriov_done(struct sriov_request *request, const struct message_refusal *refusal)
{
	struct peer *peer = (struct peer *)(void *)((char *)request - offsetof(struct peer, sriov));

	peer_answer(peer, refusal ? (int)refusal->reason : 0, refusal);
}

/* ---- connecting and disconnecting ---- */

static void turn_away(struct peers *peers, const struct peer *peer)
{
	struct message_refusal refusal = refusal_make(GPUBROKER_REFUSED_QUOTA);
	union peer_packet ignored;
	size_t n_fds;

	if (peers->n >= PEERS_MAX)
		refusal_say(&refusal, "the broker has as many connections as it can serve");
	else
		refusal_say(&refusal,
			    "you have %d connections to the broker, which is the most for one user",
			    PEERS_PER_UID);
	passfd_send(peer->fd, &refusal, sizeof(refusal), NULL, 0);
	/*
	 * Closing a socket with an unread packet resets the other side: its next receive fails with
	 * ECONNRESET once, and only the one after that returns the refusal (see
	 * client/library/connection.c). So any packet is read first.
	 */
	while (passfd_receive(peer->fd, &ignored, sizeof(ignored), NULL, 0, &n_fds) > 0)
		;
	audit_refused(peers->audit, peer->claimant.uid, peer->claimant.pid, &refusal);
}

static void log_dropped(const struct peer *peer, const char *why)
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

static void log_unknown(struct peers *peers, int error)
{
	char reason[96];
	const struct audit_line line = {
		.outcome = "dropped",
		.level = LOG_INFO,
		.uid = AUDIT_NOBODY,
		.group = NO_GROUP,
		.by = AUDIT_NOBODY,
		.reason = reason,
	};

	snprintf(reason, sizeof(reason), "its user is unknown: %s", strerror(-error));
	audit_asked(peers->audit, UINT32_MAX, &line);
}

/* Returns the user whose limits count for a peer: the owner of its uid. */
static uint32_t owner_of(const struct peer *peer)
{
	return policy_owner(&peer->peers->policy->policy, peer->claimant.uid);
}

void peers_count_again(struct peers *peers)
{
	struct peer *peer;

	TAILQ_FOREACH(peer, &peers->list, link) {
		const uint32_t owner = owner_of(peer);

		/* Without memory it still counts as before. */
		if (owner == peer->counted_as || users_take(&peers->users, owner, UINT_MAX))
			continue;
		users_give(&peers->users, peer->counted_as);
		peer->counted_as = owner;
	}
}

/*
 * Returns true and counts the connection, if its user may have one more. Otherwise logs the
 * refusal.
 */
static bool admit(struct peers *peers, struct peer *peer)
{
	int r = identify(peer);

	if (r) {
		log_unknown(peers, r);
		return false;
	}
	peer->counted_as = owner_of(peer);
	r = peers->n >= PEERS_MAX ? -EDQUOT
				  : users_take(&peers->users, peer->counted_as, PEERS_PER_UID);
	if (r == -EDQUOT)
		turn_away(peers, peer);
	return !r;
}

/*
 * All work before admit() returns true is also done for a client that connects in a loop, and other
 * peers wait for it.
 */
void peer_new(struct peers *peers, int fd)
{
	struct peer incoming = { .peers = peers,
				 .fd = fd,
				 .pidfd = -1,
				 .claimant = { .ops = &claimant_ops },
				 .sriov = { .done = on_sriov_done } },
		    *peer;

	if (!admit(peers, &incoming)) {
		fd_close(fd);
		return;
	}
	incoming.sriov.uid = incoming.claimant.uid;
	peer = malloc(sizeof(*peer));
	if (!peer)
		goto drop;
	*peer = incoming;
	hold_process(peer);
	peer->fd = incoming.fd = worker_move_high(fd);
	peer->on_readable = new_event(peers, peer->fd, EV_READ | EV_PERSIST, on_readable, peer);
	if (!peer->on_readable || event_add(peer->on_readable, NULL)) {
		fd_close(peer->pidfd);
		goto drop;
	}
	TAILQ_INSERT_TAIL(&peers->list, peer, link);
	peers->n++;
	return;
drop:
	if (peer && peer->on_readable)
		event_free(peer->on_readable);
	free(peer);
	fd_close(incoming.fd);
	users_give(&peers->users, incoming.counted_as);
}

void peer_free(struct peer *peer)
{
	struct peers *peers = peer->peers;

	stop_watching(peer);
	peers->ops->gone(peer);
	event_free(peer->on_readable);
	peer_wait_for_room(peer, false);
	fd_close(peer->fd);
	fd_close(peer->pidfd);
	TAILQ_REMOVE(&peers->list, peer, link);
	peers->n--;
	users_give(&peers->users, peer->counted_as);
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
		peers->on_turn_end = new_event(peers, -1, 0, on_turn_end, peers);
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
		size_t n_fds;
		ssize_t n;

		if (peer->fd < 0)
			break; /* doomed */
		/*
		 * Reading is free of cost, so that a peer that has left is noticed before the queue
		 * lends it anything.
		 */
		if (!peer_spend(peer, 0))
			return;
		/* No descriptor is accepted: one that comes is closed and the peer is dropped. */
		n = passfd_receive(peer->fd, &packet, sizeof(packet), NULL, 0, &n_fds);
		if (n == -EAGAIN)
			return;
		if (n > 0) {
			peer_owe(peer, COST_REQUEST);
			if (peer->peers->ops->request(peer, &packet, (size_t)n))
				continue;
		}
		if (n && n != -ECONNRESET)
			log_dropped(peer, n > 0 ? "protocol" : strerror((int)-n));
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
	/* Pages are used only as far as a process has groups, so it costs little memory. */
	peers->groups = malloc(GROUPS_MAX * sizeof(*peers->groups));
	return peers->groups ? 0 : -ENOMEM;
}

void peers_done(struct peers *peers)
{
	if (peers->on_turn_end)
		event_free(TAKE_PTR(peers->on_turn_end));
	free(TAKE_PTR(peers->groups));
}
