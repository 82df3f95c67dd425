/* SPDX-License-Identifier: MIT */
/*
 * Executes one hook, see execute.h. The hook is the administrator's, so it has all rights; but it
 * gets a clean start: no descriptor of ours, a fixed environment, its output in the journal under
 * its own name, a session and a control group of its own. All that it has started ends with it.
 *
 * It must never wait for longer than the limit and the seconds that ending takes, and never for
 * anybody who has a hook's output open.
 */
#include "config.h"

#include "brokerd/hooks/execute.h"
#include "brokerd/hooks/cgroup.h"
#include "client/common/util.h"

#include <errno.h>
#include <fcntl.h>
#include <poll.h>
#include <signal.h>
#include <stdio.h>
#include <string.h>
#include <sys/socket.h>
#include <sys/stat.h>
#include <sys/syscall.h>
#include <sys/un.h>
#include <sys/wait.h>
#include <time.h>

#define TERM_MS 3000 /* that a hook has between SIGTERM and SIGKILL */
#define KILL_MS 2000 /* within which the kernel has ended it */

uint64_t execute_now(void)
{
	struct timespec now;

	clock_gettime(CLOCK_MONOTONIC, &now);
	return (uint64_t)now.tv_sec * 1000 + (uint64_t)now.tv_nsec / 1000000;
}

/* ---- in the hook's process ---- */

/*
 * Opens a stream to the journal, as systemd does for a unit's output; its first lines say under
 * which name and for which unit. Returns a descriptor, or -1 without a journal.
 */
static int open_journal(const char *name)
{
	static const struct sockaddr_un address = { AF_UNIX, "/run/systemd/journal/stdout" };
	cleanup_fd int fd = socket(AF_UNIX, SOCK_STREAM | SOCK_CLOEXEC, 0);
	char text[160];
	int n;

	if (fd < 0 || connect(fd, (const struct sockaddr *)&address, sizeof(address)))
		return -1;
	n = snprintf(text, sizeof(text), "hooks.d/%s\ngpubroker-hooks.service\n6\n1\n0\n0\n0\n",
		     name);
	return n > 0 && send(fd, text, (size_t)n, MSG_NOSIGNAL) == n ? TAKE_FD(fd) : -1;
}

static void reset_signals(void)
{
	sigset_t none;

	for (int i = 1; i < NSIG; i++)
		signal(i, SIG_DFL);
	sigemptyset(&none);
	sigprocmask(SIG_SETMASK, &none, NULL);
}

/* Only a runner that systemd has started has a journal to write to. */
static bool has_journal(void)
{
	return getenv("JOURNAL_STREAM");
}

static void __attribute__((noreturn)) become_hook(const struct execution *execution, int report)
{
	char path[512];
	int input, output = -1, error;
	ssize_t ignored;

	reset_signals();
	setsid();
	cgroup_enter(execution->cgroup);
	input = open("/dev/null", O_RDONLY);
	if (has_journal())
		output = open_journal(execution->name);
	if (input >= 0)
		dup2(input, STDIN_FILENO);
	dup2(output >= 0 ? output : STDERR_FILENO, STDOUT_FILENO);
	if (output >= 0)
		dup2(output, STDERR_FILENO);
	syscall(SYS_close_range, 3, ~0U, CLOSE_RANGE_CLOEXEC);
	umask(022);
	if (!chdir("/") && snprintf(path, sizeof(path), "%s/%s", execution->directory,
				    execution->name) < (int)sizeof(path))
		execve(path, execution->arguments, execution->environment);
	error = errno;
	ignored = write(report, &error, sizeof(error));
	(void)ignored;
	_exit(127);
}

/* ---- in the process of its event ---- */

/* Waits for the end of a process. Returns true if it has ended. */
static bool hook_ends_until(int pidfd, uint64_t until)
{
	struct pollfd end = { .fd = pidfd, .events = POLLIN };

	for (;;) {
		const uint64_t now = execute_now();
		int n = poll(&end, 1, until > now ? (int)(until - now) : 0);

		if (n > 0)
			return true;
		if (n == 0 || errno != EINTR)
			return false;
	}
}

/* Reads why the hook could not be executed. Returns an errno; 0: it runs. */
static int why_not_executed(int report, uint64_t until)
{
	struct pollfd readable = { .fd = report, .events = POLLIN };
	const uint64_t now = execute_now();
	int error = 0;

	if (poll(&readable, 1, until > now ? (int)(until - now) : 0) <= 0)
		return 0; /* it has not come so far */
	return read(report, &error, sizeof(error)) == sizeof(error) ? error : 0;
}

static enum hook_result result_of(int status, uint32_t *ret_value)
{
	if (WIFSIGNALED(status)) {
		*ret_value = (uint32_t)WTERMSIG(status);
		return HOOK_KILLED;
	}
	*ret_value = (uint32_t)WEXITSTATUS(status);
	return *ret_value ? HOOK_EXITED : HOOK_DONE;
}

/* Signals the hook's process group; and the hook, which may not lead one yet. */
static void signal_hook(pid_t pid, int number)
{
	kill(-pid, number);
	kill(pid, number);
}

/* Waits until the hook has ended, or ends it. */
static enum hook_result await(const struct execution *execution, pid_t pid, int pidfd, int report,
			      uint32_t *ret_value)
{
	const int error = why_not_executed(report, execution->until);
	const bool in_time = hook_ends_until(pidfd, execution->until);
	int status = 0;

	if (!in_time) {
		signal_hook(pid, SIGTERM);
		hook_ends_until(pidfd, execute_now() + TERM_MS);
	}
	/* Ends the hook, and all that it has left behind. */
	signal_hook(pid, SIGKILL);
	cgroup_kill(execution->cgroup);
	hook_ends_until(pidfd, execute_now() + KILL_MS);
	/* One that waits in the kernel for good is left to init. */
	if (waitpid(pid, &status, WNOHANG) != pid || !in_time)
		return HOOK_LATE;
	if (error) {
		*ret_value = (uint32_t)error;
		return HOOK_NOT_EXECUTED;
	}
	return result_of(status, ret_value);
}

enum hook_result execute_hook(const struct execution *execution, uint32_t *ret_value)
{
	cleanup_fd int report = -1, theirs = -1, pidfd = -1;
	enum hook_result result;
	int ends[2];
	pid_t pid;

	*ret_value = 0;
	if (execute_now() >= execution->until)
		return HOOK_LATE;
	if (pipe2(ends, O_CLOEXEC)) {
		*ret_value = (uint32_t)errno;
		return HOOK_NOT_EXECUTED;
	}
	report = ends[0];
	theirs = ends[1];
	pid = fork();
	if (!pid)
		become_hook(execution, theirs);
	if (pid < 0) {
		*ret_value = (uint32_t)errno;
		return HOOK_NOT_EXECUTED;
	}
	*execution->hook = pid;
	theirs = fd_close(theirs);
	pidfd = (int)syscall(SYS_pidfd_open, pid, 0);
	result = await(execution, pid, pidfd, report, ret_value);
	*execution->hook = 0;
	return result;
}
