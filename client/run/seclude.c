/* SPDX-License-Identifier: MIT */
/*
 * How the supervisor gets out of the way of its command's terminal and session, see seclude.h. It
 * must keep no descriptor that it does not need, since each may keep a pipe or a device of the
 * command's open.
 */
#include "config.h"

#include "client/run/seclude.h"
#include "client/common/util.h"

#include <errno.h>
#include <fcntl.h>
#include <limits.h>
#include <signal.h>
#include <sys/prctl.h>
#include <sys/stat.h>
#include <sys/syscall.h>
#include <unistd.h>

/*
 * The signals of a terminal, a session's end or a careless kill must not take the opens away from a
 * command that goes on. Ignored, not blocked: blocked signals would queue up, and ignored ones
 * never interrupt an ioctl. The faults keep their default: a bug should be seen.
 */
static void ignore_signals(const struct supervisor *s)
{
	sigset_t blocked;

	for (int sig = 1; sig <= SIGRTMAX; sig++)
		switch (sig) {
		case SIGSEGV:
		case SIGBUS:
		case SIGILL:
		case SIGFPE:
		case SIGABRT:
		case SIGTRAP:
		case SIGSYS:
			signal(sig, SIG_DFL);
			break;
		default:
			/* Fails for KILL, STOP and libc's own two: as it should. */
			signal(sig, SIG_IGN);
		}
	sigemptyset(&blocked);
	if (s->children >= 0) {
		signal(SIGCHLD, SIG_DFL); /* ignored, no child would leave a status */
		sigaddset(&blocked, SIGCHLD);
	}
	sigprocmask(SIG_SETMASK, &blocked, NULL);
}

/* Moves fd away if it is where stdin, stdout or stderr belong. */
static int move_up(int *fd)
{
	int moved;

	if (*fd > STDERR_FILENO)
		return 0;
	moved = fcntl(*fd, F_DUPFD_CLOEXEC, STDERR_FILENO + 1);
	if (moved < 0)
		return -errno;
	*fd = moved;
	return 0;
}

/* Likewise those of the supervisor itself. */
static int move_own_up(struct supervisor *s, int *socket)
{
	int r = move_up(socket);

	if (!r && s->parent >= 0)
		r = move_up(&s->parent);
	if (!r && s->children >= 0)
		r = move_up(&s->children);
	return r;
}

/* The smallest descriptor of ours that is not below `from`, or UINT_MAX. */
static unsigned int next_kept(const struct supervisor *s, int socket, unsigned int from)
{
	unsigned int next = UINT_MAX;

	const int others[] = { socket, s->command, s->parent, s->children,
			       s->notices ? s->notices->fd(s->notices->userdata) : -1 };

	for (size_t i = 0; i < s->n_lent + ARRAY_SIZE(others); i++) {
		int fd = i < s->n_lent ? s->lent[i].file.fd : others[i - s->n_lent];

		if ((unsigned int)fd >= from && (unsigned int)fd < next)
			next = (unsigned int)fd;
	}
	return next;
}

/*
 * Opens a terminal or pipe anew for stderr, so that our writes to it never wait: O_NONBLOCK on what
 * we share would be the command's, too. The kernel does not allow that for another user's terminal,
 * as below `su`; then say() looks whether there is room, and there may be less than it writes.
 */
static void unblock_stderr(void)
{
	cleanup_fd int fd = -1;
	struct stat st;

	if (fstat(STDERR_FILENO, &st) || (!S_ISFIFO(st.st_mode) && !isatty(STDERR_FILENO)))
		return;
	fd = open("/proc/self/fd/2", O_WRONLY | O_NONBLOCK | O_NOCTTY | O_CLOEXEC);
	if (fd >= 0)
		dup2(fd, STDERR_FILENO);
}

/*
 * Not PR_SET_DUMPABLE 0: a process of the same user could then not take the lent descriptors from
 * us with pidfd_getfd(), but it may claim them itself, and the user's own lsof should show who
 * holds a group.
 */
int seclude_supervisor(struct supervisor *s, int *socket, pid_t command, const char **ret_what)
{
	int r;

	ignore_signals(s);
	prctl(PR_SET_NAME, "gpubroker-lend");

	*ret_what = "arrange the supervisor's descriptors";
	s->has_stderr = *socket != STDERR_FILENO && s->parent != STDERR_FILENO &&
			s->children != STDERR_FILENO && fcntl(STDERR_FILENO, F_GETFD) >= 0;
	r = move_own_up(s, socket);
	for (size_t i = 0; !r && i < s->n_lent; i++) {
		s->has_stderr &= s->lent[i].file.fd != STDERR_FILENO;
		r = move_up(&s->lent[i].file.fd);
	}
	if (r < 0)
		return r;

	for (int fd = STDIN_FILENO; fd <= STDERR_FILENO; fd++) {
		cleanup_fd int null = -1;

		if (fd == STDERR_FILENO && s->has_stderr)
			break;
		/*
		 * Not O_RDWR, which a filter that is in force already would hand to its supervisor.
		 */
		null = open("/dev/null", (fd ? O_WRONLY : O_RDONLY) | O_CLOEXEC);
		if (null < 0 || (null != fd && dup2(null, fd) < 0))
			return -errno;
		if (null == fd)
			null = -1;
	}

	if (s->has_stderr)
		unblock_stderr();

	/* The command's process, not a number that another one may get later. */
	s->pid = command;
	s->command = (int)syscall(SYS_pidfd_open, command, 0);
	if (s->command < 0) {
		*ret_what = "watch the command's process";
		return -errno;
	}

	for (unsigned int from = STDERR_FILENO + 1, next;; from = next + 1) {
		next = next_kept(s, *socket, from);
		if (next > from && close_range(from, next - (next != UINT_MAX), 0) < 0)
			return -errno;
		if (next == UINT_MAX)
			break;
	}

	if (chdir("/") < 0) {
		*ret_what = "change to the root directory";
		return -errno;
	}
	return 0;
}
