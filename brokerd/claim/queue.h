/* SPDX-License-Identifier: MIT */
/* The queue of claims that would rather wait than be refused as busy. */
#pragma once

#include "brokerd/daemon.h"

#define WANTED_MAX                                                                                 \
	1024 /* leases, groups that are prepared, and those that are promised: see queue.c */
#define WAITING_PER_UID 16 /* claims of one user that wait at a time */

/*
 * The groups that a claim could have had, were they free. Who wants a part of a device, an mdev, wants what makes
 * it: that function's group (of a virtual function, its physical one's), or, where it is no function, a number from its name that is no group's, see
 * queue_part(). Should two names give the same one, somebody waits a little longer.
 */
struct wanted {
	size_t n;
	uint32_t groups[WANTED_MAX];
};

struct waiting {
	TAILQ_ENTRY(waiting) link;
	struct peer *peer;
	struct message_claim request;
	uint32_t *wanted; /* struct wanted's, as many as there are */
	size_t n_wanted;
	bool look, tell;	    /* it is to be asked for again; its place may have changed */
	bool again;		    /* to be looked at came while its claim was under way */
	struct message_queued told; /* as the peer was last told */
};

void wanted_add(struct wanted *wanted, uint32_t group);

/* Returns the key that a claim of a mediated device or vGPU of this parent waits for. */
uint32_t queue_part(const struct daemon *daemon, const char *parent);

/*
 * Is the group wanted by somebody who waits and came before `before`? NULL: before one who comes
 * now. Of those who are to be looked at again it is not known what they want, so it is what they
 * may.
 */
bool queue_holds(const struct daemon *daemon, const struct waiting *before,
		 const struct group_view *view);
/* The same of parts, see queue_part(). */
bool queue_holds_part(const struct daemon *daemon, const struct waiting *before, uint32_t part);
/* What is wanted was found anew. 0, or -ENOMEM: it is as it was. */
int queue_wants(struct waiting *waiting, const struct wanted *wanted);

/*
 * Puts a peer's claim at the end, and tells it its place. 0; -EDQUOT: its user has WAITING_PER_UID
 * there; -ENOMEM.
 */
int queue_add(struct peer *peer, const struct message_claim *request, const struct wanted *wanted);
/*
 * A claim that was begun found none left of a profile, and would rather wait: it is put at the end, or stays in its
 * place. As queue_add().
 */
int queue_stay(struct peer *peer, const struct message_claim *request, const struct wanted *wanted);
/* The peer is gone, or has what it wanted. */
void queue_leave(struct peer *peer);

/* Something may be free: everybody who waits is looked at in the loop's next turns. */
void queue_look(struct daemon *daemon);
/* The same for those who want this group. */
void queue_look_group(struct daemon *daemon, uint32_t group);
/* That turn. */
void queue_run(struct daemon *daemon);
