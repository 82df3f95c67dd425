/* SPDX-License-Identifier: MIT */
/*
 * The queue of claims that wait instead of being refused as busy, first come, first served. The
 * data structure: who is before whom, and what is reserved for whom. claim.c tries again for those
 * that are marked.
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

#define WAITING_PER_UID 16 /* claims of one user that wait at a time */

struct waiting {
	TAILQ_ENTRY(waiting) link;
	struct queue *queue;
	struct claimant *claimant;
	struct message_claim request;
	uint32_t *wanted; /* keys, see wanted.h */
	size_t n_wanted;
	bool look;		    /* something may be free: it is to be tried again */
	bool tell;		    /* its place may have changed */
	bool again;		    /* it was marked while its claim was under way */
	struct message_queued told; /* the place that the claimant was last sent */
};

struct queue {
	TAILQ_HEAD(waiting_list, waiting) list; /* in the order of arrival */
	struct event *wake; /* its owner's: looks at what is marked; NULL: nobody does */
	const struct devices *devices;
	const struct lease_table *leases;
	const struct policy_state *policy;
	struct audit *audit;
};

/*
 * Returns true if the group is reserved: a claim that waits, and came before `before`, wants it.
 * NULL: before a claim that comes now. For claims marked for another look, what they want is
 * unknown, so assumes everything that their selectors may mean.
 */
bool queue_reserves(const struct queue *queue, const struct waiting *before,
		    const struct group_view *view);
/* The same for a key of wanted.h. */
bool queue_reserves_key(const struct queue *queue, const struct waiting *before, uint32_t key);

/*
 * Puts a claim at the end, and sends the claimant its place. 0; -EDQUOT: its user has
 * WAITING_PER_UID there; -ENOMEM.
 */
int queue_add(struct queue *queue, struct claimant *claimant, const struct message_claim *request,
	      const struct wanted *wanted);
/*
 * A claim that was begun found no instance of a profile left, and is to wait: puts it at the end,
 * or keeps it in its place. As queue_add().
 */
int queue_stay(struct queue *queue, struct claimant *claimant, const struct message_claim *request,
	       const struct wanted *wanted);
/* Notes what a waiting claim wants now. 0, or -ENOMEM: it is as it was. */
int queue_set_wanted(struct waiting *waiting, const struct wanted *wanted);
/* The claimant has gone, or has what it wanted: takes its claim out and frees it. */
void queue_leave(struct claimant *claimant);
/* Takes one out and frees it, without a look at those behind it. */
void queue_remove(struct waiting *waiting);

/* Something may be free: marks everybody who waits. */
void queue_mark_all(struct queue *queue);
/* The same for those who want this key. */
void queue_mark(struct queue *queue, uint32_t key);
/* What a lease had is free. */
void queue_mark_freed(struct queue *queue, const struct lease *lease);
/* Sends a claimant its place, if it is another than before. */
void queue_tell_place(struct waiting *waiting);
/* Has the owner look in the next turn of the loop, if anybody waits. */
void queue_wake(struct queue *queue);
