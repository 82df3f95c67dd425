/* SPDX-License-Identifier: MIT */
/*
 * The system calls that each process may make, each with its reason, as seccomp filters. The only
 * file that uses libseccomp. A filter kills by default, so a missing row is noticed at once, and a
 * forgotten check allows nothing. Nothing here is optional, and every failure is reported.
 */
#include "config.h"

#include "brokerd/process/filter.h"
#include "brokerd/kernel/kernel.h"
#include "client/common/util.h"
#include "client/host/opened.h"

#include <errno.h>
#include <fcntl.h>
#include <limits.h>
#include <linux/filter.h>
#include <linux/netlink.h>
#include <linux/seccomp.h>
#include <linux/vfio.h>
#include <sched.h>
#include <seccomp.h>
#include <signal.h>
#include <stdlib.h>
#include <sys/file.h>
#include <sys/ioctl.h>
#include <sys/mman.h>
#include <sys/prctl.h>
#include <sys/resource.h>
#include <sys/socket.h>
#include <sys/stat.h>
#include <sys/syscall.h>
#include <unistd.h>

#ifndef SO_PEERPIDFD
#define SO_PEERPIDFD 77
#endif
#ifndef SO_PASSPIDFD
#define SO_PASSPIDFD 76
#endif
#ifndef SO_PASSRIGHTS
#define SO_PASSRIGHTS 83
#endif

/*
 * Several system calls do the same; these are the ones that the C library makes on this
 * architecture.
 */
#ifdef __NR_epoll_wait
#define __SNR_EPOLL_WAIT __NR_epoll_wait
#else
#define __SNR_EPOLL_WAIT __NR_epoll_pwait
#endif
#ifdef __NR_poll
#define __SNR_POLL __NR_poll
#else
#define __SNR_POLL __NR_ppoll
#endif

/* The limits on the arguments of a call. */
enum arg_check {
	ANY_ARGS,
	NO_EXEC,	/* mmap: without PROT_EXEC */
	DROPPED,	/* madvise: MADV_DONTNEED */
	NO_MEMORY,	/* fails with ENOMEM instead of being allowed */
	FORK,		/* clone: a child, with a copy of the descriptor table or the same table */
	VFIO_STATUS,	/* ioctl: VFIO_GROUP_GET_STATUS */
	CDEV_IOCTLS,	/* ioctl: VFIO_GROUP_GET_STATUS and IOMMU_OPTION */
	LEASE_LOCK,	/* flock: LOCK_EX or LOCK_SH, LOCK_NB */
	CLOSED,		/* accept4: SOCK_CLOEXEC | SOCK_NONBLOCK */
	PIPES,		/* pipe2: O_CLOEXEC, with or without O_NONBLOCK */
	DESCRIPTORS,	/* fcntl: F_DUPFD_CLOEXEC; F_SETFL, O_NONBLOCK */
	FILES,		/* unlinkat: no directories */
	DIRECTORIES,	/* openat: directories, to read them; no file, not by O_PATH either */
	FILTER,		/* seccomp: SECCOMP_SET_MODE_FILTER, without flags */
	ENDINGS,	/* pidfd_send_signal: SIGTERM or SIGKILL */
	DEATHSIG,	/* prctl: PR_SET_PDEATHSIG, SIGKILL */
	BOUNDING_SET,	/* prctl: PR_CAPBSET_READ */
	MEMLOCK,	/* prlimit64: RLIMIT_MEMLOCK */
	PEER,		/* getsockopt: SO_PEERCRED, SO_PEERGROUPS, SO_PEERPIDFD; what a socket is */
	PASSED,		/* setsockopt: SO_PASSCRED, SO_PASSRIGHTS */
	BOTH_WAYS,	/* shutdown: SHUT_RDWR */
	NETLINK_UEVENT, /* socket: AF_NETLINK, NETLINK_KOBJECT_UEVENT */
	UNIX_SOCKET,	/* socket: AF_UNIX */
	TERMINAL	/* ioctl: TCGETS, by which stdio detects a terminal */
};

struct syscall_rule {
	int call;
	enum arg_check check;
	/* the reason follows each row, as a comment */
};

static const struct syscall_rule core_rows[] = {
	{ SCMP_SYS(read), ANY_ARGS },	 /* sysfs attributes, records, inotify, signals, reports */
	{ SCMP_SYS(write), ANY_ARGS },	 /* records, the log */
	{ SCMP_SYS(close), ANY_ARGS },	 /* everything that was opened */
	{ SCMP_SYS(sendmsg), ANY_ARGS }, /* answers, lent descriptors; messages to systemd */
	{ SCMP_SYS(recvmsg), ANY_ARGS }, /* peers and helpers */
	{ SCMP_SYS(accept4), CLOSED },	 /* peers */
	{ SCMP_SYS(getsockopt), PEER },	 /* the identity of a peer; in a taker: what root sent */
	{ SCMP_SYS(shutdown), BOTH_WAYS },  /* a connection that ends: nothing more may be queued */
	{ SCMP_SYS(setsockopt), PASSED },   /* tells its end from an empty packet; handover.c */
	{ SCMP_SYS(epoll_ctl), ANY_ARGS },  /* libevent; whether a claimer still lives */
	{ SCMP_SYS(EPOLL_WAIT), ANY_ARGS }, /* the same */
	{ SCMP_SYS(openat2), ANY_ARGS },    /* sysfs, /dev/vfio, records, each below a descriptor */
	{ SCMP_SYS(readlinkat), ANY_ARGS }, /* a function's driver and group */
	{ SCMP_SYS(getdents64), ANY_ARGS }, /* a group's members, the records */
	/* moves peers' sockets where workers do not copy them; an allotment's listening socket */
	{ SCMP_SYS(fcntl), DESCRIPTORS },
	{ SCMP_SYS(renameat2), ANY_ARGS },	   /* puts a record in place, or sets it aside */
	{ SCMP_SYS(unlinkat), FILES },		   /* removes a record */
	{ SCMP_SYS(inotify_add_watch), ANY_ARGS }, /* watches a lent node, and /dev/vfio */
	{ SCMP_SYS(inotify_rm_watch), ANY_ARGS },  /* a node that is not lent any more */
	{ SCMP_SYS(statx), ANY_ARGS },		   /* the owner and mode of a node that is lent */
	{ SCMP_SYS(ioctl), VFIO_STATUS },	   /* whether a group is viable */
	{ SCMP_SYS(prlimit64), MEMLOCK },	   /* the claimer's limit */
	{ SCMP_SYS(clone), FORK },		   /* workers and closers */
	{ SCMP_SYS(pipe2), PIPES },		   /* a worker's reports, its word; a closer's */
	{ SCMP_SYS(prctl), DEATHSIG },		   /* in a worker: it must not outlive the core */
	{ SCMP_SYS(close_range), ANY_ARGS },	   /* in both: closes all that is not theirs */
	{ SCMP_SYS(seccomp), FILTER },	/* in both: their filter, which can only forbid more */
	{ SCMP_SYS(capset), ANY_ARGS }, /* drops CAP_SYS_RESOURCE; it can only drop */
	{ SCMP_SYS(mmap), NO_MEMORY },	/* malloc, if brk fails */
	{ SCMP_SYS(brk), ANY_ARGS },	/* malloc */
	{ SCMP_SYS(clock_gettime), ANY_ARGS }, /* libevent, where the vDSO has no clock: hpet */
	{ SCMP_SYS(gettimeofday), ANY_ARGS },  /* the same */
	{ SCMP_SYS(exit_group), ANY_ARGS },    /* its end */
};

/* Before Linux 6.5, which has SO_PEERPIDFD: the identity of a peer, held from its connection on. */
static const struct syscall_rule core_old_kernel_rows[] = {
	{ SCMP_SYS(pidfd_open), ANY_ARGS },
};

/* If there is /dev/iommu, devices may have nodes of their own (Linux 6.6, if configured). */
static const struct syscall_rule core_cdev_rows[] = {
	{ SCMP_SYS(flock), LEASE_LOCK },  /* locks a lent device node, and tests the lock */
	{ SCMP_SYS(ioctl), CDEV_IOCTLS }, /* whether a group is viable; iommufd's accounting */
};

/* Until the watcher has finished its first scan; then filter_apply() of watcher_rows. */
static const struct syscall_rule watcher_start_rows[] = {
	{ SCMP_SYS(socket), NETLINK_UEVENT },	/* uevents */
	{ SCMP_SYS(bind), ANY_ARGS },		/* uevents */
	{ SCMP_SYS(setsockopt), ANY_ARGS },	/* uevents: the group and the buffer's size */
	{ SCMP_SYS(getsockname), ANY_ARGS },	/* libnl: its port */
	{ SCMP_SYS(fcntl), ANY_ARGS },		/* libnl: non-blocking */
	{ SCMP_SYS(openat), ANY_ARGS },		/* /sys, the hardware database, modules.alias */
	{ SCMP_SYS(madvise), DROPPED },		/* pages of the hardware database */
	{ SCMP_SYS(uname), ANY_ARGS },		/* the release, for the path of modules.alias */
	{ SCMP_SYS(newfstatat), ANY_ARGS },	/* fstat(), before glibc 2.39: libudev, stdio */
	{ SCMP_SYS(fstat), ANY_ARGS },		/* the same, since glibc 2.39 */
	{ SCMP_SYS(rt_sigprocmask), ANY_ARGS }, /* after libudev 252: the hardware database */
	{ SCMP_SYS(futex), ANY_ARGS },		/* libudev: the hardware database */
	{ SCMP_SYS(mmap), NO_EXEC },		/* the hardware database */
	{ SCMP_SYS(brk), ANY_ARGS },		/* malloc */
	{ SCMP_SYS(getpid), ANY_ARGS },		/* libnl's port */
	{ SCMP_SYS(getrandom), ANY_ARGS },	/* libudev's hash tables */
	{ SCMP_SYS(seccomp), FILTER },		/* the filter for after the start */
};

static const struct syscall_rule watcher_rows[] = {
	{ SCMP_SYS(read), ANY_ARGS },		 /* sysfs */
	{ SCMP_SYS(write), ANY_ARGS },		 /* the log */
	{ SCMP_SYS(close), ANY_ARGS },		 /* files that it has read */
	{ SCMP_SYS(sendmsg), ANY_ARGS },	 /* records to the core */
	{ SCMP_SYS(recvmsg), ANY_ARGS },	 /* uevents */
	{ SCMP_SYS(POLL), ANY_ARGS },		 /* waits for both sockets */
	{ SCMP_SYS(openat2), ANY_ARGS },	 /* sysfs */
	{ SCMP_SYS(readlinkat), ANY_ARGS },	 /* a function's driver and group */
	{ SCMP_SYS(getdents64), ANY_ARGS },	 /* the list of functions */
	{ SCMP_SYS(mmap), NO_MEMORY },		 /* malloc: the heap has what it needs */
	{ SCMP_SYS(munmap), ANY_ARGS },		 /* stdio: buffers of the start */
	{ SCMP_SYS(brk), NO_MEMORY },		 /* the same */
	{ SCMP_SYS(restart_syscall), ANY_ARGS }, /* poll() after a stop, and after a suspend */
	{ SCMP_SYS(exit_group), ANY_ARGS },	 /* its end */
};

/* Until the finder knows NVIDIA's cards; then filter_apply() of finder_rows. */
static const struct syscall_rule finder_start_rows[] = {
	{ SCMP_SYS(openat), ANY_ARGS }, /* what NVIDIA's driver says of its cards */
	{ SCMP_SYS(read), ANY_ARGS },	/* the same */
	{ SCMP_SYS(seccomp), FILTER },	/* the filter for after the start */
};

/*
 * The finder has capabilities by which it could read every file and all memory. Without `read`,
 * and with no file to map, it can read names of files and processes only. It has no `write` either:
 * its exit status says what a log would.
 */
static const struct syscall_rule finder_rows[] = {
	{ SCMP_SYS(openat), DIRECTORIES },  /* /proc, each process' descriptors, /sys */
	{ SCMP_SYS(getdents64), ANY_ARGS }, /* the same */
	{ SCMP_SYS(statx), ANY_ARGS },	    /* which device a descriptor is; whose a process is */
	{ SCMP_SYS(readlinkat), ANY_ARGS }, /* a node's function, a program's name */
	{ SCMP_SYS(close), ANY_ARGS },	    /* directories that it has read */
	{ SCMP_SYS(sendmsg), ANY_ARGS },    /* answers to the core */
	{ SCMP_SYS(recvmsg), ANY_ARGS },    /* the core's questions */
	{ SCMP_SYS(POLL), ANY_ARGS },	    /* waits for them */
	{ SCMP_SYS(clock_gettime), ANY_ARGS },	 /* its time limit, where the vDSO has no clock */
	{ SCMP_SYS(brk), NO_MEMORY },		 /* free() of the filter */
	{ SCMP_SYS(restart_syscall), ANY_ARGS }, /* poll() after a stop, and after a suspend */
	{ SCMP_SYS(exit_group), ANY_ARGS },	 /* its end */
};

/* Until the ender serves; then filter_apply() of ender_rows. */
static const struct syscall_rule ender_start_rows[] = {
	{ SCMP_SYS(getuid), ANY_ARGS }, /* its account, whose processes it spares */
	{ SCMP_SYS(seccomp), FILTER },	/* the filter for after the start */
};

/*
 * As the finder's, and two more. The signals are those that a core may order: with any other, 0
 * among them, it would be of use to an attacker of the ender alone.
 */
static const struct syscall_rule ender_rows[] = {
	{ SCMP_SYS(openat), DIRECTORIES },	  /* /proc, each process' descriptors, /sys */
	{ SCMP_SYS(getdents64), ANY_ARGS },	  /* the same */
	{ SCMP_SYS(statx), ANY_ARGS },		  /* which device a descriptor is; whose it is */
	{ SCMP_SYS(readlinkat), ANY_ARGS },	  /* whether a node is VFIO's, a program's name */
	{ SCMP_SYS(close), ANY_ARGS },		  /* directories and pidfds */
	{ SCMP_SYS(pidfd_open), ANY_ARGS },	  /* holds a process while it is looked at again */
	{ SCMP_SYS(pidfd_send_signal), ENDINGS }, /* its work */
	{ SCMP_SYS(sendmsg), ANY_ARGS },	  /* answers to the core */
	{ SCMP_SYS(recvmsg), ANY_ARGS },	  /* the core's orders */
	{ SCMP_SYS(POLL), ANY_ARGS },		  /* waits for them */
	{ SCMP_SYS(clock_gettime), ANY_ARGS },	  /* its time limit, where the vDSO has no clock */
	{ SCMP_SYS(brk), NO_MEMORY },		  /* free() of the filter */
	{ SCMP_SYS(restart_syscall), ANY_ARGS },  /* poll() after a stop, and after a suspend */
	{ SCMP_SYS(exit_group), ANY_ARGS },	  /* its end */
};

/*
 * The longest table, since the name service's modules are others' code: those of nscd, sssd and
 * systemd were examined. It is never narrowed: each reload calls them again.
 */
static const struct syscall_rule loader_rows[] = {
	{ SCMP_SYS(epoll_pwait2), ANY_ARGS },	 /* NSS: systemd */
	{ SCMP_SYS(timerfd_settime), ANY_ARGS }, /* NSS: systemd */
	{ SCMP_SYS(epoll_ctl), ANY_ARGS },	 /* NSS: systemd */
	{ SCMP_SYS(epoll_wait), ANY_ARGS },	 /* NSS: systemd, older */
	{ SCMP_SYS(epoll_pwait), ANY_ARGS },	 /* NSS: systemd, older */
	{ SCMP_SYS(timerfd_create), ANY_ARGS },	 /* NSS: systemd */
	{ SCMP_SYS(epoll_create1), ANY_ARGS },	 /* NSS: systemd */
	{ SCMP_SYS(read), ANY_ARGS },		 /* policy files, NSS */
	{ SCMP_SYS(pread64), ANY_ARGS },	 /* dlopen of NSS modules */
	{ SCMP_SYS(write), ANY_ARGS },		 /* the log */
	{ SCMP_SYS(close), ANY_ARGS },
	{ SCMP_SYS(sendmsg), ANY_ARGS },  /* rules to the core; NSS */
	{ SCMP_SYS(recvmsg), ANY_ARGS },  /* NSS */
	{ SCMP_SYS(sendto), ANY_ARGS },	  /* NSS: nscd, sssd, systemd */
	{ SCMP_SYS(recvfrom), ANY_ARGS }, /* NSS */
	{ SCMP_SYS(poll), ANY_ARGS },	  /* NSS, and requests and the end of the core */
	{ SCMP_SYS(ppoll), ANY_ARGS },
	{ SCMP_SYS(socket), UNIX_SOCKET },   /* NSS: nscd, sssd, systemd */
	{ SCMP_SYS(connect), ANY_ARGS },     /* NSS */
	{ SCMP_SYS(getsockopt), ANY_ARGS },  /* NSS */
	{ SCMP_SYS(setsockopt), ANY_ARGS },  /* NSS */
	{ SCMP_SYS(getsockname), ANY_ARGS }, /* NSS */
	{ SCMP_SYS(getpeername), ANY_ARGS }, /* NSS */
	{ SCMP_SYS(fcntl), ANY_ARGS },	     /* NSS, fdopendir */
	{ SCMP_SYS(ioctl), TERMINAL },	     /* stdio */
	{ SCMP_SYS(openat), ANY_ARGS },	     /* policy files, NSS */
	{ SCMP_SYS(openat2), ANY_ARGS },     /* sysfs: what shares a group with the boot display */
	{ SCMP_SYS(readlinkat), ANY_ARGS },  /* NSS */
	{ SCMP_SYS(readlink), ANY_ARGS },    /* NSS */
	{ SCMP_SYS(getdents64), ANY_ARGS },  /* the list of policy files */
	{ SCMP_SYS(newfstatat), ANY_ARGS },  /* the owners of policy files */
	{ SCMP_SYS(fstat), ANY_ARGS },
	{ SCMP_SYS(fstatfs), ANY_ARGS },	   /* NSS */
	{ SCMP_SYS(statx), ANY_ARGS },		   /* NSS */
	{ SCMP_SYS(access), ANY_ARGS },		   /* NSS */
	{ SCMP_SYS(faccessat), ANY_ARGS },	   /* NSS */
	{ SCMP_SYS(faccessat2), ANY_ARGS },	   /* NSS */
	{ SCMP_SYS(lseek), ANY_ARGS },		   /* stdio */
	{ SCMP_SYS(mmap), ANY_ARGS },		   /* dlopen maps code: NSS modules */
	{ SCMP_SYS(sysinfo), ANY_ARGS },	   /* qsort, of a large policy */
	{ SCMP_SYS(inotify_init1), ANY_ARGS },	   /* a change of /etc/subuid */
	{ SCMP_SYS(inotify_add_watch), ANY_ARGS }, /* the same; the core asks for all other loads */
	{ SCMP_SYS(mremap), ANY_ARGS },
	{ SCMP_SYS(mprotect), ANY_ARGS }, /* dlopen */
	{ SCMP_SYS(munmap), ANY_ARGS },
	{ SCMP_SYS(madvise), ANY_ARGS },
	{ SCMP_SYS(brk), ANY_ARGS },
	{ SCMP_SYS(futex), ANY_ARGS },
	{ SCMP_SYS(getpid), ANY_ARGS },	   /* NSS */
	{ SCMP_SYS(gettid), ANY_ARGS },	   /* NSS */
	{ SCMP_SYS(getuid), ANY_ARGS },	   /* NSS */
	{ SCMP_SYS(geteuid), ANY_ARGS },   /* NSS */
	{ SCMP_SYS(getgid), ANY_ARGS },	   /* NSS */
	{ SCMP_SYS(getegid), ANY_ARGS },   /* NSS */
	{ SCMP_SYS(getrandom), ANY_ARGS }, /* NSS */
	{ SCMP_SYS(prctl), BOUNDING_SET }, /* NSS: systemd, by libcap */
	{ SCMP_SYS(uname), ANY_ARGS },	   /* NSS: systemd */
	{ SCMP_SYS(clock_gettime), ANY_ARGS },
	{ SCMP_SYS(gettimeofday), ANY_ARGS },
	{ SCMP_SYS(time), ANY_ARGS },
	{ SCMP_SYS(rt_sigprocmask), ANY_ARGS },
	{ SCMP_SYS(rt_sigaction), ANY_ARGS }, /* NSS */
	{ SCMP_SYS(rt_sigreturn), ANY_ARGS },
	{ SCMP_SYS(restart_syscall), ANY_ARGS },
	{ SCMP_SYS(exit_group), ANY_ARGS },
};

/* For closers too: they need fewer. */
static const struct syscall_rule worker_rows[] = {
	{ SCMP_SYS(write), ANY_ARGS },	    /* its steps' files, its reports */
	{ SCMP_SYS(read), ANY_ARGS },	    /* its steps' files, some under the device's lock */
	{ SCMP_SYS(exit_group), ANY_ARGS }, /* its end */
};

#define NO_ARG UINT_MAX

/* The values that the arguments of a call must have: those of any one row of its check. */
static const struct arg_rule {
	enum arg_check check;
	unsigned arg;
	scmp_datum_t value;
	unsigned second_arg; /* NO_ARG: only the first argument is checked */
	scmp_datum_t second_value;
} arg_rules[] = {
	{ FORK, 0, CLONE_PIDFD | SIGCHLD, NO_ARG, 0 },
	{ FORK, 0, CLONE_FILES | CLONE_PIDFD | SIGCHLD, NO_ARG, 0 },
	{ VFIO_STATUS, 1, VFIO_GROUP_GET_STATUS, NO_ARG, 0 },
	{ CDEV_IOCTLS, 1, VFIO_GROUP_GET_STATUS, NO_ARG, 0 },
	{ CDEV_IOCTLS, 1, KERNEL_IOMMU_OPTION, NO_ARG, 0 },
	{ LEASE_LOCK, 1, LOCK_EX | LOCK_NB, NO_ARG, 0 },
	{ LEASE_LOCK, 1, LOCK_SH | LOCK_NB, NO_ARG, 0 },
	{ CLOSED, 3, SOCK_CLOEXEC | SOCK_NONBLOCK, NO_ARG, 0 },
	{ PIPES, 1, O_CLOEXEC, NO_ARG, 0 },
	{ PIPES, 1, O_CLOEXEC | O_NONBLOCK, NO_ARG, 0 },
	{ DESCRIPTORS, 1, F_DUPFD_CLOEXEC, NO_ARG, 0 },
	{ DESCRIPTORS, 1, F_SETFL, 2, O_NONBLOCK },
	{ FILES, 2, 0, NO_ARG, 0 },
	{ DIRECTORIES, 2, OPENED_FLAGS, NO_ARG, 0 },
	{ DROPPED, 2, MADV_DONTNEED, NO_ARG, 0 },
	{ FILTER, 0, SECCOMP_SET_MODE_FILTER, 1, 0 },
	{ ENDINGS, 1, SIGTERM, NO_ARG, 0 },
	{ ENDINGS, 1, SIGKILL, NO_ARG, 0 },
	{ DEATHSIG, 0, PR_SET_PDEATHSIG, 1, SIGKILL },
	{ BOUNDING_SET, 0, PR_CAPBSET_READ, NO_ARG, 0 },
	{ MEMLOCK, 1, RLIMIT_MEMLOCK, NO_ARG, 0 },
	{ PEER, 1, SOL_SOCKET, 2, SO_PEERCRED },
	{ PEER, 1, SOL_SOCKET, 2, SO_PEERGROUPS },
	{ PEER, 1, SOL_SOCKET, 2, SO_PEERPIDFD },
	{ PEER, 1, SOL_SOCKET, 2, SO_DOMAIN },
	{ PEER, 1, SOL_SOCKET, 2, SO_TYPE },
	{ PEER, 1, SOL_SOCKET, 2, SO_ACCEPTCONN },
	{ PEER, 1, SOL_SOCKET, 2, SO_PASSCRED },
	{ PEER, 1, SOL_SOCKET, 2, SO_PASSSEC },
	{ PEER, 1, SOL_SOCKET, 2, SO_PASSPIDFD },
	{ PASSED, 1, SOL_SOCKET, 2, SO_PASSCRED },
	{ PASSED, 1, SOL_SOCKET, 2, SO_PASSRIGHTS },
	{ BOTH_WAYS, 1, SHUT_RDWR, NO_ARG, 0 },
	{ NETLINK_UEVENT, 0, AF_NETLINK, 2, NETLINK_KOBJECT_UEVENT },
	{ UNIX_SOCKET, 0, AF_UNIX, NO_ARG, 0 },
	{ TERMINAL, 1, TCGETS, NO_ARG, 0 },
};

static struct scmp_arg_cmp arg_compare(unsigned arg, enum scmp_compare op, scmp_datum_t value)
{
	return (struct scmp_arg_cmp){ .arg = arg, .op = op, .datum_a = value };
}

static int allow_args(scmp_filter_ctx context, int call, enum arg_check check)
{
	size_t n = 0;
	int r = 0;

	for (size_t i = 0; !r && i < ARRAY_SIZE(arg_rules); i++) {
		const struct arg_rule *rule = &arg_rules[i];
		const bool two = rule->second_arg != NO_ARG;
		const struct scmp_arg_cmp args[] = {
			arg_compare(rule->arg, SCMP_CMP_EQ, rule->value),
			arg_compare(two ? rule->second_arg : rule->arg, SCMP_CMP_EQ,
				    two ? rule->second_value : rule->value),
		};

		if (rule->check != check)
			continue;
		n++;
		r = seccomp_rule_add_array(context, SCMP_ACT_ALLOW, call, two ? 2 : 1, args);
	}
	return r ? r : n ? 0 : -EINVAL; /* a check without a rule would silently allow nothing */
}

static int add_rule(scmp_filter_ctx context, const struct syscall_rule *row)
{
	const struct scmp_arg_cmp not_unix = arg_compare(0, SCMP_CMP_NE, AF_UNIX);
	const struct scmp_arg_cmp no_exec = { .arg = 2,
					      .op = SCMP_CMP_MASKED_EQ,
					      .datum_a = PROT_EXEC };
	int r = 0;

	if (row->call < 0) /* this architecture lacks the call */
		return 0;
	if (row->check == ANY_ARGS)
		return seccomp_rule_add(context, SCMP_ACT_ALLOW, row->call, 0);
	if (row->check == NO_MEMORY)
		return seccomp_rule_add(context, SCMP_ACT_ERRNO(ENOMEM), row->call, 0);
	if (row->check == NO_EXEC)
		return seccomp_rule_add_array(context, SCMP_ACT_ALLOW, row->call, 1, &no_exec);
	/*
	 * Other families fail instead of killing the process: an NSS module may try the network and
	 * go on without it.
	 */
	if (row->check == UNIX_SOCKET)
		r = seccomp_rule_add_array(context, SCMP_ACT_ERRNO(EAFNOSUPPORT), row->call, 1,
					   &not_unix);
	return r ? r : allow_args(context, row->call, row->check);
}

static bool has_call(const struct syscall_rule *rows, size_t n_rows, int call)
{
	for (size_t i = 0; i < n_rows; i++)
		if (rows[i].call == call)
			return true;
	return false;
}

/*
 * Builds a filter from two tables, the second of which may be empty. If both have a call, the
 * second table's row counts.
 */
static int build(const struct syscall_rule *rows, size_t n_rows, const struct syscall_rule *more,
		 size_t n_more, scmp_filter_ctx *ret_context)
{
	/* Calls of other architectures are killed. */
	scmp_filter_ctx context = seccomp_init(SCMP_ACT_KILL_PROCESS);
	int r;

	if (!context)
		return -ENOMEM;
	r = seccomp_attr_set(context, SCMP_FLTATR_ACT_BADARCH, SCMP_ACT_KILL_PROCESS);
	for (size_t i = 0; !r && i < n_rows; i++)
		r = has_call(more, n_more, rows[i].call) ? 0 : add_rule(context, &rows[i]);
	for (size_t i = 0; !r && i < n_more; i++)
		r = add_rule(context, &more[i]);
	if (r) {
		seccomp_release(context);
		return r;
	}
	*ret_context = context;
	return 0;
}

/*
 * Returns true if the kernel has no SO_PEERPIDFD. Returns true on any other failure too, since an
 * extra row does no harm.
 */
static bool kernel_is_old(void)
{
	int ends[2], pidfd = -1, error = 0;
	socklen_t size = sizeof(pidfd);

	if (socketpair(AF_UNIX, SOCK_SEQPACKET | SOCK_CLOEXEC, 0, ends))
		return true;
	if (getsockopt(ends[0], SOL_SOCKET, SO_PEERPIDFD, &pidfd, &size))
		error = errno;
	fd_close(pidfd);
	fd_close(ends[0]);
	fd_close(ends[1]);
	return error;
}

struct table {
	const struct syscall_rule *rows;
	size_t n;
};

#define TABLE(rows)                                                                                \
	{                                                                                          \
		rows, ARRAY_SIZE(rows)                                                             \
	}

/* The calls of a part after its start, and those that only its start needs. */
static const struct table tables[] = {
	[CONFINE_WATCHER] = TABLE(watcher_rows), [CONFINE_LOADER] = TABLE(loader_rows),
	[CONFINE_FINDER] = TABLE(finder_rows),	 [CONFINE_ENDER] = TABLE(ender_rows),
	[CONFINE_WORKER] = TABLE(worker_rows),
};
static const struct table start_tables[] = {
	[CONFINE_WATCHER] = TABLE(watcher_start_rows),
	[CONFINE_LOADER] = { NULL, 0 },
	[CONFINE_FINDER] = TABLE(finder_start_rows),
	[CONFINE_ENDER] = TABLE(ender_start_rows),
	[CONFINE_WORKER] = { NULL, 0 },
};

static int load_tables(const struct syscall_rule *rows, size_t n_rows,
		       const struct syscall_rule *more, size_t n_more)
{
	scmp_filter_ctx context;
	int r = build(rows, n_rows, more, n_more, &context);

	if (r)
		return r;
	r = seccomp_load(context); /* also sets no_new_privs */
	seccomp_release(context);
	return r;
}

int filter_load_core(bool cdevs)
{
	struct syscall_rule more[ARRAY_SIZE(core_old_kernel_rows) + ARRAY_SIZE(core_cdev_rows)];
	size_t n = 0;

	for (size_t i = 0; i < ARRAY_SIZE(core_old_kernel_rows) && kernel_is_old(); i++)
		more[n++] = core_old_kernel_rows[i];
	for (size_t i = 0; i < ARRAY_SIZE(core_cdev_rows) && cdevs; i++)
		more[n++] = core_cdev_rows[i];
	return load_tables(core_rows, ARRAY_SIZE(core_rows), more, n);
}

struct confine_filter {
	struct sock_fprog program;
	struct sock_filter instructions[BPF_MAXINSNS];
};

static int compile(const struct syscall_rule *rows, size_t n_rows,
		   struct confine_filter **ret_filter)
{
	struct confine_filter *filter;
	scmp_filter_ctx context;
	cleanup_fd int memory = -1;
	ssize_t n = -1;
	int r = build(rows, n_rows, NULL, 0, &context);

	if (r)
		return r;
	filter = calloc(1, sizeof(*filter));
	memory = memfd_create("worker-filter", MFD_CLOEXEC);
	if (filter && memory >= 0 && !(r = seccomp_export_bpf(context, memory)))
		n = pread(memory, filter->instructions, sizeof(filter->instructions), 0);
	seccomp_release(context);
	if (n <= 0 || (size_t)n % sizeof(struct sock_filter)) {
		free(filter);
		return r ? r : -EIO;
	}
	filter->program.len = (unsigned short)((size_t)n / sizeof(struct sock_filter));
	filter->program.filter = filter->instructions;
	*ret_filter = filter;
	return 0;
}

int filter_load(enum confine_part part)
{
	return load_tables(tables[part].rows, tables[part].n, start_tables[part].rows,
			   start_tables[part].n);
}

int filter_new(enum confine_part part, struct confine_filter **ret_filter)
{
	return compile(tables[part].rows, tables[part].n, ret_filter);
}

struct confine_filter *filter_free(struct confine_filter *filter)
{
	free(filter);
	return NULL;
}

int filter_apply(const struct confine_filter *filter)
{
	return syscall(SYS_seccomp, SECCOMP_SET_MODE_FILTER, 0, &filter->program) ? -errno : 0;
}
