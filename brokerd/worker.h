/* SPDX-License-Identifier: MIT */
/*
 * Workers: a disposable child for the writes that may hang. The kernel lets a write to `unbind`
 * sleep in D state, out of reach of SIGKILL, for as long as somebody holds the device; it must not
 * be this process that sleeps.
 */
#pragma once

#include <stdbool.h>
#include <stddef.h>
#include <stdint.h>

#include "client/address.h"

struct event_base;
struct confine_filter;

#define WORK_STEPS_MAX 256

struct work;

struct work_result {
	int error; /* 0: every step was written; else the errno, positive, of the step that failed */
	size_t step; /* which, if one failed */
	size_t n_done;
	const char *what;	    /* the step's name, "drivers_probe" */
	struct pci_address address; /* the step's function */
};

struct work_ops {
	/* A step was begun. index and total count functions, for progress. May be NULL. */
	void (*begun)(void *userdata, const struct pci_address *address, uint32_t index,
		      uint32_t total);
	/* The worker is gone. Called once; the work is freed when it returns. */
	void (*done)(void *userdata, const struct work_result *result);
	/*
	 * It has not come back within the limit. Called at most once; done() still comes if ever it
	 * does.
	 */
	void (*late)(void *userdata, const char *what, const struct pci_address *address);
};

struct work *work_new(const struct work_ops *ops, void *userdata);
/* Drops a work that was not started, and all its descriptors. Returns NULL. */
struct work *work_free(struct work *work);

/*
 * Adds a write of text (copied, at most 63 bytes) to fd, which is now the work's, also on failure.
 * A negative fd is passed through, so that an open can stand in the argument. `what` must be
 * static.
 */
int work_add(struct work *work, int fd, const char *text, const char *what,
	     const struct pci_address *address);
/* How many writes it holds. */
size_t work_steps(const struct work *work);

/*
 * Forks the worker, which does the writes in order until one fails. On success the work is
 * libevent's, until done(). On failure nothing was written and the work is still the caller's.
 */
int work_start(struct work *work, struct event_base *base, const struct confine_filter *filter,
	       unsigned seconds);
