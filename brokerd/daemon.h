/* SPDX-License-Identifier: MIT */
/*
 * The core's state, and what each of its files offers the others.
 *
 *	listener.c  accepts peers                     peer.c     one connection: requests and answers
 *	claim.[ch]  a claim, decided and granted      lending.[ch] leases come true and end
 *	restore.c   leases go back                    arrivals.c functions that come and go
 *	queue.[ch]  claims that wait                  audit.[ch] decisions in the journal
 *	recover.c   leases found in the records       daemon.c   start and stop
 *	prepare.[ch] what the policy wants on VFIO    events.c   what peers that watch are told
 *	vfs.[ch]    virtual functions, root's request vfscourse.[ch] how they are made
 *	vfsguard.c  what their making must not touch  vfspolicy.c    what the policy wants of them
 *	vfsrecord.[ch] their records                  mdev.[ch]  leases of mdevs, and mdevask.c
 *	mdevselect.c which part a claim means         vgpu.c, vgpuask.c where that is a VF
 *	cdev.[ch]   leases by devices' own nodes
 *	release.c   leases ended by their owner or root   helpers.c what the loader and the watcher send
 */
#pragma once

#include <event2/event.h>
#include <event2/util.h>
#include <stdbool.h>
#include <sys/queue.h>

#include "brokerd/record/audit.h"
#include "brokerd/process/confine.h"
#include "brokerd/state/devices.h"
#include "brokerd/helper/helper.h"
#include "brokerd/kernel/kernel.h"
#include "brokerd/state/lease.h"
#include "brokerd/state/users.h"

#define WORKER_SECONDS 10 /* after this a worker is late, and its lease stuck */
#define PEERS_PER_UID 128 /* connections of one user at a time */
#define PEERS_MAX 12288	  /* of all users; LimitNOFILE= in the unit follows from it */
#define LEASES_MAX 512
#define HELPERS_LIMIT 10 /* seconds in which helpers should have spoken; then serve without */
#define NEWCOMERS_MAX 4	 /* connections of helpers that have not said yet which they are */

/* What peers ask for comes behind all else that is to be done; see daemon_loop_new(). */
#define PRIORITY_PEERS 2

struct peer {
	TAILQ_ENTRY(peer) link;
	struct daemon *daemon;
	int fd;
	int pidfd; /* of the process that connected, only where the kernel would not know it later; else -1 */
	uint32_t uid, gid, pid; /* SO_PEERCRED: who connected, as the kernel said */
	bool greeted;
	struct event *on_readable;
	struct event *on_writable; /* NULL but while a listing waits for room */
	/* the listing under way, where it stands */
	enum {
		PEER_IDLE,
		PEER_LISTING,
		PEER_LEASES,
		PEER_CLAIMING,
		PEER_WAITING,
		PEER_WATCHING,
		PEER_MAKING_VFS
	} busy;
	struct pci_address next_device;
	bool devices_done;
	uint64_t next_lease;
	struct claim *claim;
	struct waiting *waiting; /* its place in the queue, or NULL */
	uint32_t lost;		 /* events that it did not read in time */
};

TAILQ_HEAD(peer_list, peer);
TAILQ_HEAD(waiting_list, waiting);
TAILQ_HEAD(claim_list, claim);

/* Who has connected as a helper. */
struct newcomer {
	struct daemon *daemon;
	int fd;
	struct event *event; /* NULL: the place is free */
};

struct daemon {
	struct event_base *base;
	struct kernel kernel;
	struct confine_filter *worker_filter;
	struct helper watcher, loader;
	int helpers_fd; /* they connect there; -1: they are forks of ours */
	uid_t helpers_uid;
	struct newcomer newcomers[NEWCOMERS_MAX];
	struct event *on_helper, *on_helper_again, *on_missing;
	struct event *on_watcher, *on_loader; /* NULL where there is none */
	struct event *on_inotify, *on_start_limit, *on_quit_limit;
	struct event *on_signal, *on_watchdog;
	struct policy policy;
	struct policy_intake intake;
	bool policy_known; /* the loader has spoken, well or ill */
	bool policy_good;
	bool memlock_dropped; /* CAP_SYS_RESOURCE is gone for good */
	struct devices devices;
	struct leases leases;
	struct preparations *preparations; /* prepare.c's own, or NULL */
	struct vfs *vfs;		   /* vfs.c's own, or NULL */
	struct claim_list claims;
	struct waiting_list waiting; /* queue.c's, in the order in which they came */
	struct event *on_queue;
	uint8_t mdev_seed[16]; /* mdev.c's: whence the numbers of mdevs come */
	int state_dir;
	int listen_fd, signal_fd;
	struct event *on_connect, *on_accept_again;
	struct peer_list peers;
	size_t n_peers;
	size_t n_watching;	/* of them */
	struct usercount users; /* their connections */
	struct audit_limits audited;
	struct event *on_turn_end; /* of PRIORITY_PEERS, as all that peers ask for */
	uint64_t turn;		   /* of the loop, those in which a peer asked for something */
	bool in_turn;
	bool serving, quitting;
	int status;
};

struct daemon_options {
	struct loader_options policy;
	const char *socket; /* NULL: the default, or what systemd passes */
	const char *state;
};

/* ---- daemon.c ---- */

/* Runs the daemon until it is told to end. The exit status. */
int daemon_run(const struct daemon_options *options);

/* The loop, in which events of PRIORITY_PEERS come last. NULL where there is no memory for it. */
struct event_base *daemon_loop_new(void);
/* Ends once no worker is at work. */
void daemon_quit_if_idle(struct daemon *daemon);

/* Ends now, with that status. */
void daemon_quit(struct daemon *daemon, int status);
/* The loader has loaded a policy, which is taken over; NULL: there is none without mistakes. */
void daemon_policy_arrived(struct daemon *daemon, struct policy *policy);
/* Serves, where it does not yet, once both helpers have told all. */
void daemon_serve_when_ready(struct daemon *daemon);

/* ---- helpers.c ---- */

/* Before confinement: whose account is theirs; forks them where they do not connect. */
int helpers_prepare(struct daemon *daemon, const struct loader_options *options);
/* Hears them, or waits for them to connect. */
int helpers_listen(struct daemon *daemon);
/* Says which are not there. False: they are. */
bool helpers_tell_missing(struct daemon *daemon);
/* Has the policy loaded anew. */
void helpers_reload(struct daemon *daemon);
void helpers_done(struct daemon *daemon);

/* ---- listener.c ---- */

/*
 * Takes systemd's sockets (LISTEN_FDS), or makes one at path. A descriptor, or -errno after saying
 * why. The socket that is named "helpers" is put into *ret_helpers, if there is one.
 */
int listener_open(const char *path, int *ret_helpers);
/* A connection, put where it is not in the workers' way. */
int listener_out_of_the_way(int fd);
int listener_start(struct daemon *daemon);
void listener_stop(struct daemon *daemon);

/* ---- peer.c ---- */

/* Takes over a connection, which it closes when it cannot. */
void peer_new(struct daemon *daemon, int fd);
/* Closes it; a claim under way is abandoned. */
void peer_free(struct peer *peer);
/*
 * The peer's groups and ids as a policy's subject; groups live in a static buffer until the next
 * call.
 */
int peer_subject(const struct peer *peer, struct policy_subject *ret_subject);
/* Raises the limit of locked memory of the process that connected. 0, or -errno; -ESRCH: it is gone. */
int peer_memlock_raise(const struct peer *peer, uint64_t bytes);
/* Answers that end a claim. peer_grant() is 0 only if the packet is on its way. */
int peer_grant(struct peer *peer, const struct message_grant *grant, const int *fds, size_t n_fds);
void peer_refuse(struct peer *peer, const struct message_refusal *refusal);
/* The answer to what is done. */
void peer_end(struct peer *peer);
void peer_step(struct peer *peer, const struct message_step *step);
/* Writes as much of a listing as the socket takes. */
void peer_continue(struct peer *peer);
/* One request, already received, of exact or wrong size. False: the peer is to be dropped. */
bool peer_request(struct peer *peer, const void *packet, size_t size);

/* ---- events.c ---- */

/* lease_advance(), and those who watch are told. */
bool lease_go(struct lease *lease, enum lease_event event);
/* The same for a state that it came to otherwise, or whose reason is known only now. */
void event_state(const struct lease *lease);
/* It ends soon. */
void event_ending(const struct lease *lease);
/* A function came to its group, or vanished from it. */
void event_function(const struct lease *lease, const struct pci_address *address, bool came);

/* ---- release.c ---- */

/* 0: it is begun; else the reason, with *ret_refusal. */
int release_lease(struct peer *peer, const struct message_release *request,
		  struct message_refusal *ret_refusal);
int restore_device(struct peer *peer, const struct message_restore *request,
		   struct message_refusal *ret_refusal);
/*
 * Notes what the holder of a lease says of its device. 0, or the reason, with *ret_refusal: nothing changes.
 */
int note_migration(struct peer *peer, const struct message_migration *note,
		   struct message_refusal *ret_refusal);

/* ---- recover.c ---- */

/* Reads the records and takes up every lease in them. */
int recover_leases(struct daemon *daemon);
/*
 * Damaged records, of this start and earlier ones: keeps what they may be about from being lent,
 * until root restores it or the kernel shows that the host has it. Before anything is lent.
 */
int recover_damaged(struct daemon *daemon);
