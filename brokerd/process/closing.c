/* SPDX-License-Identifier: MIT */
/*
 * Closes connections, see closing.h.
 *
 * The core must never close the last copy of a parked connection. So it closes its copies while the
 * closer still waits for a pipe's end; no worker may have copies meanwhile (workers->copying). The
 * closer must never touch the heap, libevent or stdio. Nobody waits for it: it may stay for as long
 * as somebody's FUSE server likes, and a signal does not help, so only the number of closers is
 * limited, and each that stays makes the next one wait longer.
 */
#include "config.h"

#include "brokerd/process/closing.h"
#include "brokerd/process/filter.h"
#include "brokerd/process/log.h"
#include "brokerd/process/loop.h"
#include "brokerd/process/worker.h"
#include "client/common/util.h"
#include "client/wire/passfd.h"

#include <event2/event.h>
#include <fcntl.h>
#include <string.h>
#include <sys/syscall.h>

/* ---- the closer ---- */

/* In the closer: closes every descriptor but the parked ones and the pipe. */
static void keep_parked(const struct closing *closing, int pipe)
{
	unsigned from = 0;
	bool piped = false;

	for (size_t i = 0; i <= closing->n;) {
		unsigned next = i < closing->n ? (unsigned)closing->parked[i].fd : UINT32_MAX;

		if (!piped && (unsigned)pipe < next) {
			next = (unsigned)pipe;
			piped = true;
		} else {
			i++;
		}
		if (next > from)
			syscall(SYS_close_range, from, next == UINT32_MAX ? next : next - 1, 0);
		from = next + 1;
	}
}

static void __attribute__((noreturn)) run_closer(const struct closing *closing, int pipe)
{
	const struct confine_filter *filter = closing->workers->filter;
	char byte;

	keep_parked(closing, pipe);
	if (filter && filter_apply(filter))
		_exit(2);
	/* Until the core has closed its copies, or has ended. */
	while (read(pipe, &byte, 1) < 0 && errno == EINTR)
		;
	/*
	 * The kernel closes what is left after it has marked the process as one that ends, in which
	 * no socket lingers.
	 */
	_exit(0);
}

/* ---- the core's side ---- */

static void plan_closer(struct closing *closing);

/* Frees the closer's slot, and reports its connections. */
static void forget_closer(struct closer *closer)
{
	struct closing *closing = closer->closing;
	int64_t *uids = TAKE_PTR(closer->uids);

	if (closer->on_exit)
		event_free(TAKE_PTR(closer->on_exit));
	closer->pidfd = fd_close(closer->pidfd);
	closing->n_closers--;
	for (size_t i = 0; i < closer->n_uids; i++)
		if (closing->closed)
			closing->closed(closing->userdata, uids[i]);
	free(uids);
}

static void on_closer_exit(evutil_socket_t fd, short what, void *userdata)
{
	struct closer *closer = userdata;
	struct closing *closing = closer->closing;

	(void)fd;
	(void)what;
	forget_closer(closer);
	plan_closer(closing); /* perhaps sooner than planned while this one was there */
}

/* Begins to wait for the closer's end. Its connections stay counted until then. */
static void watch_closer(struct closer *closer)
{
	struct event_base *base = closer->closing->workers->base;

	closer->on_exit = event_new(base, closer->pidfd, EV_READ, on_closer_exit, closer);
	if (!closer->on_exit || event_add(closer->on_exit, NULL)) {
		log_error("cannot wait for a process that closes connections: no memory");
		forget_closer(closer);
	}
}

static void list_uids(const struct closing *closing, struct closer *closer)
{
	closer->n_uids = 0;
	for (size_t i = 0; i < closing->n; i++)
		if (closing->parked[i].uid != CLOSING_NOBODY)
			closer->uids[closer->n_uids++] = closing->parked[i].uid;
}

/* Returns 0, or -errno with nothing changed. */
static int fork_closer(struct closing *closing, struct closer *closer)
{
	int ends[2], pid;

	if (pipe2(ends, O_CLOEXEC))
		return -errno;
	pid = worker_fork(false, &closer->pidfd);
	if (!pid)
		run_closer(closing, ends[0]);
	for (size_t i = 0; pid > 0 && i < closing->n; i++)
		fd_close(closing->parked[i].fd); /* the closer has a copy of each */
	fd_close(ends[0]);
	fd_close(ends[1]);
	return pid < 0 ? pid : 0;
}

static int start_closer(struct closing *closing)
{
	struct closer *closer = NULL;
	int r;

	for (size_t i = 0; i < CLOSERS_MAX; i++)
		if (!closing->closers[i].on_exit)
			closer = &closing->closers[i];
	if (!closer)
		return -EAGAIN;
	closer->uids = calloc(closing->n - closing->n_uncounted + 1, sizeof(*closer->uids));
	if (!closer->uids)
		return -ENOMEM;
	r = fork_closer(closing, closer);
	if (r) {
		free(TAKE_PTR(closer->uids));
		return r;
	}
	closer->closing = closing;
	list_uids(closing, closer);
	closing->n = closing->n_uncounted = 0;
	closing->n_closers++;
	watch_closer(closer);
	return 0;
}

static unsigned pause_of(const struct closing *closing)
{
	unsigned ms = CLOSING_PAUSE_MS;

	if (closing->n >= CLOSING_BATCH)
		return ms;
	for (size_t i = 0; i < closing->n_closers && ms < CLOSING_PAUSE_MOST; i++)
		ms *= 2;
	return ms < CLOSING_PAUSE_MOST ? ms : CLOSING_PAUSE_MOST;
}

/* Has a closer start after the pause; begins the pause again if one is waited for already. */
static void plan_closer(struct closing *closing)
{
	const unsigned ms = pause_of(closing);
	const struct timeval after = { .tv_sec = ms / 1000,
				       .tv_usec = (suseconds_t)(ms % 1000) * 1000 };

	if (closing->n)
		closing->waits = !evtimer_add(closing->on_due, &after);
}

static void on_due(evutil_socket_t fd, short what, void *userdata)
{
	struct closing *closing = userdata;

	(void)fd;
	(void)what;
	closing->waits = false;
	if (closing->n && !closing->workers->copying)
		start_closer(closing); /* if that fails, it is tried again */
	plan_closer(closing);
}

/* Keeps a connection for the next closer. There is room: see closing_is_full(). */
static void park(struct closing *closing, int fd, int64_t uid)
{
	size_t i = closing->n++;

	/* One that was turned away has a low number, which each worker would copy. */
	if (fd < WORK_DESCRIPTORS)
		fd = worker_move_high(fd);
	for (; i && closing->parked[i - 1].fd > fd; i--)
		closing->parked[i] = closing->parked[i - 1];
	closing->parked[i] = (struct parked){ .fd = fd, .uid = uid };
	closing->n_uncounted += uid == CLOSING_NOBODY;
	if (!closing->waits || closing->n == CLOSING_BATCH)
		plan_closer(closing);
}

bool closing_drop(struct closing *closing, int fd, int64_t uid)
{
	bool empty = passfd_end(fd);

	if (empty)
		fd_close(fd);
	else if (closing && closing->parked && closing->n < CLOSING_MAX)
		park(closing, fd, uid);
	/* otherwise, which is only in a start that fails, it stays open: a leak does less harm */
	return empty;
}

bool closing_is_full(const struct closing *closing)
{
	/* A few may still come without being counted: those of the socket for helpers. */
	return closing->n_uncounted + 64 >= CLOSING_SPARE;
}

int closing_init(struct closing *closing)
{
	for (size_t i = 0; i < CLOSERS_MAX; i++)
		closing->closers[i].pidfd = -1;
	/* Pages are used only as far as connections are parked. */
	closing->parked = malloc(CLOSING_MAX * sizeof(*closing->parked));
	closing->on_due = evtimer_new(closing->workers->base, on_due, closing);
	return closing->parked && closing->on_due ? 0 : -ENOMEM;
}

void closing_done(struct closing *closing)
{
	closing->closed = NULL;
	if (closing->n)
		start_closer(closing);
	for (size_t i = 0; i < CLOSERS_MAX; i++)
		if (closing->closers[i].on_exit)
			forget_closer(&closing->closers[i]);
	if (closing->on_due)
		event_free(TAKE_PTR(closing->on_due));
	free(TAKE_PTR(closing->parked));
}
