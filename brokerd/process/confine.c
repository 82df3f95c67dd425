/* SPDX-License-Identifier: MIT */
/*
 * The privileges of each process: capabilities, no_new_privs and seccomp filters, each row with its
 * reason. The only file that knows libseccomp and libcap-ng. A filter kills by default, so a
 * missing row shows at once and a forgotten check lets nobody in. Nothing here is optional and
 * nothing fails open.
 */
#include "config.h"

#include "brokerd/process/confine.h"
#include "brokerd/kernel/kernel.h"
#include "brokerd/process/landlock.h"
#include "client/common/util.h"

#include <cap-ng.h>
#include <fcntl.h>
#include <linux/capability.h>
#include <linux/filter.h>
#include <linux/netlink.h>
#include <linux/seccomp.h>
#include <linux/vfio.h>
#include <sched.h>
#include <seccomp.h>
#include <signal.h>
#include <sys/file.h>
#include <sys/ioctl.h>
#include <sys/mman.h>
#include <sys/prctl.h>
#include <sys/resource.h>
#include <sys/socket.h>
#include <sys/stat.h>
#include <sys/syscall.h>

#ifndef SO_PEERPIDFD
#define SO_PEERPIDFD 77
#endif

/* Of several calls that do the same, the one that the C library makes on this architecture. */
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

/* How far the arguments of a call are held to what the reason names. */
enum held {
	FREELY,
	NO_EXEC,	/* mmap, mprotect: without PROT_EXEC */
	NO_MEMORY,	/* not allowed, but answered with ENOMEM */
	FORK,		/* clone: a child, with a copy of our descriptors or the table itself */
	VFIO_STATUS,	/* ioctl: VFIO_GROUP_GET_STATUS */
	CDEV_IOCTLS,	/* ioctl: that, and IOMMU_OPTION */
	LEASE_LOCK,	/* flock: LOCK_EX or LOCK_SH, LOCK_NB */
	CLOSED,		/* accept4: SOCK_CLOEXEC | SOCK_NONBLOCK */
	PIPE,		/* pipe2: O_CLOEXEC | O_NONBLOCK */
	DUPLICATE,	/* fcntl: F_DUPFD_CLOEXEC */
	FILES,		/* unlinkat: no directory */
	FILTER,		/* seccomp: SECCOMP_SET_MODE_FILTER, without flags */
	DEATHSIG,	/* prctl: PR_SET_PDEATHSIG, SIGKILL */
	BOUNDING_SET,	/* prctl: PR_CAPBSET_READ */
	MEMLOCK,	/* prlimit64: RLIMIT_MEMLOCK */
	PEER,		/* getsockopt: SO_PEERCRED, SO_PEERGROUPS, SO_PEERPIDFD */
	NETLINK_UEVENT, /* socket: AF_NETLINK, NETLINK_KOBJECT_UEVENT */
	UNIX_SOCKET,	/* socket: AF_UNIX */
	TERMINAL	/* ioctl: TCGETS, stdio asking whether it writes to a terminal */
};

struct row {
	int call;
	enum held held;
	/* the reason stands beside the row */
};

static const struct row core_rows[] = {
	{ SCMP_SYS(read), FREELY },	  /* sysfs attributes, records, inotify, signals, reports */
	{ SCMP_SYS(write), FREELY },	  /* records, the log */
	{ SCMP_SYS(close), FREELY },	  /* what was opened */
	{ SCMP_SYS(sendmsg), FREELY },	  /* answers, with the lent descriptors; to systemd */
	{ SCMP_SYS(recvmsg), FREELY },	  /* peers and helpers */
	{ SCMP_SYS(accept4), CLOSED },	  /* peers */
	{ SCMP_SYS(getsockopt), PEER },	  /* who a peer is */
	{ SCMP_SYS(epoll_ctl), FREELY },  /* libevent; does a claimer still live */
	{ SCMP_SYS(EPOLL_WAIT), FREELY }, /* the same */
	{ SCMP_SYS(openat2), FREELY }, /* sysfs, /dev/vfio, records: always beneath a descriptor */
	{ SCMP_SYS(readlinkat), FREELY },	 /* a function's driver and group */
	{ SCMP_SYS(getdents64), FREELY },	 /* a group's members, the records */
	{ SCMP_SYS(fcntl), DUPLICATE },		 /* a peer's socket goes out of the workers' way */
	{ SCMP_SYS(renameat2), FREELY },	 /* a record becomes whole, or is set aside */
	{ SCMP_SYS(unlinkat), FILES },		 /* a lease has ended */
	{ SCMP_SYS(inotify_add_watch), FREELY }, /* a lent group's node */
	{ SCMP_SYS(inotify_rm_watch), FREELY },	 /* one that was not lent after all */
	{ SCMP_SYS(ioctl), VFIO_STATUS },	 /* is a group viable */
	{ SCMP_SYS(prlimit64), MEMLOCK },	 /* the claimer's limit */
	{ SCMP_SYS(clone), FORK },		 /* workers */
	{ SCMP_SYS(pipe2), PIPE },		 /* a worker's reports */
	{ SCMP_SYS(prctl), DEATHSIG }, /* a worker must not outlive us; in it, before its filter */
	{ SCMP_SYS(close_range), FREELY },   /* likewise: it has what it is handed */
	{ SCMP_SYS(seccomp), FILTER },	     /* likewise: its filter, which can only narrow */
	{ SCMP_SYS(capset), FREELY },	     /* dropping CAP_SYS_RESOURCE; it can only drop */
	{ SCMP_SYS(mmap), NO_MEMORY },	     /* malloc, where brk has no more */
	{ SCMP_SYS(brk), FREELY },	     /* malloc */
	{ SCMP_SYS(clock_gettime), FREELY }, /* libevent, where the vDSO has no clock: hpet */
	{ SCMP_SYS(gettimeofday), FREELY },  /* the same */
	{ SCMP_SYS(exit_group), FREELY },    /* its end */
};

/* Before SO_PEERPIDFD, Linux 6.5: who a peer is, held from when it connects. */
static const struct row core_old_kernel_rows[] = {
	{ SCMP_SYS(pidfd_open), FREELY },
};

/* Where there is /dev/iommu, so devices may have nodes of their own (Linux 6.6, where it is built so). */
static const struct row core_cdev_rows[] = {
	{ SCMP_SYS(flock), LEASE_LOCK }, /* a lent device node: whether it is gone shows by that */
	{ SCMP_SYS(ioctl),
	  CDEV_IOCTLS }, /* is a group viable; whose limit iommufd counts against */
};

/* Until it has looked at everything once: then confine_settled(). */
static const struct row watcher_start_rows[] = {
	{ SCMP_SYS(socket), NETLINK_UEVENT }, /* uevents */
	{ SCMP_SYS(bind), FREELY },	      /* uevents */
	{ SCMP_SYS(setsockopt), FREELY },     /* uevents: the group and the buffer's size */
	{ SCMP_SYS(getsockname), FREELY },    /* libnl: its port */
	{ SCMP_SYS(fcntl), FREELY },	      /* libnl: non-blocking */
	{ SCMP_SYS(openat), FREELY },	      /* /sys, the hardware database, modules.alias */
	{ SCMP_SYS(uname), FREELY },	      /* whose modules.alias */
	{ SCMP_SYS(newfstatat), FREELY },     /* fstat(), before glibc 2.39: libudev, stdio */
	{ SCMP_SYS(fstat), FREELY },	      /* the same, since glibc 2.39 */
	{ SCMP_SYS(rt_sigprocmask), FREELY }, /* after libudev 252: the hardware database */
	{ SCMP_SYS(futex), FREELY },	      /* libudev: the hardware database */
	{ SCMP_SYS(mmap), NO_EXEC },	      /* the hardware database */
	{ SCMP_SYS(brk), FREELY },	      /* malloc */
	{ SCMP_SYS(getpid), FREELY },	      /* libnl's port */
	{ SCMP_SYS(getrandom), FREELY },      /* libudev's hash tables */
	{ SCMP_SYS(seccomp), FILTER },	      /* what is left of this */
};

static const struct row watcher_rows[] = {
	{ SCMP_SYS(read), FREELY },	       /* sysfs */
	{ SCMP_SYS(write), FREELY },	       /* the log */
	{ SCMP_SYS(close), FREELY },	       /* what it has read */
	{ SCMP_SYS(sendmsg), FREELY },	       /* records to the core */
	{ SCMP_SYS(recvmsg), FREELY },	       /* uevents */
	{ SCMP_SYS(POLL), FREELY },	       /* for either */
	{ SCMP_SYS(openat2), FREELY },	       /* sysfs */
	{ SCMP_SYS(readlinkat), FREELY },      /* a function's driver and group */
	{ SCMP_SYS(getdents64), FREELY },      /* which functions there are */
	{ SCMP_SYS(mmap), NO_MEMORY },	       /* malloc: it has what it needs */
	{ SCMP_SYS(munmap), FREELY },	       /* stdio: its buffers of the start */
	{ SCMP_SYS(brk), NO_MEMORY },	       /* the same */
	{ SCMP_SYS(restart_syscall), FREELY }, /* poll() after a stop, and after a suspend */
	{ SCMP_SYS(exit_group), FREELY },      /* its end */
};

/*
 * The longest, for whatever the name service's modules call, which are others' code: nscd's, sssd's
 * and systemd's clients were looked at. It is always as wide: each reload asks them again.
 */
static const struct row loader_rows[] = {
	{ SCMP_SYS(epoll_pwait2), FREELY },    /* NSS: systemd */
	{ SCMP_SYS(timerfd_settime), FREELY }, /* NSS: systemd */
	{ SCMP_SYS(epoll_ctl), FREELY },       /* NSS: systemd */
	{ SCMP_SYS(epoll_wait), FREELY },      /* NSS: systemd, older */
	{ SCMP_SYS(epoll_pwait), FREELY },     /* NSS: systemd, older */
	{ SCMP_SYS(timerfd_create), FREELY },  /* NSS: systemd */
	{ SCMP_SYS(epoll_create1), FREELY },   /* NSS: systemd */
	{ SCMP_SYS(read), FREELY },	       /* policy files, NSS */
	{ SCMP_SYS(pread64), FREELY },	       /* dlopen of NSS modules */
	{ SCMP_SYS(write), FREELY },	       /* the log */
	{ SCMP_SYS(close), FREELY },
	{ SCMP_SYS(sendmsg), FREELY },	/* rules to the core; NSS */
	{ SCMP_SYS(recvmsg), FREELY },	/* NSS */
	{ SCMP_SYS(sendto), FREELY },	/* NSS: nscd, sssd, systemd */
	{ SCMP_SYS(recvfrom), FREELY }, /* NSS */
	{ SCMP_SYS(poll), FREELY },	/* NSS, and the end of the core */
	{ SCMP_SYS(ppoll), FREELY },
	{ SCMP_SYS(socket), UNIX_SOCKET }, /* NSS: nscd, sssd, systemd */
	{ SCMP_SYS(connect), FREELY },	   /* NSS */
	{ SCMP_SYS(getsockopt), FREELY },  /* NSS */
	{ SCMP_SYS(setsockopt), FREELY },  /* NSS */
	{ SCMP_SYS(getsockname), FREELY }, /* NSS */
	{ SCMP_SYS(getpeername), FREELY }, /* NSS */
	{ SCMP_SYS(fcntl), FREELY },	   /* NSS, fdopendir */
	{ SCMP_SYS(ioctl), TERMINAL },	   /* stdio */
	{ SCMP_SYS(openat), FREELY },	   /* policy files, NSS */
	{ SCMP_SYS(readlinkat), FREELY },  /* NSS */
	{ SCMP_SYS(readlink), FREELY },	   /* NSS */
	{ SCMP_SYS(getdents64), FREELY },  /* policy directories */
	{ SCMP_SYS(newfstatat), FREELY },  /* whose files are they */
	{ SCMP_SYS(fstat), FREELY },
	{ SCMP_SYS(fstatfs), FREELY },	  /* NSS */
	{ SCMP_SYS(statx), FREELY },	  /* NSS */
	{ SCMP_SYS(access), FREELY },	  /* NSS */
	{ SCMP_SYS(faccessat), FREELY },  /* NSS */
	{ SCMP_SYS(faccessat2), FREELY }, /* NSS */
	{ SCMP_SYS(lseek), FREELY },	  /* stdio */
	{ SCMP_SYS(mmap), FREELY },	  /* dlopen maps code: NSS modules */
	{ SCMP_SYS(sysinfo), FREELY },	  /* qsort, of a large policy */
	{ SCMP_SYS(mremap), FREELY },
	{ SCMP_SYS(mprotect), FREELY }, /* dlopen */
	{ SCMP_SYS(munmap), FREELY },
	{ SCMP_SYS(madvise), FREELY },
	{ SCMP_SYS(brk), FREELY },
	{ SCMP_SYS(futex), FREELY },
	{ SCMP_SYS(getpid), FREELY },	   /* NSS */
	{ SCMP_SYS(gettid), FREELY },	   /* NSS */
	{ SCMP_SYS(getuid), FREELY },	   /* NSS */
	{ SCMP_SYS(geteuid), FREELY },	   /* NSS */
	{ SCMP_SYS(getgid), FREELY },	   /* NSS */
	{ SCMP_SYS(getegid), FREELY },	   /* NSS */
	{ SCMP_SYS(getrandom), FREELY },   /* NSS */
	{ SCMP_SYS(prctl), BOUNDING_SET }, /* NSS: systemd, by libcap */
	{ SCMP_SYS(uname), FREELY },	   /* NSS: systemd */
	{ SCMP_SYS(clock_gettime), FREELY },
	{ SCMP_SYS(gettimeofday), FREELY },
	{ SCMP_SYS(time), FREELY },
	{ SCMP_SYS(rt_sigprocmask), FREELY },
	{ SCMP_SYS(rt_sigaction), FREELY }, /* NSS */
	{ SCMP_SYS(rt_sigreturn), FREELY },
	{ SCMP_SYS(restart_syscall), FREELY },
	{ SCMP_SYS(exit_group), FREELY },
};

static const struct row worker_rows[] = {
	{ SCMP_SYS(write), FREELY },	  /* the files it was handed, its reports */
	{ SCMP_SYS(read), FREELY },	  /* likewise: attributes that take the device's lock */
	{ SCMP_SYS(exit_group), FREELY }, /* its end */
};

/* Allows a call where one or two of its arguments are as given. */
static int allow(scmp_filter_ctx context, int call, struct scmp_arg_cmp first,
		 const struct scmp_arg_cmp *second)
{
	const struct scmp_arg_cmp both[] = { first, second ? *second : first };

	return seccomp_rule_add_array(context, SCMP_ACT_ALLOW, call, second ? 2 : 1, both);
}

static struct scmp_arg_cmp equal(unsigned argument, scmp_datum_t value)
{
	return (struct scmp_arg_cmp){ .arg = argument, .op = SCMP_CMP_EQ, .datum_a = value };
}

static int add_row(scmp_filter_ctx context, const struct row *row)
{
	static const struct scmp_arg_cmp no_exec = { .arg = 2,
						     .op = SCMP_CMP_MASKED_EQ,
						     .datum_a = PROT_EXEC };
	static const struct scmp_arg_cmp not_unix = { .arg = 0,
						      .op = SCMP_CMP_NE,
						      .datum_a = AF_UNIX };
	static const int peer_options[] = { SO_PEERCRED, SO_PEERGROUPS, SO_PEERPIDFD };
	struct scmp_arg_cmp second;
	int r = 0;

	if (row->call < 0) /* not on this architecture */
		return 0;
	switch (row->held) {
	case FREELY:
		return seccomp_rule_add(context, SCMP_ACT_ALLOW, row->call, 0);
	case NO_EXEC:
		return allow(context, row->call, no_exec, NULL);
	case NO_MEMORY:
		return seccomp_rule_add(context, SCMP_ACT_ERRNO(ENOMEM), row->call, 0);
	case FORK:
		r = allow(context, row->call, equal(0, CLONE_PIDFD | SIGCHLD), NULL);
		return r ? r
			 : allow(context, row->call, equal(0, CLONE_FILES | CLONE_PIDFD | SIGCHLD),
				 NULL);
	case VFIO_STATUS:
		return allow(context, row->call, equal(1, VFIO_GROUP_GET_STATUS), NULL);
	case CDEV_IOCTLS:
		r = allow(context, row->call, equal(1, VFIO_GROUP_GET_STATUS), NULL);
		return r ? r : allow(context, row->call, equal(1, KERNEL_IOMMU_OPTION), NULL);
	case LEASE_LOCK:
		r = allow(context, row->call, equal(1, LOCK_EX | LOCK_NB), NULL);
		return r ? r : allow(context, row->call, equal(1, LOCK_SH | LOCK_NB), NULL);
	case CLOSED:
		return allow(context, row->call, equal(3, SOCK_CLOEXEC | SOCK_NONBLOCK), NULL);
	case PIPE:
		return allow(context, row->call, equal(1, O_CLOEXEC | O_NONBLOCK), NULL);
	case DUPLICATE:
		return allow(context, row->call, equal(1, F_DUPFD_CLOEXEC), NULL);
	case FILES:
		return allow(context, row->call, equal(2, 0), NULL);
	case FILTER:
		second = equal(1, 0);
		return allow(context, row->call, equal(0, SECCOMP_SET_MODE_FILTER), &second);
	case DEATHSIG:
		second = equal(1, SIGKILL);
		return allow(context, row->call, equal(0, PR_SET_PDEATHSIG), &second);
	case BOUNDING_SET:
		return allow(context, row->call, equal(0, PR_CAPBSET_READ), NULL);
	case MEMLOCK:
		return allow(context, row->call, equal(1, RLIMIT_MEMLOCK), NULL);
	case PEER:
		for (size_t i = 0; !r && i < ARRAY_SIZE(peer_options); i++) {
			second = equal(2, (scmp_datum_t)peer_options[i]);
			r = allow(context, row->call, equal(1, SOL_SOCKET), &second);
		}
		return r;
	case NETLINK_UEVENT:
		second = equal(2, NETLINK_KOBJECT_UEVENT);
		return allow(context, row->call, equal(0, AF_NETLINK), &second);
	case UNIX_SOCKET:
		/*
		 * The rest is answered, not killed: an NSS module may try the network and do
		 * without.
		 */
		r = seccomp_rule_add_array(context, SCMP_ACT_ERRNO(EAFNOSUPPORT), row->call, 1,
					   &not_unix);
		return r ? r : allow(context, row->call, equal(0, AF_UNIX), NULL);
	case TERMINAL:
		return allow(context, row->call, equal(1, TCGETS), NULL);
	}
	return -EINVAL;
}

static bool has_call(const struct row *rows, size_t n_rows, int call)
{
	for (size_t i = 0; i < n_rows; i++)
		if (rows[i].call == call)
			return true;
	return false;
}

/* Two tables, the second perhaps empty; of a call in both the second says how far. */
static int build(const struct row *rows, size_t n_rows, const struct row *more, size_t n_more,
		 scmp_filter_ctx *ret_context)
{
	/* Other architectures' calls are killed: libseccomp's default for what no filter names. */
	scmp_filter_ctx context = seccomp_init(SCMP_ACT_KILL_PROCESS);
	int r;

	if (!context)
		return -ENOMEM;
	r = seccomp_attr_set(context, SCMP_FLTATR_ACT_BADARCH, SCMP_ACT_KILL_PROCESS);
	for (size_t i = 0; !r && i < n_rows; i++)
		r = has_call(more, n_more, rows[i].call) ? 0 : add_row(context, &rows[i]);
	for (size_t i = 0; !r && i < n_more; i++)
		r = add_row(context, &more[i]);
	if (r) {
		seccomp_release(context);
		return r;
	}
	*ret_context = context;
	return 0;
}

/* Has it no SO_PEERPIDFD? Whatever else goes wrong with the question is no reason to allow less. */
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
	const struct row *rows;
	size_t n;
};

#define TABLE(rows)                                                                                \
	{                                                                                          \
		rows, ARRAY_SIZE(rows)                                                             \
	}

/* What a part may do from when on it has settled, and what until then only. */
static const struct table tables[] = {
	[CONFINE_WATCHER] = TABLE(watcher_rows),
	[CONFINE_LOADER] = TABLE(loader_rows),
};
static const struct table start_tables[] = {
	[CONFINE_WATCHER] = TABLE(watcher_start_rows),
	[CONFINE_LOADER] = { NULL, 0 },
};

static int load(const struct row *rows, size_t n_rows, const struct row *more, size_t n_more)
{
	scmp_filter_ctx context;
	int r = build(rows, n_rows, more, n_more, &context);

	if (r)
		return r;
	r = seccomp_load(context); /* sets no_new_privs first */
	seccomp_release(context);
	return r;
}

static int load_core(bool cdevs)
{
	struct row more[ARRAY_SIZE(core_old_kernel_rows) + ARRAY_SIZE(core_cdev_rows)];
	size_t n = 0;

	for (size_t i = 0; i < ARRAY_SIZE(core_old_kernel_rows) && kernel_is_old(); i++)
		more[n++] = core_old_kernel_rows[i];
	for (size_t i = 0; i < ARRAY_SIZE(core_cdev_rows) && cdevs; i++)
		more[n++] = core_cdev_rows[i];
	return load(core_rows, ARRAY_SIZE(core_rows), more, n);
}

struct confine_filter {
	struct sock_fprog program;
	struct sock_filter instructions[BPF_MAXINSNS];
};

static int compile(const struct row *rows, size_t n_rows, struct confine_filter **ret_filter)
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

/* A helper's, made while it may still do what that takes. */
static struct confine_filter *settled;

/* What is left to do when a helper is its account, whoever has seen to that. */
static int confine_unprivileged(enum confine_part part)
{
	int r;

	/* The helpers share an account: one must not be able to look into the other. */
	if (prctl(PR_SET_DUMPABLE, 0, 0, 0, 0))
		return -errno;
	r = landlock_helper();
	if (!r)
		r = compile(tables[part].rows, tables[part].n, &settled);
	return r ? r
		 : load(tables[part].rows, tables[part].n, start_tables[part].rows,
			start_tables[part].n);
}

int confine_helper(enum confine_part part, uid_t uid, gid_t gid)
{
	if (prctl(PR_SET_NO_NEW_PRIVS, 1, 0, 0, 0))
		return -errno;
	capng_clear(CAPNG_SELECT_BOTH);
	/*
	 * Drops supplementary groups, sets all six ids, empties the bounding set, then the
	 * capabilities.
	 */
	if (capng_change_id((int)uid, (int)gid,
			    CAPNG_DROP_SUPP_GRP | CAPNG_CLEAR_BOUNDING | CAPNG_CLEAR_AMBIENT))
		return -EPERM;
	return confine_unprivileged(part);
}

/* Is nothing in these sets but, perhaps, one capability? As capng_get_caps_process() found it. */
static bool has_only(const capng_type_t *sets, size_t n_sets, int allowed)
{
	for (size_t i = 0; i < n_sets; i++)
		for (int c = 0; c <= CAP_LAST_CAP; c++)
			if (c != allowed && capng_have_capability(sets[i], (unsigned)c))
				return false;
	return true;
}

int confine_own(enum confine_part part)
{
	static const capng_type_t sets[] = { CAPNG_PERMITTED, CAPNG_EFFECTIVE, CAPNG_INHERITABLE,
					     CAPNG_BOUNDING_SET, CAPNG_AMBIENT };
	gid_t groups[2];
	uid_t uids[3];
	gid_t gids[3];
	int n;

	if (prctl(PR_SET_NO_NEW_PRIVS, 1, 0, 0, 0))
		return -errno;
	if (getresuid(&uids[0], &uids[1], &uids[2]) || getresgid(&gids[0], &gids[1], &gids[2]))
		return -errno;
	for (size_t i = 0; i < 3; i++)
		if (!uids[i] || uids[i] != uids[0] || !gids[i] || gids[i] != gids[0])
			return -EPERM;
	/* initgroups() makes the account's own group one of its supplementary ones. */
	n = getgroups(ARRAY_SIZE(groups), groups);
	if (n > 1 || n < 0 || (n == 1 && groups[0] != gids[0]))
		return -EPERM;
	if (capng_get_caps_process())
		return -EINVAL;
	if (!has_only(sets, ARRAY_SIZE(sets), -1))
		return -EPERM;
	return confine_unprivileged(part);
}

int confine_settled(void)
{
	int r = settled ? confine_worker(settled) : -EINVAL;

	settled = confine_filter_free(settled);
	return r;
}

int confine_core(bool keep_sys_resource, bool cdevs, int state_dir)
{
	static const capng_type_t bounding_set = CAPNG_BOUNDING_SET;
	bool have, can_empty;
	int r;

	if (prctl(PR_SET_NO_NEW_PRIVS, 1, 0, 0, 0))
		return -errno;
	if (capng_get_caps_process())
		return -EINVAL;
	have = capng_have_capability(CAPNG_PERMITTED, CAP_SYS_RESOURCE);
	/*
	 * To empty the bounding set takes a capability, which the unit does not give: its set is
	 * small from the start, and means nothing to a process that can execute no program.
	 */
	can_empty = capng_have_capability(CAPNG_EFFECTIVE, CAP_SETPCAP);
	if (!can_empty && !has_only(&bounding_set, 1, CAP_SYS_RESOURCE))
		return -EPERM;
	capng_clear(can_empty ? CAPNG_SELECT_BOTH : CAPNG_SELECT_CAPS);
	/*
	 * CAP_SYS_RESOURCE: prlimit() on the claimer, above its hard limit; kept only while a rule
	 * grants memlock.
	 */
	if (have && keep_sys_resource &&
	    capng_update(CAPNG_ADD, CAPNG_EFFECTIVE | CAPNG_PERMITTED, CAP_SYS_RESOURCE))
		return -EINVAL;
	if (capng_apply(can_empty ? CAPNG_SELECT_BOTH : CAPNG_SELECT_CAPS))
		return -EPERM;
	r = landlock_core(state_dir);
	return r ? r : load_core(cdevs);
}

/* As a call of its own, since libcap-ng asks for what there is, by calls that have no row. */
int confine_drop_sys_resource(void)
{
	struct __user_cap_header_struct header = { .version = _LINUX_CAPABILITY_VERSION_3 };
	const struct __user_cap_data_struct none[_LINUX_CAPABILITY_U32S_3] = { 0 };

	return syscall(SYS_capset, &header, none) ? -errno : 0;
}

int confine_filter_new(struct confine_filter **ret_filter)
{
	return compile(worker_rows, ARRAY_SIZE(worker_rows), ret_filter);
}

struct confine_filter *confine_filter_free(struct confine_filter *filter)
{
	free(filter);
	return NULL;
}

int confine_worker(const struct confine_filter *filter)
{
	return syscall(SYS_seccomp, SECCOMP_SET_MODE_FILTER, 0, &filter->program) ? -errno : 0;
}
