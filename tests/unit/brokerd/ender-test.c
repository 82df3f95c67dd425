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
#include <signal.h>
#include <string.h>
#include <sys/stat.h>
#include <sys/sysmacros.h>
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

/* Returns how often this process is found by a node's number. */
static unsigned found(uint32_t major, uint32_t minor)
{
	static struct opened_nodes nodes;
	int proc = open("/proc", OPENED_FLAGS);
	unsigned n = 0;

	if (proc < 0)
		return 0;
	opened_nodes_clear(&nodes);
	opened_nodes_add_number(&nodes, major, minor);
	opened_look_at(proc, (uint32_t)getpid(), &nodes, count, &n);
	close(proc);
	return n;
}

static void test_look(void)
{
	int fd = open("/dev/full", O_RDONLY | O_CLOEXEC);
	struct stat st;

	need(fd >= 0 && !fstat(fd, &st));
	tap_ok(found(major(st.st_rdev), minor(st.st_rdev)) == 1, "who has a node open is found");
	close(fd);
	tap_ok(!found(major(st.st_rdev), minor(st.st_rdev)), "... and not when it is closed");
}

int main(void)
{
	test_orders();
	test_answers();
	test_look();
	return tap_done();
}
