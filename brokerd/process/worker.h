/* SPDX-License-Identifier: MIT */
/*
 * Workers: a disposable child for what may hang. The kernel lets a write to `unbind` sleep in D
 * state, out of reach of SIGKILL, for as long as somebody holds the device; and whoever then reads
 * `driver_override` sleeps with it, since both take the device's lock. It must not be this process
 * that sleeps.
 */
#pragma once

#include <stdbool.h>
#include <stddef.h>
#include <stdint.h>

#include "client/common/address.h"

struct event_base;
struct confine_filter;

#define WORKER_SECONDS 10 /* after this a worker is late, and its lease stuck */

#define WORK_STEPS_MAX 352
#define WORK_TEXT_MAX 80 /* of one write or read, or line of a table, with its NUL */

/*
 * Peers' sockets are kept at this number and above, so that a worker can be made without a copy of
 * ten thousand of them.
 */
#define WORK_DESCRIPTORS 512

#define WORK_ROWS_MAX 128 /* all reports of a table fit into the pipe */

struct work;

struct work_result {
	/* 0: every step was done; else the errno, positive, of the first that failed */
	int error;
	const char *what;	    /* the step's name, "drivers_probe" */
	struct pci_address address; /* the step's function */
};

struct work_ops {
	/*
	 * A step that work_show() marked was begun, the index-th of total such, for
	 * progress. May be NULL.
	 */
	void (*begun)(void *userdata, const struct pci_address *address, uint32_t index,
		      uint32_t total);
	/* A step has read this, without its newline. May be NULL where none reads. */
	void (*told)(void *userdata, const struct pci_address *address, const char *text);
	/* The worker is gone. Called once; the work is freed when it returns. */
	void (*done)(void *userdata, const struct work_result *result);
	/*
	 * The worker has not come back within the limit. Called at most once; done() still comes if
	 * the worker ever does. May be NULL where lateness means nothing.
	 */
	void (*late)(void *userdata, const char *what, const struct pci_address *address);
	bool may_be_left; /* it only looks: the daemon may end while it is at work */
};

/* The workers of this process, and what else must not be interrupted by its end. */
struct workers {
	struct event_base *base;
	const struct confine_filter *filter;
	size_t busy;
	/* Called when `busy` comes to zero: the last worker has gone, or is late. May be NULL. */
	void (*idle)(void *userdata);
	void *userdata;
};

/* Something of several steps begins, or ends, that the process should not end in the middle of. */
void workers_enter(struct workers *workers);
void workers_leave(struct workers *workers);

struct work *work_new(const struct work_ops *ops, void *userdata);
/* Drops a work that was not started, and all its descriptors. Returns NULL. */
struct work *work_free(struct work *work);

/* What follows when a step fails. */
enum on_failure {
	STOP,	      /* the steps behind it are not done, and the work has failed */
	CONTINUE,     /* the steps behind it are done, and the work has failed */
	IGNORE_ERROR, /* as if it had not failed: the step is there to wait for the device's lock */
	IGNORE_ENOTTY, /* as STOP, but for ENOTTY: the kernel has no way to do it after all */
};

/*
 * Adds a write of text (copied) to fd, which is now the work's, also on failure. A negative fd is
 * passed through, so that an open can stand in the argument. `what` must be static.
 */
int work_add(struct work *work, int fd, const char *text, const char *what,
	     const struct pci_address *address, enum on_failure on_failure);
/* Adds a read, for told(), likewise. A text longer than WORK_TEXT_MAX fails with E2BIG. */
int work_add_read(struct work *work, int fd, const char *what, const struct pci_address *address);
/*
 * Adds a read of a table, for told(), once for each line of which `row` makes a text; false: the
 * line is left out. `row` is called in the worker, under its filter: text that a driver made is not
 * parsed by this process. Of more than a page or of more than WORK_ROWS_MAX such lines the step
 * fails with E2BIG.
 */
typedef bool (*work_row_func)(const char *line, char ret_text[WORK_TEXT_MAX]);
int work_add_table(struct work *work, int fd, work_row_func row, const char *what,
		   const struct pci_address *address);
/* Adds a read of what must be `text`; the step fails with ESTALE where it is something else. */
int work_add_expect(struct work *work, int fd, const char *text, const char *what,
		    const struct pci_address *address);
/*
 * Makes the work's first step to open a group's node in a directory (now the work's), and to close
 * it: whoever opens it waits while its last holder's memory is unpinned, which takes seconds.
 */
int work_add_open(struct work *work, int directory, uint32_t group,
		  const struct pci_address *address);
/* Has begun() called when the step that was added last is begun. */
void work_show(struct work *work);
/* Returns how many steps the work holds. */
size_t work_steps(const struct work *work);

/*
 * Forks the worker, which does the steps in order until one fails. On success the work is
 * libevent's, until done(). On failure nothing was done and the work is still the caller's.
 * The worker is late after WORKER_SECONDS.
 */
int workers_start(struct workers *workers, struct work *work);
/* The same with a limit of its own. */
int workers_start_within(struct workers *workers, struct work *work, unsigned seconds);

/*
 * Moves a descriptor to the numbers that workers do not copy, see WORK_DESCRIPTORS, and returns its
 * number; where none is left, it stays as it is.
 */
int worker_move_high(int fd);
