/* SPDX-License-Identifier: MIT */
/*
 * SR-IOV: changes how many virtual functions (VFs) a physical function has, for root's requests and
 * for prepare rules with vfs. Each VF that is made is bound to its VFIO driver.
 */
#pragma once

#include <stdbool.h>
#include <stddef.h>
#include <stdint.h>
#include <sys/queue.h>

#include "brokerd/prepare/prepare.h"
#include "brokerd/state/allotments.h"

#define SRIOV_PFS_MAX 4096

/* All but the list belongs to other parts, and outlives the struct. */
struct sriov {
	struct event_base *base;
	const struct kernel *kernel;
	struct workers *workers;
	const struct store *store;
	const struct devices *devices;
	const struct lease_table *leases;
	const struct allotments *allotments;
	const struct prepare *prepare;
	struct holds *holds;
	const struct policy_state *policy;
	/* A VF may be free for claims that wait. */
	void (*freed)(void *userdata);
	void *userdata;
	TAILQ_HEAD(pf_list, pf) list;
	size_t n;  /* at most SRIOV_PFS_MAX, since the watcher reports them */
	bool full; /* and that was logged */
	struct event *timer;
	bool soon;   /* the timer is for an event, not for another attempt */
	bool wanted; /* the policy has a rule with vfs */
	bool open;   /* the daemon serves and is not ending */
};

/* A client's request, embedded in the peer. */
struct sriov_request {
	/* The change is over, or its worker is late. `refusal` is NULL if it succeeded. */
	void (*done)(struct sriov_request *request, const struct message_refusal *refusal);
	uint32_t uid;
};

/* Initializes *sriov, whose pointers to other parts must be set. Returns 0, or -ENOMEM. */
int sriov_init(struct sriov *sriov);
void sriov_done(struct sriov *sriov);

/*
 * At the daemon's start: finishes the changes that an earlier run has begun. Returns 0, or -errno
 * if the records cannot be read.
 */
int sriov_recover(struct sriov *sriov);

/*
 * Begins root's request. Returns 0 if it has begun: then done() is called, perhaps before this
 * returns. Otherwise returns the reason, with *ret_refusal.
 */
int sriov_start(struct sriov *sriov, struct sriov_request *request,
		const struct message_vfs *message, struct message_refusal *ret_refusal);
/* Forgets the request of a client that has gone; the change continues. */
void sriov_forget(struct sriov *sriov, const struct sriov_request *request);
