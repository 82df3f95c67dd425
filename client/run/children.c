/* SPDX-License-Identifier: MIT */
/*
 * The supervisor as a parent, see children.h: it reaps, and tells the process that waits (parent.c)
 * how the command stops, goes on and ends.
 *
 * It stays the ancestor of whatever the command starts, also of what a daemon forks twice, since it
 * is a subreaper: Yama goes by the chain of real parents. It must never wait for a process that is
 * not about to end, and must never signal a process by a number that may be another's by now.
 */
#include "config.h"

#include "client/run/children.h"
#include "client/run/packet.h"
#include "client/common/util.h"

#include <errno.h>
#include <signal.h>
#include <sys/prctl.h>
#include <sys/signalfd.h>
#include <sys/syscall.h>
#include <sys/wait.h>
#include <unistd.h>

int children_begin(struct supervisor *s, int parent, pid_t parent_pid)
{
	sigset_t set;

	s->parent = parent;
	s->parent_pid = parent_pid;
	sigemptyset(&set);
	sigaddset(&set, SIGCHLD);
	s->children = signalfd(-1, &set, SFD_CLOEXEC | SFD_NONBLOCK);
	if (s->children < 0 || prctl(PR_SET_CHILD_SUBREAPER, 1, 0, 0, 0) < 0)
		return -errno;
	return 0;
}

void children_leave(struct supervisor *s)
{
	s->children = fd_close(s->children);
	s->parent = fd_close(s->parent);
}

/* Our parent's number is its own as long as it is our parent. */
static void signal_parent(const struct supervisor *s, int sig)
{
	if (getppid() == s->parent_pid)
		kill(s->parent_pid, sig);
}

/*
 * Stops and continues the parent by signals rather than packets: of a stop and a continue, the
 * kernel makes the later one win, also before the parent has run.
 */
static void pass_on(struct supervisor *s, int status)
{
	if (s->parent < 0)
		return;
	if (WIFSTOPPED(status)) {
		signal_parent(s, SIGSTOP);
	} else if (WIFCONTINUED(status)) {
		signal_parent(s, SIGCONT);
	} else {
		packet_send(s->parent, &status, sizeof(status), -1);
		s->parent = fd_close(s->parent);
	}
}

void children_take(struct supervisor *s)
{
	struct signalfd_siginfo info;
	int status;
	pid_t pid;

	while (read(s->children, &info, sizeof(info)) > 0)
		;
	while ((pid = waitpid(-1, &status, WNOHANG | WUNTRACED | WCONTINUED | __WALL)) > 0)
		if (pid == s->pid)
			pass_on(s, status);
}

/* A task lets go of its filter while it exits, so this waits for the rest of that at most. */
void children_finish(struct supervisor *s)
{
	int status;

	while (s->parent >= 0) {
		pid_t pid = waitpid(s->pid, &status, __WALL);

		if (pid == s->pid)
			pass_on(s, status);
		else if (errno != EINTR)
			s->parent = fd_close(s->parent);
	}
}

void children_unparented(struct supervisor *s)
{
	if (s->command >= 0)
		syscall(SYS_pidfd_send_signal, s->command, SIGKILL, NULL, 0);
	s->parent = fd_close(s->parent);
}
