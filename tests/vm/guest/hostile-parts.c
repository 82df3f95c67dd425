/* SPDX-License-Identifier: MIT */
/*
 * hostile-parts: gpubrokerd whose core, workers, watcher, loader, finder and ender each try what they must not be able to do, in the
 * finished confinement. Linked from the daemon's own objects; only these are replaced (--wrap): what runs behind
 * confine_helper(), confine_core() and a worker's filter_apply(), never the confinement itself.
 *
 * Each attempt has a process of its own, which comes to it by the daemon's own way: confined by helper/start.c, as a fork
 * or as the process of a unit, by start() in daemon.c, or by worker.c. How it ends is seen from outside: by which signal, or with which errno as its exit
 * status, 0 where the attempt got through. Prints, for each attempt, its name, what came of it and what is
 * expected, with tabs between.
 *
 * With HOSTILE=unit in the environment it takes itself to be in its unit's sandbox, that of the core or, with --helper,
 * of a helper, and its part is the only one that tries; HOSTILE_CORE is the process of a core then. Otherwise it leaves out the calls that
 * no part has a row for: they fail by the filter alone, which is the same. With HOSTILE=keep it is the daemon, but its core
 * keeps a copy of each descriptor that it lends.
 */
#include "brokerd/helper/start.h"
#include "brokerd/helper/ender.h"
#include "brokerd/helper/finder.h"
#include "brokerd/helper/watcher.h"
#include "brokerd/helper/loader.h"
#include "brokerd/lease/recover.h"
#include "brokerd/process/filter.h"
#include "brokerd/process/landlock.h"
#include "brokerd/process/worker.h"
#include "client/common/util.h"
#include "client/wire/passfd.h"

#include <errno.h>
#include <event2/event.h>
#include <fcntl.h>
#include <linux/capability.h>
#include <linux/netlink.h>
#include <linux/openat2.h>
#include <linux/seccomp.h>
#include <linux/vfio.h>
#include <sched.h>
#include <signal.h>
#include <stdarg.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/ioctl.h>
#include <sys/mman.h>
#include <sys/prctl.h>
#include <sys/ptrace.h>
#include <sys/resource.h>
#include <sys/socket.h>
#include <sys/stat.h>
#include <sys/syscall.h>
#include <sys/un.h>
#include <sys/wait.h>
#include <time.h>

#define SECONDS 20 /* after which an attempt hangs */

enum part { CORE, WORKER, WATCHER, LOADER, FINDER, ENDER, PARTS };
static const char *const part_names[PARTS] = { "core",	 "worker", "watcher",
					       "loader", "finder", "ender" };

static pid_t parent;
static char parent_memory[32];
static enum part part;
static bool ran[PARTS]; /* those that have tried here */

/* 0 or errno */
#define TRY(...) (syscall(__VA_ARGS__) < 0 ? errno : 0)

/* ---- the attempts ---- */

static int openat_(const char *path, int flags)
{
	return TRY(SYS_openat, AT_FDCWD, path, flags | O_CLOEXEC, 0600);
}

static int openat2_(const char *path, int flags)
{
	const struct open_how how = {
		.flags = (unsigned)flags | O_CLOEXEC,
		.mode = flags & O_CREAT ? 0600 : 0,
	};

	return TRY(SYS_openat2, AT_FDCWD, path, &how, sizeof(how));
}

/* By the call that the part has, so that it is not for the call alone that it fails. */
static int open_(const char *path, int flags)
{
	return part == LOADER || part >= FINDER ? openat_(path, flags) : openat2_(path, flags);
}

static int execute(void)
{
	char *const none[] = { NULL };

	return TRY(SYS_execve, "/bin/true", none, none);
}
static int execute_descriptor(void)
{
	char *const none[] = { NULL };

	return TRY(SYS_execveat, 0, "", none, none, AT_EMPTY_PATH);
}
/* getpid() by the i386 door. */
static int foreign_call(void)
{
	long r;

	__asm__ volatile("int $0x80" : "=a"(r) : "a"(20L) : "memory", "r8", "r9", "r10", "r11");
	return r > 0 ? 0 : (int)-r;
}
static int x32_call(void)
{
	return TRY(0x40000000 | SYS_getpid);
}
static int socket_inet(void)
{
	return TRY(SYS_socket, AF_INET, SOCK_STREAM | SOCK_CLOEXEC, 0);
}
static int socket_inet6(void)
{
	return TRY(SYS_socket, AF_INET6, SOCK_DGRAM | SOCK_CLOEXEC, 0);
}
static int socket_packet(void)
{
	return TRY(SYS_socket, AF_PACKET, SOCK_RAW | SOCK_CLOEXEC, 0);
}
static int socket_route(void)
{
	return TRY(SYS_socket, AF_NETLINK, SOCK_RAW | SOCK_CLOEXEC, NETLINK_ROUTE);
}
static int socket_uevent(void)
{
	return TRY(SYS_socket, AF_NETLINK, SOCK_RAW | SOCK_CLOEXEC, NETLINK_KOBJECT_UEVENT);
}
static int socket_unix(void)
{
	return TRY(SYS_socket, AF_UNIX, SOCK_STREAM | SOCK_CLOEXEC, 0);
}
static int socket_option(void)
{
	const int size = 1 << 20;

	return TRY(SYS_setsockopt, 3, SOL_SOCKET, SO_SNDBUF, &size, sizeof(size));
}
static int end_one_way(void)
{
	return TRY(SYS_shutdown, 3, SHUT_WR);
}
static int shadow(void)
{
	return open_("/etc/shadow", O_RDONLY);
}
static int shadow_openat(void)
{
	return openat_("/etc/shadow", O_RDONLY);
}
static int shadow_openat2(void)
{
	return openat2_("/etc/shadow", O_RDONLY);
}
static int memory_of_init(void)
{
	return open_("/proc/1/mem", O_RDWR);
}
static int memory_of_core(void)
{
	return open_(parent_memory, O_RDWR);
}
static int disk(void)
{
	return open_("/dev/vda", O_WRONLY);
}
static int disk_by_number(void)
{
	return TRY(SYS_mknodat, AT_FDCWD, "/dev/shm/hostile-disk", S_IFBLK | 0600, 254 << 8);
}
static int all_memory(void)
{
	return open_("/dev/mem", O_RDWR);
}
static int sysfs_elsewhere(void)
{
	return open_("/sys/kernel/rcu_expedited", O_WRONLY);
}
static int sysfs_module(void)
{
	return open_("/sys/module/printk/parameters/time", O_WRONLY);
}
static int core_pattern(void)
{
	return open_("/proc/sys/kernel/core_pattern", O_WRONLY);
}
static int cgroup(void)
{
	return open_("/sys/fs/cgroup/cgroup.subtree_control", O_WRONLY);
}
static int make_in_etc(void)
{
	return open_("/etc/hostile", O_WRONLY | O_CREAT | O_EXCL);
}
/* Not one that another part has made, which the kernel would protect from us (fs.protected_regular). */
static int make_own(const char *directory)
{
	char path[64];

	snprintf(path, sizeof(path), "%s/hostile-%s", directory, part_names[part]);
	return open_(path, O_WRONLY | O_CREAT | O_TRUNC);
}
static int make_in_tmp(void)
{
	return make_own("/tmp");
}
static int make_in_dev(void)
{
	return make_own("/dev/shm");
}
static int make_record(void)
{
	return open_("/run/gpubroker/leases/hostile", O_WRONLY | O_CREAT | O_EXCL);
}
static int write_override(void)
{
	return open_("/sys/bus/pci/drivers_probe", O_WRONLY);
}
static int vfio_container(void)
{
	return open_("/dev/vfio/vfio", O_RDWR);
}
static int move_file(void)
{
	return TRY(SYS_renameat2, AT_FDCWD, "/dev/shm/hostile-victim", AT_FDCWD,
		   "/dev/shm/hostile-moved", 0);
}
static int remove_file(void)
{
	return TRY(SYS_unlinkat, AT_FDCWD, "/dev/shm/hostile-victim2", 0);
}
static int remove_directory(void)
{
	return TRY(SYS_unlinkat, AT_FDCWD, "/dev/shm/hostile-directory", AT_REMOVEDIR);
}
static int make_module(void)
{
	return TRY(SYS_init_module, "", 0, "");
}
static int make_module_of_file(void)
{
	return TRY(SYS_finit_module, 0, "", 0);
}
static int trace_init(void)
{
	return TRY(SYS_ptrace, PTRACE_SEIZE, 1, 0, 0);
}
static int trace_core(void)
{
	return TRY(SYS_ptrace, PTRACE_SEIZE, parent, 0, 0);
}
static int mount_something(void)
{
	return TRY(SYS_mount, "none", "/tmp", "tmpfs", 0, NULL);
}
static int new_namespace(void)
{
	return TRY(SYS_unshare, CLONE_NEWUSER);
}
static int set_clock(void)
{
	struct timespec now = { 0 };

	syscall(SYS_clock_gettime, CLOCK_REALTIME, &now); /* not a worker's: killed a call early */
	return TRY(SYS_clock_settime, CLOCK_REALTIME, &now);
}
static int become_root(void)
{
	return TRY(SYS_setresuid, 0, 0, 0);
}
static int raise_capability(void)
{
	struct __user_cap_header_struct header = { .version = _LINUX_CAPABILITY_VERSION_3 };
	const struct __user_cap_data_struct all[_LINUX_CAPABILITY_U32S_3] = {
		{ ~0U, ~0U, 0 },
		{ (1U << (CAP_LAST_CAP - 31)) - 1, (1U << (CAP_LAST_CAP - 31)) - 1, 0 },
	};

	return TRY(SYS_capset, &header, all);
}
static int raise_limit(void)
{
	const struct rlimit limit = { RLIM_INFINITY, RLIM_INFINITY };

	return TRY(SYS_prlimit64, 0, RLIMIT_NOFILE, &limit, NULL);
}
static int map_code(void)
{
	return TRY(SYS_mmap, NULL, 4096, PROT_READ | PROT_WRITE | PROT_EXEC,
		   MAP_PRIVATE | MAP_ANONYMOUS, -1, 0);
}
static char page[8192] __attribute__((aligned(4096)));
static int make_code(void)
{
	return TRY(SYS_mprotect, page, 4096, PROT_READ | PROT_WRITE | PROT_EXEC);
}
static int push_input(void)
{
	return TRY(SYS_ioctl, 2, TIOCSTI, "x");
}
static int attach_group(void)
{
	return TRY(SYS_ioctl, 2, VFIO_GROUP_SET_CONTAINER, &(int){ 0 });
}
static int fork_plainly(void)
{
	long pid = syscall(SYS_clone, SIGCHLD, 0, 0, 0, 0);

	if (!pid)
		_exit(0);
	return pid < 0 ? errno : 0;
}
static int fork_namespace(void)
{
	long pid = syscall(SYS_clone, CLONE_NEWUSER | CLONE_PIDFD | SIGCHLD, 0, &(int){ 0 }, 0, 0);

	if (!pid)
		_exit(0);
	return pid < 0 ? errno : 0;
}
static int signal_init(void)
{
	return TRY(SYS_kill, 1, 0);
}
/* The ender may send two signals, and not this one, nor any to find out who is there. */
static int stop_by_pidfd(void)
{
	return TRY(SYS_pidfd_send_signal, 0, SIGSTOP, NULL, 0);
}
static int watch_calls(void)
{
	return TRY(SYS_seccomp, SECCOMP_SET_MODE_FILTER, SECCOMP_FILTER_FLAG_NEW_LISTENER, page);
}
/* Has it any descriptor that it was not handed? EBADF: none. */
static int other_descriptor(void)
{
	unsigned n = 0;

	for (int fd = 0; fd < 1024; fd++)
		n += part == WORKER ? !syscall(SYS_read, fd, page, 0) || errno != EBADF
				    : !syscall(SYS_close, fd);
	/* A worker has its step's and the pipe; a helper its socket and three for the log. */
	return n <= (part == WORKER ? 2 : 4) ? EBADF : 0;
}

static int descriptors_of_init(void)
{
	return openat_("/proc/1/fd", O_RDONLY | O_DIRECTORY | O_NONBLOCK);
}
static int descriptor_of_init(void)
{
	struct statx st;

	return TRY(SYS_statx, AT_FDCWD, "/proc/1/fd/0", AT_STATX_DONT_SYNC, STATX_TYPE, &st);
}
static int path_of_shadow(void)
{
	return openat_("/etc/shadow", O_PATH);
}

/* Calls of which the number is enough: no part has a row. Arguments that make none of them do anything. */
#define CALL(name)                                                                                 \
	static int call_##name(void)                                                               \
	{                                                                                          \
		return TRY(SYS_##name, -1L, -1L, -1L, -1L, -1L, -1L);                              \
	}
#define CALLS                                                                                      \
	X(delete_module)                                                                           \
	X(process_vm_readv)                                                                        \
	X(process_vm_writev)                                                                       \
	X(umount2)                                                                                 \
	X(open_tree)                                                                               \
	X(move_mount)                                                                              \
	X(fsopen)                                                                                  \
	X(pivot_root)                                                                              \
	X(chroot)                                                                                  \
	X(setns)                                                                                   \
	X(settimeofday)                                                                            \
	X(adjtimex)                                                                                \
	X(clock_adjtime)                                                                           \
	X(linkat)                                                                                  \
	X(symlinkat)                                                                               \
	X(mkdirat)                                                                                 \
	X(fchmodat)                                                                                \
	X(fchownat)                                                                                \
	X(setxattr)                                                                                \
	X(truncate)                                                                                \
	X(setuid)                                                                                  \
	X(setgroups)                                                                               \
	X(clone3)                                                                                  \
	X(vfork)                                                                                   \
	X(tgkill)                                                                                  \
	X(pidfd_send_signal)                                                                       \
	X(pidfd_getfd)                                                                             \
	X(bpf)                                                                                     \
	X(perf_event_open)                                                                         \
	X(io_uring_setup)                                                                          \
	X(userfaultfd)                                                                             \
	X(add_key)                                                                                 \
	X(keyctl)                                                                                  \
	X(memfd_create)                                                                            \
	X(kexec_load)                                                                              \
	X(kexec_file_load)                                                                         \
	X(reboot)                                                                                  \
	X(swapon)                                                                                  \
	X(sethostname)                                                                             \
	X(iopl)                                                                                    \
	X(ioperm)                                                                                  \
	X(open_by_handle_at)                                                                       \
	X(acct)                                                                                    \
	X(syslog)                                                                                  \
	X(personality)                                                                             \
	X(shmget)                                                                                  \
	X(listen)                                                                                  \
	X(mlockall)
#define X(name) CALL(name)
CALLS
#undef X

/* ---- what is expected ---- */

/*
 * For each part: SIGSYS is the filter's; EACCES and EPERM the user's, the capabilities'; EROFS the
 * unit's; "done" is allowed, as SECURITY.md says. Behind it: L, it is Landlock that stops it, so only
 * where the process is under it; U, it is the unit's sandbox. NULL: makes no sense for the part.
 */
#define KILLED "SIGSYS", "SIGSYS", "SIGSYS", "SIGSYS", "SIGSYS", "SIGSYS"
static const struct attempt {
	const char *name;
	int (*make)(void);
	const char *wanted[PARTS];
} attempts[] = {
	{ "executes a program", execute, { KILLED } },
	{ "executes an open file", execute_descriptor, { KILLED } },
	{ "makes a call of another architecture", foreign_call, { KILLED } },
	{ "makes a call of x32", x32_call, { KILLED } },
	{ "opens an IPv4 socket",
	  socket_inet,
	  { "SIGSYS", "SIGSYS", "SIGSYS", "EAFNOSUPPORT", "SIGSYS", "SIGSYS" } },
	{ "opens an IPv6 socket",
	  socket_inet6,
	  { "SIGSYS", "SIGSYS", "SIGSYS", "EAFNOSUPPORT", "SIGSYS", "SIGSYS" } },
	{ "opens a packet socket",
	  socket_packet,
	  { "SIGSYS", "SIGSYS", "SIGSYS", "EAFNOSUPPORT", "SIGSYS", "SIGSYS" } },
	{ "opens a routing socket",
	  socket_route,
	  { "SIGSYS", "SIGSYS", "SIGSYS", "EAFNOSUPPORT", "SIGSYS", "SIGSYS" } },
	{ "opens a uevent socket, when the watcher has its own",
	  socket_uevent,
	  { "SIGSYS", "SIGSYS", "SIGSYS", "EAFNOSUPPORT", "SIGSYS", "SIGSYS" } },
	{ "opens a Unix socket (the loader may)",
	  socket_unix,
	  { "SIGSYS", "SIGSYS", "SIGSYS", "done", "SIGSYS", "SIGSYS" } },
	{ "sets an option of a socket (helpers may)",
	  socket_option,
	  { "SIGSYS", "SIGSYS", NULL, NULL, "SIGSYS", "SIGSYS" } },
	{ "ends one direction of a connection", end_one_way, { KILLED } },
	{ "reads /etc/shadow",
	  shadow,
	  { "EACCES L", "SIGSYS", "EACCES", "EACCES", "SIGSYS", "SIGSYS" } },
	{ "reads /etc/shadow by openat",
	  shadow_openat,
	  { "SIGSYS", "SIGSYS", "SIGSYS", "EACCES", "SIGSYS", "SIGSYS" } },
	{ "reads /etc/shadow by openat2",
	  shadow_openat2,
	  { "EACCES L", "SIGSYS", "EACCES", "EACCES", "SIGSYS", "SIGSYS" } },
	{ "opens the memory of process 1",
	  memory_of_init,
	  { "EACCES", "SIGSYS", "EACCES|ENOENT", "EACCES|ENOENT", "SIGSYS", "SIGSYS" } },
	{ "opens the memory of the core",
	  memory_of_core,
	  { NULL, "SIGSYS", "EACCES|ENOENT", "EACCES|ENOENT", "SIGSYS", "SIGSYS" } },
	{ "writes a disk",
	  disk,
	  { "EACCES|EPERM|ENOENT L", "SIGSYS", "EACCES|ENOENT", "EACCES|ENOENT", "SIGSYS",
	    "SIGSYS" } },
	{ "makes itself a disk's node", disk_by_number, { KILLED } },
	{ "opens /dev/mem",
	  all_memory,
	  { "EACCES|EPERM|ENOENT", "SIGSYS", "EACCES|ENOENT", "EACCES|ENOENT", "SIGSYS",
	    "SIGSYS" } },
	{ "writes sysfs outside of PCI",
	  sysfs_elsewhere,
	  { "EACCES L", "SIGSYS", "EACCES", "EACCES", "SIGSYS", "SIGSYS" } },
	{ "writes a module's parameter",
	  sysfs_module,
	  { "EACCES L", "SIGSYS", "EACCES", "EACCES", "SIGSYS", "SIGSYS" } },
	{ "writes core_pattern",
	  core_pattern,
	  { "EACCES|ENOENT L", "SIGSYS", "EACCES|ENOENT", "EACCES|ENOENT", "SIGSYS", "SIGSYS" } },
	{ "writes the control groups",
	  cgroup,
	  { "EROFS U", "SIGSYS", "EACCES", "EACCES", "SIGSYS", "SIGSYS" } },
	{ "makes a file in /etc",
	  make_in_etc,
	  { "EROFS U", "SIGSYS", "EROFS|EACCES", "EROFS|EACCES", "SIGSYS", "SIGSYS" } },
	{ "makes a file in /tmp",
	  make_in_tmp,
	  { "EACCES L", "SIGSYS", "EACCES L", "EACCES L", "SIGSYS", "SIGSYS" } },
	{ "makes a file in /dev/shm",
	  make_in_dev,
	  { "EACCES L", "SIGSYS", "EACCES L", "EACCES L", "SIGSYS", "SIGSYS" } },
	{ "makes a lease's record",
	  make_record,
	  { NULL, "SIGSYS", "EACCES", "EACCES", "SIGSYS", "SIGSYS" } },
	{ "writes sysfs of PCI",
	  write_override,
	  { NULL, "SIGSYS", "EACCES", "EACCES", "SIGSYS", "SIGSYS" } },
	{ "opens a VFIO container",
	  vfio_container,
	  { NULL, "SIGSYS", "EACCES|ENOENT L", "EACCES|ENOENT L", "SIGSYS", "SIGSYS" } },
	{ "renames a file of somebody else's",
	  move_file,
	  { "EACCES L", "SIGSYS", "SIGSYS", "SIGSYS", "SIGSYS", "SIGSYS" } },
	{ "removes a file of somebody else's",
	  remove_file,
	  { "EACCES L", "SIGSYS", "SIGSYS", "SIGSYS", "SIGSYS", "SIGSYS" } },
	{ "removes a directory", remove_directory, { KILLED } },
	{ "loads a module", make_module, { KILLED } },
	{ "loads a module's file", make_module_of_file, { KILLED } },
	{ "traces process 1", trace_init, { KILLED } },
	{ "traces the core",
	  trace_core,
	  { NULL, "SIGSYS", "SIGSYS", "SIGSYS", "SIGSYS", "SIGSYS" } },
	{ "mounts", mount_something, { KILLED } },
	{ "makes a user namespace", new_namespace, { KILLED } },
	{ "changes the clock", set_clock, { KILLED } },
	{ "becomes root", become_root, { KILLED } },
	{ "takes a capability",
	  raise_capability,
	  { "EPERM", "SIGSYS", "SIGSYS", "SIGSYS", "SIGSYS", "SIGSYS" } },
	{ "raises another limit than that of locked memory", raise_limit, { KILLED } },
	{ "maps code that it can write",
	  map_code,
	  { "ENOMEM", "SIGSYS", "SIGSYS", "EACCES|EPERM U", "SIGSYS", "SIGSYS" } },
	{ "makes memory code",
	  make_code,
	  { "SIGSYS", "SIGSYS", "SIGSYS", "EACCES|EPERM U", "SIGSYS", "SIGSYS" } },
	{ "types on a terminal", push_input, { KILLED } },
	{ "attaches a group itself", attach_group, { KILLED } },
	{ "forks otherwise than for a worker", fork_plainly, { KILLED } },
	{ "forks into a user namespace", fork_namespace, { KILLED } },
	{ "signals process 1", signal_init, { KILLED } },
	{ "stops a process by a pidfd", stop_by_pidfd, { KILLED } },
	{ "listens to the calls of its children", watch_calls, { KILLED } },
	{ "lists the descriptors of process 1 (finder and ender may)",
	  descriptors_of_init,
	  { "SIGSYS", "SIGSYS", "SIGSYS", "EACCES|ENOENT", "done", "done" } },
	{ "looks at a descriptor of process 1 (finder and ender may)",
	  descriptor_of_init,
	  { "EACCES|EPERM|ENOENT", "SIGSYS", "SIGSYS", "EACCES|ENOENT", "done", "done" } },
	{ "takes a file without opening it",
	  path_of_shadow,
	  { "SIGSYS", "SIGSYS", "SIGSYS", NULL, "SIGSYS", "SIGSYS" } },
	{ "uses a descriptor that it was not handed",
	  other_descriptor,
	  { NULL, "EBADF", "EBADF", "EBADF", "EBADF", "EBADF" } },
#define X(name) { "calls " #name, call_##name, { KILLED } },
	CALLS
#undef X
};

static char outcomes[ARRAY_SIZE(attempts)][PARTS][24];
static size_t at;

/* ---- how a process ended ---- */

static const char *error_name(int error, char out[24])
{
	const char *name = strerrorname_np(error);

	snprintf(out, 24, "%s", name ? name : "unknown");
	return out;
}

static void put_outcome(int status)
{
	char *out = outcomes[at][part];

	if (WIFSIGNALED(status))
		snprintf(out, 24, "SIG%s", sigabbrev_np(WTERMSIG(status)));
	else if (WEXITSTATUS(status) >= 134) /* none is an errno: it did not come so far */
		snprintf(out, 24, "status %d", WEXITSTATUS(status));
	else if (!WEXITSTATUS(status))
		strcpy(out, "done");
	else
		error_name(WEXITSTATUS(status), out);
}

/* Waits for it, and where it has left a worker, for that one; how the last of them ended counts. */
static void wait_for(pid_t child)
{
	time_t end = time(NULL) + SECONDS;
	bool gone = false;
	pid_t pid;
	int status;

	strcpy(outcomes[at][part], "hung");
	while (time(NULL) < end) {
		pid = waitpid(part == WORKER ? -1 : child, &status, WNOHANG);
		if (pid < 0)
			return;
		if (!pid) {
			usleep(1000);
			continue;
		}
		if (pid != child || part != WORKER) {
			put_outcome(status);
			if (part != WORKER)
				return;
			if (gone)
				return;
		} else {
			gone = true;
			/* A core of which no worker is left has made none. */
			if (WIFSIGNALED(status) || WEXITSTATUS(status)) {
				put_outcome(status);
				return;
			}
		}
	}
	kill(child, SIGKILL);
	waitpid(child, &status, 0);
}

/* ---- helpers ---- */

int __real_helper_start(struct helper *helper, enum helper_role, uid_t, gid_t, const void *);
int __wrap_helper_start(struct helper *helper, enum helper_role, uid_t, gid_t, const void *);
int __real_helper_run(enum helper_role, const char *path, const void *);
int __wrap_helper_run(enum helper_role, const char *path, const void *);
int __real_loader_run(int socket, struct confine_filter *settled, const void *options);
int __wrap_loader_run(int socket, struct confine_filter *settled, const void *options);
int __real_watcher_run(int socket, struct confine_filter *settled, const void *unused);
int __wrap_watcher_run(int socket, struct confine_filter *settled, const void *unused);
int __real_ender_run(int socket, struct confine_filter *settled, const void *unused);
int __wrap_ender_run(int socket, struct confine_filter *settled, const void *unused);
int __real_finder_run(int socket, struct confine_filter *settled, const void *unused);
int __wrap_finder_run(int socket, struct confine_filter *settled, const void *unused);
int __real_filter_apply(const struct confine_filter *filter);
int __wrap_filter_apply(const struct confine_filter *filter);

static const struct attempt *trying; /* NULL: the helper is an honest one */

static void print_outcomes(void);

static bool mode_is(const char *name)
{
	const char *mode = getenv("HOSTILE");

	return mode && !strcmp(mode, name);
}

static bool keeps(void)
{
	return mode_is("keep");
}

static bool is_tried(const struct attempt *attempt)
{
	return attempt->wanted[part] &&
	       (mode_is("unit") || strncmp(attempt->name, "calls ", 6) != 0);
}

/* Behind confine_helper() and confine_own(), in place of the helper. */
int __wrap_watcher_run(int socket, struct confine_filter *settled, const void *unused)
{
	if (!trying)
		return __real_watcher_run(socket, settled, unused);
	return __real_filter_apply(settled) ? 203 : trying->make();
}

int __wrap_finder_run(int socket, struct confine_filter *settled, const void *unused)
{
	if (!trying)
		return __real_finder_run(socket, settled, unused);
	return __real_filter_apply(settled) ? 203 : trying->make();
}

int __wrap_ender_run(int socket, struct confine_filter *settled, const void *unused)
{
	if (!trying)
		return __real_ender_run(socket, settled, unused);
	return __real_filter_apply(settled) ? 203 : trying->make();
}

int __wrap_loader_run(int socket, struct confine_filter *settled, const void *options)
{
	return trying ? trying->make() : __real_loader_run(socket, settled, options);
}

static void is_part(enum helper_role role, pid_t core)
{
	part = role == HELPER_LOADER   ? LOADER
	       : role == HELPER_FINDER ? FINDER
	       : role == HELPER_ENDER  ? ENDER
				       : WATCHER;
	ran[part] = true;
	parent = core;
	snprintf(parent_memory, sizeof(parent_memory), "/proc/%d/mem", (int)parent);
	signal(SIGCHLD, SIG_DFL);
}

int __wrap_helper_start(struct helper *helper, enum helper_role role, uid_t uid, gid_t gid,
			const void *argument)
{
	if (mode_is("unit")) /* it has one of its own, and here is nothing that could make it */
		return 0;
	if (keeps())
		return __real_helper_start(helper, role, uid, gid, argument);
	is_part(role, getpid());
	for (at = 0; at < ARRAY_SIZE(attempts); at++) {
		struct helper one = HELPER_NONE;

		if (!is_tried(&attempts[at]))
			continue;
		trying = &attempts[at];
		if (__real_helper_start(&one, role, uid, gid, NULL))
			return -EIO;
		wait_for(one.pid);
		one.fd = fd_close(one.fd);
	}
	trying = NULL;
	return __real_helper_start(helper, role, uid, gid, argument);
}

/* As a unit's process: each attempt connects to us, as it would to a core, and goes on from there. */
int __wrap_helper_run(enum helper_role role, const char *path, const void *argument)
{
	const char *core = getenv("HOSTILE_CORE");
	struct sockaddr_un address = { .sun_family = AF_UNIX };
	int fd = socket(AF_UNIX, SOCK_SEQPACKET | SOCK_CLOEXEC, 0);

	(void)argument;
	snprintf(address.sun_path, sizeof(address.sun_path), "%s", path);
	if (!core || bind(fd, (struct sockaddr *)&address, sizeof(address)) || listen(fd, 1))
		return 70;
	is_part(role, (pid_t)strtol(core, NULL, 10));
	for (at = 0; at < ARRAY_SIZE(attempts); at++) {
		int connection;
		pid_t pid;

		if (!is_tried(&attempts[at]))
			continue;
		trying = &attempts[at];
		pid = fork();
		if (!pid)
			_exit(__real_helper_run(role, path, NULL));
		/* The helper's packets wait in the connection. */
		connection = accept4(fd, NULL, NULL, SOCK_CLOEXEC);
		wait_for(pid);
		close(connection);
	}
	print_outcomes();
	return 0;
}

/* ---- the core, and its workers ---- */

struct event_base *__real_event_base_new_with_config(const struct event_config *config);
struct event_base *__wrap_event_base_new_with_config(const struct event_config *config);
int __real_recover_leases(struct leases *leases);
int __wrap_recover_leases(struct leases *leases);

static bool under_landlock(void)
{
	return landlock_version() > 0;
}

/* The alternatives of `wanted` are separated by |. */
static bool is_among(const char *outcome, const char *wanted)
{
	size_t n = strlen(outcome);

	for (const char *p = strstr(wanted, outcome); p; p = strstr(p + 1, outcome))
		if ((p == wanted || p[-1] == '|') && (!p[n] || p[n] == '|'))
			return true;
	return false;
}

static void add_text(char *out, size_t size, const char *name, const char *text)
{
	size_t n = strlen(out);

	snprintf(out + n, size - n, "%s%s %.40s", n ? ", " : "", name, text);
}

static void print_outcomes(void)
{
	bool landlock = under_landlock(), unit = mode_is("unit");

	for (size_t i = 0; i < ARRAY_SIZE(attempts); i++) {
		char got[256] = "", all[256] = "", text[32];
		bool any = false;

		for (part = 0; part < PARTS; part++) {
			const char *wanted = attempts[i].wanted[part], *outcome = outcomes[i][part];
			char *mark;

			if (!ran[part] || !is_tried(&attempts[i]))
				continue;
			any = true;
			snprintf(text, sizeof(text), "%s", wanted);
			mark = strchr(text, ' ');
			if (mark)
				*mark = '\0';
			if (mark && ((mark[1] == 'L' && !landlock) || (mark[1] == 'U' && !unit))) {
				fprintf(stderr, "%s: %s: %s, without %s\n", part_names[part],
					attempts[i].name, outcome,
					mark[1] == 'L' ? "Landlock" : "the unit");
				continue;
			}
			add_text(all, sizeof(all), part_names[part], text);
			add_text(got, sizeof(got), part_names[part],
				 is_among(outcome, text) ? text : outcome);
		}
		if (*all)
			printf("%s\t%s\t%s\n", attempts[i].name, got, all);
		else if (any)
			printf("%s\t-\t-\n", attempts[i].name);
	}
	fflush(stdout);
}

/*
 * For a worker, a loop with nothing else in it: what the helpers say is said to all copies, so that
 * each would have a part of it, find that false, and end.
 */
static struct event_base *work_base;

/* The daemon is ready to be confined. From here on each attempt has a copy of it. */
struct event_base *__wrap_event_base_new_with_config(const struct event_config *config)
{
	if (keeps())
		return __real_event_base_new_with_config(config);
	prctl(PR_SET_CHILD_SUBREAPER, 1);
	signal(SIGCHLD, SIG_DFL); /* in the copies too, so that a worker's end is seen */
	/* The helpers that start() began are waited for by nobody, and live as long as we do. */
	ran[CORE] = ran[WORKER] = true;
	for (part = CORE; part <= WORKER; part++) {
		for (at = 0; at < ARRAY_SIZE(attempts); at++) {
			pid_t pid;

			if (!is_tried(&attempts[at]))
				continue;
			pid = fork();
			if (pid < 0)
				_exit(70);
			if (!pid) {
				work_base = __real_event_base_new_with_config(config);
				return __real_event_base_new_with_config(config);
			}
			wait_for(pid);
		}
	}
	print_outcomes();
	_exit(0);
}

static void on_done(void *userdata, const struct work_result *result)
{
	(void)userdata;
	(void)result;
	_exit(0);
}

/* The first that start() does once the core is confined. */
int __wrap_recover_leases(struct leases *leases)
{
	static const struct work_ops ops = { .done = on_done };
	struct pci_address address = { .device = 1 };
	struct workers workers;
	struct work *work;

	if (keeps())
		return __real_recover_leases(leases);
	if (part == CORE)
		_exit(attempts[at].make());
	workers = (struct workers){ .base = work_base, .filter = leases->workers->filter };
	work = work_new(&ops, NULL);
	if (!work ||
	    work_add_read(work, kernel_open_override_read(leases->kernel, &address), "hostile",
			  &address) ||
	    workers_start_within(&workers, work, SECONDS))
		_exit(201);
	event_base_dispatch(work_base);
	_exit(202);
}

/* A worker's, and an honest watcher's when it has started. */
int __wrap_filter_apply(const struct confine_filter *filter)
{
	int r = __real_filter_apply(filter);

	if (r || part != WORKER || keeps())
		return r;
	_exit(attempts[at].make());
}

/* ---- keeping what is lent ---- */

int __real_passfd_send(int socket, const void *packet, size_t size, const int *fds, size_t n_fds);
int __wrap_passfd_send(int socket, const void *packet, size_t size, const int *fds, size_t n_fds);

/* Only a grant has descriptors. */
int __wrap_passfd_send(int socket, const void *packet, size_t size, const int *fds, size_t n_fds)
{
	int r = __real_passfd_send(socket, packet, size, fds, n_fds);

	for (size_t i = 0; !r && keeps() && i < n_fds; i++)
		fcntl(fds[i], F_DUPFD_CLOEXEC, 3);
	return r;
}
