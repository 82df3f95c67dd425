/* SPDX-License-Identifier: MIT */
/*
 * Workers: disposable children for steps that may hang. The kernel lets a write to `unbind` sleep
 * in D state, where SIGKILL does not help, for as long as a process holds the device. A process
 * that then reads `driver_override` sleeps as well, since both take the device's lock. The core
 * must never sleep so.
 */
#pragma once

#include <stdbool.h>
#include <stddef.h>
#include <stdint.h>

#include "client/common/address.h"

struct event_base;
struct confine_filter;

#define WORKER_SECONDS 10 /* after this time a worker is late, and its lease stuck */

#define WORK_STEPS_MAX 417
#define WORK_TEXT_MAX 80 /* the size of a text that is written or read, or of a table's line */

/*
 * Peers' sockets have this descriptor number and above, so that a worker can be forked without a
 * copy of ten thousand of them.
 */
#define WORK_DESCRIPTORS 512

#define WORK_ROWS_MAX 128 /* lines of a table; all their reports fit into the pipe */

struct work;

struct work_result {
	/* 0: every step was done; else the positive errno of the first step that failed */
	int error;
	const char *what;	    /* the step's name, "drivers_probe" */
	struct pci_address address; /* the step's function */
};

struct work_ops {
	/*
	 * A step that work_show() has marked is beginning, the index-th of `total` such steps; for
	 * progress. May be NULL.
	 */
	void (*begun)(void *userdata, const struct pci_address *address, uint32_t index,
		      uint32_t total);
	/*
	 * A step has read a text, which is given without its newline. May be NULL if no step reads.
	 */
	void (*told)(void *userdata, const struct pci_address *address, const char *text);
	/*
	 * All steps before that of work_add_wait() are done, and the worker waits for work_go() or
	 * work_give_up(). Not NULL if there is such a step.
	 */
	void (*awaits)(void *userdata);
	/* The worker has ended. Called once; the work is freed when it returns. */
	void (*done)(void *userdata, const struct work_result *result);
	/*
	 * The worker has not ended within the limit. Called at most once, but see work_add_wait();
	 * done() is still called if the worker ever ends. May be NULL if lateness means nothing.
	 */
	void (*late)(void *userdata, const char *what, const struct pci_address *address);
	bool may_be_left; /* the daemon may end without waiting for it */
};

/* The workers of this process, and other work that the daemon's end must not interrupt. */
struct workers {
	struct event_base *base;
	const struct confine_filter *filter;
	size_t busy;
	/*
	 * Workers that may still have copies of peers' sockets: of one that is being accepted, or
	 * of all if there are hundreds of workers, see WORK_DESCRIPTORS.
	 */
	size_t copying;
	/* Called when `busy` becomes zero: the last worker has ended, or is late. May be NULL. */
	void (*idle)(void *userdata);
	void *userdata;
};

/* Count work of several steps that the daemon's end must not interrupt: it begins, it is over. */
void workers_enter(struct workers *workers);
void workers_leave(struct workers *workers);

struct work *work_new(const struct work_ops *ops, void *userdata);
/* Frees a work that was not started, and closes its descriptors. Returns NULL. */
struct work *work_free(struct work *work);

/* The consequence of a failed step. */
enum on_failure {
	STOP,	       /* the later steps are not done, and the work has failed */
	CONTINUE,      /* the later steps are done, and the work has failed */
	IGNORE_ERROR,  /* none: the step only waits for the device's lock */
	IGNORE_ENOTTY, /* none for ENOTTY (the kernel cannot do it after all); else as STOP */
};

/*
 * Adds a write of `text`, which is copied, to `fd`, which the work owns from now on, even on
 * failure. If `fd` is negative, it is returned, so that an open can be the argument. `what` must be
 * static. Returns 0, or -errno.
 */
int work_add(struct work *work, int fd, const char *text, const char *what,
	     const struct pci_address *address, enum on_failure on_failure);
/*
 * Adds a read; told() gets the text. A text that does not fit into WORK_TEXT_MAX fails with E2BIG.
 */
int work_add_read(struct work *work, int fd, const char *what, const struct pci_address *address);
/*
 * Adds a read of a table; told() is called for each line of which `row` makes a text. `row` returns
 * false for a line that is left out. It runs in the worker, under its filter, so that this process
 * does not parse a text that a driver made. The step fails with E2BIG if the table is larger than a
 * page or has more than WORK_ROWS_MAX such lines.
 */
typedef bool (*work_row_func)(const char *line, char ret_text[WORK_TEXT_MAX]);
int work_add_table(struct work *work, int fd, work_row_func row, const char *what,
		   const struct pci_address *address);
/*
 * Adds a read of a file whose text must be `text`; the step fails with ESTALE if it is another one.
 * "(null)" counts as no text.
 */
int work_add_expect(struct work *work, int fd, const char *text, const char *what,
		    const struct pci_address *address);
/*
 * Adds a step, which must be the first, that looks in a directory (which the work owns from now on)
 * whether a process has a group, see kernel_group_probe_in(): the open waits while the kernel
 * unpins the last holder's memory, which takes seconds. The error of the result is EBUSY, or that
 * of KERNEL_ATTACHED, if one has it.
 */
int work_add_open(struct work *work, int directory, uint32_t group,
		  const struct pci_address *address);
/*
 * Adds a step that waits for the core's word, at most one to a work and not as the first: so one
 * worker can read what is to be recorded, and change it once it is on record; or let those come
 * first who wait for a device's lock. The limit of its time counts anew from the word on, so late()
 * may be called a second time.
 */
int work_add_wait(struct work *work, const struct pci_address *address);
/* Removes the steps from the n-th on, before the worker is started. */
void work_cut(struct work *work, size_t n_steps);
/* Lets a worker that awaits it go on. */
void work_go(struct work *work);
/* Ends a worker that awaits its word: done() will get ECANCELED. */
void work_give_up(struct work *work);
/* Marks the step that was added last: begun() is called when it begins. */
void work_show(struct work *work);
/* Returns how many steps the work holds. */
size_t work_steps(const struct work *work);

/*
 * Forks the worker, which does the steps in order until one fails. It is late after WORKER_SECONDS.
 * Returns 0: then the work is libevent's until done(). Returns -errno: then nothing was done, and
 * the caller still owns the work.
 */
int workers_start(struct workers *workers, struct work *work);
/* The same with another limit. */
int workers_start_within(struct workers *workers, struct work *work, unsigned seconds);

/*
 * Forks. If `shared`, the child shares our table of descriptors; otherwise it has a copy. Nobody
 * waits for the child, and the kernel reaps it. Returns 0 in the child, its process number with
 * *ret_pidfd here, or -errno.
 */
int worker_fork(bool shared, int *ret_pidfd);

/*
 * Moves a descriptor to a number that workers do not copy, see WORK_DESCRIPTORS. Returns the new
 * number; the old one if none is left.
 */
int worker_move_high(int fd);
