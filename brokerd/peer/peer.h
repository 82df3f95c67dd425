/* SPDX-License-Identifier: MIT */
/* Peers: one connection each. Who it is, its socket, and the answers to it. */
#pragma once

#include <stdbool.h>
#include <stddef.h>
#include <stdint.h>
#include <sys/queue.h>

#include "brokerd/claim/claimant.h"
#include "brokerd/claim/claims.h"
#include "brokerd/kernel/kernel.h"
#include "brokerd/prepare/sriov.h"
#include "brokerd/record/audit.h"
#include "brokerd/state/users.h"

#define PEERS_PER_UID 128 /* connections of one user at a time */
#define PEERS_MAX 12288	  /* of all users; LimitNOFILE= in the unit follows from it */
#define LIST_BURST 8	  /* devices or leases a turn, of all connections of a user */

/* Room for every request; what is larger is none. */
union peer_packet {
	uint32_t type;
	struct message_hello hello;
	struct message_plain plain;
	struct message_claim claim;
	struct message_release release;
	struct message_restore restore;
	struct message_vfs vfs;
	struct message_migration migration;
};

struct peer {
	TAILQ_ENTRY(peer) link;
	struct peers *peers;
	int fd;
	int pidfd; /* of the process that connected, only where the kernel would not know it later;
		      else -1 */
	struct claimant claimant;
	struct sriov_request sriov; /* under way while `busy` says so */
	bool greeted;
	struct event *on_readable;
	struct event *on_writable; /* NULL but while a listing waits for room */
	/* what it is at, beside a claim */
	enum peer_busy { PEER_IDLE, PEER_LISTING, PEER_LEASES, PEER_WATCHING, PEER_SRIOV } busy;
	/* the listing under way, where it stands */
	struct pci_address next_device;
	bool devices_done;
	uint64_t next_lease;
	uint32_t lost; /* events that it did not read in time */
};

/* What the connection does not decide. */
struct peers_ops {
	/*
	 * One request, already received, of exact or wrong size. False: the peer is to be dropped.
	 */
	bool (*request)(struct peer *peer, const union peer_packet *packet, size_t size);
	/* Its socket has room again, which peer_wait_for_room() asked for. */
	void (*room)(struct peer *peer);
	/* It is about to be freed. */
	void (*gone)(struct peer *peer);
};

/* All but the connections is other parts', and outlives it. */
struct peers {
	struct event_base *base;
	const struct peers_ops *ops;
	struct audit *audit;
	const struct kernel *kernel;
	const struct policy_state *policy;
	const struct devices *devices;
	struct leases *leases;
	struct claims *claims;
	struct prepare *prepare;
	struct sriov *sriov;
	const struct holds *holds;
	int listen_fd;
	struct event *on_connect, *on_accept_again;
	TAILQ_HEAD(peer_list, peer) list;
	size_t n;
	size_t n_watching;	   /* of them */
	struct users users;	   /* their connections */
	gid_t *groups;		   /* room for a process' groups: claimant_ops.subject() */
	struct event *on_turn_end; /* of PRIORITY_PEERS, as all that peers ask for */
	uint64_t turn;		   /* of the loop, those in which a peer asked for something */
	bool in_turn;
};

/* Takes over the pointers that are set in *peers. 0, or -ENOMEM. */
int peers_init(struct peers *peers);
void peers_done(struct peers *peers);

/* Takes over a connection, which it closes when it cannot. */
void peer_new(struct peers *peers, int fd);
/* Closes it; a claim under way is abandoned. */
void peer_free(struct peer *peer);
/* Lets the peer go in the loop's next turn, when nobody is using it. */
void peer_doom(struct peer *peer);

/* Returns true if its last request is not answered yet. */
bool peer_is_busy(const struct peer *peer);
/* Reads the peer's ids and groups; valid until the next call for any peer. 0, or -errno. */
int peer_subject(const struct peer *peer, struct policy_subject *ret_subject);

/* Answers, each of which ends a request. */
void peer_refuse(struct peer *peer, const struct message_refusal *refusal);
void peer_end(struct peer *peer);
/* The same for what is begun at once: `reason` 0 is the end, else the refusal, which is logged. */
void peer_answer(struct peer *peer, int reason, const struct message_refusal *refusal);

/*
 * Has ops->room() called when the socket has room, or no longer. False: there is no memory for it.
 */
bool peer_wait_for_room(struct peer *peer, bool wait);

/*
 * Returns true if something that costs `cost` may be done for the peer's user in this turn of the
 * loop, and counts it. A user's turn is bounded by `budget`, over all connections.
 */
bool peer_spend(struct peer *peer, unsigned cost, unsigned budget);
