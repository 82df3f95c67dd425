/* SPDX-License-Identifier: MIT */
/*
 * breaker --state DIR COMMAND...: runs the daemon under ptrace and breaks it where it is told: kills
 * the core at its N-th system call, or lets that call fail without being made.
 *
 * Owns the daemon's process, its READY=1 and the count of its calls. It must never know which calls
 * the daemon makes, nor in which order: a point is a number, and what came of it is for the case to
 * see. And it must never let a call be changed that it does not report.
 *
 * It is told by lines on stdin, and answers each with one line:
 *
 *	start [PLAN]	runs COMMAND: "ready PID" on READY=1, else "gone HOW"
 *	seize PLAN	the running core, from now on: "seized PID"
 *	done		what came of the plan, once the core is idle or gone; tracing ends:
 *			"passed N", "killed N WHERE orphans M", "failed N WHERE", and before it, where
 *			the plan was to list, a line "call N WHERE" for each
 *	state		"alive PID" or "gone HOW"
 *	stop, kill	SIGTERM, SIGKILL: "gone HOW"; "hung" after ten seconds. What the daemon has had
 *			kept is passed to the next one, but not after a stop
 *
 * HOW is "exit N" or "signal N". WHERE is "core openat2 open PATH": process, call, class, object.
 * PLAN is one of
 *
 *	list			only counts
 *	kill N entry|exit	kills the core when it or a worker comes to (is through with) call N
 *	fail CLASS N HOW	CLASS' call N ends with HOW, which is an errno's name or number, or
 *				"short": half of a record is written; a sysfs file gets all, and the
 *				worker is told of half. Then only writes count
 *
 * CLASS is sysfs (a write there), open (outside of the state directory), record (whatever changes
 * the state directory), read (in sysfs and of records), send, other, or any. Under `start` a plan counts from the moment at which
 * the core is confined, since before it has read no record; workers are processes that it forks
 * from then on.
 *
 * "orphans" are writes to sysfs that a worker began when its core was dead.
 */
#include <elf.h>
#include <errno.h>
#include <fcntl.h>
#include <poll.h>
#include <sched.h>
#include <signal.h>
#include <stdarg.h>
#include <stdbool.h>
#include <stdint.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/prctl.h>
#include <sys/ptrace.h>
#include <linux/ptrace.h>
#include <linux/seccomp.h>
#include <sys/socket.h>
#include <sys/syscall.h>
#include <sys/uio.h>
#include <sys/un.h>
#include <sys/user.h>
#include <sys/wait.h>
#include <time.h>
#include <unistd.h>

/* Calls that a younger architecture never had, by numbers that no call has. */
#ifndef SYS_open
#define SYS_access 0x10000
#define SYS_epoll_wait 0x10001
#define SYS_open 0x10002
#define SYS_poll 0x10003
#define SYS_readlink 0x10004
#define SYS_rename 0x10005
#define SYS_unlink 0x10006
#endif

#define TRACEES_MAX 64
/* Far more than it takes: a machine may be ten times as busy, and what hangs hangs for ever. */
#define READY_SECONDS 90
#define IDLE_SECONDS 90
#define GONE_SECONDS 60
#define QUIET_MS 60 /* in its loop for so long, without a worker: idle */

enum kind {
	OTHER,
	SYSFS,
	OPEN,
	RECORD,
	SEND,
	READ,
	ANY, /* only asked for */
};
static const char *const kind_names[] = {
	"other", "sysfs", "open", "record", "send", "read", "any"
};

enum plan {
	NOTHING,
	LIST,
	KILL,
	FAIL,
};

struct tracee {
	pid_t pid;
	bool known; /* its fork was seen, or it is the core */
	bool in_call;
	bool hit; /* the call it is in is the one */
	uint64_t call;
	uint64_t args[6];
};

static struct tracee tracees[TRACEES_MAX];
static const char *state_dir = "/run/gpubroker/leases";
static char **command;
static int notify_fd;
static char notify_name[64];

static pid_t core; /* 0: none was started */
static bool core_gone, ready;
static int core_status;
static uint64_t last_event; /* of any tracee, in ms */

static enum plan plan;
static enum kind wanted;
static unsigned long at, seen, orphans;
static bool at_exit, done, short_write, counting;
static int error;
static char where[600];

static uint64_t now_ms(void)
{
	struct timespec t;

	clock_gettime(CLOCK_MONOTONIC, &t);
	return (uint64_t)t.tv_sec * 1000 + (uint64_t)t.tv_nsec / 1000000;
}

static void __attribute__((noreturn, format(printf, 1, 2))) die(const char *format, ...)
{
	va_list args;

	va_start(args, format);
	fputs("breaker: ", stderr);
	vfprintf(stderr, format, args);
	fputs("\n", stderr);
	va_end(args);
	if (core && !core_gone)
		kill(core, SIGKILL);
	exit(125);
}

static void __attribute__((format(printf, 1, 2))) answer(const char *format, ...)
{
	va_list args;

	va_start(args, format);
	vprintf(format, args);
	va_end(args);
	putchar('\n');
	fflush(stdout);
}

/* ---- names ---- */

static const struct {
	uint64_t number;
	const char *name;
} calls[] = {
#define CALL(name)                                                                                 \
	{                                                                                          \
		SYS_##name, #name                                                                  \
	}
	/* clang-format off */
	CALL(accept4), CALL(access), CALL(brk), CALL(capget), CALL(capset), CALL(clock_gettime),
	CALL(clone), CALL(clone3), CALL(close), CALL(close_range), CALL(connect), CALL(dup),
	CALL(epoll_create1), CALL(epoll_ctl), CALL(epoll_pwait), CALL(epoll_pwait2),
	CALL(epoll_wait), CALL(eventfd2), CALL(execve), CALL(exit), CALL(exit_group),
	CALL(faccessat), CALL(faccessat2), CALL(fchmod), CALL(fcntl), CALL(fdatasync),
	CALL(fstat), CALL(fsync), CALL(ftruncate), CALL(futex), CALL(getdents64), CALL(getpid),
	CALL(getppid), CALL(getrandom), CALL(getsockopt), CALL(gettid), CALL(inotify_add_watch),
	CALL(inotify_rm_watch), CALL(ioctl), CALL(linkat), CALL(lseek), CALL(madvise),
	CALL(mkdirat), CALL(mmap), CALL(mprotect), CALL(mremap), CALL(munmap), CALL(newfstatat),
	CALL(open), CALL(openat), CALL(openat2), CALL(pidfd_open), CALL(pidfd_send_signal),
	CALL(pipe2), CALL(poll), CALL(ppoll), CALL(prctl), CALL(pread64), CALL(prlimit64),
	CALL(pwrite64), CALL(read), CALL(readlink), CALL(readlinkat), CALL(recvmsg),
	CALL(rename), CALL(renameat), CALL(renameat2), CALL(restart_syscall), CALL(rseq),
	CALL(rt_sigaction), CALL(rt_sigprocmask), CALL(rt_sigreturn), CALL(seccomp),
	CALL(sendmsg), CALL(sendto), CALL(set_robust_list), CALL(setsockopt), CALL(shutdown),
	CALL(signalfd4),
	CALL(socket), CALL(socketpair), CALL(statx), CALL(symlinkat), CALL(tgkill),
	CALL(timerfd_settime), CALL(unlink), CALL(unlinkat), CALL(wait4), CALL(waitid),
	CALL(write), CALL(writev),
/* clang-format on */
#undef CALL
};

static const char *call_name(uint64_t call)
{
	static char number[32];

	for (size_t i = 0; i < sizeof(calls) / sizeof(*calls); i++)
		if (calls[i].number == call)
			return calls[i].name;
	snprintf(number, sizeof(number), "call-%llu", (unsigned long long)call);
	return number;
}

static int error_number(const char *name)
{
	static const struct {
		const char *name;
		int number;
	} names[] = {
		{ "EIO", EIO },	      { "EBUSY", EBUSY },   { "ENODEV", ENODEV },
		{ "ENOSPC", ENOSPC }, { "ENOMEM", ENOMEM }, { "EINTR", EINTR },
		{ "EMFILE", EMFILE }, { "EAGAIN", EAGAIN }, { "ETOOMANYREFS", ETOOMANYREFS },
		{ "ENOENT", ENOENT }, { "EPIPE", EPIPE },   { "EROFS", EROFS },
	};

	for (size_t i = 0; i < sizeof(names) / sizeof(*names); i++)
		if (!strcmp(names[i].name, name))
			return names[i].number;
	return atoi(name);
}

/* ---- what a call is about ---- */

static bool name_of_fd(pid_t pid, int fd, char *out, size_t size)
{
	char path[64];
	ssize_t n;

	snprintf(path, sizeof(path), "/proc/%d/fd/%d", (int)pid, fd);
	n = readlink(path, out, size - 1);
	out[n > 0 ? n : 0] = '\0';
	return n > 0;
}

/* A string of the tracee's, cut where it is longer or its page ends. */
static void read_string(pid_t pid, uint64_t address, char *out, size_t size)
{
	size_t left = 4096 - address % 4096;
	struct iovec local = { out, size - 1 < left ? size - 1 : left };
	struct iovec remote = { (void *)(uintptr_t)address, local.iov_len };
	ssize_t n = process_vm_readv(pid, &local, 1, &remote, 1, 0);

	out[n > 0 ? n : 0] = '\0';
}

static bool is_below(const char *path, const char *dir)
{
	size_t n = strlen(dir);

	return !strncmp(path, dir, n) && (!path[n] || path[n] == '/');
}

/* The object in `out`: what a descriptor is, and the path that is given with it. */
static enum kind classify(const struct tracee *t, char *out, size_t size)
{
	char fd[160] = "", path[160] = "";
	enum kind kind = OTHER;
	size_t path_at = 0;

	switch (t->call) {
	case SYS_open:
	case SYS_unlink:
	case SYS_rename:
		read_string(t->pid, t->args[0], path, sizeof(path));
		path_at = 1;
		break;
	case SYS_openat:
	case SYS_openat2:
	case SYS_unlinkat:
	case SYS_renameat:
	case SYS_renameat2:
	case SYS_readlinkat:
	case SYS_newfstatat:
	case SYS_mkdirat:
	case SYS_linkat:
	case SYS_inotify_add_watch:
		read_string(t->pid, t->args[1], path, sizeof(path));
		path_at = 1;
	/* fall through */
	case SYS_read:
	case SYS_write:
	case SYS_pwrite64:
	case SYS_writev:
	case SYS_close:
	case SYS_fsync:
	case SYS_fdatasync:
	case SYS_ftruncate:
	case SYS_getdents64:
	case SYS_ioctl:
	case SYS_sendmsg:
	case SYS_sendto:
	case SYS_recvmsg:
		if ((int)t->args[0] >= 0)
			name_of_fd(t->pid, (int)t->args[0], fd, sizeof(fd));
		break;
	}
	snprintf(out, size, "%s%s%s", fd, path_at && fd[0] ? "+" : "", path);
	switch (t->call) {
	case SYS_write:
	case SYS_pwrite64:
	case SYS_writev:
		if (is_below(fd, "/sys"))
			kind = SYSFS;
		/* fall through */
	case SYS_fsync:
	case SYS_fdatasync:
	case SYS_ftruncate:
		if (is_below(fd, state_dir))
			kind = RECORD;
		break;
	case SYS_open:
	case SYS_openat:
	case SYS_openat2:
		kind = is_below(path[0] == '/' ? path : fd, state_dir) ? RECORD : OPEN;
		break;
	case SYS_unlink:
	case SYS_unlinkat:
	case SYS_rename:
	case SYS_renameat:
	case SYS_renameat2:
	case SYS_linkat:
	case SYS_mkdirat:
		kind = RECORD;
		break;
	case SYS_read:
	case SYS_getdents64:
	case SYS_readlinkat:
		if (is_below(fd, "/sys") || is_below(fd, state_dir))
			kind = READ;
		break;
	case SYS_sendmsg:
	case SYS_sendto:
		kind = SEND;
		break;
	}
	return kind;
}

/* ---- tracing ---- */

static struct tracee *find(pid_t pid)
{
	for (size_t i = 0; i < TRACEES_MAX; i++)
		if (tracees[i].pid == pid)
			return &tracees[i];
	return NULL;
}

static struct tracee *add(pid_t pid)
{
	struct tracee *t = find(pid);

	if (t)
		return t;
	t = find(0);
	if (!t)
		die("more processes than I can hold");
	*t = (struct tracee){ .pid = pid };
	return t;
}

static size_t workers(void)
{
	size_t n = 0;

	for (size_t i = 0; i < TRACEES_MAX; i++)
		n += tracees[i].pid && tracees[i].pid != core;
	return n;
}

/* A tracee that was killed meanwhile answers ESRCH, which is no error. */
static void resume(const struct tracee *t, int signal)
{
	ptrace(PTRACE_SYSCALL, t->pid, NULL, (void *)(intptr_t)signal);
}

static bool tell_where(const struct tracee *t, char *out, size_t size)
{
	char object[400];
	enum kind kind = classify(t, object, sizeof(object));

	snprintf(out, size, "%s %s %s%s%s", t->pid == core ? "core" : "worker", call_name(t->call),
		 kind_names[kind], *object ? " " : "", object);
	return wanted == ANY || wanted == kind;
}

static void kill_core(void)
{
	kill(core, SIGKILL);
	done = true;
}

/*
 * A filter looks at the number that stands in the registers at a call's entry, and -1, the usual way to
 * skip a call, would be killed. To read is allowed in every process of the daemon's, and from nowhere it
 * does nothing. So a call that is to fail becomes that, and at its exit has its own error.
 */
#ifdef __aarch64__
static bool registers_get(pid_t pid, struct user_regs_struct *regs)
{
	struct iovec io = { regs, sizeof(*regs) };

	return !ptrace(PTRACE_GETREGSET, pid, (void *)NT_PRSTATUS, &io);
}

static void registers_set(pid_t pid, struct user_regs_struct *regs)
{
	struct iovec io = { regs, sizeof(*regs) };

	ptrace(PTRACE_SETREGSET, pid, (void *)NT_PRSTATUS, &io);
}

/* The first argument and the result are one register there, and the number is none. */
static void registers_skip(pid_t pid, struct user_regs_struct *regs)
{
	int call = SYS_read;
	struct iovec io = { &call, sizeof(call) };

	ptrace(PTRACE_SETREGSET, pid, (void *)NT_ARM_SYSTEM_CALL, &io);
	regs->regs[0] = (unsigned long long)-1;
}

static void registers_fail(const struct tracee *t, struct user_regs_struct *regs)
{
	(void)t;
	regs->regs[0] = (unsigned long long)-error;
}

#define REGISTER_LENGTH(r) ((r).regs[2])
#define REGISTER_RESULT(r) ((r).regs[0])
#else
static bool registers_get(pid_t pid, struct user_regs_struct *regs)
{
	return !ptrace(PTRACE_GETREGS, pid, NULL, regs);
}

static void registers_set(pid_t pid, struct user_regs_struct *regs)
{
	ptrace(PTRACE_SETREGS, pid, NULL, regs);
}

static void registers_skip(pid_t pid, struct user_regs_struct *regs)
{
	(void)pid;
	regs->orig_rax = SYS_read;
	regs->rdi = (unsigned long long)-1;
}

static void registers_fail(const struct tracee *t, struct user_regs_struct *regs)
{
	regs->rdi = t->args[0];
	regs->rax = (unsigned long long)-error;
}

#define REGISTER_LENGTH(r) ((r).rdx)
#define REGISTER_RESULT(r) ((r).rax)
#endif

static void set_registers(const struct tracee *t, bool entry)
{
	struct user_regs_struct regs;

	if (!registers_get(t->pid, &regs))
		return;
	if (entry)
		registers_skip(t->pid, &regs);
	else
		registers_fail(t, &regs);
	registers_set(t->pid, &regs);
}

/* A write becomes short: of a record half is written; a sysfs file is all or nothing to the kernel. */
static void shorten(const struct tracee *t, bool entry)
{
	const bool sysfs = wanted == SYSFS;
	struct user_regs_struct regs;

	if (entry == sysfs || !registers_get(t->pid, &regs))
		return;
	if (entry)
		REGISTER_LENGTH(regs) = t->args[2] / 2;
	else if ((long long)REGISTER_RESULT(regs) > 0)
		REGISTER_RESULT(regs) /= 2;
	registers_set(t->pid, &regs);
}

static void on_entry(struct tracee *t)
{
	char text[sizeof(where)];

	if (!counting)
		return;
	if (t->pid != core && core_gone && plan == KILL) {
		char object[400];

		if (classify(t, object, sizeof(object)) == SYSFS)
			orphans++;
	}
	if (plan == NOTHING || done)
		return;
	if (plan == LIST) {
		tell_where(t, text, sizeof(text));
		answer("call %lu %s", ++seen, text);
		return;
	}
	if (plan == FAIL) {
		char object[400];
		const bool write = t->call == SYS_write || t->call == SYS_pwrite64;

		if ((wanted != ANY && classify(t, object, sizeof(object)) != wanted) ||
		    (short_write && !write))
			return;
	}
	if (++seen != at)
		return;
	tell_where(t, where, sizeof(where));
	if (plan == KILL && !at_exit) {
		kill_core();
		return;
	}
	t->hit = true;
	if (plan == FAIL) {
		done = true;
		if (short_write)
			shorten(t, true);
		else
			set_registers(t, true);
	}
}

static void on_exit_of(struct tracee *t)
{
	if (!t->hit)
		return;
	t->hit = false;
	if (plan == KILL)
		kill_core();
	else if (short_write)
		shorten(t, false);
	else
		set_registers(t, false);
}

/* From its own filter on the core counts, and is followed into its workers. */
static void on_confined(const struct tracee *t)
{
	counting = true;
	if (ptrace(PTRACE_SETOPTIONS, t->pid, NULL,
		   (void *)(PTRACE_O_TRACESYSGOOD | PTRACE_O_TRACEFORK | PTRACE_O_TRACEVFORK |
			    PTRACE_O_TRACECLONE)))
		die("PTRACE_SETOPTIONS: %s", strerror(errno));
}

static void on_call(struct tracee *t)
{
	struct ptrace_syscall_info info;

	if (ptrace(PTRACE_GET_SYSCALL_INFO, t->pid, (void *)sizeof(info), &info) <= 0)
		return;
	if (info.op == PTRACE_SYSCALL_INFO_ENTRY) {
		t->in_call = true;
		t->call = info.entry.nr;
		memcpy(t->args, info.entry.args, sizeof(t->args));
		on_entry(t);
	} else if (info.op == PTRACE_SYSCALL_INFO_EXIT && t->in_call) {
		t->in_call = false;
		on_exit_of(t);
		/* libseccomp tries what the kernel can before; that installs nothing. */
		if (!counting && t->pid == core && !info.exit.rval &&
		    ((t->call == SYS_seccomp && t->args[0] == SECCOMP_SET_MODE_FILTER) ||
		     (t->call == SYS_prctl && t->args[0] == PR_SET_SECCOMP)))
			on_confined(t);
	}
}

static void on_stop(pid_t pid, int status)
{
	const int signal = WSTOPSIG(status), event = status >> 16;
	struct tracee *t = add(pid);

	last_event = now_ms();
	if (event == PTRACE_EVENT_FORK || event == PTRACE_EVENT_VFORK ||
	    event == PTRACE_EVENT_CLONE) {
		unsigned long child;

		if (!ptrace(PTRACE_GETEVENTMSG, pid, NULL, &child))
			add((pid_t)child);
		resume(t, 0);
	} else if (event) {
		resume(t, 0); /* its beginning, or our PTRACE_INTERRUPT */
	} else if (signal == (SIGTRAP | 0x80)) {
		on_call(t);
		resume(t, 0);
	} else {
		resume(t, signal);
	}
}

static void on_status(pid_t pid, int status)
{
	struct tracee *t;

	if (WIFSTOPPED(status)) {
		on_stop(pid, status);
		return;
	}
	last_event = now_ms();
	t = find(pid);
	if (t)
		*t = (struct tracee){ 0 };
	if (pid == core) {
		core_gone = true;
		core_status = status;
	}
}

/* ---- the loop ---- */

static void on_child(int signal)
{
	(void)signal;
}

/* Descriptors that the daemon has had kept for its next start, as systemd keeps them. */
static struct {
	char name[80];
	int fd;
} kept[8];
static int n_kept;

static void forget(const char *name)
{
	for (int i = 0; i < n_kept;) {
		if (name && strcmp(kept[i].name, name) != 0) {
			i++;
			continue;
		}
		close(kept[i].fd);
		kept[i] = kept[--n_kept];
	}
}

static void take_store_message(const char *text, int fd)
{
	const char *at = strstr(text, "FDNAME=");
	char name[80];

	if (!at || sscanf(at, "FDNAME=%79[^\n]", name) != 1)
		return;
	if (strstr(text, "FDSTOREREMOVE=1"))
		forget(name);
	else if (strstr(text, "FDSTORE=1") && fd >= 0) {
		if (n_kept == (int)(sizeof(kept) / sizeof(*kept)))
			die("it has too much kept");
		strcpy(kept[n_kept].name, name);
		kept[n_kept].fd = fcntl(fd, F_DUPFD_CLOEXEC, 100);
		n_kept++;
	}
}

static void read_notify(void)
{
	union {
		struct cmsghdr header;
		char space[CMSG_SPACE(sizeof(int))];
	} control;
	char text[256];
	struct iovec iov = { .iov_base = text, .iov_len = sizeof(text) - 1 };
	ssize_t n;

	for (;;) {
		struct msghdr message = {
			.msg_iov = &iov,
			.msg_iovlen = 1,
			.msg_control = &control,
			.msg_controllen = sizeof(control),
		};
		const struct cmsghdr *cmsg;
		int fd = -1;

		n = recvmsg(notify_fd, &message, MSG_DONTWAIT | MSG_CMSG_CLOEXEC);
		if (n < 0)
			return;
		text[n] = '\0';
		cmsg = CMSG_FIRSTHDR(&message);
		if (cmsg && cmsg->cmsg_type == SCM_RIGHTS)
			memcpy(&fd, CMSG_DATA(cmsg), sizeof(fd));
		if (strstr(text, "READY=1"))
			ready = true;
		take_store_message(text, fd);
		if (fd >= 0)
			close(fd);
	}
}

/* In the child that becomes the daemon: passes what is kept, see sd_listen_fds(3). */
static void pass_kept(void)
{
	char names[sizeof(kept)] = "", number[16];
	size_t n = 0;

	if (!n_kept)
		return;
	for (int i = 0; i < n_kept; i++) {
		dup2(kept[i].fd, 3 + i);
		if (i)
			names[n++] = ':';
		strcpy(names + n, kept[i].name);
		n += strlen(kept[i].name);
	}
	snprintf(number, sizeof(number), "%d", n_kept);
	setenv("LISTEN_FDS", number, 1);
	snprintf(number, sizeof(number), "%d", (int)getpid());
	setenv("LISTEN_PID", number, 1);
	setenv("LISTEN_FDNAMES", names, 1);
}

/* Serves what there is, waits at most `ms` for more. True where stdin can be read. */
static bool serve(int ms)
{
	struct timespec limit = { .tv_sec = ms / 1000, .tv_nsec = (long)(ms % 1000) * 1000000 };
	struct pollfd polled[] = { { .fd = notify_fd, .events = POLLIN },
				   { .fd = STDIN_FILENO, .events = POLLIN } };
	sigset_t none;
	int status;
	pid_t pid;

	sigemptyset(&none);
	while ((pid = waitpid(-1, &status, WNOHANG | __WALL)) > 0)
		on_status(pid, status);
	if (ppoll(polled, ms < 0 ? 2 : 1, ms < 0 ? NULL : &limit, &none) <= 0)
		return false;
	if (polled[0].revents)
		read_notify();
	return ms < 0 && polled[1].revents;
}

static bool is_ready(void)
{
	return ready || core_gone;
}

static bool is_gone(void)
{
	return core_gone && !workers();
}

static bool is_idle(void)
{
	const struct tracee *t = find(core);

	if (core_gone)
		return !workers();
	if (plan == KILL && done)
		return false;
	return t && t->in_call && !workers() && now_ms() - last_event >= QUIET_MS &&
	       (t->call == SYS_epoll_wait || t->call == SYS_epoll_pwait ||
		t->call == SYS_epoll_pwait2);
}

static bool wait_until(bool (*is)(void), int seconds)
{
	const uint64_t end = now_ms() + (uint64_t)seconds * 1000;

	while (!is()) {
		if (now_ms() >= end)
			return false;
		serve(20);
	}
	return true;
}

static const char *how(void)
{
	static char text[32];

	if (WIFSIGNALED(core_status))
		snprintf(text, sizeof(text), "signal %d", WTERMSIG(core_status));
	else
		snprintf(text, sizeof(text), "exit %d", WEXITSTATUS(core_status));
	return text;
}

/* ---- what it is told ---- */

static bool read_plan(char *text)
{
	char *words[4] = { NULL };
	size_t n = 0;

	for (char *w = strtok(text, " "); w && n < 4; w = strtok(NULL, " "))
		words[n++] = w;
	plan = NOTHING;
	at = seen = orphans = 0;
	at_exit = done = short_write = counting = false;
	error = 0;
	wanted = ANY;
	where[0] = '\0';
	if (!n)
		return true;
	if (!strcmp(words[0], "list") && n == 1) {
		plan = LIST;
	} else if (!strcmp(words[0], "kill") && n == 3) {
		plan = KILL;
		at = strtoul(words[1], NULL, 10);
		at_exit = !strcmp(words[2], "exit");
	} else if (!strcmp(words[0], "fail") && n == 4) {
		plan = FAIL;
		at = strtoul(words[2], NULL, 10);
		for (wanted = OTHER; wanted < ANY && strcmp(kind_names[wanted], words[1]) != 0;)
			wanted++;
		short_write = !strcmp(words[3], "short");
		error = short_write ? 0 : error_number(words[3]);
		if (!short_write && error <= 0)
			return false;
	} else {
		return false;
	}
	return plan == LIST || at > 0;
}

static void seize(pid_t pid, unsigned long options)
{
	if (ptrace(PTRACE_SEIZE, pid, NULL, (void *)options))
		die("PTRACE_SEIZE: %s", strerror(errno));
	add(pid);
	/* The stop that this makes is where the tracing of its calls begins. */
	if (ptrace(PTRACE_INTERRUPT, pid, NULL, NULL))
		die("PTRACE_INTERRUPT: %s", strerror(errno));
}

/* From here on it runs as it would without us. Only a stopped process can be let go. */
static void release_all(void)
{
	for (size_t i = 0; i < TRACEES_MAX; i++) {
		const pid_t pid = tracees[i].pid;
		int status = 0;

		if (!pid)
			continue;
		if (!ptrace(PTRACE_INTERRUPT, pid, NULL, NULL) &&
		    waitpid(pid, &status, __WALL) == pid) {
			if (!WIFSTOPPED(status)) {
				on_status(pid, status);
				continue;
			}
			ptrace(PTRACE_DETACH, pid, NULL,
			       (void *)(intptr_t)(status >> 16 || WSTOPSIG(status) ==
									  (SIGTRAP | 0x80)
							  ? 0
							  : WSTOPSIG(status)));
		}
		tracees[i] = (struct tracee){ 0 };
	}
}

static void start(bool traced)
{
	int hold[2];

	if (core && !core_gone)
		die("it runs already");
	if (pipe2(hold, O_CLOEXEC))
		die("pipe2: %s", strerror(errno));
	read_notify();
	ready = core_gone = false;
	core = fork();
	if (core < 0)
		die("fork: %s", strerror(errno));
	if (!core) {
		sigset_t none;
		char c;

		sigemptyset(&none);
		sigprocmask(SIG_SETMASK, &none, NULL);
		prctl(PR_SET_PDEATHSIG, SIGKILL);
		setenv("NOTIFY_SOCKET", notify_name, 1);
		close(hold[1]);
		if (read(hold[0], &c, 1)) /* its end: go */
			_exit(126);
		dup2(open("/dev/null", O_RDONLY), STDIN_FILENO);
		dup2(STDERR_FILENO, STDOUT_FILENO);
		pass_kept();
		execvp(command[0], command);
		_exit(127);
	}
	close(hold[0]);
	if (traced)
		seize(core, PTRACE_O_TRACESYSGOOD);
	close(hold[1]);
	wait_until(is_ready, READY_SECONDS);
	if (core_gone)
		answer("gone %s", how());
	else if (ready)
		answer("ready %d", (int)core);
	else
		answer("hung");
}

static void finish(void)
{
	bool idle = wait_until(is_idle, IDLE_SECONDS);

	release_all();
	if (!idle)
		answer("busy %lu %s", seen, where);
	else if (!done)
		answer("passed %lu", seen);
	else if (plan == KILL)
		answer("killed %lu %s orphans %lu", at, where, orphans);
	else
		answer("failed %lu %s", at, where);
	plan = NOTHING;
}

static void end_core(int signal)
{
	if (!core_gone)
		kill(core, signal);
	if (wait_until(is_gone, GONE_SECONDS))
		answer("gone %s", how());
	else
		answer("hung");
	if (signal == SIGTERM)
		forget(NULL);
}

static void obey(char *line)
{
	char *rest = strchr(line, ' ');
	bool none = !core || core_gone;

	if (rest)
		*rest++ = '\0';
	if (!strcmp(line, "start") || !strcmp(line, "seize")) {
		if (!read_plan(rest ? rest : (char[]){ "" }))
			die("no such plan");
		if (!strcmp(line, "start")) {
			start(plan != NOTHING);
		} else if (none) {
			answer("gone %s", core ? how() : "exit 0");
		} else {
			counting = true;
			seize(core, PTRACE_O_TRACESYSGOOD | PTRACE_O_TRACEFORK |
					    PTRACE_O_TRACEVFORK | PTRACE_O_TRACECLONE);
			while (!find(core)->in_call && !core_gone)
				serve(20);
			answer("seized %d", (int)core);
		}
	} else if (!strcmp(line, "done")) {
		finish();
	} else if (!strcmp(line, "state")) {
		serve(0);
		if (core_gone || !core)
			answer("gone %s", core ? how() : "exit 0");
		else
			answer("alive %d", (int)core);
	} else if (!strcmp(line, "stop") || !strcmp(line, "kill")) {
		if (!core)
			answer("gone exit 0");
		else
			end_core(*line == 's' ? SIGTERM : SIGKILL);
	} else {
		die("no such command: %s", line);
	}
}

static void open_notify(void)
{
	struct sockaddr_un address = { .sun_family = AF_UNIX };
	int n;

	snprintf(notify_name, sizeof(notify_name), "@gpubroker-breaker-%d", (int)getpid());
	n = snprintf(address.sun_path + 1, sizeof(address.sun_path) - 1, "%s", notify_name + 1);
	notify_fd = socket(AF_UNIX, SOCK_DGRAM | SOCK_CLOEXEC, 0);
	if (notify_fd < 0 || bind(notify_fd, (struct sockaddr *)&address,
				  (socklen_t)(sizeof(address.sun_family) + 1 + (size_t)n)))
		die("a socket for READY=1: %s", strerror(errno));
}

int main(int argc, char **argv)
{
	struct sigaction action = { .sa_handler = on_child };
	char line[256];
	size_t used = 0;
	sigset_t child;
	cpu_set_t one;

	if (argc > 2 && !strcmp(argv[1], "--state")) {
		state_dir = argv[2];
		argv += 2;
		argc -= 2;
	}
	if (argc < 2) {
		fputs("usage: breaker [--state DIR] COMMAND...\n", stderr);
		return 64;
	}
	command = argv + 1;
	sigemptyset(&child);
	sigaddset(&child, SIGCHLD);
	sigprocmask(SIG_BLOCK, &child, NULL);
	sigaction(SIGCHLD, &action, NULL);
	/* Tracer and tracees take turns; between two emulated processors each turn waits for the host. */
	CPU_ZERO(&one);
	CPU_SET((size_t)sched_getcpu(), &one);
	sched_setaffinity(0, sizeof(one), &one);
	open_notify();
	for (;;) {
		ssize_t n;
		char *end;

		if (!serve(-1))
			continue;
		n = read(STDIN_FILENO, line + used, sizeof(line) - 1 - used);
		if (n <= 0)
			break;
		used += (size_t)n;
		line[used] = '\0';
		while ((end = strchr(line, '\n'))) {
			*end = '\0';
			obey(line);
			used -= (size_t)(end + 1 - line);
			memmove(line, end + 1, used + 1);
		}
	}
	if (core && !core_gone)
		kill(core, SIGKILL);
	return 0;
}
