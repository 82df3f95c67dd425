/* SPDX-License-Identifier: MIT */
/*
 * The queue of claims that wait instead of being refused as busy, first come, first served. The
 * data structure: the order of the claims, and what is reserved for each. begin.c tries marked
 * claims again.
 */
#pragma once

#include <stdbool.h>
#include <stddef.h>
#include <stdint.h>
#include <sys/queue.h>

#include "brokerd/claim/claimant.h"
#include "brokerd/claim/wanted.h"
#include "brokerd/record/audit.h"
#include "brokerd/state/devices.h"
#include "brokerd/state/lease.h"
#include "brokerd/state/verdict.h"

#define WAITING_PER_UID 16   /* waiting claims of one user */
#define WAITING_PER_SOCKET 4 /* ... of these at the socket of one allotment */
#define QUEUE_KEPT_MAX 16384 /* more than there are connections */

/* No event comes when a program closes a node, so claims look again after this time: */
#define QUEUE_OPENED_MS 3000   /* one whose turn has come while a program has its device open */
#define QUEUE_AVOIDED_MS 10000 /* one that waits for others beside a device that is open */
#define QUEUE_AGAIN_MS 500     /* one that does not wait, but programs had all devices open */

struct waiting {
	TAILQ_ENTRY(waiting) link;
	struct queue *queue;
	struct claimant *claimant;
	struct message_claim request;
	uint64_t id;	/* no lease has the same */
	uint64_t since; /* seconds since the epoch */
	/* what it wanted when it was tried last, see wanted.h */
	uint32_t *wanted;
	size_t n_wanted;
	char (*rules)[RULE_ORIGIN_MAX];
	size_t n_rules;
	bool own;	     /* it waits for its own user only, and reserves nothing */
	bool look;	     /* marked: a device may be free, so it is tried again */
	bool tell;	     /* its place may have changed, so it is sent */
	bool slept;	     /* it has waited, so a program that has a device open is outwaited */
	struct event *later; /* has it tried again, or NULL */
	bool again;	     /* it was marked while its claim had begun */
	struct message_queued now;  /* its place, as it was counted last */
	struct message_queued told; /* the last place that was sent to the claimant */
};

/* A place that a claim had with the daemon before this one, see rejoin.h. */
struct queue_place {
	uint64_t id;
	uint64_t since;
	uint32_t uid;
	char through[PROTOCOL_LABEL_MAX]; /* the allotment at whose socket, or "" */
};

struct queue {
	TAILQ_HEAD(waiting_list, waiting) list; /* in the order of arrival, which is that of ids */
	struct queue_place *kept;		/* places whose claims have not come again */
	size_t n_kept;
	struct event *wake; /* the owner's event, which tries marked claims again; or NULL */
	const struct devices *devices;
	struct lease_table *leases;
	const struct policy_state *policy;
	struct audit *audit;
	const struct queue_events *events; /* NULL: no event is handled */
	void *userdata;
};

/* Called when a claim begins to wait, or waits no longer. */
struct queue_events {
	void (*waits)(void *userdata, const struct waiting *waiting);
	void (*left)(void *userdata, const struct waiting *waiting);
};

/*
 * Returns true if the group is reserved: a waiting claim that came before `before` wants it. NULL
 * stands for a claim that arrives now. The keys of claims that are marked may be outdated, so these
 * also reserve everything that their selectors may mean. A claim that waits only for leases of its
 * own user reserves nothing: the user could keep devices from others for as long as it pleases.
 */
bool queue_reserves(const struct queue *queue, const struct waiting *before,
		    const struct group_view *view);
/* The same for a key of wanted.h. */
bool queue_reserves_key(const struct queue *queue, const struct waiting *before, uint32_t key);

/*
 * Counts the devices that a user's waiting claims keep from others by a rule ("file:line"), without
 * those of this claimant. Claims that have begun are not counted, since they have leases.
 */
uint32_t queue_count_by_rule(const struct queue *queue, const struct claimant *claimant,
			     const char *rule);

/* Keeps a place for its claim. Returns 0; -ENOMEM, or -E2BIG beyond QUEUE_KEPT_MAX. */
int queue_keep(struct queue *queue, const struct queue_place *place);
/* Returns a place that is kept, or NULL. While there is one, no claim is tried. */
const struct queue_place *queue_next_kept(const struct queue *queue);
/* Keeps the place no longer. With the last of them, all claims are tried. */
void queue_drop_kept(struct queue *queue, uint64_t id);
void queue_done(struct queue *queue);

/* Returns the waiting claim with this id, or NULL. */
struct waiting *queue_find_id(const struct queue *queue, uint64_t id);
/* Returns the first waiting claim whose id is at least `id`: a cursor that survives changes. */
const struct waiting *queue_find_from(const struct queue *queue, uint64_t id);

/*
 * Adds a claim at the end, or where it was with the daemon before, and sends the claimant its
 * place. Returns 0; -EDQUOT if the user has WAITING_PER_UID claims there, or WAITING_PER_SOCKET at
 * that socket; or -ENOMEM.
 */
int queue_add(struct queue *queue, struct claimant *claimant, const struct message_claim *request,
	      const struct wanted *wanted);
/*
 * Queues a claim that had begun and found no instance of a profile left, or a group that another
 * program has: adds it at the end, or keeps its place. One without CLAIM_WAIT stays there only
 * until it has been tried again, and no listing or event shows it. Returns as queue_add().
 */
int queue_stay(struct queue *queue, struct claimant *claimant, const struct message_claim *request,
	       const struct wanted *wanted);
/*
 * Notes what a waiting claim wants now, and marks later claims that it kept something from until
 * now. Returns 0; or -ENOMEM, and then nothing is changed.
 */
int queue_set_wanted(struct waiting *waiting, const struct wanted *wanted);
/*
 * Removes and frees the claim of a claimant that has gone or has been answered, and marks later
 * claims that shared a key with it. Does nothing if it does not wait.
 */
void queue_leave(struct claimant *claimant);
/* Removes and frees a waiting claim, without marking later ones. */
void queue_remove(struct waiting *waiting);

/* Marks all waiting claims: a device may be free. */
void queue_mark_all(struct queue *queue);
/* The same for the claims that want this key. */
void queue_mark(struct queue *queue, uint32_t key);
/* The same for the claims that want what a lease had. */
void queue_mark_freed(struct queue *queue, const struct lease *lease);
/* Sends a claimant its place, if that has changed. */
void queue_tell_place(struct waiting *waiting);
/* Has a waiting claim tried again soon. */
void queue_look(struct waiting *waiting);
/* The same in some milliseconds. Returns 0, or -ENOMEM. */
int queue_look_later(struct waiting *waiting, unsigned ms);
/* Returns true if that time has not come. */
bool queue_looks_later(const struct waiting *waiting);
/* Activates the owner's event in the next turn of the loop, if a claim waits. */
void queue_wake(struct queue *queue);
