/* SPDX-License-Identifier: MIT */
/*
 * Workers, see worker.h. The parent opens every file beforehand, since sysfs checks permission at
 * open. The child closes everything else, applies a filter of `read`, `write` and `exit_group`,
 * does its steps, and reports each over a pipe.
 *
 * The child must never touch the heap, libevent or stdio: between fork and filter it makes six or
 * seven system calls, and three more if it opens a group. The parent must never wait for it: a
 * readable pidfd reports its end. Nor does the parent reap it: the daemon ignores SIGCHLD, so the
 * kernel does.
 */
#include "config.h"

#include "brokerd/process/worker.h"
#include "brokerd/kernel/kernel.h"
#include "brokerd/process/filter.h"
#include "client/common/util.h"

#include <event2/event.h>
#include <fcntl.h>
#include <linux/close_range.h>
#include <sched.h>
#include <signal.h>
#include <string.h>
#include <sys/prctl.h>
#include <sys/syscall.h>
#include <sysexits.h>

struct step {
	int fd;
	enum does { WRITES, READS, EXPECTS, LISTS, OPENS, AWAITS } does;
	work_row_func row;
	uint32_t group; /* to open */
	enum on_failure on_failure;
	bool shown;
	char text[WORK_TEXT_MAX];
	size_t len;
	const char *what;
	struct pci_address address;
};

/*
 * The child writes one after each step, and one for each line of a table. Smaller than PIPE_BUF, so
 * it arrives whole.
 */
struct report {
	uint32_t step; /* or one of the two below */
	int32_t error;
	uint32_t is_row;	  /* a line of a table, whose step is not done yet */
	char text[WORK_TEXT_MAX]; /* the text that was read, NUL-terminated */
};

#define REPORT_ALONE (UINT32_MAX - 1) /* it has closed all descriptors but its steps' */
#define REPORT_CONFINED UINT32_MAX    /* it has its filter, and the steps begin */

struct work {
	struct work_ops ops;
	void *userdata;
	struct step steps[WORK_STEPS_MAX];
	size_t n_steps;
	size_t n_done; /* steps that were reported */
	size_t n_reports;
	size_t failed; /* the first step that failed, if `error` is set */
	int error;
	bool over; /* a step failed, and the later ones are not done */
	int pipe;
	int child_end; /* of the pipe, until the child has its own copy */
	int go;	       /* the word for which the step AWAITS waits, or -1 */
	bool awaits;   /* it has come to that step, and has not been told */
	struct timeval limit;
	int pidfd;
	struct event *on_report, *on_exit, *on_late;
	struct workers *workers;
	bool counted; /* counted in workers->busy */
	bool copying; /* counted in workers->copying */
};

void workers_enter(struct workers *workers)
{
	workers->busy++;
}

void workers_leave(struct workers *workers)
{
	if (!--workers->busy && workers->idle)
		workers->idle(workers->userdata);
}

static void stop_counting(struct work *work)
{
	if (!work->counted)
		return;
	work->counted = false;
	workers_leave(work->workers);
}

/* Notes that the worker has no copies of peers' sockets any more. */
static void stop_copying(struct work *work)
{
	if (work->copying)
		work->workers->copying--;
	work->copying = false;
}

struct work *work_new(const struct work_ops *ops, void *userdata)
{
	struct work *work = calloc(1, sizeof(*work));

	if (!work)
		return NULL;
	work->ops = *ops;
	work->userdata = userdata;
	work->pipe = work->child_end = work->go = work->pidfd = -1;
	return work;
}

/*
 * Closes the parent's copies of the descriptors: the child has its own, or there will be no child.
 */
static void close_files(struct work *work)
{
	for (size_t i = 0; i < work->n_steps; i++)
		work->steps[i].fd = fd_close(work->steps[i].fd);
	work->child_end = fd_close(work->child_end);
}

struct work *work_free(struct work *work)
{
	if (!work)
		return NULL;
	close_files(work);
	if (work->on_report)
		event_free(work->on_report);
	if (work->on_exit)
		event_free(work->on_exit);
	if (work->on_late)
		event_free(work->on_late);
	fd_close(work->pipe);
	fd_close(work->go);
	fd_close(work->pidfd);
	free(work);
	return NULL;
}

int work_add(struct work *work, int fd, const char *text, const char *what,
	     const struct pci_address *address, enum on_failure on_failure)
{
	struct step *step;

	if (fd < 0)
		return fd;
	if (work->n_steps == WORK_STEPS_MAX || strlen(text) >= sizeof(step->text)) {
		fd_close(fd);
		return -E2BIG;
	}
	step = &work->steps[work->n_steps++];
	step->fd = fd;
	step->on_failure = on_failure;
	step->len = strlen(text);
	memcpy(step->text, text, step->len);
	step->what = what;
	step->address = *address;
	return 0;
}

/* Sets what the step that was added last does, unless `r` is an error. Returns r. */
static int set_does(struct work *work, int r, enum does does)
{
	if (!r)
		work->steps[work->n_steps - 1].does = does;
	return r;
}

int work_add_read(struct work *work, int fd, const char *what, const struct pci_address *address)
{
	return set_does(work, work_add(work, fd, "", what, address, STOP), READS);
}

int work_add_table(struct work *work, int fd, work_row_func row, const char *what,
		   const struct pci_address *address)
{
	int r = set_does(work, work_add(work, fd, "", what, address, STOP), LISTS);

	if (!r)
		work->steps[work->n_steps - 1].row = row;
	return r;
}

int work_add_expect(struct work *work, int fd, const char *text, const char *what,
		    const struct pci_address *address)
{
	return set_does(work, work_add(work, fd, text, what, address, STOP), EXPECTS);
}

int work_add_open(struct work *work, int directory, uint32_t group,
		  const struct pci_address *address)
{
	int r = work_add(work, directory, "", "opening its IOMMU group", address, STOP);

	if (!set_does(work, r, OPENS))
		work->steps[work->n_steps - 1].group = group;
	return r;
}

int work_add_wait(struct work *work, const struct pci_address *address)
{
	int ends[2], r;

	/* Its end is no O_NONBLOCK: the worker sleeps in read() until the core says a byte. */
	if (pipe2(ends, O_CLOEXEC))
		return -errno;
	r = work_add(work, ends[0], "", "waiting for the core", address, STOP);
	if (r)
		fd_close(ends[1]);
	else
		work->go = ends[1];
	return set_does(work, r, AWAITS);
}

void work_cut(struct work *work, size_t n_steps)
{
	while (work->n_steps > n_steps) {
		struct step *step = &work->steps[--work->n_steps];

		fd_close(step->fd);
		if (step->does == AWAITS)
			work->go = fd_close(work->go);
		*step = (struct step){ .fd = -1 };
	}
}

/* If the worker is gone, so is the reader (SIGPIPE is ignored), and its end is reported. */
static void give_word(struct work *work, bool go)
{
	if (!work->awaits)
		return;
	work->awaits = false;
	evtimer_add(work->on_late, &work->limit);
	while (go && write(work->go, "", 1) < 0 && errno == EINTR)
		;
	work->go = fd_close(work->go);
}

void work_go(struct work *work)
{
	give_word(work, true);
}

void work_give_up(struct work *work)
{
	give_word(work, false);
}

void work_show(struct work *work)
{
	if (work->n_steps)
		work->steps[work->n_steps - 1].shown = true;
}

size_t work_steps(const struct work *work)
{
	return work->n_steps;
}

/*
 * In the child: closes every descriptor but the steps' and the pipe, range by range in ascending
 * order.
 */
static void keep_only(const struct work *work, int pipe)
{
	unsigned from = 0;

	for (;;) {
		unsigned next = UINT32_MAX;

		for (size_t i = 0; i < work->n_steps; i++)
			if ((unsigned)work->steps[i].fd >= from &&
			    (unsigned)work->steps[i].fd < next)
				next = (unsigned)work->steps[i].fd;
		if ((unsigned)pipe >= from && (unsigned)pipe < next)
			next = (unsigned)pipe;
		if (next > from)
			syscall(SYS_close_range, from, next == UINT32_MAX ? next : next - 1, 0);
		if (next == UINT32_MAX)
			return;
		from = next + 1;
	}
}

/* In the child: reads a table and reports each of its lines. Returns 0, or an errno. */
static int report_rows(const struct step *step, int pipe, struct report *report)
{
	static char table[4097]; /* sysfs returns at most a page */
	size_t used = 0, n_rows = 0;
	ssize_t n = 1;
	int r = 0;

	while (n && used < sizeof(table)) {
		n = read(step->fd, table + used, sizeof(table) - used);
		if (n < 0 && errno == EINTR)
			continue;
		if (n < 0)
			return errno;
		used += (size_t)n;
	}
	if (used == sizeof(table))
		return E2BIG;
	table[used] = '\0';
	report->is_row = 1;
	for (char *line = table; !r && line < table + used;) {
		char *end = line + strcspn(line, "\n");
		char *next = end < table + used ? end + 1 : end;

		*end = '\0';
		if (step->row(line, report->text)) {
			if (n_rows++ == WORK_ROWS_MAX)
				r = E2BIG;
			else if (write(pipe, report, sizeof(*report)) != sizeof(*report))
				r = EIO;
		}
		line = next;
	}
	report->is_row = 0;
	return r;
}

/*
 * In the child: does one step. Returns 0, or an errno. Puts a text that was read into `text`.
 * `opened` is the result of opening the group, which was done before the filter.
 */
static int do_step(const struct step *step, int opened, char text[WORK_TEXT_MAX])
{
	ssize_t n;

	if (step->does == OPENS)
		return opened < 0 ? -opened : 0;
	do
		n = step->does == WRITES ? write(step->fd, step->text, step->len)
					 : read(step->fd, text, WORK_TEXT_MAX);
	while (n < 0 && errno == EINTR);
	if (step->does == AWAITS && !n) /* the end of the pipe: it is not wanted any more */
		return ECANCELED;
	if (n < 0)
		return errno == ENOTTY && step->on_failure == IGNORE_ENOTTY ? 0 : errno;
	if (step->does == WRITES)
		return (size_t)n == step->len ? 0 : EIO;
	if (n == WORK_TEXT_MAX)
		return E2BIG;
	text[n && text[n - 1] == '\n' ? n - 1 : n] = '\0';
	if (step->does == EXPECTS && !strcmp(text, "(null)")) /* a driver_override of none */
		text[0] = '\0';
	return step->does == EXPECTS && strcmp(text, step->text) != 0 ? ESTALE : 0;
}

/*
 * Returns true if all descriptors of the child are below the peers' sockets; false only with
 * hundreds of workers.
 */
static bool is_low(const struct work *work, int pipe)
{
	for (size_t i = 0; i < work->n_steps; i++)
		if (work->steps[i].fd >= WORK_DESCRIPTORS)
			return false;
	return pipe < WORK_DESCRIPTORS;
}

/* A direct system call, since glibc's clone() requires a stack. */
int worker_fork(bool shared, int *ret_pidfd)
{
	long pid = syscall(SYS_clone, (shared ? CLONE_FILES : 0) | CLONE_PIDFD | SIGCHLD, 0,
			   ret_pidfd, 0, 0);

	return pid < 0 ? -errno : (int)pid;
}

/* Returns true if the later steps are not done when this one fails. */
static bool is_fatal(const struct step *step)
{
	return step->on_failure == STOP || step->on_failure == IGNORE_ENOTTY;
}

static void __attribute__((noreturn))
run_child(const struct work *work, int pipe, bool shared, const struct confine_filter *filter)
{
	struct report report = { 0 };
	int opened = -EBADF;

	/* Before anything is closed: in the shared table it is closed for the core as well. */
	if (shared && syscall(SYS_close_range, WORK_DESCRIPTORS, ~0U, CLOSE_RANGE_UNSHARE))
		_exit(3);

	/*
	 * A core that has ended is started again and decides by its records; an old worker must not
	 * write meanwhile.
	 */
	prctl(PR_SET_PDEATHSIG, SIGKILL);
	keep_only(work, pipe);
	report.step = REPORT_ALONE;
	if (write(pipe, &report, sizeof(report)) != sizeof(report))
		_exit(1);
	if (work->n_steps && work->steps[0].does == OPENS) {
		/*
		 * Only what was found matters; no descriptor of it is kept under the filter.
		 */
		opened = kernel_group_probe_in(work->steps[0].fd, work->steps[0].group);
		close(work->steps[0].fd);
	}
	if (filter_apply(filter))
		_exit(2);
	/*
	 * A core that had ended before prctl() sends no signal. But only the core reads the pipe,
	 * so writing to it fails then (SIGPIPE is ignored). In a living core this report means that
	 * it can close its copies of our descriptors.
	 */
	report.step = REPORT_CONFINED;
	if (write(pipe, &report, sizeof(report)) != sizeof(report))
		_exit(1);
	for (size_t i = 0; i < work->n_steps; i++) {
		const struct step *step = &work->steps[i];

		report.step = (uint32_t)i;
		report.error = step->does == LISTS ? report_rows(step, pipe, &report)
						   : do_step(step, opened, report.text);
		if (write(pipe, &report, sizeof(report)) != sizeof(report) ||
		    (report.error && is_fatal(step)))
			_exit(1);
	}
	_exit(0);
}

static void tell_begun(struct work *work, size_t step)
{
	uint32_t index = 0, total = 0;

	if (!work->ops.begun || step >= work->n_steps || !work->steps[step].shown)
		return;
	for (size_t i = 0; i < work->n_steps; i++) {
		total += work->steps[i].shown;
		if (i == step)
			index = total;
	}
	work->ops.begun(work->userdata, &work->steps[step].address, index, total);
}

/* The worker has come to the step that waits. Its time does not run meanwhile: it is the core's. */
static void tell_awaits(struct work *work)
{
	if (work->n_done == work->n_steps || work->steps[work->n_done].does != AWAITS)
		return;
	work->awaits = true;
	evtimer_del(work->on_late);
	work->ops.awaits(work->userdata);
}

static void take_report(struct work *work, struct report *report)
{
	const struct step *step = &work->steps[work->n_done];

	report->text[sizeof(report->text) - 1] = '\0';
	if (report->is_row) {
		if (step->does == LISTS && work->ops.told)
			work->ops.told(work->userdata, &step->address, report->text);
		return;
	}
	if (step->on_failure == IGNORE_ERROR)
		report->error = 0;
	if (report->error && !work->error) {
		work->error = report->error;
		work->failed = work->n_done;
	}
	if (report->error && is_fatal(step)) {
		work->over = true;
		return;
	}
	if (step->does == READS && !report->error && work->ops.told)
		work->ops.told(work->userdata, &step->address, report->text);
	tell_begun(work, ++work->n_done);
	tell_awaits(work);
}

static void read_reports(struct work *work)
{
	/* Bounds how much we read from one worker, so that it cannot starve the loop. */
	const size_t most = 2 + work->n_steps * (1 + WORK_ROWS_MAX);
	struct report report;
	ssize_t n = 0;

	while (work->n_reports < most &&
	       (n = read(work->pipe, &report, sizeof(report))) == sizeof(report)) {
		work->n_reports++;
		if (report.step == REPORT_ALONE)
			stop_copying(work);
		else if (report.step == REPORT_CONFINED)
			close_files(work);
		else if (report.step == work->n_done && work->n_done < work->n_steps && !work->over)
			take_report(work, &report);
	}
	if ((!n || work->n_reports == most) && work->on_report)
		event_del(work->on_report);
}

static void on_report(evutil_socket_t fd, short what, void *userdata)
{
	(void)fd;
	(void)what;
	read_reports(userdata);
}

static void on_gone(evutil_socket_t fd, short what, void *userdata)
{
	struct work *work = userdata;
	struct work_result result = { 0 };

	(void)fd;
	(void)what;
	read_reports(work);
	stop_copying(work);
	if (!work->error && work->n_done < work->n_steps) {
		work->error = EINTR; /* it was killed between two steps */
		work->failed = work->n_done;
	}
	if (work->error) {
		result.error = work->error;
		result.what = work->steps[work->failed].what;
		result.address = work->steps[work->failed].address;
	}
	work->ops.done(work->userdata, &result);
	/*
	 * After done(), which may have started the next worker, so that idle() is not called in
	 * between.
	 */
	stop_counting(work);
	work_free(work);
}

static void on_worker_late(evutil_socket_t fd, short what, void *userdata)
{
	struct work *work = userdata;
	size_t step = work->n_done < work->n_steps ? work->n_done : work->n_steps - 1;

	(void)fd;
	(void)what;
	if (work->ops.late)
		work->ops.late(work->userdata, work->steps[step].what, &work->steps[step].address);
	stop_counting(work);
}

int workers_start_within(struct workers *workers, struct work *work, unsigned seconds)
{
	int ends[2], pid;
	bool shared;

	if (pipe2(ends, O_CLOEXEC | O_NONBLOCK))
		return -errno;
	work->pipe = ends[0];
	work->child_end = ends[1];
	work->limit = (struct timeval){ .tv_sec = (time_t)seconds };
	shared = is_low(work, work->child_end);
	/* If shared, until the child takes a copy of the table's lower part, see run_child(). */
	pid = worker_fork(shared, &work->pidfd);
	if (pid < 0)
		return pid;
	if (!pid)
		run_child(work, work->child_end, shared, workers->filter);

	work->on_report =
		event_new(workers->base, work->pipe, EV_READ | EV_PERSIST, on_report, work);
	work->on_exit = event_new(workers->base, work->pidfd, EV_READ | EV_PERSIST, on_gone, work);
	work->on_late = evtimer_new(workers->base, on_worker_late, work);
	if (!work->on_report || !work->on_exit || !work->on_late ||
	    event_add(work->on_report, NULL) || event_add(work->on_exit, NULL) ||
	    event_add(work->on_late, &work->limit))
		goto lost;
	work->workers = workers;
	work->counted = !work->ops.may_be_left;
	if (work->counted)
		workers_enter(workers);
	work->copying = true;
	workers->copying++;
	tell_begun(work, 0);
	return 0;
lost:
	/* A child runs unwatched. When this process is started again, it goes by the records. */
	_exit(EX_SOFTWARE);
}

int workers_start(struct workers *workers, struct work *work)
{
	return workers_start_within(workers, work, WORKER_SECONDS);
}

int worker_move_high(int fd)
{
	int moved = fcntl(fd, F_DUPFD_CLOEXEC, WORK_DESCRIPTORS);

	if (moved < 0)
		return fd;
	fd_close(fd);
	return moved;
}
