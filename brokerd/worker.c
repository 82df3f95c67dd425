/* SPDX-License-Identifier: MIT */
/*
 * Workers, see worker.h. The parent opens every file beforehand (sysfs checks permission at open);
 * the child closes everything else, goes under a filter of `write` and `exit_group`, and writes. It
 * reports each step over a pipe.
 *
 * The child must never touch the heap, libevent or stdio: between fork and the filter it makes five
 * system calls. The parent must never wait for it: its end comes as a readable pidfd.
 */
#include "config.h"

#include "brokerd/confine.h"
#include "brokerd/worker.h"
#include "client/util.h"

#include <event2/event.h>
#include <fcntl.h>
#include <string.h>
#include <sys/prctl.h>
#include <sys/syscall.h>
#include <sys/wait.h>

struct step {
	int fd;
	char text[64];
	size_t len;
	const char *what;
	struct pci_address address;
};

/* What the child writes after each step; smaller than PIPE_BUF, so whole. */
struct report {
	uint32_t step;
	int32_t error;
};

struct work {
	struct work_ops ops;
	void *userdata;
	struct step steps[WORK_STEPS_MAX];
	size_t n_steps;
	size_t n_done; /* reported */
	int error;
	int pid;
	int pipe;
	int pidfd;
	struct event *on_report, *on_exit, *on_late;
};

struct work *work_new(const struct work_ops *ops, void *userdata)
{
	struct work *work = calloc(1, sizeof(*work));

	if (!work)
		return NULL;
	work->ops = *ops;
	work->userdata = userdata;
	work->pid = work->pipe = work->pidfd = -1;
	return work;
}

struct work *work_free(struct work *work)
{
	if (!work)
		return NULL;
	for (size_t i = 0; i < work->n_steps; i++)
		fd_close(work->steps[i].fd);
	if (work->on_report)
		event_free(work->on_report);
	if (work->on_exit)
		event_free(work->on_exit);
	if (work->on_late)
		event_free(work->on_late);
	fd_close(work->pipe);
	fd_close(work->pidfd);
	free(work);
	return NULL;
}

int work_add(struct work *work, int fd, const char *text, const char *what,
	     const struct pci_address *address)
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
	step->len = strlen(text);
	memcpy(step->text, text, step->len);
	step->what = what;
	step->address = *address;
	return 0;
}

size_t work_steps(const struct work *work)
{
	return work->n_steps;
}

/*
 * Closes every descriptor but the steps' and the pipe. The steps' were opened one after another, so
 * are in order.
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

static void __attribute__((noreturn))
child(const struct work *work, int pipe, const struct confine_filter *filter)
{
	struct report report = { 0 };

	/*
	 * A core that is gone starts anew and decides by its records; an old worker must not write
	 * into that.
	 */
	prctl(PR_SET_PDEATHSIG, SIGKILL);
	keep_only(work, pipe);
	if (confine_worker(filter))
		_exit(2);
	/*
	 * A core that was gone before prctl() has sent no signal. It alone reads the pipe, so with
	 * it the pipe is broken (SIGPIPE is ignored); to a core that lives this is no step's report.
	 */
	report.step = UINT32_MAX;
	if (write(pipe, &report, sizeof(report)) != sizeof(report))
		_exit(1);
	for (size_t i = 0; i < work->n_steps; i++) {
		const struct step *step = &work->steps[i];
		ssize_t n;

		do
			n = write(step->fd, step->text, step->len);
		while (n < 0 && errno == EINTR);
		report.step = (uint32_t)i;
		report.error = n < 0 ? errno : (size_t)n != step->len ? EIO : 0;
		if (write(pipe, &report, sizeof(report)) != sizeof(report) || report.error)
			_exit(1);
	}
	_exit(0);
}

/* Which of the work's functions a step is about, counted from 1, and how many there are. */
static void count_functions(const struct work *work, size_t step, uint32_t *ret_index,
			    uint32_t *ret_total)
{
	uint32_t index = 0, total = 0;

	for (size_t i = 0; i < work->n_steps; i++) {
		if (!i ||
		    pci_address_compare(&work->steps[i].address, &work->steps[i - 1].address) != 0)
			total++;
		if (i == step)
			index = total;
	}
	*ret_index = index;
	*ret_total = total;
}

static void tell_begun(struct work *work, size_t step)
{
	uint32_t index, total;

	if (!work->ops.begun || step >= work->n_steps)
		return;
	if (step &&
	    !pci_address_compare(&work->steps[step].address, &work->steps[step - 1].address))
		return;
	count_functions(work, step, &index, &total);
	work->ops.begun(work->userdata, &work->steps[step].address, index, total);
}

static void read_reports(struct work *work)
{
	struct report report;
	ssize_t n;

	while ((n = read(work->pipe, &report, sizeof(report))) == sizeof(report)) {
		if (report.step != work->n_done || work->n_done == work->n_steps)
			continue;
		work->error = report.error;
		if (!report.error)
			tell_begun(work, ++work->n_done);
	}
	if (!n && work->on_report)
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
	int status;

	(void)fd;
	(void)what;
	if (waitpid(work->pid, &status, WNOHANG) != work->pid)
		return;
	read_reports(work);
	result.n_done = work->n_done;
	if (work->n_done < work->n_steps) {
		result.step = work->n_done;
		result.what = work->steps[work->n_done].what;
		result.address = work->steps[work->n_done].address;
		result.error = work->error ? work->error : EINTR; /* killed between two steps */
	}
	work->ops.done(work->userdata, &result);
	work_free(work);
}

static void on_late(evutil_socket_t fd, short what, void *userdata)
{
	struct work *work = userdata;
	size_t step = work->n_done < work->n_steps ? work->n_done : work->n_steps - 1;

	(void)fd;
	(void)what;
	work->ops.late(work->userdata, work->steps[step].what, &work->steps[step].address);
}

int work_start(struct work *work, struct event_base *base, const struct confine_filter *filter,
	       unsigned seconds)
{
	const struct timeval limit = { .tv_sec = (time_t)seconds };
	cleanup_fd int write_end = -1;
	int ends[2];

	if (pipe2(ends, O_CLOEXEC | O_NONBLOCK))
		return -errno;
	work->pipe = ends[0];
	write_end = ends[1];
	work->pid = fork();
	if (work->pid < 0)
		return -errno;
	if (!work->pid)
		child(work, write_end, filter);

	work->pidfd = (int)syscall(SYS_pidfd_open, work->pid, 0);
	if (work->pidfd < 0)
		goto lost;
	work->on_report = event_new(base, work->pipe, EV_READ | EV_PERSIST, on_report, work);
	work->on_exit = event_new(base, work->pidfd, EV_READ | EV_PERSIST, on_gone, work);
	work->on_late = evtimer_new(base, on_late, work);
	if (!work->on_report || !work->on_exit || !work->on_late ||
	    event_add(work->on_report, NULL) || event_add(work->on_exit, NULL) ||
	    event_add(work->on_late, &limit))
		goto lost;
	/* The files are the child's now; held here, they would only count. */
	for (size_t i = 0; i < work->n_steps; i++)
		work->steps[i].fd = fd_close(work->steps[i].fd);
	tell_begun(work, 0);
	return 0;
lost:
	/*
	 * A child at work that cannot be watched. No answer from here would be true, so this
	 * process ends: started again it goes by the records.
	 */
	_exit(70);
}
