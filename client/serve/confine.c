/* SPDX-License-Identifier: MIT */
/*
 * A seccomp filter for the process that speaks HTTP, see confine.h. It opens no file, executes
 * nothing, makes no socket and no process: whatever a request makes of it can only use the sockets
 * that it has, and ask the process of spawn.h for one of its orders. Another system call kills it.
 *
 * As for supervise.c, the filter is a list of a few instructions: a library for that would be one
 * more in every command.
 */
#include "config.h"

#include "client/serve/confine.h"
#include "client/common/util.h"

#include <errno.h>
#include <linux/audit.h>
#include <linux/filter.h>
#include <linux/seccomp.h>
#include <stddef.h>
#include <sys/mman.h>
#include <sys/prctl.h>
#include <sys/syscall.h>
#include <unistd.h>

#if defined(__x86_64__)
#define FILTER_ARCH AUDIT_ARCH_X86_64
#elif defined(__aarch64__)
#define FILTER_ARCH AUDIT_ARCH_AARCH64
#elif defined(__riscv) && __riscv_xlen == 64
#define FILTER_ARCH AUDIT_ARCH_RISCV64
#endif

static const unsigned allowed[] = {
	/* connections, pipes, and the socket to the other process */
	SYS_read,
	SYS_write,
	SYS_recvfrom,
	SYS_recvmsg,
	SYS_sendto,
	SYS_sendmsg,
	SYS_close,
	SYS_shutdown,
	SYS_ppoll,
#ifdef SYS_poll
	SYS_poll,
#endif
	SYS_accept4,
	/* whose connection it is: SO_PEERCRED */
	SYS_getsockopt,
	/* O_NONBLOCK of pipes */
	SYS_fcntl,
	/* malloc() */
	SYS_brk,
	SYS_munmap,
	SYS_mremap,
	SYS_madvise,
	/* json-c's seed and malloc()'s */
	SYS_getrandom,
	/* time, and the end of a process */
	SYS_clock_gettime,
	SYS_gettimeofday,
	SYS_restart_syscall,
	SYS_rt_sigreturn,
	SYS_rt_sigprocmask,
	SYS_getpid,
	SYS_gettid,
	SYS_tgkill,
	SYS_exit,
	SYS_exit_group,
	SYS_futex,
};

#define AT(field) (__u32) offsetof(struct seccomp_data, field)
#define N_ALLOWED ARRAY_SIZE(allowed)

int confine_serve(void)
{
#ifdef FILTER_ARCH
	struct sock_filter filter[N_ALLOWED + 16];
	struct sock_fprog program = { .filter = filter };
	unsigned short n = 0;

	filter[n++] = (struct sock_filter)BPF_STMT(BPF_LD | BPF_W | BPF_ABS, AT(arch));
	filter[n++] = (struct sock_filter)BPF_JUMP(BPF_JMP | BPF_JEQ | BPF_K, FILTER_ARCH, 1, 0);
	filter[n++] = (struct sock_filter)BPF_STMT(BPF_RET | BPF_K, SECCOMP_RET_KILL_PROCESS);
	filter[n++] = (struct sock_filter)BPF_STMT(BPF_LD | BPF_W | BPF_ABS, AT(nr));
	for (size_t i = 0; i < N_ALLOWED; i++)
		filter[n++] = (struct sock_filter)BPF_JUMP(BPF_JMP | BPF_JEQ | BPF_K, allowed[i],
							   (__u8)(N_ALLOWED - i + 4), 0);
	/* Memory that can be executed is not to be had; malloc() asks for none. */
	filter[n++] = (struct sock_filter)BPF_JUMP(BPF_JMP | BPF_JEQ | BPF_K, SYS_mmap, 1, 0);
	filter[n++] = (struct sock_filter)BPF_STMT(BPF_RET | BPF_K, SECCOMP_RET_KILL_PROCESS);
	filter[n++] = (struct sock_filter)BPF_STMT(BPF_LD | BPF_W | BPF_ABS, AT(args[2]));
	filter[n++] = (struct sock_filter)BPF_JUMP(BPF_JMP | BPF_JSET | BPF_K, PROT_EXEC, 0, 1);
	filter[n++] = (struct sock_filter)BPF_STMT(BPF_RET | BPF_K, SECCOMP_RET_KILL_PROCESS);
	filter[n++] = (struct sock_filter)BPF_STMT(BPF_RET | BPF_K, SECCOMP_RET_ALLOW);
	program.len = n;
	if (prctl(PR_SET_NO_NEW_PRIVS, 1, 0, 0, 0) || prctl(PR_SET_DUMPABLE, 0, 0, 0, 0) ||
	    prctl(PR_SET_SECCOMP, SECCOMP_MODE_FILTER, &program, 0, 0))
		return -errno;
	return 0;
#else
	return -ENOSYS;
#endif
}
