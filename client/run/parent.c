/* SPDX-License-Identifier: MIT */
/*
 * The process that was started as `gpubroker run` and waits for its command, see parent.h. To
 * whoever started it, it is the command: it stops, goes on and ends as the command does.
 *
 * It is in the command's process group, so it leaves the terminal and its signals to the kernel,
 * which sends them to both. It must never touch the terminal, never hold a descriptor that the
 * command's end should close, and never end before the command, unless it is killed: the supervisor
 * then kills the command, since that is whom the kill was meant for.
 */
#include "config.h"

#include "client/run/parent.h"
#include "client/run/packet.h"
#include "client/common/util.h"

#include <errno.h>
#include <fcntl.h>
#include <limits.h>
#include <poll.h>
#include <signal.h>
#include <stdbool.h>
#include <stdint.h>
#include <sys/prctl.h>
#include <sys/resource.h>
#include <sys/signalfd.h>
#include <sys/syscall.h>
#include <sys/wait.h>
#include <unistd.h>

struct parent {
	int socket;	  /* -1: the supervisor tells nothing more */
	int signals;	  /* a signalfd of all signals */
	int pidfd;	  /* the command's */
	pid_t supervisor; /* -1: it has ended, with supervisor_status */
	int supervisor_status;
	pid_t command; /* -1: not known yet */
};

/* Ends as the command did: by the same signal, without a second core file. */
_Noreturn static void end_as(int status)
{
	const struct rlimit none = { 0, 0 };
	sigset_t set;
	int sig;

	if (!WIFSIGNALED(status))
		_exit(WEXITSTATUS(status));
	sig = WTERMSIG(status);
	setrlimit(RLIMIT_CORE, &none);
	prctl(PR_SET_DUMPABLE, 0); /* a core_pattern that is a pipe ignores the limit */
	signal(sig, SIG_DFL);
	sigemptyset(&set);
	sigaddset(&set, sig);
	kill(getpid(), sig);
	sigprocmask(SIG_UNBLOCK, &set, NULL);
	_exit(128 + sig); /* no signal ends the first process of a namespace */
}

/*
 * A terminal sends these to the whole process group: the command has had them from the kernel. Its
 * hang-up goes to the leader of the session alone.
 */
static bool is_of_terminal(const struct signalfd_siginfo *info)
{
	if (info->ssi_code != SI_KERNEL)
		return false;
	switch (info->ssi_signo) {
	case SIGINT:
	case SIGQUIT:
	case SIGTSTP:
	case SIGTTIN:
	case SIGTTOU:
	case SIGWINCH:
		return true;
	case SIGHUP:
	case SIGCONT:
		return getsid(0) != getpid();
	default:
		return false;
	}
}

/*
 * Nothing tells a signal to us from one to our process group, which the command has had already: it
 * then gets two, of which the kernel makes one if the first is pending still. sudo does likewise,
 * but also drops those of its own process group, as a script without job control sends them.
 */
static void pass_signal(const struct parent *p, const struct signalfd_siginfo *info)
{
	siginfo_t queued = { .si_signo = (int)info->ssi_signo, .si_code = SI_QUEUE };
	const bool of_user = info->ssi_code == SI_USER || info->ssi_code == SI_QUEUE ||
			     info->ssi_code == SI_TKILL;
	const pid_t sender = of_user ? (pid_t)info->ssi_pid : 0;

	if (is_of_terminal(info) ||
	    (sender > 0 && (sender == p->supervisor || sender == p->command)))
		return;
	queued.si_pid = (pid_t)info->ssi_pid;
	queued.si_uid = info->ssi_uid;
	queued.si_value.sival_ptr = (void *)(uintptr_t)info->ssi_ptr;
	syscall(SYS_pidfd_send_signal, p->pidfd, (int)info->ssi_signo,
		info->ssi_code == SI_QUEUE ? &queued : NULL, 0);
}

/*
 * Usually the supervisor alone. If that was killed, the command is our child, since we are the
 * nearest subreaper, and so is what it leaves behind until we end.
 */
static void take_children(struct parent *p)
{
	int status;
	pid_t pid;

	while ((pid = waitpid(-1, &status, WNOHANG | WUNTRACED | __WALL)) > 0) {
		if (pid == p->command && WIFSTOPPED(status)) {
			raise(SIGSTOP);
		} else if (pid == p->command) {
			end_as(status);
		} else if (pid == p->supervisor && !WIFSTOPPED(status)) {
			p->supervisor = -1;
			p->supervisor_status = status;
		}
	}
}

/* A status that the supervisor sent before it was killed is read first, and then counts. */
static void end_if_alone(const struct parent *p)
{
	siginfo_t info;

	if (p->supervisor >= 0 || p->socket >= 0)
		return;
	if (p->command < 0 ||
	    (waitid(P_PID, (id_t)p->command, &info, WEXITED | WNOHANG | WNOWAIT | __WALL) < 0 &&
	     errno == ECHILD))
		end_as(p->supervisor_status);
}

static void take_pending(struct parent *p)
{
	struct signalfd_siginfo info;

	while (read(p->signals, &info, sizeof(info)) == (ssize_t)sizeof(info))
		if (info.ssi_signo == SIGCHLD)
			take_children(p);
		else if (p->pidfd >= 0)
			pass_signal(p, &info);
}

static void take_packet(struct parent *p)
{
	int status;

	if (!packet_receive(p->socket, &status, sizeof(status), NULL))
		end_as(status);
	p->socket = fd_close(p->socket);
}

/* Closes all but three descriptors, also where stdin, stdout and stderr were: nothing uses them. */
static void close_others(struct parent *p)
{
	int *const kept[] = { &p->socket, &p->signals, &p->pidfd };
	const int first = STDERR_FILENO + 1, end = first + (int)ARRAY_SIZE(kept);

	/* First out of the way of each other, then to fixed places. */
	for (size_t i = 0; i < ARRAY_SIZE(kept); i++)
		if (*kept[i] >= 0) {
			const int moved = fcntl(*kept[i], F_DUPFD_CLOEXEC, end);

			if (moved < 0)
				return; /* rather with too many than without one */
			*kept[i] = moved;
		}
	for (size_t i = 0; i < ARRAY_SIZE(kept); i++)
		if (*kept[i] >= 0)
			*kept[i] = dup3(*kept[i], first + (int)i, O_CLOEXEC);
	close_range(STDIN_FILENO, STDERR_FILENO, 0);
	close_range((unsigned)end, UINT_MAX, 0);
}

_Noreturn void parent_wait(int socket, pid_t supervisor)
{
	struct parent p = {
		.socket = socket,
		.pidfd = -1,
		.supervisor = supervisor,
		.command = -1,
	};
	sigset_t all;

	prctl(PR_SET_CHILD_SUBREAPER, 1, 0, 0, 0);
	sigfillset(&all);
	p.signals = signalfd(-1, &all, SFD_CLOEXEC | SFD_NONBLOCK);
	if (packet_receive(p.socket, &p.command, sizeof(p.command), &p.pidfd) < 0)
		p.command = -1;
	close_others(&p);
	for (;;) {
		struct pollfd fds[] = {
			{ .fd = p.socket, .events = POLLIN },
			{ .fd = p.signals, .events = POLLIN },
		};

		end_if_alone(&p);
		if (poll(fds, ARRAY_SIZE(fds), -1) < 0)
			continue;
		if (fds[0].revents)
			take_packet(&p);
		if (fds[1].revents)
			take_pending(&p);
	}
}
