/* SPDX-License-Identifier: MIT */
/*
 * The ender, see ender.h. It takes orders of one exact size, finds the processes that have one of
 * the order's nodes open, and sends them a signal. It finds them itself: the core names nodes and
 * uids, never a process.
 *
 * CAP_KILL would let it end every process of the host. So it signals by a pidfd, after it has seen
 * again that the process has the node open and is the user's, and never root's, its own account's
 * or process 1: not even if another user has the device, to whom the holder may have passed it.
 * Nodes that are not VFIO's it does not look for. Like the finder, it can open directories only. It
 * must never wait for a process.
 */
#include "config.h"

#include "brokerd/helper/ender.h"
#include "brokerd/helper/helper.h"
#include "brokerd/process/filter.h"
#include "brokerd/state/ender.h"
#include "client/common/util.h"
#include "client/host/opened.h"
#include "client/wire/passfd.h"

#include <errno.h>
#include <fcntl.h>
#include <inttypes.h>
#include <poll.h>
#include <signal.h>
#include <string.h>
#include <sys/syscall.h>
#include <sysexits.h>
#include <unistd.h>

#define LOOK_LIMIT_MS 800 /* of one look at all processes */
/*
 * A process that forks as fast as it can may leave a child behind a look. The child's number is
 * likely to come up in the same look; else another one finds it.
 */
#define LOOKS_AN_ORDER 3
#define SEEN_MAX 64 /* processes that are remembered during an order */

struct ender {
	int core;
	int sys, proc;
	uint32_t own; /* its account */
	struct ender_order order;
	struct ender_answer answer;
	struct opened_nodes nodes;
	uint32_t looks, ended_in_look;
	/* what is checked again before the signal */
	uint32_t asked_pid;
	bool has_it;
	size_t n_supervisors;
	uint32_t supervisors[SEEN_MAX];
	/* a look may report a process twice, and a second SIGTERM may mean another thing */
	size_t n_signalled;
	uint32_t signalled[SEEN_MAX];
};

/* One for the process: it is too large for a stack, and the heap may not grow. */
static struct ender ender;

_Static_assert(ENDER_TEXT == OPENED_TEXT, "texts are copied");

static bool is_ordered(const struct ender *e, uint32_t uid)
{
	if (!uid || uid == e->own)
		return false;
	for (uint32_t i = 0; i < e->order.n_ranges; i++)
		if (uid >= e->order.uids[i].first && uid <= e->order.uids[i].last)
			return true;
	return false;
}

static bool may_end(const struct ender *e, const struct opened_holder *holder)
{
	return holder->pid > 1 && is_ordered(e, holder->uid);
}

static bool looks_at_threads(uint32_t uid)
{
	return is_ordered(&ender, uid);
}

static void note_first(struct ender *e, const struct opened_holder *holder)
{
	if (e->answer.pid)
		return;
	e->answer.pid = holder->pid;
	e->answer.uid = holder->uid;
	memcpy(e->answer.program, holder->program, sizeof(e->answer.program));
}

static void on_still_open(void *userdata, const struct opened_holder *holder)
{
	struct ender *e = userdata;

	e->has_it = e->has_it || (holder->pid == e->asked_pid && may_end(e, holder));
}

/*
 * Sends the signal. The pidfd is opened first, and then it is looked again: if the number is
 * another process' meanwhile, either the pidfd is of the one that has ended, or that other one has
 * the node open and is the user's too.
 */
static bool end_process(struct ender *e, uint32_t pid)
{
	cleanup_fd int fd = (int)syscall(SYS_pidfd_open, (pid_t)pid, 0);

	if (fd < 0)
		return false;
	e->asked_pid = pid;
	e->has_it = false;
	opened_look_at(e->proc, pid, &e->nodes, on_still_open, e);
	return e->has_it && !syscall(SYS_pidfd_send_signal, fd, (int)e->order.signal, NULL, 0);
}

/*
 * The supervisor of `gpubroker run` answers the opens of the command's tree, which fail without it,
 * and ends with that tree. It ignores SIGTERM. So it is ended only by SIGKILL, and only if no other
 * process of the user has a node open, or if that has been ended in vain: any program may have this
 * name.
 */
static bool is_supervisor(const struct opened_holder *holder)
{
	return !strcmp(holder->program, "gpubroker");
}

static bool was_signalled(const struct ender *e, uint32_t pid)
{
	for (size_t i = 0; i < e->n_signalled; i++)
		if (e->signalled[i] == pid)
			return true;
	return false;
}

static void on_ender_holder(void *userdata, const struct opened_holder *holder)
{
	struct ender *e = userdata;

	if (!may_end(e, holder)) {
		if (e->looks == 1)
			e->answer.spared++;
		if (!e->answer.signalled)
			note_first(e, holder);
		return;
	}
	if (is_supervisor(holder)) {
		if (e->n_supervisors < SEEN_MAX)
			e->supervisors[e->n_supervisors++] = holder->pid;
		return;
	}
	if (e->order.signal == SIGTERM && was_signalled(e, holder->pid))
		return;
	if (!end_process(e, holder->pid))
		return;
	if (e->n_signalled < SEEN_MAX)
		e->signalled[e->n_signalled++] = holder->pid;
	if (!e->answer.signalled)
		e->answer.pid = 0; /* of one that was spared */
	note_first(e, holder);
	e->answer.signalled++;
	e->ended_in_look++;
}

static void end_supervisors(struct ender *e)
{
	struct opened_holder holder = { .program = "gpubroker" };

	if (e->order.signal != SIGKILL || (e->answer.signalled && !e->order.supervisors))
		return;
	for (size_t i = 0; i < e->n_supervisors; i++) {
		if (!end_process(e, e->supervisors[i]))
			continue;
		holder.pid = e->supervisors[i];
		if (!e->answer.signalled++)
			e->answer.pid = 0;
		note_first(e, &holder);
	}
}

/*
 * Returns true if the kernel has a device of this number that is not VFIO's. A device's own node
 * that is being removed has no entry any more.
 */
static bool is_of_others(int sys, const struct ender_node *node)
{
	char path[48], target[256];
	ssize_t n;

	snprintf(path, sizeof(path), "dev/char/%" PRIu32 ":%" PRIu32, node->major, node->minor);
	n = readlinkat(sys, path, target, sizeof(target) - 1);
	if (n < 0)
		return errno != ENOENT;
	target[n] = '\0';
	return !strstr(target, "/vfio/") && !strstr(target, "/vfio-dev/");
}

static int carry_out(struct ender *e)
{
	e->answer = (struct ender_answer){ .lease = e->order.lease };
	opened_nodes_clear(&e->nodes);
	e->nodes.looks_at_threads = looks_at_threads;
	for (uint32_t i = 0; i < e->order.n_nodes; i++)
		if (!is_of_others(e->sys, &e->order.nodes[i]))
			opened_nodes_add_number(&e->nodes, e->order.nodes[i].major,
						e->order.nodes[i].minor);
	e->looks = 0;
	e->n_signalled = 0;
	do {
		e->looks++;
		e->ended_in_look = 0;
		e->n_supervisors = 0;
		e->answer.incomplete = !opened_search(
			e->proc, &e->nodes, opened_now() + LOOK_LIMIT_MS, on_ender_holder, e);
	} while (e->order.signal == SIGKILL && e->ended_in_look && e->looks < LOOKS_AN_ORDER);
	end_supervisors(e);
	return helper_send(e->core, &e->answer, sizeof(e->answer));
}

static int end_loop(struct ender *e)
{
	struct pollfd core = { .fd = e->core, .events = POLLIN };
	int r = 0;

	while (!r) {
		ssize_t size;

		if (poll(&core, 1, -1) < 0) {
			if (errno != EINTR)
				return -errno;
			continue;
		}
		size = passfd_receive_plain(e->core, &e->order, sizeof(e->order));
		if (size == -EAGAIN)
			continue;
		if (size != sizeof(e->order))
			return -EPIPE; /* the core has ended */
		if (!ender_order_valid(&e->order))
			return -EPROTO;
		r = carry_out(e);
	}
	return r;
}

int ender_run(int socket, struct confine_filter *settled, const void *unused)
{
	int r;

	(void)unused;
	ender.core = socket;
	ender.own = getuid();
	ender.sys = open("/sys", OPENED_FLAGS);
	ender.proc = open("/proc", OPENED_FLAGS);
	if (ender.sys < 0 || ender.proc < 0)
		return EX_OSERR;
	r = filter_apply(settled);
	filter_free(settled);
	if (!r)
		r = end_loop(&ender);
	fd_close(ender.sys);
	fd_close(ender.proc);
	return r == -EPIPE || r == -ECONNRESET ? 0 : EX_SOFTWARE;
}
