/* SPDX-License-Identifier: MIT */
/*
 * Workers, without root: their filter needs only no_new_privs. Steps use files, pipes and FIFOs
 * here. A step that is to stand still writes to a pipe that is full, or reads from an empty one.
 */
#include "config.h"

#include "brokerd/kernel/kernel.h"
#include "brokerd/process/filter.h"
#include "brokerd/process/worker.h"
#include "client/common/util.h"
#include "tests/scratch.h"
#include "tests/tap.h"

#include <errno.h>
#include <event2/event.h>
#include <linux/vfio.h>
#include <poll.h>
#include <signal.h>
#include <stdarg.h>
#include <sys/prctl.h>
#include <sys/resource.h>
#include <sys/stat.h>
#include <sys/wait.h>
#include <time.h>

static struct event_base *base;
static struct confine_filter *filter;
static struct workers workers;
static size_t fds_at_start;

static struct seen {
	unsigned n_begun, n_told, n_done, n_late, n_awaits;
	uint32_t index[8], total[8]; /* the arguments of begun() */
	uint8_t begun_bus[8];
	char told[8][WORK_TEXT_MAX];
	uint8_t told_bus[8];
	struct work_result result;
	const char *late_what;
	uint8_t late_bus;
	bool late_before_done;
	uint64_t late_at; /* in milliseconds */
} seen;

static uint64_t now(void)
{
	struct timespec t;

	need(!clock_gettime(CLOCK_MONOTONIC, &t));
	return (uint64_t)t.tv_sec * 1000 + (uint64_t)t.tv_nsec / 1000000;
}

static void on_begun(void *userdata, const struct pci_address *address, uint32_t index,
		     uint32_t total)
{
	struct seen *s = userdata;

	if (s->n_begun < ARRAY_SIZE(s->index)) {
		s->index[s->n_begun] = index;
		s->total[s->n_begun] = total;
		s->begun_bus[s->n_begun] = address->bus;
	}
	s->n_begun++;
}

static void on_told(void *userdata, const struct pci_address *address, const char *text)
{
	struct seen *s = userdata;

	if (s->n_told < ARRAY_SIZE(s->told)) {
		snprintf(s->told[s->n_told], sizeof(s->told[0]), "%s", text);
		s->told_bus[s->n_told] = address->bus;
	}
	s->n_told++;
}

static void on_done(void *userdata, const struct work_result *result)
{
	struct seen *s = userdata;

	s->n_done++;
	s->result = *result;
}

static void on_late(void *userdata, const char *what, const struct pci_address *address)
{
	struct seen *s = userdata;

	s->n_late++;
	s->late_what = what;
	s->late_bus = address->bus;
	s->late_before_done = !s->n_done;
	s->late_at = now();
}

static void on_awaits(void *userdata)
{
	struct seen *s = userdata;

	s->n_awaits++;
}

static const struct work_ops ops = {
	.awaits = on_awaits,
	.begun = on_begun,
	.told = on_told,
	.done = on_done,
	.late = on_late,
};

static const struct pci_address *at(uint8_t bus)
{
	static struct pci_address address;

	address = (struct pci_address){ .bus = bus };
	return &address;
}

static struct work *make(void)
{
	struct work *work = work_new(&ops, &seen);

	need(work);
	memset(&seen, 0, sizeof(seen));
	return work;
}

static void turn(void)
{
	event_base_loop(base, EVLOOP_NONBLOCK);
}

/* Waits until the work is done, at most that long. Returns whether it is. */
static bool is_done_in(int milliseconds)
{
	for (int n = 0; n < milliseconds && !seen.n_done; n++) {
		turn();
		poll(NULL, 0, 1);
	}
	return seen.n_done == 1;
}

static bool do_it(struct work *work)
{
	need(!workers_start(&workers, work));
	return is_done_in(30000) && !seen.n_late;
}

/* Returns true if all descriptors but those of the start are closed, and no child is left. */
static bool nothing_left(void)
{
	return open_descriptors() == fds_at_start && waitpid(-1, NULL, WNOHANG) < 0 &&
	       errno == ECHILD;
}

static int file(const char *name, int flags)
{
	char path[128];
	int fd;

	snprintf(path, sizeof(path), "%s/%s", scratch_path, name);
	fd = open(path, flags | O_CLOEXEC, 0600);
	need(fd >= 0);
	return fd;
}

static bool holds(const char *name, const char *text)
{
	char is[256] = "";
	cleanup_fd int fd = file(name, O_RDONLY);

	need(read(fd, is, sizeof(is) - 1) >= 0);
	if (strcmp(is, text) != 0)
		printf("# %s: '%s'\n", name, is);
	return !strcmp(is, text);
}

/*
 * Returns one end of a pipe on which a step stands still: the pipe is full. The test drains
 * *ret_other.
 */
static int full_pipe(int *ret_other)
{
	static const char block[4096];
	int ends[2];

	need(!pipe2(ends, O_CLOEXEC | O_NONBLOCK));
	while (write(ends[1], block, sizeof(block)) > 0)
		;
	need(!fcntl(ends[1], F_SETFL, 0));
	*ret_other = ends[0];
	return ends[1];
}

static void drain(int fd)
{
	char block[4096];

	while (read(fd, block, sizeof(block)) > 0)
		;
}

/* Returns the one child of this process, or -1. */
static pid_t worker(void)
{
	char path[64];
	int pid = -1;
	FILE *list;

	snprintf(path, sizeof(path), "/proc/self/task/%d/children", (int)getpid());
	list = fopen(path, "re");
	need(list);
	if (fscanf(list, "%d", &pid) != 1)
		pid = -1;
	fclose(list);
	return pid;
}

/* Returns the number of open descriptors of a process, and the highest in *ret_highest. */
static size_t descriptors_of(pid_t pid, int *ret_highest)
{
	char path[64];
	struct dirent *entry;
	size_t n = 0;
	DIR *dir;

	*ret_highest = -1;
	snprintf(path, sizeof(path), "/proc/%d/fd", (int)pid);
	dir = opendir(path);
	need(dir);
	while ((entry = readdir(dir))) {
		if (entry->d_name[0] == '.')
			continue;
		n++;
		if (atoi(entry->d_name) > *ret_highest)
			*ret_highest = atoi(entry->d_name);
	}
	closedir(dir);
	return n;
}

/* Waits until the process is under a filter and asleep. Returns whether it is. */
static bool comes_under_filter(pid_t pid)
{
	for (int n = 0; n < 30000; n++) {
		char path[64], text[4096] = "";
		int fd;
		ssize_t got;

		snprintf(path, sizeof(path), "/proc/%d/status", (int)pid);
		fd = open(path, O_RDONLY | O_CLOEXEC);
		got = fd < 0 ? -1 : read(fd, text, sizeof(text) - 1);
		fd_close(fd);
		if (got > 0 && strstr(text, "Seccomp:\t2") && strstr(text, "State:\tS"))
			return true;
		poll(NULL, 0, 1);
	}
	return false;
}

/* ---- steps ---- */

static void test_writes_and_reads(void)
{
	struct work *work = make();

	scratch_write("in", "vfio-pci\n");
	scratch_write("bare", "bare");
	scratch_write("nothing", "");
	scratch_write("newline", "\n\n");
	tap_ok(!work_add(work, file("a", O_WRONLY | O_CREAT), "one", "first", at(1), STOP) &&
		       !work_add_read(work, file("in", O_RDONLY), "second", at(2)) &&
		       !work_add(work, file("b", O_WRONLY | O_CREAT), "\n", "third", at(3), STOP) &&
		       !work_add_read(work, file("bare", O_RDONLY), "fourth", at(4)) &&
		       !work_add_read(work, file("nothing", O_RDONLY), "fifth", at(5)) &&
		       !work_add_read(work, file("newline", O_RDONLY), "sixth", at(6)) &&
		       work_steps(work) == 6,
	       "steps are taken");
	tap_ok(do_it(work) && !seen.result.error && !seen.result.what, "and done");
	tap_ok(holds("a", "one") && holds("b", "\n"), "what was to be written is written");
	tap_ok(seen.n_told == 4 && !strcmp(seen.told[0], "vfio-pci") && seen.told_bus[0] == 2 &&
		       !strcmp(seen.told[1], "bare") && seen.told_bus[1] == 4,
	       "what was read is told, of whom, and without its newline");
	tap_ok(!seen.told[2][0] && !strcmp(seen.told[3], "\n"),
	       "nothing is nothing, and only one newline goes");
	tap_ok(!seen.n_begun, "a step that is not shown is not shown");
	tap_ok(nothing_left(), "no descriptor is left, and no process");
}

static void test_failures(void)
{
	struct work *work = make();

	need(!work_add(work, file("a", O_WRONLY | O_TRUNC), "1", "good", at(1), STOP) &&
	     !work_add(work, file("a", O_RDONLY), "2", "bad", at(2), STOP) &&
	     !work_add(work, file("b", O_WRONLY | O_TRUNC), "3", "never", at(3), STOP));
	tap_ok(do_it(work) && seen.result.error == EBADF && !strcmp(seen.result.what, "bad") &&
		       seen.result.address.bus == 2,
	       "a step that fails is named, with its function");
	tap_ok(holds("a", "1") && holds("b", ""), "and ends the work there");
	tap_ok(nothing_left(), "no descriptor is left, and no process");

	work = make();
	need(!work_add(work, file("a", O_RDONLY), "1", "soft", at(1), CONTINUE) &&
	     !work_add(work, file("b", O_WRONLY | O_TRUNC), "2", "rest", at(2), STOP) &&
	     !work_add(work, open("/dev/full", O_WRONLY | O_CLOEXEC), "3", "late", at(3),
		       CONTINUE));
	tap_ok(do_it(work) && seen.result.error == EBADF && !strcmp(seen.result.what, "soft") &&
		       seen.result.address.bus == 1,
	       "of soft steps that fail the first is named");
	tap_ok(holds("b", "2"), "and the rest is done all the same");

	work = make();
	need(!work_add(work, file("a", O_RDONLY), "1", "soft", at(1), CONTINUE) &&
	     !work_add(work, file("a", O_RDONLY), "2", "hard", at(2), STOP) &&
	     !work_add(work, file("b", O_WRONLY | O_TRUNC), "3", "never", at(3), STOP));
	tap_ok(do_it(work) && seen.result.error == EBADF && !strcmp(seen.result.what, "soft") &&
		       holds("b", ""),
	       "a hard one after it ends the work");

	work = make();
	need(!work_add(work, file("a", O_RDONLY), "1", "quiet", at(1), IGNORE_ERROR) &&
	     !work_add(work, file("b", O_WRONLY | O_TRUNC), "4", "rest", at(2), STOP));
	tap_ok(do_it(work) && !seen.result.error && holds("b", "4"),
	       "a quiet step that fails is no failure, and the rest is done");

	work = make();
	need(!work_add(work, open("/dev/full", O_WRONLY | O_CLOEXEC), "1", "full", at(7), STOP));
	tap_ok(do_it(work) && seen.result.error == ENOSPC && seen.result.address.bus == 7,
	       "the kernel's own error is what is told");

	work = make();
	need(!work_add_read(work, file("a", O_WRONLY), "reading", at(1)) &&
	     !work_add_read(work, file("in", O_RDONLY), "never", at(2)));
	tap_ok(do_it(work) && seen.result.error == EBADF && !strcmp(seen.result.what, "reading") &&
		       !seen.n_told,
	       "a read that fails ends the work, and tells nothing");
	tap_ok(nothing_left(), "no descriptor is left, and no process");
}

/* Limits a regular file to that many bytes: the kernel cuts a longer write. */
static void test_short_write(void)
{
	struct rlimit limit, small;
	struct work *work = make();
	bool done;

	need(!getrlimit(RLIMIT_FSIZE, &limit));
	small = limit;
	small.rlim_cur = 2;
	signal(SIGXFSZ, SIG_IGN);
	need(!work_add(work, file("a", O_WRONLY | O_TRUNC), "12345", "short", at(1), STOP));
	need(!setrlimit(RLIMIT_FSIZE, &small));
	done = do_it(work);
	/* Before anything is printed, which may be into a file. */
	need(!setrlimit(RLIMIT_FSIZE, &limit));
	tap_ok(done && seen.result.error == EIO, "a write that is cut is a failure");
}

static void test_too_long(void)
{
	char text[WORK_TEXT_MAX + 2];
	struct work *work = make();
	size_t fds = open_descriptors();
	int r = 0;

	memset(text, 'x', sizeof(text));
	text[WORK_TEXT_MAX] = '\0';
	scratch_write("long", text);
	text[WORK_TEXT_MAX - 1] = '\0';
	scratch_write("most", text);
	need(!work_add_read(work, file("most", O_RDONLY), "most", at(1)) &&
	     !work_add_read(work, file("long", O_RDONLY), "long", at(2)) &&
	     !work_add_read(work, file("in", O_RDONLY), "never", at(3)));
	tap_ok(do_it(work) && seen.result.error == E2BIG && !strcmp(seen.result.what, "long") &&
		       seen.result.address.bus == 2,
	       "a read of more than may be fails, and is not cut");
	tap_ok(seen.n_told == 1 && !strcmp(seen.told[0], text),
	       "the longest that may be is told whole");

	work = make();
	tap_ok(work_add(work, file("a", O_WRONLY), text, "most", at(1), STOP) == 0,
	       "the longest write is taken");
	text[WORK_TEXT_MAX - 1] = 'x';
	tap_ok(work_add(work, file("a", O_WRONLY), text, "long", at(1), STOP) == -E2BIG &&
		       work_steps(work) == 1,
	       "a longer one is refused");
	tap_ok(work_add(work, -ENODEV, "1", "none", at(1), STOP) == -ENODEV &&
		       work_add_read(work, -EACCES, "none", at(1)) == -EACCES &&
		       work_add_open(work, -ENOENT, 1, at(1)) == -ENOENT && work_steps(work) == 1,
	       "an open that failed is passed through");
	while (work_steps(work) < WORK_STEPS_MAX && !r)
		r = work_add(work, file("a", O_WRONLY), "1", "one of many", at(1), STOP);
	tap_ok(!r && work_add_read(work, file("a", O_RDONLY), "too many", at(1)) == -E2BIG &&
		       work_steps(work) == WORK_STEPS_MAX,
	       "%d steps are taken, and not one more", WORK_STEPS_MAX);
	tap_ok(do_it(work) && !seen.result.error, "and done");
	tap_ok(open_descriptors() == fds && nothing_left(),
	       "what was refused is closed too (%zu, %zu)", open_descriptors(), fds);
	work = make();
	need(!work_add(work, file("a", O_WRONLY), "1", "not begun", at(1), STOP));
	tap_ok(!work_free(work) && !work_free(NULL) && nothing_left(),
	       "a work that is dropped before it begins closes its files");
}

/* Runs in the worker: a line with an '=' in it is a row of the table. */
static bool row(const char *line, char text[WORK_TEXT_MAX])
{
	if (!strchr(line, '=') || strlen(line) >= WORK_TEXT_MAX)
		return false;
	strcpy(text, line);
	return true;
}

static void test_table(void)
{
	struct work *work = make();
	char table[5000] = "", line[32];

	scratch_write("table", "heading\n1=a\n\n22=b c\nlast=");
	scratch_write("after", "after\n");
	need(!work_add_table(work, file("table", O_RDONLY), row, "table", at(1)) &&
	     !work_add_read(work, file("after", O_RDONLY), "after", at(2)));
	tap_ok(do_it(work) && !seen.result.error && seen.n_told == 4 &&
		       !strcmp(seen.told[0], "1=a") && !strcmp(seen.told[1], "22=b c") &&
		       !strcmp(seen.told[2], "last=") && !strcmp(seen.told[3], "after") &&
		       seen.told_bus[0] == 1 && seen.told_bus[3] == 2,
	       "a table is told by its lines, and the next step follows");
	for (int i = 0; i < WORK_ROWS_MAX; i++) {
		snprintf(line, sizeof(line), "%d=\n", i);
		strcat(table, line);
	}
	scratch_write("table", table);
	work = make();
	need(!work_add_table(work, file("table", O_RDONLY), row, "table", at(1)));
	tap_ok(do_it(work) && !seen.result.error && seen.n_told == WORK_ROWS_MAX,
	       "%d lines are told", WORK_ROWS_MAX);
	strcat(table, "=\n");
	scratch_write("table", table);
	work = make();
	need(!work_add_table(work, file("table", O_RDONLY), row, "table", at(1)) &&
	     !work_add_read(work, file("after", O_RDONLY), "after", at(2)));
	tap_ok(do_it(work) && seen.result.error == E2BIG && !strcmp(seen.result.what, "table") &&
		       seen.n_told == WORK_ROWS_MAX,
	       "one more is a failure");
	memset(table, 'x', 4096);
	table[4096] = '\0';
	scratch_write("table", table);
	work = make();
	need(!work_add_table(work, file("table", O_RDONLY), row, "table", at(1)));
	tap_ok(do_it(work) && !seen.result.error && !seen.n_told, "a page is read");
	strcat(table, "x");
	scratch_write("table", table);
	work = make();
	need(!work_add_table(work, file("table", O_RDONLY), row, "table", at(1)));
	tap_ok(do_it(work) && seen.result.error == E2BIG, "more than a page is a failure");
}

/* Runs in a compromised worker: of all its descriptors, it can write only to the pipe. */
/* A work that reads "a", waits, and writes to "b" then. Returns it when it waits. */
static struct work *make_waiting(void)
{
	struct work *work = make();
	int r;

	need(!work_add_read(work, file("a", O_RDONLY), "reading", at(1)));
	r = work_add_wait(work, at(1));
	need(!r && !work_add(work, file("b", O_WRONLY), "changed", "writing", at(2), STOP));
	work_show(work);
	/* Its limit would be over at once, if it counted while the worker waits. */
	need(!workers_start_within(&workers, work, 1));
	for (int n = 0; n < 30000 && !seen.n_awaits && !seen.n_done; n++) {
		turn();
		poll(NULL, 0, 1);
	}
	return work;
}

static void test_await(void)
{
	struct work *work;

	need(!close(file("a", O_WRONLY | O_CREAT | O_TRUNC)));
	need(!close(file("b", O_WRONLY | O_CREAT | O_TRUNC)));
	work = make_waiting();
	tap_ok(seen.n_awaits == 1 && seen.n_told == 1 && !seen.n_done && !seen.n_begun &&
		       holds("b", ""),
	       "a worker that is to wait has read, and changed nothing");
	tap_ok(!is_done_in(1500) && !seen.n_late, "it is not late while it waits for its word");
	work_go(work);
	tap_ok(is_done_in(30000) && !seen.result.error && seen.n_begun == 1 &&
		       holds("b", "changed"),
	       "at its word it goes on");
	tap_ok(nothing_left(), "no descriptor is left, and no process");

	need(!close(file("b", O_WRONLY | O_TRUNC)));
	work = make_waiting();
	work_give_up(work);
	tap_ok(is_done_in(30000) && seen.result.error == ECANCELED && holds("b", ""),
	       "a worker that is given up changes nothing");
	tap_ok(nothing_left(), "no descriptor is left, and no process");

	work = make();
	need(!work_add_read(work, file("a", O_RDONLY), "reading", at(1)));
	need(!work_add_wait(work, at(1)) &&
	     !work_add(work, file("b", O_WRONLY), "changed", "writing", at(2), STOP));
	work_cut(work, 1);
	tap_ok(work_steps(work) == 1 && do_it(work) && !seen.n_awaits && holds("b", ""),
	       "steps that were added can be cut off");
	tap_ok(nothing_left(), "no descriptor is left, and no process");
}

static bool flood(const char *line, char text[WORK_TEXT_MAX])
{
	char report[3 * sizeof(uint32_t) + WORK_TEXT_MAX];

	(void)line;
	memset(report, 0xff, sizeof(report));
	for (int fd = 0; fd < 256; fd++)
		for (int i = 0; i < 600 && write(fd, report, sizeof(report)) > 0; i++)
			;
	strcpy(text, "not heard any more");
	return true;
}

static void test_flood(void)
{
	struct work *work = make();

	scratch_write("table", "a line");
	need(!work_add_table(work, file("table", O_RDONLY), flood, "table", at(1)));
	need(!workers_start(&workers, work));
	tap_ok(is_done_in(30000) && seen.result.error && !seen.n_told,
	       "who says more than there is to say is not listened to");
	tap_ok(nothing_left(), "... and nothing is left");
}

static void test_expect(void)
{
	struct work *work = make();

	scratch_write("is", "557\n");
	scratch_write("a", "");
	need(!work_add_expect(work, file("is", O_RDONLY), "557", "expect", at(1)) &&
	     !work_add(work, file("a", O_WRONLY), "1", "write", at(1), STOP));
	tap_ok(do_it(work) && !seen.result.error && !seen.n_told && holds("a", "1"),
	       "what is as expected: the work goes on");
	scratch_write("a", "");
	for (int i = 0; i < 3; i++) {
		static const char *const others[] = { "0", "55", "5577" };

		work = make();
		need(!work_add_expect(work, file("is", O_RDONLY), others[i], "expect", at(1)) &&
		     !work_add(work, file("a", O_WRONLY), "1", "write", at(1), STOP));
		tap_ok(do_it(work) && seen.result.error == ESTALE &&
			       !strcmp(seen.result.what, "expect") && holds("a", ""),
		       "another than %s: nothing is written", others[i]);
	}
}

static void test_shown(void)
{
	struct work *work = make();
	int other;

	need(!work_add(work, file("a", O_WRONLY | O_TRUNC), "1", "a", at(1), STOP));
	work_show(work);
	need(!work_add(work, file("a", O_WRONLY), "2", "b", at(2), STOP) &&
	     !work_add(work, full_pipe(&other), "3", "c", at(3), CONTINUE));
	work_show(work);
	need(!work_add(work, file("a", O_WRONLY), "4", "d", at(4), STOP));
	work_show(work);
	need(!workers_start(&workers, work));
	tap_ok(seen.n_begun == 1 && seen.index[0] == 1 && seen.total[0] == 3 &&
		       seen.begun_bus[0] == 1,
	       "the first shown step is told of when it begins");
	for (int n = 0; n < 30000 && seen.n_begun < 2; n++) {
		turn();
		poll(NULL, 0, 1);
	}
	tap_ok(seen.n_begun == 2 && seen.index[1] == 2 && seen.total[1] == 3 &&
		       seen.begun_bus[1] == 3 && !seen.n_done,
	       "the second too, not after it");
	drain(other);
	tap_ok(is_done_in(30000) && seen.n_begun == 3 && seen.index[2] == 3 &&
		       seen.begun_bus[2] == 4 && !seen.result.error,
	       "and each is counted among those that are shown");
	close(other);
	tap_ok(nothing_left(), "no descriptor is left, and no process");
}

/* A file in place of a group: what VFIO says of it. */
static bool viable = true;

int __wrap_ioctl(int fd, unsigned long request, ...);
int __wrap_ioctl(int fd, unsigned long request, ...)
{
	struct vfio_group_status *status;
	va_list args;

	(void)fd;
	va_start(args, request);
	status = va_arg(args, struct vfio_group_status *);
	va_end(args);
	if (request != VFIO_GROUP_GET_STATUS) {
		errno = ENOTTY;
		return -1;
	}
	status->flags = viable ? VFIO_GROUP_FLAGS_VIABLE : 0;
	return 0;
}

static void test_open(void)
{
	struct work *work = make();

	scratch_write("vfio/17", "");
	need(!work_add_open(work, file("vfio", O_PATH | O_DIRECTORY), 17, at(1)) &&
	     !work_add(work, file("a", O_WRONLY | O_TRUNC), "opened", "next", at(2), STOP));
	tap_ok(do_it(work) && !seen.result.error && holds("a", "opened"),
	       "a group that can be opened is, and the rest is done");

	work = make();
	need(!work_add_open(work, file("vfio", O_PATH | O_DIRECTORY), 18, at(1)) &&
	     !work_add(work, file("a", O_WRONLY | O_TRUNC), "opened", "next", at(2), STOP));
	tap_ok(do_it(work) && seen.result.error == ENOENT && seen.result.address.bus == 1 &&
		       strstr(seen.result.what, "opening") && !holds("a", "opened"),
	       "one that is not there is not, and ends the work");
	viable = false;
	work = make();
	need(!work_add_open(work, file("vfio", O_PATH | O_DIRECTORY), 17, at(1)) &&
	     !work_add(work, file("a", O_WRONLY | O_TRUNC), "opened", "next", at(2), STOP));
	tap_ok(do_it(work) && seen.result.error == -KERNEL_ATTACHED && !holds("a", "opened"),
	       "one that can be opened and has a device in use is told apart");
	viable = true;
	{
		char path[128];

		snprintf(path, sizeof(path), "%s/vfio/19", scratch_path);
		need(!symlink("17", path));
		snprintf(path, sizeof(path), "%s/vfio/20", scratch_path);
		need(!symlink("nothing", path));
	}
	work = make();
	need(!work_add_open(work, file("vfio", O_PATH | O_DIRECTORY), 19, at(1)));
	tap_ok(do_it(work) && seen.result.error == ELOOP, "a link is not followed");
	work = make();
	need(!work_add_open(work, file("vfio", O_PATH | O_DIRECTORY), 20, at(1)));
	tap_ok(do_it(work) && seen.result.error == ELOOP, "nor one that leads nowhere");
	scratch_write("vfio/21", "");
	{
		char path[128];

		snprintf(path, sizeof(path), "%s/vfio/21", scratch_path);
		need(!chmod(path, 0));
	}
	work = make();
	need(!work_add_open(work, file("vfio", O_PATH | O_DIRECTORY), 21, at(1)));
	tap_ok(do_it(work) && (!geteuid() || seen.result.error == EACCES),
	       "one that may not be opened is told apart");
	tap_ok(nothing_left(), "no descriptor is left, and no process");
}

/* ---- late, killed ---- */

static void test_late(void)
{
	struct work *work = make();
	uint64_t began;
	int other;

	need(!work_add(work, file("a", O_WRONLY), "1", "quick", at(1), STOP) &&
	     !work_add(work, full_pipe(&other), "2", "slow", at(2), STOP) &&
	     !work_add(work, file("b", O_WRONLY | O_TRUNC), "after", "last", at(3), STOP));
	began = now();
	need(!workers_start_within(&workers, work, 1));
	for (int n = 0; n < 30000 && !seen.n_late; n += 10) {
		turn();
		poll(NULL, 0, 10);
	}
	/* The clock of libevent is coarse. */
	tap_ok(seen.late_at >= began + 980, "before its time it is not late (%u ms)",
	       (unsigned)(seen.late_at - began));
	tap_ok(seen.n_late == 1 && seen.late_before_done && !strcmp(seen.late_what, "slow") &&
		       seen.late_bus == 2,
	       "a worker that does not come back is late, with the step at which it is");
	turn();
	drain(other);
	tap_ok(is_done_in(30000) && !seen.result.error && holds("b", "after") && seen.n_late == 1,
	       "when it comes back after all it is done, once late");
	close(other);
	tap_ok(nothing_left(), "no descriptor is left, and no process");
}

static void test_killed(void)
{
	struct work *work = make();
	pid_t pid;
	int other;

	need(!work_add(work, file("a", O_WRONLY | O_TRUNC), "done", "good", at(1), STOP) &&
	     !work_add(work, full_pipe(&other), "2", "at work", at(2), STOP) &&
	     !work_add(work, file("b", O_WRONLY | O_TRUNC), "3", "never", at(3), STOP));
	need(!workers_start(&workers, work));
	pid = worker();
	need(pid > 0);
	tap_ok(comes_under_filter(pid), "a worker that waits is under its filter");
	kill(pid, SIGKILL);
	tap_ok(is_done_in(30000) && seen.result.error == EINTR &&
		       !strcmp(seen.result.what, "at work") && seen.result.address.bus == 2,
	       "one that is killed has not done the step at which it was");
	tap_ok(holds("a", "done") && holds("b", "") && !seen.n_late, "nor what comes after");
	close(other);

	work = make();
	need(!work_add(work, full_pipe(&other), "1", "at work", at(1), IGNORE_ERROR));
	need(!workers_start(&workers, work));
	kill(worker(), SIGKILL);
	tap_ok(is_done_in(30000) && seen.result.error == EINTR,
	       "also in the last one, and a quiet one");
	close(other);
	tap_ok(nothing_left(), "no descriptor is left, and no process");
}

/* ---- a worker's descriptors and rights ---- */

/*
 * A worker has only its own files and its pipe, whatever else is open here and at whatever number.
 */
static void test_keeps(int number)
{
	struct work *work = make();
	int other, highest, fd, low = file("in", O_RDONLY), high = -1;
	size_t before;
	pid_t pid;

	fd = full_pipe(&other);
	if (number) {
		int moved = fcntl(fd, F_DUPFD_CLOEXEC, number);

		need(moved >= number);
		close(fd);
		fd = moved;
		high = fcntl(low, F_DUPFD_CLOEXEC, number + 3);
		need(high > fd);
	}
	need(!work_add(work, file("a", O_WRONLY | O_TRUNC), "1", "a", at(1), STOP) &&
	     !work_add(work, fd, "2", "b", at(2), STOP) &&
	     !work_add(work, file("b", O_WRONLY | O_TRUNC), "kept", "c", at(3), STOP));
	before = open_descriptors();
	need(!workers_start(&workers, work));
	pid = worker();
	tap_ok(comes_under_filter(pid) && descriptors_of(pid, &highest) == 4,
	       "a worker has its files and its pipe, and nothing else (%zu, numbers from %d)",
	       descriptors_of(pid, &highest), number);
	turn();
	tap_ok(open_descriptors() == before - 3 + 2,
	       "when it has them they are closed here, and a pipe and a pidfd are left");
	tap_ok(fcntl(low, F_GETFD) == FD_CLOEXEC &&
		       (high < 0 || fcntl(high, F_GETFD) == FD_CLOEXEC),
	       "and what it has closed is open here");
	drain(other);
	tap_ok(is_done_in(30000) && !seen.result.error && holds("a", "1") && holds("b", "kept"),
	       "with which it does its work");
	close(other);
	close(low);
	fd_close(high);
	tap_ok(nothing_left(), "no descriptor is left, and no process");
}

static void test_many(void)
{
	struct work *work;
	unsigned good = 0;

	for (unsigned i = 0; i < 100; i++) {
		work = make();
		need(!work_add(work, file("a", O_WRONLY), "1", "a", at(1), STOP) &&
		     !work_add_read(work, file("in", O_RDONLY), "b", at(2)));
		good += do_it(work) && !seen.result.error && seen.n_told == 1;
	}
	tap_ok(good == 100 && nothing_left(), "a hundred one after another leave nothing (%u)",
	       good);
}

/* Without room for a pipe no worker starts, and the caller keeps the work. */
static void test_no_room(void)
{
	struct rlimit limit, none;
	struct work *work = make();
	int r;

	need(!work_add(work, file("b", O_WRONLY | O_TRUNC), "1", "a", at(1), STOP));
	need(!getrlimit(RLIMIT_NOFILE, &limit));
	none = limit;
	none.rlim_cur = 0;
	need(!setrlimit(RLIMIT_NOFILE, &none));
	r = workers_start(&workers, work);
	need(!setrlimit(RLIMIT_NOFILE, &limit));
	tap_ok(r == -EMFILE && work_steps(work) == 1 && !workers.busy,
	       "without a descriptor left none is begun");
	tap_ok(do_it(work) && holds("b", "1"), "and it may be begun later");
	tap_ok(nothing_left(), "no descriptor is left, and no process");
}

/* ---- when the process may end ---- */

static unsigned n_idle, done_when_idle, late_when_idle;

static void on_idle(void *userdata)
{
	n_idle += userdata == &workers ? 1 : 100;
	done_when_idle = seen.n_done;
	late_when_idle = seen.n_late;
}

/* Starts the counts again. */
static void watch_idle(void)
{
	workers.idle = on_idle;
	workers.userdata = &workers;
	n_idle = done_when_idle = late_when_idle = 0;
}

static void add_slow(struct work *work, int *ret_other)
{
	need(!work_add(work, full_pipe(ret_other), "1", "slow", at(1), STOP));
}

static void test_enter_and_leave(void)
{
	watch_idle();
	workers_enter(&workers);
	workers_enter(&workers);
	workers_leave(&workers);
	tap_ok(workers.busy == 1 && !n_idle, "of two things under way the first to end leaves one");
	workers_leave(&workers);
	tap_ok(!workers.busy && n_idle == 1, "with the last it is idle, and idle() is called once");
	workers.idle = NULL;
	workers_enter(&workers);
	workers_leave(&workers);
	tap_ok(!workers.busy && n_idle == 1, "without an idle() it is only counted");
}

static void test_worker_is_busy(void)
{
	struct work *work = make();
	int other;

	watch_idle();
	add_slow(work, &other);
	tap_ok(!workers.busy, "a work that was not started is nothing to wait for");
	need(!workers_start(&workers, work));
	tap_ok(workers.busy == 1, "a worker is");
	drain(other);
	tap_ok(is_done_in(30000) && !workers.busy && n_idle == 1 && done_when_idle == 1,
	       "until its end, and done() comes before idle()");
	close(other);

	work = make();
	watch_idle();
	workers_enter(&workers);
	need(!work_add(work, file("a", O_WRONLY | O_TRUNC), "1", "a", at(1), STOP));
	tap_ok(do_it(work) && workers.busy == 1 && !n_idle,
	       "a worker that ends does not end what it belongs to");
	workers_leave(&workers);
	tap_ok(!workers.busy && n_idle == 1, "which ends by itself");
	tap_ok(nothing_left(), "no descriptor is left, and no process");
}

static void start_next(void *userdata, const struct work_result *result)
{
	struct work *next = work_new(&ops, userdata);

	(void)result;
	need(next && !work_add(next, file("b", O_WRONLY | O_TRUNC), "next", "b", at(2), STOP) &&
	     !workers_start(&workers, next));
}

static void test_one_after_another(void)
{
	static const struct work_ops first_ops = { .done = start_next };
	struct work *work = work_new(&first_ops, &seen);

	watch_idle();
	memset(&seen, 0, sizeof(seen));
	need(work && !work_add(work, file("a", O_WRONLY | O_TRUNC), "1", "a", at(1), STOP) &&
	     !workers_start(&workers, work));
	tap_ok(is_done_in(30000) && holds("b", "next") && n_idle == 1 && done_when_idle == 1 &&
		       !workers.busy,
	       "between a worker and the next, which its end starts, it is not idle");
	tap_ok(nothing_left(), "no descriptor is left, and no process");
}

static void test_late_is_left(void)
{
	struct work *work = make();
	int other;

	watch_idle();
	add_slow(work, &other);
	need(!workers_start_within(&workers, work, 1));
	for (int n = 0; n < 30000 && !seen.n_late; n += 10) {
		turn();
		poll(NULL, 0, 10);
	}
	tap_ok(seen.n_late == 1 && !workers.busy && n_idle == 1 && late_when_idle == 1,
	       "a late worker is not waited for, and late() comes before idle()");
	workers_enter(&workers);
	drain(other);
	tap_ok(is_done_in(30000) && workers.busy == 1 && n_idle == 1,
	       "and is not counted a second time when it comes back");
	workers_leave(&workers);
	tap_ok(!workers.busy && n_idle == 2, "so what began meanwhile is waited for");
	close(other);
	tap_ok(nothing_left(), "no descriptor is left, and no process");
}

static void test_may_be_left(void)
{
	static struct work_ops looking;
	struct work *work;
	int other;

	looking = ops;
	looking.may_be_left = true;
	work = work_new(&looking, &seen);
	need(work);
	memset(&seen, 0, sizeof(seen));
	watch_idle();
	add_slow(work, &other);
	need(!workers_start_within(&workers, work, 1));
	tap_ok(!workers.busy, "a worker that only looks is not waited for");
	for (int n = 0; n < 30000 && !seen.n_late; n += 10) {
		turn();
		poll(NULL, 0, 10);
	}
	tap_ok(seen.n_late == 1 && !workers.busy && !n_idle, "it is not counted when it is late");
	drain(other);
	tap_ok(is_done_in(30000) && !workers.busy && !n_idle, "nor when it comes back");
	close(other);
	tap_ok(nothing_left(), "no descriptor is left, and no process");
	workers.idle = NULL;
}

int main(void)
{
	struct rlimit limit;

	alarm(300);
	signal(SIGPIPE, SIG_IGN);
	signal(SIGCHLD, SIG_IGN); /* as the daemon does */
	need(!prctl(PR_SET_NO_NEW_PRIVS, 1, 0, 0, 0));
	need(!filter_new(CONFINE_WORKER, &filter));
	base = event_base_new();
	need(base);
	workers = (struct workers){ .base = base, .filter = filter };
	scratch_make();
	need(!getrlimit(RLIMIT_NOFILE, &limit));
	fds_at_start = open_descriptors();

	test_writes_and_reads();
	test_failures();
	test_short_write();
	test_too_long();
	test_table();
	test_await();
	test_flood();
	test_expect();
	test_shown();
	test_open();
	test_late();
	test_killed();
	/*
	 * Descriptors from WORK_DESCRIPTORS on belong to peers, see worker.h: numbers below and
	 * above.
	 */
	test_keeps(0);
	test_keeps(100);
	test_keeps(WORK_DESCRIPTORS);
	test_keeps(limit.rlim_cur > WORK_DESCRIPTORS + 300 ? WORK_DESCRIPTORS + 288 : 200);
	test_many();
	test_no_room();
	test_enter_and_leave();
	test_worker_is_busy();
	test_one_after_another();
	test_late_is_left();
	test_may_be_left();

	event_base_free(base);
	filter_free(filter);
	return tap_done();
}
