/* SPDX-License-Identifier: MIT */
/*
 * Orders to the ender and its answers: those that either side must not take from the other, and what
 * it finds of this process' own descriptors.
 */
#include "config.h"

#include "brokerd/state/ender.h"
#include "client/host/opened.h"
#include "tests/scratch.h"
#include "tests/tap.h"

#include <fcntl.h>
#include <pthread.h>
#include <sched.h>
#include <signal.h>
#include <string.h>
#include <sys/socket.h>
#include <sys/stat.h>
#include <sys/syscall.h>
#include <sys/sysmacros.h>
#include <sys/wait.h>
#include <unistd.h>

static const struct ender_order good_order = {
	.lease = 7,
	.signal = SIGTERM,
	.n_nodes = 1,
	.n_ranges = 1,
	.nodes = { { 240, 0 } },
	.uids = { { 1000, 1000 } },
};

#define ORDER(name, change)                                                                        \
	do {                                                                                       \
		struct ender_order order = good_order;                                             \
		change;                                                                            \
		tap_ok(!ender_order_valid(&order), "no order: " name);                             \
	} while (0)

static void test_orders(void)
{
	tap_ok(ender_order_valid(&good_order), "an order");
	ORDER("of no lease", order.lease = 0);
	ORDER("to find out who is there", order.signal = 0);
	ORDER("to stop", order.signal = SIGSTOP);
	ORDER("for no node", order.n_nodes = 0);
	ORDER("for too many nodes", order.n_nodes = ENDER_NODES_MAX + 1);
	ORDER("for nobody", order.n_ranges = 0);
	ORDER("for too many ranges", order.n_ranges = ENDER_RANGES_MAX + 1);
	ORDER("for root", order.uids[0].first = order.uids[0].last = 0);
	ORDER("for root and all others", order.uids[0].first = 0);
	ORDER("for a range that ends before it begins", order.uids[0].last = 999);
	ORDER("with a third truth", order.supervisors = 2);
}

static const struct ender_answer good_answer = {
	.lease = 7,
	.signalled = 1,
	.pid = 4711,
	.uid = 1000,
	.program = "qemu-system-x86_64",
};

#define ANSWER(name, change)                                                                       \
	do {                                                                                       \
		struct ender_answer answer = good_answer;                                          \
		change;                                                                            \
		tap_ok(!ender_believe(&answer), "no answer: " name);                               \
	} while (0)

static void test_answers(void)
{
	const struct ender_answer nobody = { .lease = 7 };

	tap_ok(ender_believe(&good_answer) && ender_believe(&nobody), "answers");
	ANSWER("of no lease", answer.lease = 0);
	ANSWER("about nobody, who was signalled", answer.pid = 0);
	ANSWER("about somebody, but nobody was there", answer.signalled = 0);
	ANSWER("about a process that cannot be", answer.pid = UINT32_MAX);
	ANSWER("with a third truth", answer.incomplete = 2);
	ANSWER("with what is reserved", answer.reserved = 1);
	ANSWER("with a name without an end", memset(answer.program, 'x', sizeof(answer.program)));
	ANSWER("with a name that steers a terminal", answer.program[1] = '\x1b');
}

static void count(void *userdata, const struct opened_holder *holder)
{
	*(unsigned *)userdata += holder->pid == (uint32_t)getpid() && holder->uid == geteuid();
}

static bool is_own(uint32_t uid)
{
	return uid == geteuid();
}

/* Returns how often this process is found by a node's number. */
static unsigned found(uint32_t major, uint32_t minor, bool threads)
{
	static struct opened_nodes nodes;
	int proc = open("/proc", OPENED_FLAGS);
	unsigned n = 0;

	if (proc < 0)
		return 0;
	opened_nodes_clear(&nodes);
	opened_nodes_add_number(&nodes, major, minor);
	nodes.looks_at_threads = threads ? is_own : NULL;
	opened_look_at(proc, (uint32_t)getpid(), &nodes, count, &n);
	close(proc);
	return n;
}

static void test_look(void)
{
	int fd = open("/dev/full", O_RDONLY | O_CLOEXEC);
	struct stat st;

	need(fd >= 0 && !fstat(fd, &st));
	tap_ok(found(major(st.st_rdev), minor(st.st_rdev), false) == 1,
	       "who has a node open is found");
	close(fd);
	tap_ok(!found(major(st.st_rdev), minor(st.st_rdev), false),
	       "... and not when it is closed");
}

static int steps[2]; /* the thread has opened; the test has looked */

/* A thread with a table of descriptors of its own. */
static void *hide(void *unused)
{
	char c = 0;

	(void)unused;
	need(!unshare(CLONE_FILES) && open("/dev/full", O_RDONLY | O_CLOEXEC) >= 0);
	need(write(steps[1], &c, 1) == 1 && read(steps[0], &c, 1) == 0);
	return NULL;
}

static void test_threads(void)
{
	int back[2];
	pthread_t thread;
	struct stat st;
	char c;

	need(!stat("/dev/full", &st) && !socketpair(AF_UNIX, SOCK_STREAM, 0, back));
	steps[0] = steps[1] = back[1];
	need(!pthread_create(&thread, NULL, hide, NULL) && read(back[0], &c, 1) == 1);
	tap_ok(found(major(st.st_rdev), minor(st.st_rdev), true) == 1,
	       "a thread cannot hide it in descriptors of its own");
	tap_ok(!found(major(st.st_rdev), minor(st.st_rdev), false),
	       "... from what looks at threads");
	need(!shutdown(back[0], SHUT_WR) && !pthread_join(thread, NULL));
	close(back[0]);
	close(back[1]);
}

static void count_any(void *userdata, const struct opened_holder *holder)
{
	*(unsigned *)userdata += holder->uid == geteuid();
}

/* Returns true if the first thread has ended, and with it what it has open. */
static bool is_zombie(int proc, pid_t pid)
{
	char path[32];
	struct stat st;

	snprintf(path, sizeof(path), "%d/fd/0", (int)pid);
	return fstatat(proc, path, &st, AT_SYMLINK_NOFOLLOW);
}

/* A process whose first thread has ended has its descriptors nevertheless. */
static void *stay(void *ready)
{
	char c = 0;

	need(write(*(int *)ready, &c, 1) == 1);
	for (;;)
		pause();
}

static void test_first_thread(void)
{
	static struct opened_nodes nodes;
	int proc = open("/proc", OPENED_FLAGS), ready[2];
	struct stat st;
	pthread_t thread;
	unsigned n = 0;
	pid_t pid;
	char c;

	need(proc >= 0 && !stat("/dev/full", &st) && !pipe(ready));
	pid = fork();
	if (!pid) {
		need(open("/dev/full", O_RDONLY | O_CLOEXEC) >= 0);
		need(!pthread_create(&thread, NULL, stay, &ready[1]));
		syscall(SYS_exit, 0);
	}
	need(pid > 0 && read(ready[0], &c, 1) == 1);
	opened_nodes_clear(&nodes);
	opened_nodes_add_number(&nodes, major(st.st_rdev), minor(st.st_rdev));
	nodes.looks_at_threads = is_own;
	/* Both threads are found until the first has ended. */
	for (unsigned i = 0; i < 1000 && !is_zombie(proc, pid); i++)
		usleep(10000);
	opened_look_at(proc, (uint32_t)pid, &nodes, count_any, &n);
	tap_ok(n == 1, "a process whose first thread has ended is found");
	kill(pid, SIGKILL);
	waitpid(pid, NULL, 0);
	close(proc);
	close(ready[0]);
	close(ready[1]);
}

int main(void)
{
	test_orders();
	test_answers();
	test_look();
	test_threads();
	test_first_thread();
	return tap_done();
}
