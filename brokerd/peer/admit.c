/* SPDX-License-Identifier: MIT */
/*
 * Admits connections, see admit.h: identifies the process, counts its user's connections, and finds
 * the connection that goes when there is no place left. Some places are kept for root. A connection
 * that does not send its hello in time is closed.
 *
 * It must never walk all connections, and never wait for one: all of this is also done for a client
 * that connects in a loop, and other peers wait for it.
 */
#include "config.h"

#include "brokerd/peer/admit.h"
#include "brokerd/peer/peer.h"
#include "brokerd/process/log.h"
#include "brokerd/state/refuse.h"
#include "client/wire/passfd.h"

#include <errno.h>
#include <event2/event.h>
#include <stdio.h>
#include <string.h>
#include <sys/socket.h>

#define LATE_BURST 64 /* connections without a hello that are closed in a turn */

/* Only the process is that of the kernel, if it has connected to an allotment. */
static int identify(int fd, const struct allotment *allotment, struct claimant *ret_claimant)
{
	struct ucred cred;
	socklen_t size = sizeof(cred);

	if (getsockopt(fd, SOL_SOCKET, SO_PEERCRED, &cred, &size))
		return -errno;
	if (size != sizeof(cred) || cred.uid == (uid_t)-1 || cred.pid <= 0)
		return -EPERM; /* from outside our pid namespace: it has no pid here */
	*ret_claimant = (struct claimant){
		.uid = cred.uid,
		.gid = cred.gid,
		.pid = (uint32_t)cred.pid,
	};
	if (allotment) {
		ret_claimant->uid = allotment->uid;
		ret_claimant->gid = allotment->gid;
		memcpy(ret_claimant->through, allotment->label, sizeof(ret_claimant->through));
	}
	return 0;
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

enum too_many { ENOUGH_ROOM, TOO_MANY_OF_ALL, TOO_MANY_OF_USER, TOO_MANY_AT_SOCKET };

static void turn_away(struct peers *peers, const struct claimant *incoming, int fd,
		      enum too_many what)
{
	struct message_refusal refusal = refusal_make(GPUBROKER_REFUSED_QUOTA);

	if (what == TOO_MANY_OF_ALL)
		refusal_say(&refusal, "the broker has as many connections as it can serve");
	else if (what == TOO_MANY_AT_SOCKET)
		refusal_say(&refusal,
			    "this socket has %d connections to the broker, which is the most for "
			    "one",
			    PEERS_PER_SOCKET);
	else
		refusal_say(&refusal,
			    "you have %d connections to the broker, which is the most for one user",
			    PEERS_PER_UID);
	passfd_send(fd, &refusal, sizeof(refusal), NULL, 0);
	audit_refused(peers->audit, incoming->uid, incoming->pid, &refusal);
}

/* ---- a connection in favour of another ---- */

static struct peer *peer_of_member(const struct users_member *member)
{
	return (struct peer *)(void *)((const char *)member - offsetof(struct peer, member));
}

static bool member_may_go(const struct users_member *member)
{
	return peer_may_go(peer_of_member(member));
}

/* By the uid itself: the places that are kept are root's. (Nobody else owns uid 0 either.) */
static bool has_place(const struct peers *peers, uint32_t uid)
{
	return peers->n < (uid ? PEERS_MAX - PEERS_KEPT : PEERS_MAX);
}

/*
 * Makes room for a connection of uid, which counts for `owner`, if there is none: closes the one
 * that was used longest ago among those of the user who has most. Returns false if that would not
 * bring both users' numbers closer: users who have equally many do not take places from each other.
 */
static bool make_room(struct peers *peers, uint32_t uid, uint32_t owner)
{
	struct message_refusal refusal;
	struct users_member *member;
	struct peer *peer;

	if (has_place(peers, uid))
		return true;
	member = users_idlest(&peers->users, owner, member_may_go);
	if (!member)
		return false;
	peer = peer_of_member(member);
	refusal = refusal_make(GPUBROKER_REFUSED_QUOTA);
	refusal_say(&refusal, "the broker needed a place for another user, and you had most "
			      "connections and had not used this one for longest");
	passfd_send(peer->fd, &refusal, sizeof(refusal), NULL, 0);
	peer_log_dropped(peer, "its place was needed");
	peer_free(peer);
	return has_place(peers, uid); /* not if it was parked */
}

/* ---- the hello ---- */

static void wait_for_hello(struct peers *peers);

static void on_no_hello(int fd, short what, void *userdata)
{
	struct peers *peers = userdata;
	const uint64_t now = peers_now();
	struct peer *peer;

	(void)fd;
	(void)what;
	for (int i = 0; i < LATE_BURST && (peer = TAILQ_FIRST(&peers->strangers)) &&
			now - peer->since >= PEERS_HELLO_MS;
	     i++) {
		peer_log_dropped(peer, "no hello in time");
		peer_free(peer);
	}
	wait_for_hello(peers);
}

/* Has the first connection without a hello closed in time. */
static void wait_for_hello(struct peers *peers)
{
	const struct peer *first = TAILQ_FIRST(&peers->strangers);
	uint64_t now = peers_now(), end = first ? first->since + PEERS_HELLO_MS : 0;
	uint64_t left = end > now ? end - now : 0;
	const struct timeval after = {
		.tv_sec = (time_t)(left / 1000),
		.tv_usec = (suseconds_t)(left % 1000) * 1000,
	};

	if (!peers->on_no_hello)
		peers->on_no_hello = peers_new_event(peers, -1, 0, on_no_hello, peers);
	/* Without memory the next connection tries again. */
	if (first && peers->on_no_hello && !evtimer_pending(peers->on_no_hello, NULL))
		evtimer_add(peers->on_no_hello, &after);
}

/* ---- all of it ---- */

/*
 * Counts the connection for its user, if there may be one more. Whatever runs at the socket of an
 * allotment must not have all the connections that its user may have: the user has other sockets.
 */
static enum too_many take_place(struct peers *peers, const struct allotment *allotment,
				uint32_t uid, int *ret_fault)
{
	const uint32_t owner = peers_owner(peers, uid);

	*ret_fault = 0;
	if (allotment && allotment->connections >= PEERS_PER_SOCKET)
		return TOO_MANY_AT_SOCKET;
	*ret_fault = users_take(&peers->users, owner, PEERS_PER_UID);
	if (*ret_fault)
		return TOO_MANY_OF_USER;
	if (make_room(peers, uid, owner))
		return ENOUGH_ROOM;
	users_give(&peers->users, owner);
	return TOO_MANY_OF_ALL;
}

/*
 * Returns true and counts the connection, if its user may have one more. Otherwise logs and sends
 * the refusal.
 */
static bool may_enter(struct peers *peers, int fd, const struct allotment *allotment,
		      struct claimant *incoming)
{
	enum too_many what;
	int r = identify(fd, allotment, incoming);

	if (r) {
		log_unknown(peers, r);
		return false;
	}
	what = take_place(peers, allotment, incoming->uid, &r);
	if (what != ENOUGH_ROOM && r != -ENOMEM)
		turn_away(peers, incoming, fd, what);
	return what == ENOUGH_ROOM;
}

void admit(struct peers *peers, int fd)
{
	admit_to(peers, fd, NULL);
}

void admit_to(struct peers *peers, int fd, const struct allotment *allotment)
{
	struct claimant incoming;

	if (!may_enter(peers, fd, allotment, &incoming)) {
		closing_drop(peers->closing, fd, CLOSING_NOBODY);
	} else if (peer_make(peers, &incoming, &fd)) {
		users_give(&peers->users, peers_owner(peers, incoming.uid));
		closing_drop(peers->closing, fd, CLOSING_NOBODY);
	} else {
		wait_for_hello(peers);
	}
}
