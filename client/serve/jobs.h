/* SPDX-License-Identifier: MIT */
/* The orders that are under way: pipes of the process of spawn.h, and what came out of them. */
#pragma once

#include <poll.h>
#include <stdbool.h>
#include <stddef.h>
#include <stdint.h>
#include <sys/queue.h>

#include "client/serve/exchange.h"

#define JOBS_AT_ONCE 8	/* that end; more wait */
#define JOBS_SLOW 4	/* of these, so that a listing does not wait for a guest */
#define JOBS_STREAMS 24 /* that do not */
#define JOBS_FDS (1 + 3 * (JOBS_AT_ONCE + JOBS_STREAMS))
#define JOBS_MS 30000	    /* for one that ends */
#define JOBS_SLOW_MS 120000 /* for one that waits for a guest, a driver or a unit */

struct job {
	TAILQ_ENTRY(job) link;
	struct spawn_order order;
	bool streams, sent, begun, done; /* begun: its pipes are here */
	int fds[3];			 /* -1: at its end, or not there yet */
	char *text[2];
	size_t size[2];
	int status;
	uint64_t deadline; /* 0: none */
	unsigned users;
};

struct jobs {
	int spawner;
	TAILQ_HEAD(job_list, job) list;
	uint32_t next_id;
	bool lost; /* the other process is gone */
};

/* Returns milliseconds of the monotonic clock. */
uint64_t jobs_now(void);

/*
 * Has the order carried out, with others that want the same. A stream's lines are to be taken by
 * job_line(). NULL: there is no memory, or there are too many streams.
 */
struct job *jobs_want(struct jobs *jobs, const struct spawn_order *order, bool streams);
/* Wants it no longer; the last one's drop ends it. */
void jobs_drop(struct jobs *jobs, struct job *job);
/* The result of one that is done; valid until it is dropped. */
struct spawn_result job_result(const struct job *job);
/* Takes the next line of a stream: the caller's, to be freed. NULL: there is none. */
char *job_line(struct job *job);

/* Sends what waits, adds what to poll, and serves it afterwards. */
size_t jobs_poll(struct jobs *jobs, struct pollfd *p);
void jobs_serve(struct jobs *jobs, const struct pollfd *p, size_t n);
