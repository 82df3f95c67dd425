/* SPDX-License-Identifier: MIT */
/* Peers: one connection each. The identity of its process, its socket, and the answers to it. */
#pragma once

#include <stdbool.h>
#include <stddef.h>
#include <stdint.h>
#include <sys/queue.h>

#include "brokerd/claim/claimant.h"
#include "brokerd/claim/claims.h"
#include "brokerd/kernel/kernel.h"
#include "brokerd/peer/handover.h"
#include "brokerd/peer/sockets.h"
#include "brokerd/prepare/order.h"
#include "brokerd/prepare/sriov.h"
#include "brokerd/process/closing.h"
#include "brokerd/record/audit.h"
#include "brokerd/state/users.h"

#define PEERS_PER_UID 128   /* connections of one user, all subordinate uids included */
#define PEERS_PER_SOCKET 16 /* ... of these at the socket of one allotment */
#define PEERS_MAX 12288	    /* connections of all users; LimitNOFILE= in the unit depends on it */
#define PEERS_KEPT 128	    /* of these, for root alone: it must be able to revoke */
#define PEERS_HELLO_MS 5000 /* within which a connection must send its hello */

/* Room for every request; a larger packet is invalid. */
union peer_packet {
	uint32_t type;
	struct message_hello hello;
	struct message_plain plain;
	struct message_claim claim;
	struct message_allot allot;
	struct message_retract retract;
	struct message_socket socket;
	struct message_release release;
	struct message_restore restore;
	struct message_vfs vfs;
	struct message_migration migration;
	struct message_policy policy;
};

struct peer {
	TAILQ_ENTRY(peer) link;
	TAILQ_ENTRY(peer) stranger; /* until it is greeted */
	struct users_member member;
	struct peers *peers;
	int fd;
	int pidfd; /* of the connected process, before Linux 6.5; else -1 */
	struct claimant claimant;
	uint32_t counted_as;	    /* the user whose connection it is, see peers_count_again() */
	uint32_t counted_at;	    /* the number of the allotment at whose socket it is, or 0 */
	struct sriov_request sriov; /* active while `busy` is PEER_SRIOV */
	struct order_request order; /* active while `busy` is PEER_ORDER */
	/* while `busy` is PEER_SOCKET: what it has asked for, and the taker that receives it */
	struct message_socket *socket_asked;
	struct handover *handover;
	bool greeted;
	bool is_stranger; /* in peers->strangers */
	bool parked;	  /* the connection outlives the peer, see closing.h */
	uint64_t since;	  /* milliseconds of the monotonic clock at the connect */
	struct event *on_readable;
	struct event *on_writable; /* only while a listing waits for room; else NULL */
	/* the request that is being served, unless it is a claim */
	enum peer_busy {
		PEER_IDLE,
		PEER_LISTING,
		PEER_LEASES,
		PEER_QUEUE,
		PEER_USAGE,
		PEER_ALLOTMENTS,
		PEER_WATCHING,
		PEER_SRIOV,
		PEER_ORDER,
		PEER_POLICY,
		PEER_SOCKET, /* it is to send a listening socket */
	} busy;
	uint64_t awaits_load; /* while PEER_POLICY: the load that must have ended */
	/* the listing's cursor */
	struct pci_address next_device;
	bool devices_done;
	uint64_t next_id; /* of a lease or a waiting claim, or the number of an entry */
	uint32_t lost;	  /* events that it did not read in time */
};

/* The functions of request.c, which the connection calls. */
struct peers_ops {
	/*
	 * Handles a request that was received; its size may be wrong. Returns false if the peer
	 * must be dropped.
	 */
	bool (*request)(struct peer *peer, const union peer_packet *packet, size_t size);
	/* It has sent something while `busy` is PEER_SOCKET, which the core must not receive. */
	void (*handed)(struct peer *peer);
	/* Its socket has room again; called after peer_wait_for_room(). */
	void (*room)(struct peer *peer);
	/* The peer is about to be freed. */
	void (*gone)(struct peer *peer);
};

/* All but the connections belongs to other parts, and outlives the struct. */
struct peers {
	struct event_base *base;
	const struct peers_ops *ops;
	struct closing *closing;
	struct audit *audit;
	const struct kernel *kernel;
	const struct policy_state *policy;
	const struct devices *devices;
	struct leases *leases;
	struct claims *claims;
	struct prepare *prepare;
	struct orders *orders;
	struct sriov *sriov;
	const struct holds *holds;
	const struct usage *usage;
	/* Has the policy read again; returns the number of that load, see peers_policy_loaded(). */
	uint64_t (*reload)(void *userdata);
	void *userdata;
	int listen_fd;
	struct sockets sockets; /* of allotments */
	struct handovers handovers;
	uint64_t started;   /* when the broker began to serve, seconds since the epoch */
	bool made_listener; /* it is not systemd's */
	struct event *on_connect, *on_accept_again;
	TAILQ_HEAD(peer_list, peer) list;
	TAILQ_HEAD(, peer) strangers; /* that have not sent their hello, in the order of `since` */
	struct event *on_no_hello;    /* the first stranger's time is over */
	size_t n;		      /* connections, and those that are parked */
	size_t n_watching;	      /* peers that watch */
	size_t n_awaiting;	      /* peers that wait for a load of the policy */
	uint64_t loads;		      /* the last load of the policy that has ended */
	struct users users;	      /* the connections of each user */
	gid_t *groups;		      /* room for a process' groups, see peer_subject() */
	struct event *on_turn_end;    /* of PRIORITY_PEERS, like all events of peers */
	uint64_t turn;		      /* counts the loop's turns in which a peer was served */
	bool in_turn;
};

/* Initializes *peers, whose pointers to other parts must be set. Returns 0, or -ENOMEM. */
int peers_init(struct peers *peers);
void peers_done(struct peers *peers);

/* Closes all connections, for a daemon that ends without undoing what it does. */
void peers_abandon(struct peers *peers);
/* Returns the user that a uid's connections and requests are counted for: its owner. */
uint32_t peers_owner(const struct peers *peers, uint32_t uid);
/* Returns the user and the allotment whose connection it is, as one number, which is never -1. */
int64_t peer_counted_as(const struct peer *peer);
/* Counts a connection of these less: the one that was parked is closed. */
void peers_closed(struct peers *peers, int64_t counted);
/*
 * Counts the connections of each user anew, since uids have other owners now. A user who has more
 * than PEERS_PER_UID then keeps them, and gets no more.
 */
void peers_count_again(struct peers *peers);

/*
 * Makes a peer of a connection, which is counted in peers->users for the owner of its uid.
 * `incoming` has the ids of its process. Moves *fd, see worker_move_high(). Returns 0; or -ENOMEM,
 * and *fd stays the caller's.
 */
int peer_make(struct peers *peers, const struct claimant *incoming, int *fd);
/* Closes the connection; a claim that has begun is undone. */
void peer_free(struct peer *peer);
/* Closes the connection now, and frees the peer in the loop's next turn, when no caller uses it. */
void peer_doom(struct peer *peer);
/* Notes that the peer has sent its hello. */
void peer_greeted(struct peer *peer);
/* Returns true if the connection may be closed in favour of another. */
bool peer_may_go(const struct peer *peer);
/* Logs that a connection is closed for that reason. */
void peer_log_dropped(const struct peer *peer, const char *why);
/* Returns milliseconds of the monotonic clock. */
uint64_t peers_now(void);
/* Makes an event of PRIORITY_PEERS. Returns NULL if there is no memory. */
struct event *peers_new_event(struct peers *peers, int fd, short what,
			      void (*call)(int fd, short what, void *userdata), void *userdata);

/* Returns true if the peer's last request has not been answered yet. */
bool peer_is_busy(const struct peer *peer);
/* Reads the peer's ids and groups; valid until the next call for any peer. Returns 0, or -errno. */
int peer_subject(const struct peer *peer, struct policy_subject *ret_subject);

/* Send answers, each of which ends a request. */
void peer_refuse(struct peer *peer, const struct message_refusal *refusal);
void peer_end(struct peer *peer);
void peer_policy_state(struct peer *peer, const struct message_policy_state *state);
void peer_counted(struct peer *peer, const struct message_counted *counted);
/* Sends the end if `reason` is 0; otherwise logs and sends the refusal. */
void peer_answer(struct peer *peer, int reason, const struct message_refusal *refusal);

/*
 * Begins (`wait`) or stops calling ops->room() while the socket has room. Returns false if there is
 * no memory for it.
 */
bool peer_wait_for_room(struct peer *peer, bool wait);

/*
 * Returns true and counts `cost`, if the peer's user may have something done in this turn of the
 * loop: while the user's cost, over all connections, is below the budget (state/users.h).
 */
bool peer_spend(struct peer *peer, uint64_t cost);
/* Counts a cost that was not known before. */
void peer_owe(struct peer *peer, uint64_t cost);
