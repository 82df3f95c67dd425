/* SPDX-License-Identifier: MIT */
/*
 * The supervisor of `gpubroker run`, on the running kernel but without VFIO: a memfd stands in for
 * the group.
 *
 * The test is a subreaper, so each supervisor becomes its child and its end can be waited for. It
 * must not need root; as root it drops to another uid where root would not be refused anything.
 */
#include "config.h"

#include "client/run/reach.h"
#include "client/run/packet.h"
#include "client/run/supervise.h"
#include "client/common/util.h"
#include "tests/tap.h"

#include <dirent.h>
#include <errno.h>
#include <fcntl.h>
#include <limits.h>
#include <linux/openat2.h>
#include <poll.h>
#include <pthread.h>
#include <signal.h>
#include <spawn.h>
#include <stdint.h>
#include <string.h>
#include <sys/file.h>
#include <sys/ioctl.h>
#include <sys/mman.h>
#include <sys/prctl.h>
#include <sys/resource.h>
#include <sys/socket.h>
#include <sys/stat.h>
#include <sys/syscall.h>
#include <sys/time.h>
#include <sys/wait.h>
#include <time.h>

#define GROUP "/dev/vfio/987654" /* no host has that many */
#define OTHER "/dev/vfio/devices/vfio987654"
#define NOBODY 65534

static enum supervise_place place;
static int lent = -1;
static struct stat lent_stat;
static int talk[2]; /* a socket pair: the test's end and the command's end */
#define TEST talk[0]
#define COMMAND talk[1]

static void sleep_ms(long ms)
{
	struct timespec t = { .tv_sec = ms / 1000, .tv_nsec = ms % 1000 * 1000000 };

	nanosleep(&t, NULL);
}

static bool is_lent(int fd)
{
	struct stat st;

	return fd >= 0 && !fstat(fd, &st) && st.st_dev == lent_stat.st_dev &&
	       st.st_ino == lent_stat.st_ino;
}

/*
 * Opens a file and closes it again. Returns 0 for the lent file, -1 for another one, or the errno.
 */
static int try_open(const char *path, int flags)
{
	int fd = open(path, flags), r = fd < 0 ? errno : is_lent(fd) ? 0 : -1;

	fd_close(fd);
	return r;
}

static int count_fds(pid_t pid)
{
	char path[64];
	DIR *dir;
	int n = 0;

	snprintf(path, sizeof(path), "/proc/%d/fd", pid);
	dir = opendir(path);
	if (!dir)
		return -1;
	for (struct dirent *e; (e = readdir(dir));)
		n += e->d_name[0] != '.';
	closedir(dir);
	return pid == getpid() ? n - 1 : n;
}

/*
 * Waits for that number of descriptors: the supervisor closes some after the command has started.
 */
static bool has_fds(pid_t pid, int n)
{
	for (int i = 0; i < 3000 && count_fds(pid) != n; i++)
		sleep_ms(10);
	return count_fds(pid) == n;
}

/* Counts the supervisors that are children of the test, and returns one of them. */
static int find_supervisor(pid_t parent, pid_t *ret_pid)
{
	DIR *dir = opendir("/proc");
	int n = 0;

	for (struct dirent *e; dir && (e = readdir(dir));) {
		char path[300], line[200] = "";
		cleanup_fd int fd = -1;
		int ppid;

		snprintf(path, sizeof(path), "/proc/%s/stat", e->d_name);
		if (e->d_name[0] < '1' || e->d_name[0] > '9')
			continue;
		fd = open(path, O_RDONLY | O_CLOEXEC);
		if (fd < 0 || read(fd, line, sizeof(line) - 1) <= 0 ||
		    !strstr(line, "(gpubroker-lend) "))
			continue;
		if (sscanf(strstr(line, ") "), ") %*c %d", &ppid) == 1 && ppid == parent) {
			*ret_pid = atoi(e->d_name);
			n++;
		}
	}
	if (dir)
		closedir(dir);
	return n;
}

static int status_field(const char *field)
{
	cleanup_file FILE *f = fopen("/proc/self/status", "re");
	char line[200];

	while (f && fgets(line, sizeof(line), f))
		if (!strncmp(line, field, strlen(field)))
			return atoi(line + strlen(field) + 1);
	return -1;
}

static int ptrace_scope(void)
{
	cleanup_file FILE *f = fopen("/proc/sys/kernel/yama/ptrace_scope", "re");
	int scope = 0;

	return f && fscanf(f, "%d", &scope) == 1 ? scope : 0;
}

/* Returns true if Yama keeps the supervisor from what is neither its child nor names it. */
static bool yama_hinders(void)
{
	return ptrace_scope() && geteuid();
}

/*
 * Returns true if the test may read its descendants: root has CAP_SYS_PTRACE, for others Yama
 * decides.
 */
static bool descendants_readable(void)
{
	return !geteuid() || !ptrace_scope() || (ptrace_scope() == 1 && place == SUPERVISE_ABOVE);
}

static int supervise_here(void)
{
	struct supervise_file files[] = {
		{ .path = GROUP, .fd = lent, .what = "the test's group", .lease = 0 },
		{ .path = OTHER, .fd = lent, .what = "the test's device", .lease = 0 },
	};
	const char *what = "?";
	int r = supervise_start(files, ARRAY_SIZE(files), NULL, NULL, place, &what);

	if (r < 0)
		printf("# cannot %s: %s\n", what, strerror(-r));
	return r;
}

/*
 * Starts a process that puts itself under a supervisor, calls fn(arg), and exits with its result.
 */
static pid_t run(int (*fn)(void *), void *arg)
{
	pid_t pid;

	fflush(NULL);
	pid = fork();
	if (pid)
		return pid;
	if (supervise_here() < 0)
		_exit(120);
	fd_close(lent);
	_exit(fn(arg));
}

static int wait_status(pid_t pid)
{
	int status = -1;

	while (waitpid(pid, &status, 0) < 0 && errno == EINTR)
		;
	return status;
}

/* Waits until the test has no child. For a subreaper that also means no supervisor. */
static bool all_gone(void)
{
	for (int i = 0; i < 3000; i++) {
		while (waitpid(-1, NULL, WNOHANG) > 0)
			;
		if (waitpid(-1, NULL, WNOHANG) < 0 && errno == ECHILD)
			return true;
		sleep_ms(10);
	}
	return false;
}

/* Returns true if the exit status is 0 and no process is left. */
static bool passes(int (*fn)(void *), void *arg)
{
	int status = wait_status(run(fn, arg));

	if (status)
		printf("# status %#x\n", status);
	return all_gone() && !status;
}

static int exec_self(char *const argv[])
{
	execv("/proc/self/exe", argv);
	return 119;
}

/* Reports that the command has reached a line, or waits for leave to go on. */
static void tell(int fd)
{
	if (write(fd, "", 1) != 1)
		_exit(118);
}

static bool hear(int fd)
{
	struct pollfd p = { .fd = fd, .events = POLLIN };
	char c;

	return poll(&p, 1, 10000) == 1 && read(fd, &c, 1) == 1;
}

/* --- opens --- */

static int opens_group(void *unused)
{
	(void)unused;
	return try_open(GROUP, O_RDWR);
}

static int opens_twice(void *unused)
{
	int a = open(GROUP, O_RDWR), b = open(GROUP, O_RDWR);

	(void)unused;
	return !(is_lent(a) && is_lent(b) && a != b && try_open(OTHER, O_RDWR) == 0);
}

static int opens_by_openat(void *unused)
{
	int dir = open("/tmp", O_PATH | O_DIRECTORY);

	(void)unused;
	return !is_lent(openat(dir, GROUP, O_RDWR));
}

static int opens_by_old_call(void *unused)
{
	(void)unused;
#ifdef SYS_open
	return !is_lent((int)syscall(SYS_open, GROUP, O_RDWR));
#else
	return 0;
#endif
}

/* Returns what try_open() does. */
static int try_openat2(struct open_how how, size_t size)
{
	int fd = (int)syscall(SYS_openat2, AT_FDCWD, GROUP, &how, size);
	int r = fd < 0 ? errno : is_lent(fd) ? 0 : -1;

	fd_close(fd);
	return r;
}

static int opens_by_openat2(void *unused)
{
	const size_t size = sizeof(struct open_how);
	struct open_how cloexec = { .flags = O_RDWR | O_CLOEXEC };
	int fd = (int)syscall(SYS_openat2, AT_FDCWD, GROUP, &cloexec, size);

	(void)unused;
	return !(is_lent(fd) && fcntl(fd, F_GETFD) == FD_CLOEXEC &&
		 try_openat2((struct open_how){ .flags = O_RDWR }, size) == 0 &&
		 try_openat2((struct open_how){ .flags = O_RDWR,
						.resolve = RESOLVE_NO_SYMLINKS |
							   RESOLVE_NO_MAGICLINKS },
			     size) == 0);
}

/* The kernel itself answers each of these, and there is no such node. */
static int opens_by_openat2_otherwise(void *unused)
{
	const size_t size = sizeof(struct open_how);
	struct {
		struct open_how how;
		char more[8];
	} larger = { .how = { .flags = O_RDWR }, .more = "x" };

	(void)unused;
	return !(try_openat2((struct open_how){ .flags = O_RDONLY }, size) == ENOENT &&
		 try_openat2((struct open_how){ .flags = O_RDWR, .resolve = RESOLVE_BENEATH },
			     size) == EXDEV &&
		 try_openat2((struct open_how){ .flags = O_RDWR, .resolve = RESOLVE_IN_ROOT },
			     size) == ENOENT &&
		 try_openat2((struct open_how){ .flags = O_RDWR, .resolve = 1U << 31 }, size) ==
			 EINVAL &&
		 try_openat2((struct open_how){ .flags = O_RDWR, .mode = 0600 }, size) == EINVAL &&
		 try_openat2((struct open_how){ .flags = O_RDWR | 1ULL << 40 }, size) == EINVAL &&
		 try_openat2((struct open_how){ .flags = O_RDWR }, size - 8) == EINVAL &&
		 syscall(SYS_openat2, AT_FDCWD, GROUP, &larger, sizeof(larger)) < 0 &&
		 errno == E2BIG && syscall(SYS_openat2, AT_FDCWD, GROUP, (void *)16, size) < 0 &&
		 errno == EFAULT);
}

static int opens_cloexec(void *unused)
{
	int a = open(GROUP, O_RDWR | O_CLOEXEC), b = open(GROUP, O_RDWR);

	(void)unused;
	return !(is_lent(a) && is_lent(b) && fcntl(a, F_GETFD) == FD_CLOEXEC &&
		 fcntl(b, F_GETFD) == 0);
}

static int opens_otherwise(void *unused)
{
	(void)unused;
	return try_open(GROUP, O_RDONLY) != ENOENT || try_open(GROUP, O_WRONLY) != ENOENT ||
	       try_open(GROUP, O_RDWR | O_PATH) != ENOENT;
}

static int opens_other_files(void *unused)
{
	char file[] = "/tmp/supervise-test-XXXXXX", longest[PATH_MAX + 100];
	int fd = mkstemp(file), again = open(file, O_RDWR);
	struct stat a, b;
	bool ok;

	(void)unused;
	ok = fd >= 0 && again >= 0 && !fstat(fd, &a) && !fstat(again, &b) && a.st_ino == b.st_ino &&
	     write(again, "x", 1) == 1;
	unlink(file);
	memset(longest, 'x', sizeof(longest));
	longest[0] = '/';
	longest[sizeof(longest) - 1] = '\0';
	return !(ok && try_open("/nonexistent/file", O_RDWR) == ENOENT &&
		 try_open("/tmp", O_RDWR) == EISDIR && try_open("", O_RDWR) == ENOENT &&
		 try_open(longest, O_RDWR) == ENAMETOOLONG &&
		 try_open((const char *)(uintptr_t)16, O_RDWR) == EFAULT);
}

static int opens_similar_names(void *unused)
{
	(void)unused;
	return !(try_open("/dev/vfio/98765", O_RDWR) == ENOENT &&
		 try_open(GROUP "1", O_RDWR) == ENOENT && try_open(GROUP "/", O_RDWR) == ENOENT &&
		 !chdir("/") && try_open("dev/vfio/987654", O_RDWR) == ENOENT);
}

/*
 * Puts the name at every place around the end of a page: in the last bytes before a hole, and
 * across two pages.
 */
static int opens_at_page_end(void *unused)
{
	size_t page = (size_t)sysconf(_SC_PAGESIZE);
	char *map =
		mmap(NULL, 3 * page, PROT_READ | PROT_WRITE, MAP_PRIVATE | MAP_ANONYMOUS, -1, 0);

	(void)unused;
	if (map == MAP_FAILED || munmap(map + 2 * page, page) < 0)
		return 1;
	for (size_t size = 2; size <= sizeof(GROUP); size++) {
		char *last = map + 2 * page - size;
		char *across = map + page - size + 1;
		int r;

		/* Only the end of the name: matches only if it is the whole name. */
		memcpy(last, &GROUP[sizeof(GROUP) - size], size);
		r = try_open(last, O_RDWR);
		if (r != (size == sizeof(GROUP) ? 0 : ENOENT))
			return 2;
		memcpy(across, GROUP, sizeof(GROUP));
		if (try_open(across, O_RDWR))
			return 3;
	}
	memcpy(map + 2 * page - 4, "/dev", 4); /* runs into the hole */
	return try_open(map + 2 * page - 4, O_RDWR) != EFAULT;
}

static int opens_with_table_full(void *unused)
{
	struct rlimit limit = { 0, 0 };

	(void)unused;
	if (setrlimit(RLIMIT_NOFILE, &limit) < 0)
		return 1;
	return try_open(GROUP, O_RDWR) != EMFILE;
}

static void *opens_in_thread(void *arg)
{
	bool *ok = arg;

	*ok = true;
	for (int i = 0; i < 5; i++)
		*ok &= !try_open(GROUP, O_RDWR) && try_open("/nonexistent", O_RDWR) == ENOENT;
	return NULL;
}

static int opens_in_threads(void *unused)
{
	pthread_t threads[100];
	bool ok[100], all = true;

	(void)unused;
	for (size_t i = 0; i < ARRAY_SIZE(threads); i++)
		if (pthread_create(&threads[i], NULL, opens_in_thread, &ok[i]))
			return 1;
	for (size_t i = 0; i < ARRAY_SIZE(threads); i++) {
		pthread_join(threads[i], NULL);
		all &= ok[i];
	}
	return !all;
}

static volatile sig_atomic_t ticks;

static void on_tick(int sig)
{
	(void)sig;
	ticks++;
}

static int opens_under_signals(void *unused)
{
	struct sigaction action = { .sa_handler = on_tick, .sa_flags = SA_RESTART };
	struct itimerval timer = { { 0, 1000 }, { 0, 1000 } }, off = { { 0, 0 }, { 0, 0 } };
	int before = count_fds(getpid()), bad = 0;

	(void)unused;
	sigaction(SIGALRM, &action, NULL);
	setitimer(ITIMER_REAL, &timer, NULL);
	for (int i = 0; i < 1000 || (!ticks && i < 100000); i++)
		bad += try_open(GROUP, O_RDWR) != 0;
	setitimer(ITIMER_REAL, &off, NULL);
	return bad || !ticks || count_fds(getpid()) != before;
}

static void test_opens(void)
{
	tap_ok(passes(opens_group, NULL), "an open of the group's path gets the lent file");
	tap_ok(passes(opens_twice, NULL), "so does a second one, and one of another lent path");
	tap_ok(passes(opens_by_openat, NULL), "the directory given to openat does not matter");
	tap_ok(passes(opens_by_old_call, NULL), "the old open call, where there is one, is caught");
	tap_ok(passes(opens_by_openat2, NULL), "openat2 is served like openat");
	tap_ok(passes(opens_by_openat2_otherwise, NULL),
	       "an openat2 that may mean another file, or is malformed, is the kernel's to answer");
	tap_ok(passes(opens_cloexec, NULL), "close-on-exec is set where asked for, and only there");
	tap_ok(passes(opens_otherwise, NULL),
	       "read-only, write-only and O_PATH opens are let alone");
	tap_ok(passes(opens_other_files, NULL), "opens of other files succeed and fail as ever");
	tap_ok(passes(opens_similar_names, NULL),
	       "names that are longer, shorter or relative don't match");
	tap_ok(passes(opens_at_page_end, NULL),
	       "a name at a page's end is read whole, and not beyond");
	tap_ok(passes(opens_with_table_full, NULL), "EMFILE is what a full descriptor table gives");
	tap_ok(passes(opens_in_threads, NULL), "100 threads that open all get theirs");
	tap_ok(passes(opens_under_signals, NULL),
	       "opens under a storm of signals all succeed and leave no descriptor behind");
}

/* --- the command's process is unchanged --- */

static int execs_self(void *arg)
{
	return exec_self(arg);
}

static int spawns_opener(void *unused)
{
	char *argv[] = { (char *)"supervise-test", (char *)"open", NULL };
	pid_t pid;

	(void)unused;
	if (posix_spawn(&pid, "/proc/self/exe", NULL, NULL, argv, environ))
		return 1;
	return wait_status(pid) != 0;
}

static int shell_script(void *unused)
{
	char script[2 * PATH_MAX + 100], self[PATH_MAX] = "";

	(void)unused;
	if (readlink("/proc/self/exe", self, sizeof(self) - 1) < 0)
		return 1;
	snprintf(script, sizeof(script), "'%s' open && '%s' open; exit $?", self, self);
	execl("/bin/sh", "sh", "-c", script, NULL);
	return 2;
}

static int shell_script_execs(void *unused)
{
	char script[2 * PATH_MAX + 100], self[PATH_MAX] = "";

	(void)unused;
	if (readlink("/proc/self/exe", self, sizeof(self) - 1) < 0)
		return 1;
	snprintf(script, sizeof(script), "true && exec '%s' open", self);
	execl("/bin/sh", "sh", "-c", script, NULL);
	return 2;
}

static int has_no_child(void *unused)
{
	sigset_t pending;

	(void)unused;
	sigpending(&pending);
	return !(waitpid(-1, NULL, WNOHANG | __WALL) < 0 && errno == ECHILD) ||
	       sigismember(&pending, SIGCHLD);
}

static int kills_itself(void *unused)
{
	(void)unused;
	raise(SIGKILL);
	return 1;
}

static int exits_42(void *unused)
{
	(void)unused;
	return 42;
}

static int sigchlds;

static void on_sigchld(int sig)
{
	(void)sig;
	sigchlds++;
}

/* Signal mask, dispositions, descriptors and session are as before supervise_start(). */
static int leaves_caller_alone(void)
{
	struct sigaction action = { .sa_handler = on_sigchld }, old;
	sigset_t mask, after;
	int fds = count_fds(getpid());
	pid_t sid = getsid(0), pgrp = getpgrp();
	char dir[PATH_MAX], dir_after[PATH_MAX];

	sigaction(SIGCHLD, &action, NULL);
	signal(SIGPIPE, SIG_IGN);
	sigemptyset(&mask);
	sigaddset(&mask, SIGUSR1);
	sigprocmask(SIG_SETMASK, &mask, NULL);
	if (!getcwd(dir, sizeof(dir)) || supervise_here() < 0)
		return 1;
	sigprocmask(SIG_SETMASK, NULL, &after);
	for (int sig = 1; sig < SIGRTMIN; sig++)
		if (sigismember(&after, sig) != (sig == SIGUSR1))
			return 2;
	if (sigaction(SIGPIPE, NULL, &old) < 0 || old.sa_handler != SIG_IGN ||
	    sigaction(SIGTERM, NULL, &old) < 0 || old.sa_handler != SIG_DFL ||
	    sigaction(SIGCHLD, NULL, &old) < 0 || old.sa_handler != on_sigchld || sigchlds)
		return 3;
	if (count_fds(getpid()) != fds || getsid(0) != sid || getpgrp() != pgrp ||
	    !getcwd(dir_after, sizeof(dir_after)) || strcmp(dir, dir_after) != 0)
		return 4;
	return has_no_child(NULL);
}

static int works_with_sigchld_ignored(void)
{
	signal(SIGCHLD, SIG_IGN);
	return supervise_here() < 0 || try_open(GROUP, O_RDWR) || has_no_child(NULL);
}

/* The lent file takes the place of stdin; stdout and stderr are closed. */
static int works_without_stdio(void)
{
	dup2(lent, STDIN_FILENO);
	close(STDOUT_FILENO);
	close(STDERR_FILENO);
	fd_close(lent);
	lent = STDIN_FILENO;
	if (supervise_here() < 0 || fcntl(STDERR_FILENO, F_GETFD) >= 0)
		return 1;
	close(STDIN_FILENO);
	return try_open(GROUP, O_RDWR) || try_open(OTHER, O_RDWR);
}

static int refuses_bad_paths(void)
{
	struct supervise_file file = { .path = "dev/vfio/1", .fd = lent, .what = "x", .lease = 0 };
	const char *what = NULL;

	return !(supervise_start(&file, 1, NULL, NULL, place, &what) == -EINVAL && what &&
		 status_field("Seccomp:") == 0 && status_field("NoNewPrivs:") == 0);
}

static int refuses_bad_fd(void)
{
	struct supervise_file file = { .path = GROUP, .fd = lent, .what = "x", .lease = 0 };
	struct rlimit none = { 0, 0 };
	const char *what = NULL;

	setrlimit(RLIMIT_NOFILE, &none);
	return !(supervise_start(&file, 1, NULL, NULL, place, &what) < 0 && what &&
		 has_no_child(NULL) == 0);
}

static int is_refused_inside(void *unused)
{
	struct supervise_file file = { .path = GROUP, .fd = STDIN_FILENO, .what = "x", .lease = 0 };
	const char *what = NULL;
	int fds = count_fds(getpid());

	(void)unused;
	return !(supervise_start(&file, 1, NULL, NULL, place, &what) == -EBUSY &&
		 strstr(what, "inside another") && count_fds(getpid()) == fds &&
		 !try_open(GROUP, O_RDWR));
}

#define SECOND "/dev/vfio/devices/vfio987655"

/*
 * Under a supervisor with a group and two devices of one lease, and a device of another: opens what
 * it is told, first all of a kind, then of the other. A pipe stands in for the group: its reader
 * hears when nobody has it.
 */
static int takes_one_kind(bool cdevs)
{
	struct supervise_file files[] = {
		{ .path = GROUP, .fd = -1, .what = "its group", .lease = 1 },
		{ .path = OTHER, .fd = lent, .what = "its device", .lease = 1 },
		{ .path = SECOND, .fd = lent, .what = "its second device", .lease = 1 },
		{ .path = "/dev/vfio/devices/vfio987656",
		  .fd = lent,
		  .what = "another lease's device",
		  .lease = 2 },
		{ .path = "/dev/vfio/987656",
		  .fd = lent,
		  .what = "another lease's group",
		  .lease = 2 },
		{ .path = "/dev/nowhere/iommu",
		  .fd = lent,
		  .what = "what belongs to both",
		  .lease = 0 },
	};
	const char *what = "?";
	struct pollfd p;
	int ends[2];

	if (pipe2(ends, O_CLOEXEC))
		return 10;
	files[0].fd = ends[1];
	for (size_t i = 1; i < ARRAY_SIZE(files); i++) /* the supervisor closes them one by one */
		files[i].fd = fcntl(lent, F_DUPFD_CLOEXEC, 3);
	if (supervise_start(files, ARRAY_SIZE(files), NULL, NULL, place, &what))
		return 11;
	close(ends[1]);
	p = (struct pollfd){ .fd = ends[0] };
	if (try_open("/dev/nowhere/iommu", O_RDWR) || poll(&p, 1, 0))
		return 12; /* has no effect on the choice */
	if (!cdevs)
		return try_open(GROUP, O_RDWR) != -1 || try_open(OTHER, O_RDWR) != EBUSY ||
		       try_open(SECOND, O_RDWR) != EBUSY || try_open(GROUP, O_RDWR) != -1 ||
		       try_open(files[3].path, O_RDWR) || poll(&p, 1, 0);
	if (try_open(OTHER, O_RDWR))
		return 13;
	if (poll(&p, 1, 5000) != 1)
		return 14; /* the kernel would not bind it */
	return try_open(SECOND, O_RDWR) || try_open(GROUP, O_RDWR) != EBUSY ||
	       try_open(OTHER, O_RDWR) || try_open(files[4].path, O_RDWR) ||
	       try_open("/dev/nowhere/iommu", O_RDWR);
}

static int takes_group(void)
{
	return takes_one_kind(false);
}

static int takes_cdevs(void)
{
	return takes_one_kind(true);
}

/* Makes a file in the place of a device's node, with a lock that goes with its last open copy. */
static bool make_node(char *path, int *ret_fd, int *ret_look)
{
	strcpy(path, "/tmp/supervise-test-XXXXXX");
	*ret_fd = mkostemp(path, O_CLOEXEC);
	*ret_look = open(path, O_RDWR | O_CLOEXEC);
	return *ret_fd >= 0 && *ret_look >= 0 && !flock(*ret_fd, LOCK_EX);
}

static bool has_node(int look)
{
	return flock(look, LOCK_EX | LOCK_NB) < 0 && errno == EWOULDBLOCK;
}

static bool loses_node(int look)
{
	for (int i = 0; i < 3000 && has_node(look); i++)
		sleep_ms(10);
	return !has_node(look);
}

/* Under a supervisor with a group and two devices: what happens when the devices are taken back. */
static int lets_go_of_nodes(void)
{
	struct supervise_file files[] = {
		{ .path = GROUP, .fd = lent, .what = "its group", .lease = 0 },
		{ .path = OTHER, .fd = -1, .what = "its device", .lease = 0 },
		{ .path = SECOND, .fd = -1, .what = "its second device", .lease = 0 },
	};
	char first[40], second[40];
	int looks[2], opened;
	const char *what = "?";

	if (!make_node(first, &files[1].fd, &looks[0]) ||
	    !make_node(second, &files[2].fd, &looks[1]) ||
	    supervise_start(files, ARRAY_SIZE(files), NULL, NULL, place, &what))
		return 10;
	close(files[1].fd);
	close(files[2].fd);
	opened = open(SECOND, O_RDWR | O_CLOEXEC);
	if (opened < 0 || !has_node(looks[0]))
		return 11;
	unlink(first);
	if (!loses_node(looks[0]))
		return 12; /* the kernel would wait for it until this process ends */
	if (try_open(OTHER, O_RDWR) != ENOENT || try_open(GROUP, O_RDWR) ||
	    try_open(SECOND, O_RDWR) == ENOENT)
		return 13;
	unlink(second);
	sleep_ms(50);
	if (!has_node(looks[1]))
		return 14; /* it is this process' own */
	close(opened);
	return loses_node(looks[1]) ? 0 : 15;
}

static bool exits_0(int (*fn)(void))
{
	pid_t pid;
	int status;

	fflush(NULL);
	pid = fork();
	if (!pid)
		_exit(fn());
	status = wait_status(pid);
	if (status)
		printf("# status %#x\n", status);
	return all_gone() && !status;
}

static void test_command(void)
{
	char pid_text[20], fds_text[20];
	char *open_self[] = { (char *)"supervise-test", (char *)"open", NULL };
	char *pid_self[] = { (char *)"supervise-test", (char *)"pid", pid_text, NULL };
	char *fds_self[] = { (char *)"supervise-test", (char *)"fds", fds_text, NULL };
	pid_t pid;
	int status;

	tap_ok(passes(execs_self, open_self), "the filter and the supervisor outlast exec");
	fflush(NULL);
	pid = fork();
	if (!pid) {
		snprintf(pid_text, sizeof(pid_text), "%d", getpid());
		if (supervise_here() < 0)
			_exit(120);
		_exit(exec_self(pid_self));
	}
	tap_ok(wait_status(pid) == 0 && all_gone(), "the command runs in the caller's own process");
	/* The command has all but the lent file, which is close-on-exec. */
	snprintf(fds_text, sizeof(fds_text), "%d", count_fds(getpid()) - 1);
	tap_ok(passes(execs_self, fds_self), "no descriptor leaks into the command");
	tap_ok(passes(has_no_child, NULL), "the supervisor is not the command's child");
	tap_ok(exits_0(leaves_caller_alone), "signals, descriptors and session are as before");
	tap_ok(exits_0(works_with_sigchld_ignored), "a caller that ignores SIGCHLD is not held up");
	tap_ok(exits_0(works_without_stdio), "a caller without stdin, stdout, stderr is served");
	status = wait_status(run(exits_42, NULL));
	tap_ok(WIFEXITED(status) && WEXITSTATUS(status) == 42, "the exit status is the command's");
	status = wait_status(run(kills_itself, NULL));
	tap_ok(WIFSIGNALED(status) && WTERMSIG(status) == SIGKILL,
	       "death by signal is the command's");
	tap_ok(all_gone(), "and the supervisor ends after both");

	if (descendants_readable()) {
		tap_ok(passes(shell_script, NULL), "a script that starts the program twice works");
		tap_ok(passes(spawns_opener, NULL), "posix_spawn (vfork) works");
	} else {
		tap_ok(true, "a script that starts the program # SKIP kernel.yama.ptrace_scope=%d",
		       ptrace_scope());
	}
	tap_ok(passes(shell_script_execs, NULL), "a script that execs the program works");

	tap_ok(exits_0(refuses_bad_paths), "a refused path leaves the process unfiltered");
	tap_ok(exits_0(refuses_bad_fd), "so does a lack of descriptors");
	tap_ok(passes(is_refused_inside, NULL),
	       "a run inside a run is refused, leaves nothing behind, and the outer one works on");
}

/* --- the supervisor's own life --- */

static int tells_and_waits(void *unused)
{
	(void)unused;
	tell(COMMAND);
	return hear(COMMAND) ? try_open(GROUP, O_RDWR) : 117;
}

static int leaves_grandchild(void *unused)
{
	(void)unused;
	if (!fork()) {
		tell(COMMAND);
		_exit(hear(COMMAND) && !(descendants_readable() && try_open(GROUP, O_RDWR))
			      ? (tell(COMMAND), hear(COMMAND), 0)
			      : 1);
	}
	return 0;
}

/* Runs after the supervisor's death. */
static int lives_on_alone(void *unused)
{
	int fd = open(GROUP, O_RDWR), null;
	char c = 'x';

	(void)unused;
	tell(COMMAND);
	if (!hear(COMMAND))
		return 1;
	null = open("/dev/null", O_RDONLY);
	return !(is_lent(fd) && pwrite(fd, &c, 1, 0) == 1 && null >= 0 &&
		 try_open(GROUP, O_RDWR) == ENOSYS);
}

static int is_mass_killed(void *unused)
{
	pid_t pids[40];

	(void)unused;
	for (int round = 0; round < 5; round++) {
		for (size_t i = 0; i < ARRAY_SIZE(pids); i++) {
			pids[i] = fork();
			if (!pids[i])
				for (;;)
					try_open(GROUP, O_RDWR);
		}
		sleep_ms(20);
		for (size_t i = 0; i < ARRAY_SIZE(pids); i++)
			kill(pids[i], SIGKILL);
		for (size_t i = 0; i < ARRAY_SIZE(pids); i++)
			waitpid(pids[i], NULL, 0);
	}
	return tells_and_waits(NULL);
}

static bool is_out_of_the_way(pid_t s, pid_t command)
{
	char path[64], dir[8] = "";

	snprintf(path, sizeof(path), "/proc/%d/cwd", s);
	return getsid(s) != getsid(command) && getpgid(s) != getpgid(command) && getsid(s) != s &&
	       readlink(path, dir, sizeof(dir) - 1) == 1 && dir[0] == '/';
}

static void test_kinds(void)
{
	tap_ok(exits_0(takes_group),
	       "who opens a lease's group does not get its devices' own nodes");
	tap_ok(exits_0(takes_cdevs),
	       "who opens a device's own node does not get the group, which is closed");
	tap_ok(exits_0(lets_go_of_nodes),
	       "a device that is taken back need not wait for a command that does not have it open");
}

static void test_life(void)
{
	static const int signals[] = { SIGINT,	SIGTERM, SIGHUP,  SIGQUIT, SIGTSTP,
				       SIGTTIN, SIGTTOU, SIGPIPE, SIGALRM, SIGUSR1,
				       SIGUSR2, SIGCHLD, SIGIO,	  SIGXCPU };
	pid_t pid, s = 0;
	int status;

	pid = run(tells_and_waits, NULL);
	hear(TEST);
	tap_ok(find_supervisor(getpid(), &s) == 1, "there is one supervisor, named gpubroker-lend");
	tap_ok(is_out_of_the_way(s, pid), "it is in a session and group of its own, and in /");
	/* 0, 1, 2, two lent files (of one number here), the pidfd, the listener */
	tap_ok(has_fds(s, 6), "it holds the lent files, the listener and no other descriptor");
	for (size_t i = 0; i < ARRAY_SIZE(signals); i++)
		kill(s, signals[i]);
	kill(s, SIGRTMIN + 3);
	sleep_ms(50);
	tell(TEST);
	tap_ok(wait_status(pid) == 0, "no signal that can be ignored ends or stops it");
	tap_ok(all_gone(), "it ends when the command does");

	pid = run(leaves_grandchild, NULL);
	status = wait_status(pid);
	tap_ok(hear(TEST) && status == 0 && find_supervisor(getpid(), &s) == 1,
	       "it stays while a grandchild outlives the command");
	tell(TEST);
	tap_ok(hear(TEST), "which is served as before");
	tap_ok(find_supervisor(getpid(), &s) == 1 && has_fds(s, 5), "and lets go of the pidfd");
	tell(TEST);
	tap_ok(all_gone(), "and it ends with the grandchild");

	pid = run(lives_on_alone, NULL);
	hear(TEST);
	if (find_supervisor(getpid(), &s) == 1)
		kill(s, SIGKILL);
	wait_status(s);
	tell(TEST);
	tap_ok(wait_status(pid) == 0,
	       "killed, it takes with it neither what is open nor opens that are not caught");
	all_gone();

	if (!descendants_readable()) {
		tap_ok(true, "processes killed while they open # SKIP kernel.yama.ptrace_scope=%d",
		       ptrace_scope());
		return;
	}
	pid = run(is_mass_killed, NULL);
	hear(TEST);
	tap_ok(find_supervisor(getpid(), &s) == 1 && has_fds(s, 6),
	       "200 processes killed while they open leave it as it was");
	tell(TEST);
	tap_ok(wait_status(pid) == 0 && all_gone(), "and it serves on");
}

/* --- terminal --- */

static int waits_for_ever(void *unused)
{
	(void)unused;
	signal(SIGINT, SIG_DFL);
	tell(COMMAND);
	if (!hear(COMMAND) || try_open(GROUP, O_RDWR))
		return 1;
	tell(COMMAND);
	for (;;)
		pause();
}

/* Runs a session with a terminal and a leader that acts like a shell; the command is its job. */
static int job_on_terminal(int terminal)
{
	pid_t pid;
	int status;

	setsid();
	if (ioctl(terminal, TIOCSCTTY, 0) < 0)
		return 1;
	fflush(NULL);
	pid = fork();
	if (!pid) {
		setpgid(0, 0);
		if (!hear(COMMAND) || supervise_here() < 0)
			_exit(120);
		_exit(waits_for_ever(NULL));
	}
	setpgid(pid, pid);
	tcsetpgrp(terminal, pid);
	tell(COMMAND);
	if (waitpid(pid, &status, WUNTRACED) != pid || !WIFSTOPPED(status) ||
	    WSTOPSIG(status) != (place == SUPERVISE_ABOVE ? SIGSTOP : SIGTSTP))
		return 2;
	tell(COMMAND);
	kill(-pid, SIGCONT);
	if (waitpid(pid, &status, WUNTRACED) != pid || !WIFSIGNALED(status) ||
	    WTERMSIG(status) != SIGINT)
		return 3;
	return 0;
}

static void test_terminal(void)
{
	cleanup_fd int master = posix_openpt(O_RDWR | O_NOCTTY | O_CLOEXEC);
	int terminal = -1;
	pid_t pid, s;

	if (master >= 0 && !grantpt(master) && !unlockpt(master))
		terminal = open(ptsname(master), O_RDWR | O_NOCTTY | O_CLOEXEC);
	if (terminal < 0) {
		tap_ok(true, "job control # SKIP no pseudo-terminals here");
		return;
	}
	fflush(NULL);
	pid = fork();
	if (!pid)
		_exit(job_on_terminal(terminal));
	hear(TEST); /* the leader has started the job */
	tell(TEST); /* lets the command go on */
	hear(TEST); /* the command is under the filter */
	if (write(master, "\032", 1) != 1)
		tap_ok(false, "^Z can be typed");
	tap_ok(hear(TEST), "^Z stops the command as a job of its shell");
	sleep_ms(50);
	tap_ok(place == SUPERVISE_ABOVE || find_supervisor(getpid(), &s) == 1,
	       "and the supervisor stays");
	tell(TEST);
	tap_ok(hear(TEST), "continued, the command's opens are served");
	if (write(master, "\003", 1) != 1)
		tap_ok(false, "^C can be typed");
	tap_ok(wait_status(pid) == 0, "^C reaches the command, and ends it as ever");
	tap_ok(all_gone(), "and the supervisor ends");
	fd_close(terminal);
}

/* --- above the command --- */

static pid_t supervisor_of(pid_t waiting)
{
	pid_t s = 0;

	for (int i = 0; i < 3000 && find_supervisor(waiting, &s) != 1; i++)
		sleep_ms(10);
	return s;
}

/* Forks twice, and has the one that is left tell, open, and end when it is told to. */
static int leaves_daemon(void *unused)
{
	pid_t pid = fork();

	(void)unused;
	if (!pid) {
		setsid();
		if (!fork()) {
			pid_t s;

			while (getppid() ==
			       getpgrp()) /* the one between, which leads the session */
				sleep_ms(10);
			tell(COMMAND);
			_exit(hear(COMMAND) && !try_open(GROUP, O_RDWR) &&
					      find_supervisor(getppid(), &s) == 0
				      ? (tell(COMMAND), hear(COMMAND), 0)
				      : 1);
		}
		_exit(0);
	}
	waitpid(pid, NULL, 0);
	return 7;
}

static volatile sig_atomic_t got, got_value;

static void on_queued(int sig, siginfo_t *info, void *unused)
{
	(void)sig;
	(void)unused;
	got++;
	got_value = info->si_value.sival_int;
}

static int waits_for_signal(void *unused)
{
	struct sigaction action = { .sa_sigaction = on_queued, .sa_flags = SA_SIGINFO };

	(void)unused;
	sigaction(SIGUSR1, &action, NULL);
	tell(COMMAND);
	for (int i = 0; i < 1000 && !got; i++)
		sleep_ms(10);
	sleep_ms(50);
	return got == 1 && got_value == 5 ? 9 : 1;
}

static int waits_for_end(void *unused)
{
	(void)unused;
	tell(COMMAND);
	sleep_ms(100000);
	return 1;
}

static int ignores_stop(void *unused)
{
	(void)unused;
	signal(SIGTSTP, SIG_IGN);
	return tells_and_waits(NULL);
}

static int stops_itself(void *unused)
{
	(void)unused;
	raise(SIGSTOP);
	return 3;
}

/* Closes its end of a pipe, of which the test has the other, and goes on. */
static int closes_pipe(void *fd)
{
	close(*(int *)fd);
	return tells_and_waits(NULL);
}

/* Signal mask, dispositions, descriptors and session are as before, in the command. */
static int leaves_command_alone(void)
{
	sigset_t mask, after;
	struct sigaction old;
	int fds = count_fds(getpid());
	pid_t sid = getsid(0), pgrp = getpgrp(), before = getpid();

	signal(SIGCHLD, SIG_IGN);
	sigemptyset(&mask);
	sigaddset(&mask, SIGUSR1);
	sigprocmask(SIG_SETMASK, &mask, NULL);
	if (supervise_here() < 0)
		return 1;
	sigprocmask(SIG_SETMASK, NULL, &after);
	for (int sig = 1; sig < SIGRTMIN; sig++)
		if (sigismember(&after, sig) != (sig == SIGUSR1))
			return 2;
	if (sigaction(SIGCHLD, NULL, &old) < 0 || old.sa_handler != SIG_IGN)
		return 3;
	return count_fds(getpid()) != fds || getsid(0) != sid || getpgrp() != pgrp ||
	       getpid() == before || has_no_child(NULL);
}

/* A command whose waiting process leads a session, as a terminal's window starts it. */
static int leads_session(int terminal)
{
	setsid();
	if (ioctl(terminal, TIOCSCTTY, 0) < 0 || supervise_here() < 0)
		return 120;
	fd_close(terminal);
	return waits_for_end(NULL);
}

static void test_hangup_above(void)
{
	cleanup_fd int master = posix_openpt(O_RDWR | O_NOCTTY | O_CLOEXEC);
	int terminal = -1, status;
	pid_t pid;

	if (master >= 0 && !grantpt(master) && !unlockpt(master))
		terminal = open(ptsname(master), O_RDWR | O_NOCTTY | O_CLOEXEC);
	if (terminal < 0) {
		tap_ok(true, "above: a closed terminal # SKIP no pseudo-terminals here");
		return;
	}
	fflush(NULL);
	pid = fork();
	if (!pid) {
		fd_close(master);
		_exit(leads_session(terminal));
	}
	fd_close(terminal);
	hear(TEST);
	master = fd_close(master);
	status = wait_status(pid);
	tap_ok(WIFSIGNALED(status) && WTERMSIG(status) == SIGHUP && all_gone(),
	       "above: the leader of a session passes the hang-up of its terminal on");
}

static void test_ends_above(void)
{
	pid_t pid, s;
	int status;

	status = wait_status(run(exits_42, NULL));
	tap_ok(WIFEXITED(status) && WEXITSTATUS(status) == 42 && all_gone(),
	       "above: the exit status is the command's");
	status = wait_status(run(kills_itself, NULL));
	tap_ok(WIFSIGNALED(status) && WTERMSIG(status) == SIGKILL && all_gone(),
	       "above: so is death by signal");

	pid = run(waits_for_end, NULL);
	hear(TEST);
	kill(pid, SIGTERM);
	status = wait_status(pid);
	tap_ok(WIFSIGNALED(status) && WTERMSIG(status) == SIGTERM && all_gone(),
	       "above: a signal that is sent to who waits ends the command, and so who waits");

	pid = run(waits_for_signal, NULL);
	hear(TEST);
	sigqueue(pid, SIGUSR1, (union sigval){ .sival_int = 5 });
	status = wait_status(pid);
	tap_ok(WIFEXITED(status) && WEXITSTATUS(status) == 9 && all_gone(),
	       "above: a signal reaches the command once, with its value");

	pid = run(waits_for_end, NULL);
	hear(TEST);
	kill(pid, SIGKILL);
	wait_status(pid);
	tap_ok(all_gone(), "above: who waits is killed, and the command with it");

	pid = run(tells_and_waits, NULL);
	hear(TEST);
	s = supervisor_of(pid);
	kill(s, SIGKILL);
	sleep_ms(50);
	tap_ok(kill(pid, 0) == 0, "above: the supervisor is killed, and the command goes on");
	tell(TEST);
	status = wait_status(pid);
	tap_ok(WIFEXITED(status) && WEXITSTATUS(status) == ENOSYS && all_gone(),
	       "above: ... and its exit status is told all the same");
}

static void test_above(void)
{
	int ends[2], status;
	pid_t pid, s;
	char c;

	place = SUPERVISE_ABOVE;
	tap_ok(passes(opens_group, NULL), "above: an open of the group's path gets the lent file");
	tap_ok(passes(opens_in_threads, NULL), "above: 100 threads that open all get theirs");
	tap_ok(passes(opens_under_signals, NULL), "above: opens under a storm of signals succeed");
	tap_ok(passes(has_no_child, NULL), "above: the command has no child that it did not start");
	tap_ok(passes(is_refused_inside, NULL), "above: a run inside a run is refused");
	tap_ok(exits_0(leaves_command_alone), "above: signals, descriptors, session are as before");
	tap_ok(exits_0(works_without_stdio),
	       "above: a caller without stdin, stdout, stderr is served");
	tap_ok(exits_0(lets_go_of_nodes), "above: a device that is taken back is let go of");
	tap_ok(exits_0(refuses_bad_paths), "above: a refused path starts nothing");
	tap_ok(exits_0(refuses_bad_fd), "above: so does a lack of descriptors");
	if (descendants_readable())
		tap_ok(passes(shell_script, NULL), "above: a script that starts the program works");
	test_ends_above();

	pid = run(leaves_daemon, NULL);
	status = wait_status(pid);
	tap_ok(WIFEXITED(status) && WEXITSTATUS(status) == 7 && hear(TEST),
	       "above: the command ends, and so who waits, while a daemon of it goes on");
	tell(TEST);
	tap_ok(hear(TEST), "above: ... which is served");
	s = supervisor_of(getpid());
	tap_ok(s && has_fds(s, 6), "above: ... by a supervisor that let go of pidfd and socket");
	tell(TEST);
	tap_ok(all_gone(), "above: ... and ends with it");

	if (pipe2(ends, O_CLOEXEC))
		return;
	pid = run(closes_pipe, &ends[1]);
	close(ends[1]);
	hear(TEST);
	tap_ok(count_fds(pid) == 3, "above: who waits has its three descriptors and no other");
	tap_ok(read(ends[0], &c, 1) == 0, "above: ... so a pipe that the command closes is closed");
	close(ends[0]);
	s = supervisor_of(pid);
	/* 0, 1, 2, two lent files (of one number here), pidfd, listener, parent, children */
	tap_ok(has_fds(s, 8), "above: the supervisor has what it needs and no other");
	tell(TEST);
	tap_ok(wait_status(pid) == 0 && all_gone(), "above: ... and all end");

	pid = run(ignores_stop, NULL);
	hear(TEST);
	kill(pid, SIGTSTP);
	sleep_ms(50);
	tap_ok(waitpid(pid, &status, WUNTRACED | WNOHANG) == 0,
	       "above: who waits stops only if the command does");
	tell(TEST);
	tap_ok(wait_status(pid) == 0 && all_gone(), "above: ... and ends with it");

	pid = run(stops_itself, NULL);
	tap_ok(waitpid(pid, &status, WUNTRACED) == pid && WIFSTOPPED(status),
	       "above: a command that stops itself stops who waits");
	kill(pid, SIGCONT);
	status = wait_status(pid);
	tap_ok(WIFEXITED(status) && WEXITSTATUS(status) == 3 && all_gone(),
	       "above: continued, both go on");
	test_terminal();
	test_hangup_above();
	place = SUPERVISE_BESIDE;
}

static void test_reach(void)
{
	enum supervise_place is;

	tap_ok(reach_decide(0, false, &is) && is == SUPERVISE_BESIDE &&
		       reach_decide(0, true, &is) && is == SUPERVISE_BESIDE,
	       "without Yama, or with its scope 0, the command is executed directly");
	tap_ok(reach_decide(1, false, &is) && is == SUPERVISE_ABOVE && reach_decide(1, true, &is) &&
		       is == SUPERVISE_BESIDE,
	       "with scope 1 the supervisor is above, unless it may read everything");
	tap_ok(!reach_decide(2, false, &is) && reach_decide(2, true, &is) && is == SUPERVISE_BESIDE,
	       "with scope 2 only a capable process can serve");
	tap_ok(!reach_decide(3, false, &is) && !reach_decide(3, true, &is),
	       "with scope 3 nobody can");
}

/* --- memory that the supervisor cannot read --- */

/* Becomes a user whom the kernel may refuse. Changing the uid has made us undumpable. */
static void drop_root(void)
{
	if (!geteuid() && (setgid(NOBODY) < 0 || setuid(NOBODY) < 0))
		_exit(116);
	prctl(PR_SET_DUMPABLE, 1);
}

static int hides_and_opens(void *unused)
{
	int r = 0;

	(void)unused;
	prctl(PR_SET_NAME, "hidden\033[7m");
	prctl(PR_SET_DUMPABLE, 0);
	for (int i = 0; i < 3; i++)
		r |= try_open(GROUP, O_RDWR) != ENOENT;
	return r;
}

static int direct_then_fork(void *unused)
{
	int fd = open(GROUP, O_RDWR);
	pid_t pid;

	(void)unused;
	if (!is_lent(fd))
		return 1;
	pid = fork();
	if (!pid)
		_exit(try_open(GROUP, O_RDWR) == (yama_hinders() ? ENOENT : 0) ? 0 : 2);
	return wait_status(pid) ? 3 : 0;
}

static int direct_then_exec(void *unused)
{
	char *argv[] = { (char *)"supervise-test", (char *)"open", NULL };

	(void)unused;
	return direct_then_fork(NULL) ? 4 : exec_self(argv);
}

/*
 * Runs fn with its stderr in a pipe, and returns the text. With `full`, the pipe takes no more
 * bytes.
 */
static int run_and_listen(int (*fn)(void *), bool full, char *text, size_t size)
{
	int pipes[2], status;
	size_t used = 0;
	ssize_t n;
	pid_t pid;

	if (pipe2(pipes, O_CLOEXEC) < 0)
		return -1;
	fflush(NULL);
	pid = fork();
	if (!pid) {
		const char fill[] = "x";

		dup2(pipes[1], STDERR_FILENO);
		close(pipes[0]);
		close(pipes[1]);
		fcntl(STDERR_FILENO, F_SETFL, full ? O_NONBLOCK : 0);
		while (full && write(STDERR_FILENO, fill, 1) > 0)
			;
		fcntl(STDERR_FILENO, F_SETFL, 0);
		drop_root();
		if (supervise_here() < 0)
			_exit(120);
		fd_close(lent);
		_exit(fn(NULL));
	}
	close(pipes[1]);
	if (full)
		sleep_ms(200);
	status = full ? wait_status(pid) : 0;
	while (used < size - 1 && (n = read(pipes[0], text + used, size - 1 - used)) > 0)
		used += (size_t)n;
	text[used] = '\0';
	close(pipes[0]);
	return full ? status : wait_status(pid);
}

static int daemonizes(void *unused)
{
	(void)unused;
	if (!fork()) {
		dup2(open("/dev/null", O_RDWR), STDERR_FILENO);
		tell(COMMAND);
		hear(COMMAND);
		_exit(0);
	}
	return 0;
}

/* The flags of a process's stderr, or -1. */
static int stderr_flags(pid_t pid)
{
	char path[64], line[100];
	cleanup_file FILE *file = NULL;
	unsigned flags;

	snprintf(path, sizeof(path), "/proc/%d/fdinfo/2", pid);
	file = fopen(path, "re");
	while (file && fgets(line, sizeof(line), file))
		if (sscanf(line, "flags: %o", &flags) == 1)
			return (int)flags;
	return -1;
}

/* The command, whose stderr is a pipe: 0 if the supervisor never waits for it, and it does. */
static int waits_alone(void)
{
	int pipes[2];
	pid_t s = 0;

	if (pipe2(pipes, O_CLOEXEC) < 0 || dup2(pipes[1], STDERR_FILENO) < 0 ||
	    supervise_here() < 0 || find_supervisor(getppid(), &s) != 1)
		return 1;
	return stderr_flags(getpid()) & O_NONBLOCK || !(stderr_flags(s) & O_NONBLOCK) ? 2 : 0;
}

static void test_stderr(void)
{
	pid_t pid;

	fflush(NULL);
	pid = fork();
	if (!pid)
		_exit(waits_alone());
	tap_ok(!wait_status(pid) && all_gone(),
	       "the supervisor never waits for room on stderr, whose flags stay the command's");
}

/* Sends a byte with n descriptors, and has it received as packet_receive() is told. */
static bool keeps_fds(size_t n, bool wanted, int r)
{
	const int fds[3] = { STDIN_FILENO, STDOUT_FILENO, STDERR_FILENO };
	char space[CMSG_SPACE(sizeof(fds))] = "", byte = 'x';
	struct iovec iov = { .iov_base = &byte, .iov_len = 1 };
	struct msghdr message = { .msg_iov = &iov, .msg_iovlen = 1 };
	int pair[2], kept = -1, before;
	bool good;

	if (socketpair(AF_UNIX, SOCK_SEQPACKET | SOCK_CLOEXEC, 0, pair))
		return false;
	if (n) {
		message.msg_control = space;
		message.msg_controllen = CMSG_SPACE(n * sizeof(int));
		CMSG_FIRSTHDR(&message)->cmsg_level = SOL_SOCKET;
		CMSG_FIRSTHDR(&message)->cmsg_type = SCM_RIGHTS;
		CMSG_FIRSTHDR(&message)->cmsg_len = CMSG_LEN(n * sizeof(int));
		memcpy(CMSG_DATA(CMSG_FIRSTHDR(&message)), fds, n * sizeof(int));
	}
	before = count_fds(getpid());
	good = sendmsg(pair[0], &message, 0) == 1 &&
	       packet_receive(pair[1], &byte, 1, wanted ? &kept : NULL) == r;
	if (kept >= 0)
		close(kept);
	good = good && count_fds(getpid()) == before && (kept >= 0) == (!r && wanted);
	close(pair[0]);
	close(pair[1]);
	return good;
}

static void test_packets(void)
{
	tap_ok(keeps_fds(0, false, 0) && keeps_fds(1, true, 0),
	       "a packet comes with its descriptor, or without one");
	tap_ok(keeps_fds(0, true, -EBADMSG) && keeps_fds(1, false, -EBADMSG) &&
		       keeps_fds(2, true, -EBADMSG) && keeps_fds(3, true, -EBADMSG),
	       "and no other descriptor is kept");
}

static void test_messages(void)
{
	char text[100000];
	const char *first;
	time_t begin;
	pid_t s;
	int r;

	if (ptrace_scope() < 2) {
		r = run_and_listen(direct_then_exec, false, text, sizeof(text));
		tap_ok(r == 0, "the command itself is served also after exec, whatever Yama says");
		tap_ok(yama_hinders() ? strstr(text, "was raised to 1") != NULL : !*text,
		       "and a message tells of a child that cannot be served, if that is so");
		if (r || yama_hinders())
			printf("# %s", text);
		all_gone();
	}

	r = run_and_listen(hides_and_opens, false, text, sizeof(text));
	tap_ok(r == 0, "the opens of a command that cannot be read go on as if uncaught");
	first = strstr(text, "cannot see which file");
	if (!tap_ok(first && strstr(text, "the test's group") && strstr(text, "(hidden?[7m)") &&
			    !strstr(first + 1, "cannot see"),
		    "one message says so, and names process and device"))
		printf("# %s\n", text);
	all_gone();
	tap_ok(run_and_listen(hides_and_opens, true, text, sizeof(text)) == 0 && all_gone(),
	       "a stderr that takes nothing holds nobody up");

	begin = time(NULL);
	r = run_and_listen(daemonizes, false, text, sizeof(text));
	tap_ok(r == 0 && time(NULL) - begin < 5 && find_supervisor(getpid(), &s) == 1,
	       "a command's stderr ends with the command, while a daemon of it keeps the supervisor");
	hear(TEST);
	tell(TEST);
	tap_ok(all_gone(), "and the supervisor ends with the daemon");
}

int main(int argc, char **argv)
{
	/* The program that the test starts as a command; its own descriptors came with it. */
	lent_stat.st_ino = (ino_t)strtoull(getenv("LENT_INO") ?: "0", NULL, 10);
	lent_stat.st_dev = (dev_t)strtoull(getenv("LENT_DEV") ?: "0", NULL, 10);
	if (argc > 1 && !strcmp(argv[1], "open"))
		return try_open(GROUP, O_RDWR);
	if (argc > 2 && !strcmp(argv[1], "pid"))
		return getpid() != atoi(argv[2]);
	if (argc > 2 && !strcmp(argv[1], "fds"))
		return count_fds(getpid()) != atoi(argv[2]);

	if (geteuid() && ptrace_scope() > 1) {
		printf("1..0 # SKIP kernel.yama.ptrace_scope=%d: nobody can be served\n",
		       ptrace_scope());
		return 0;
	}
	for (int sig = 1; sig < SIGRTMIN; sig++)
		signal(sig, SIG_DFL); /* nohup, or a job of a script, has some ignored */
	alarm(300);
	prctl(PR_SET_CHILD_SUBREAPER, 1);
	lent = memfd_create("lent", MFD_CLOEXEC);
	if (lent < 0 || fstat(lent, &lent_stat) < 0 ||
	    socketpair(AF_UNIX, SOCK_STREAM, 0, talk) < 0) {
		printf("Bail out! no memfd or socket pair: %s\n", strerror(errno));
		return 99;
	}
	{
		char text[32];

		snprintf(text, sizeof(text), "%llu", (unsigned long long)lent_stat.st_ino);
		setenv("LENT_INO", text, 1);
		snprintf(text, sizeof(text), "%llu", (unsigned long long)lent_stat.st_dev);
		setenv("LENT_DEV", text, 1);
	}
	test_opens();
	test_command();
	test_kinds();
	test_life();
	test_terminal();
	test_above();
	test_reach();
	test_stderr();
	test_packets();
	test_messages();
	return tap_done();
}
