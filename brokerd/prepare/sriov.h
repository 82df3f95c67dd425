/* SPDX-License-Identifier: MIT */
/*
 * SR-IOV: changes how many virtual functions (VFs) a physical function has, for root who asks
 * and for prepare rules with vfs. Each VF that is made goes to its VFIO driver.
 */
#pragma once

#include <stdbool.h>
#include <stddef.h>
#include <stdint.h>
#include <sys/queue.h>

#include "brokerd/prepare/prepare.h"

#define SRIOV_PFS_MAX 4096

/* All but the list is other parts', and outlives it. */
struct sriov {
	struct event_base *base;
	const struct kernel *kernel;
	struct workers *workers;
	const struct store *store;
	const struct devices *devices;
	const struct lease_table *leases;
	const struct prepare *prepare;
	struct holds *holds;
	const struct policy_state *policy;
	/* Something may be free for claims that wait. */
	void (*freed)(void *userdata);
	void *userdata;
	TAILQ_HEAD(pf_list, pf) list;
	size_t n;  /* at most SRIOV_PFS_MAX, since the watcher names them */
	bool full; /* and that was logged */
	struct event *timer;
	bool soon;   /* the timer is for an event, not for another try */
	bool wanted; /* the policy has a rule with vfs */
	bool open;   /* the daemon serves, and is not ending */
};

/* A client's request, embedded in what asks. */
struct sriov_request {
	/* The change is over, or its worker is late; `refusal` is NULL if it went well. */
	void (*done)(struct sriov_request *request, const struct message_refusal *refusal);
	uint32_t uid;
};

/* Takes over the pointers that are set in *sriov. 0, or -ENOMEM. */
int sriov_init(struct sriov *sriov);
void sriov_done(struct sriov *sriov);

/* At start: ends what an earlier run had begun. 0, or -errno where the records cannot be read. */
int sriov_recover(struct sriov *sriov);

/*
 * Root's request. 0: it is begun, done() follows, perhaps before this returns; else the reason,
 * with *ret_refusal.
 */
int sriov_start(struct sriov *sriov, struct sriov_request *request,
		const struct message_vfs *message, struct message_refusal *ret_refusal);
/* The client is gone; what it asked for goes on. */
void sriov_forget(struct sriov *sriov, const struct sriov_request *request);
