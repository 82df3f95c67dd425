/* SPDX-License-Identifier: MIT */
/*
 * The half of `gpubroker run` that stays with the command: it forks the supervisor off and puts the
 * process under the filter, which the command then inherits through exec.
 *
 * Beside the command (SUPERVISE_BESIDE): the command runs in the calling process and the supervisor
 * is the forked one, not the other way round: so signals, exit status, terminal and job control are
 * the command's own, and nothing imitates them. Where Yama lets only ancestors read a process's
 * memory, the supervisor is above (SUPERVISE_ABOVE): the caller forks the supervisor, which forks
 * the command, and parent.c imitates the command in the caller. The supervisor is not the caller,
 * since it may have to go on when the caller has ended with the command.
 *
 * It must never put the process under the filter before the supervisor has said that it is in
 * place, and must never leave a trace in the process beyond no_new_privs and the filter: no child,
 * no descriptor, no SIGCHLD, no changed signal mask. The filter must never catch more than it has
 * to: when the supervisor is killed, whatever it catches fails with ENOSYS for the rest of the
 * command's life.
 */
#include "config.h"

#include "client/run/supervise.h"
#include "client/run/children.h"
#include "client/run/inbox.h"
#include "client/run/nodes.h"
#include "client/run/packet.h"
#include "client/run/parent.h"
#include "client/run/seclude.h"
#include "client/run/supervisor.h"
#include "client/common/util.h"

#include <errno.h>
#include <fcntl.h>
#include <linux/audit.h>
#include <linux/filter.h>
#include <signal.h>
#include <stdint.h>
#include <stdio.h>
#include <string.h>
#include <sys/prctl.h>
#include <sys/socket.h>
#include <sys/syscall.h>
#include <sys/uio.h>
#include <sys/wait.h>

#if defined(__x86_64__)
#define NATIVE_ARCH AUDIT_ARCH_X86_64
#elif defined(__aarch64__) && defined(__AARCH64EL__)
#define NATIVE_ARCH AUDIT_ARCH_AARCH64
#elif defined(__riscv) && __riscv_xlen == 64
#define NATIVE_ARCH AUDIT_ARCH_RISCV64
#elif defined(__loongarch64)
#define NATIVE_ARCH AUDIT_ARCH_LOONGARCH64
#elif defined(__powerpc64__) && defined(__LITTLE_ENDIAN__)
#define NATIVE_ARCH AUDIT_ARCH_PPC64LE
#else
#error "say here what the kernel calls this architecture, if it is little endian (see LOAD)"
#endif

/* The low 32 bits of a wider field, which have all flags. */
#define LOAD(field) BPF_STMT(BPF_LD | BPF_W | BPF_ABS, (__u32)offsetof(struct seccomp_data, field))
#define AND(value) BPF_STMT(BPF_ALU | BPF_AND | BPF_K, (__u32)(value))
#define SKIP(n) BPF_STMT(BPF_JMP | BPF_JA, n)
#define SKIP_IF(value, n) BPF_JUMP(BPF_JMP | BPF_JEQ | BPF_K, (__u32)(value), n, 0)
#define RETURN(value) BPF_STMT(BPF_RET | BPF_K, value)

/*
 * Every openat2 is caught, whatever its flags, which are behind a pointer that no filter can
 * follow: programs make few of them, and if the supervisor is killed, take openat instead of a call
 * that fails with ENOSYS. The 32-bit and x32 calls (another arch, or other numbers) are not caught.
 */
static int install_filter(void)
{
	struct sock_filter rows[] = {
		LOAD(arch),
		SKIP_IF(NATIVE_ARCH, 1),
		RETURN(SECCOMP_RET_ALLOW),
		LOAD(nr),
#ifdef __NR_open
		BPF_JUMP(BPF_JMP | BPF_JEQ | BPF_K, __NR_open, 0, 2),
		LOAD(args[1]),
		SKIP(4),
#endif
		SKIP_IF(__NR_openat2, 6),
		SKIP_IF(__NR_openat, 1),
		RETURN(SECCOMP_RET_ALLOW),
		LOAD(args[2]),
		AND(SUPERVISOR_FLAGS),
		SKIP_IF(O_RDWR, 1),
		RETURN(SECCOMP_RET_ALLOW),
		RETURN(SECCOMP_RET_USER_NOTIF),
	};
	struct sock_fprog program = { .len = ARRAY_SIZE(rows), .filter = rows };
	long fd;

	/*
	 * WAIT_KILLABLE_RECV (5.19): once we have received a call, signals no longer interrupt it.
	 * Otherwise a program with a fast timer could be interrupted and start again for ever.
	 */
	fd = syscall(SYS_seccomp, SECCOMP_SET_MODE_FILTER,
		     SECCOMP_FILTER_FLAG_NEW_LISTENER | SECCOMP_FILTER_FLAG_WAIT_KILLABLE_RECV,
		     &program);
	if (fd < 0 && errno == EINVAL)
		fd = syscall(SYS_seccomp, SECCOMP_SET_MODE_FILTER, SECCOMP_FILTER_FLAG_NEW_LISTENER,
			     &program);
	return fd < 0 ? -errno : (int)fd;
}

/*
 * The first packet of the supervisor. Both are of one program, so a string's address serves both.
 */
struct hello {
	int r;
	pid_t pid;
	const char *what;
};

/* The command ends, and so do we; only its end is passed on, where that is ours to do. */
_Noreturn static void no_filter(struct supervisor *s)
{
	children_finish(s);
	_exit(1);
}

/* The supervisor, from its first to its last instruction. */
_Noreturn static void supervisor_main(struct supervisor *s, int socket, pid_t command)
{
	struct hello hello = { .pid = getpid() };
	int listener;
	char byte;

	hello.r = seclude_supervisor(s, &socket, command, &hello.what);
	if (packet_send(socket, &hello, sizeof(hello), -1) < 0 || hello.r < 0)
		no_filter(s);
	if (packet_receive(socket, &byte, sizeof(byte), &listener) < 0)
		no_filter(s);
	packet_send(socket, &byte, sizeof(byte), -1); /* if the other half has ended: see POLLHUP */
	fd_close(socket);
	nodes_begin(s);
	inbox_open(s);
	supervisor_serve(s, listener);
	_exit(0);
}

/*
 * Forks twice, so that the supervisor is a child of init's (or the nearest subreaper's) and the
 * command never waits for a child that it did not start. The process in between is cloned without
 * an exit signal: no SIGCHLD comes, and a caller that ignores SIGCHLD can wait for it all the same.
 */
static int fork_supervisor(struct supervisor *s, int ours, int theirs)
{
	pid_t command = getpid(), between;
	int status;

	between = (pid_t)syscall(SYS_clone, 0, NULL, NULL, NULL, NULL);
	if (between < 0)
		return -errno;
	if (!between) {
		pid_t pid;

		/*
		 * Cannot fail, as a fresh process leads no group. The supervisor, not being the
		 * leader, never gets a terminal by opening one.
		 */
		setsid();
		pid = fork();
		if (!pid) {
			fd_close(ours);
			supervisor_main(s, theirs, command);
		}
		_exit(pid < 0 ? errno : 0);
	}
	while (waitpid(between, &status, __WALL) < 0)
		if (errno != EINTR)
			return -errno;
	if (!WIFEXITED(status))
		return -ECHILD;
	return -WEXITSTATUS(status);
}

/*
 * The supervisor, between the caller and the command. Returns 0 in the command, and in itself only
 * if there will be none: whatever the caller of supervise_start() does then is what parent_wait()
 * takes for the command's end.
 */
static int fork_command(struct supervisor *s, int parent, pid_t parent_pid, int ours, int theirs)
{
	int r = children_begin(s, parent, parent_pid), pidfd;
	pid_t pid;

	if (r < 0)
		return r;
	pid = fork();
	if (pid < 0)
		return -errno;
	if (!pid) {
		children_leave(s);
		return 0;
	}
	fd_close(ours);
	s->pid = pid;
	pidfd = (int)syscall(SYS_pidfd_open, pid, 0);
	packet_send(s->parent, &pid, sizeof(pid), pidfd);
	fd_close(pidfd);
	/*
	 * The command stays in the session. That we lead ours gives us no terminal, since we open
	 * none.
	 */
	setsid();
	supervisor_main(s, theirs, pid);
}

/* Returns in the command, which is a grandchild of the caller then; or, after a failure, once. */
static int fork_above(struct supervisor *s, int ours, int theirs)
{
	struct sigaction by_default = { .sa_handler = SIG_DFL }, before;
	pid_t caller = getpid(), pid;
	int pair[2], r;

	if (socketpair(AF_UNIX, SOCK_SEQPACKET | SOCK_CLOEXEC, 0, pair) < 0)
		return -errno;
	/* If the caller ignores it, no child would leave a status. */
	sigaction(SIGCHLD, &by_default, &before);
	pid = fork();
	if (pid > 0) {
		fd_close(pair[1]);
		parent_wait(pair[0], pid);
	}
	r = pid < 0 ? -errno : 0;
	fd_close(pair[0]);
	if (r < 0)
		fd_close(pair[1]);
	else
		r = fork_command(s, pair[1], caller, ours, theirs);
	sigaction(SIGCHLD, &before, NULL);
	return r;
}

static int start_supervisor(struct supervisor *s, enum supervise_place place, const char **ret_what)
{
	cleanup_fd int ours = -1, theirs = -1, listener = -1;
	struct hello hello = { .r = 0 };
	char byte = 0;
	int pair[2], r;

	*ret_what = "make a socket pair";
	if (socketpair(AF_UNIX, SOCK_SEQPACKET | SOCK_CLOEXEC, 0, pair) < 0)
		return -errno;
	ours = pair[0];
	theirs = pair[1];

	*ret_what = "start the supervisor";
	r = place == SUPERVISE_ABOVE ? fork_above(s, ours, theirs)
				     : fork_supervisor(s, ours, theirs);
	if (r < 0)
		return r;
	theirs = fd_close(theirs);
	r = packet_receive(ours, &hello, sizeof(hello), NULL);
	if (r < 0)
		return r;
	if (hello.r < 0) {
		*ret_what = hello.what;
		return hello.r;
	}

	*ret_what = "set no_new_privs";
	if (prctl(PR_SET_NO_NEW_PRIVS, 1, 0, 0, 0) < 0)
		return -errno;

	*ret_what = "install the seccomp filter";
	listener = install_filter();
	if (listener == -EBUSY)
		*ret_what = "install the seccomp filter, since one with a supervisor is in force "
			    "already (a gpubroker run inside another, or a container manager's)";
	if (listener < 0)
		return listener;

	/*
	 * Under kernel.yama.ptrace_scope=1 only ancestors may read a process's memory, and the
	 * process that it names here. The name stays with the task: exec keeps it, fork does not
	 * pass it on. EINVAL if there is no Yama. Not before the filter is installed: inside
	 * another run it would take the name from that one.
	 */
	if (place == SUPERVISE_BESIDE)
		prctl(PR_SET_PTRACER, (unsigned long)hello.pid, 0, 0, 0);

	*ret_what = "hand the seccomp listener to the supervisor";
	r = packet_send(ours, &byte, sizeof(byte), listener);
	if (r < 0)
		return r;
	listener = fd_close(listener); /* from now on we would see the supervisor end */
	return packet_receive(ours, &byte, sizeof(byte), NULL);
}

int supervise_start(const struct supervise_file *files, size_t n_files, const char *mark,
		    const struct supervise_notices *notices, enum supervise_place place,
		    const char **ret_what)
{
	cleanup_(supervisor_done) struct supervisor s;
	sigset_t all, before;
	int r;

	r = supervisor_init(&s, files, n_files, ret_what);
	if (r < 0)
		return r;
	s.notices = notices;
	s.mark = mark;

	fflush(NULL); /* with SUPERVISE_ABOVE, the command has a copy of what is left */
	/* No handler of the caller's may run in the supervisor, nor any signal end half of this. */
	sigfillset(&all);
	sigprocmask(SIG_SETMASK, &all, &before);
	r = start_supervisor(&s, place, ret_what);
	sigprocmask(SIG_SETMASK, &before, NULL);
	return r;
}
