/* SPDX-License-Identifier: MIT */
/*
 * The process that answers the opens of a supervised command, and its whole life after the fork.
 *
 * It owns copies of the leased descriptors and the listener of the filter, and keeps both until the
 * last task under the filter is gone: so the lease lasts as long as the command's process tree, not
 * only as long as the command. It serves a user's own processes and is no boundary: a command that
 * changes the path before we have read it gets a descriptor that its user has leased anyway.
 *
 * It must never block but in poll() and in ioctls of the listener and of a group, since every open
 * of the command that the filter catches waits for it. It must never end while a task is under the
 * filter (those opens would fail with ENOSYS), never allocate once it serves, and never hold the
 * terminal or a pipe of the command's open longer than the command lives.
 */
#include "config.h"

#include "client/run/supervisor.h"
#include "client/run/children.h"
#include "client/run/farewell.h"
#include "client/run/inbox.h"
#include "client/run/memory.h"
#include "client/run/nodes.h"
#include "client/common/util.h"
#include "client/host/marked.h"

#include <ctype.h>
#include <errno.h>
#include <fcntl.h>
#include <limits.h>
#include <linux/openat2.h>
#include <linux/vfio.h>
#include <poll.h>
#include <stdarg.h>
#include <stdint.h>
#include <string.h>
#include <sys/ioctl.h>
#include <sys/syscall.h>

/*
 * Returns true for "/dev/vfio/17"; false for "/dev/vfio/vfio", "/dev/vfio/devices/vfio3" and
 * "/dev/iommu".
 */
static bool is_group_path(const char *path)
{
	static const char dir[] = "/dev/vfio/";
	const char *number = path + strlen(dir);

	return !strncmp(path, dir, strlen(dir)) && *number &&
	       strspn(number, "0123456789") == strlen(number);
}

static bool is_cdev_path(const char *path)
{
	static const char dir[] = "/dev/vfio/devices/";

	return !strncmp(path, dir, strlen(dir));
}

#define NO_SUPERVISOR                                                                              \
	(struct supervisor)                                                                        \
	{                                                                                          \
		.listener = -1, .command = -1, .parent = -1, .children = -1, .nodes = -1,          \
		.inbox = -1, .visitor = -1, .added.file.fd = -1                                    \
	}

int supervisor_init(struct supervisor *s, const struct supervise_file *files, size_t n_files,
		    const char **ret_what)
{
	struct seccomp_notif_sizes sizes;

	*s = NO_SUPERVISOR;

	if (syscall(SYS_seccomp, SECCOMP_GET_NOTIF_SIZES, 0, &sizes) < 0) {
		*ret_what = "ask the kernel for seccomp user notification";
		return -errno;
	}
	s->request_size = sizeof(*s->request);
	if (s->request_size < sizes.seccomp_notif)
		s->request_size = sizes.seccomp_notif;
	s->response_size = sizeof(*s->response);
	if (s->response_size < sizes.seccomp_notif_resp)
		s->response_size = sizes.seccomp_notif_resp;

	for (size_t i = 0; i < n_files; i++) {
		size_t size = strlen(files[i].path) + 1;

		if (size > PATH_MAX || files[i].path[0] != '/') {
			*ret_what = "take a path that no open() can name";
			return -EINVAL;
		}
		if (s->path_size < size)
			s->path_size = size;
	}

	if (s->path_size < sizeof(s->added_path))
		s->path_size = sizeof(s->added_path);
	*ret_what = "allocate memory for the supervisor";
	s->path = malloc(s->path_size + 1);
	s->request = malloc(s->request_size);
	s->response = malloc(s->response_size);
	s->lent = calloc(n_files + 1, sizeof(*s->lent));
	if (!s->path || !s->request || !s->response || !s->lent) {
		supervisor_done(s);
		return -ENOMEM;
	}
	for (size_t i = 0; i < n_files; i++)
		s->lent[s->n_lent++] = (struct lent){
			.file = files[i],
			.is_group = is_group_path(files[i].path),
			.is_cdev = is_cdev_path(files[i].path),
		};
	return 0;
}

void supervisor_done(struct supervisor *s)
{
	free(s->path);
	free(s->request);
	free(s->response);
	free(s->lent);
	*s = NO_SUPERVISOR;
}

/*
 * stderr may be a terminal that ^S has stopped or a pipe that nobody reads: then the message is
 * lost rather than the command held up. A message is far below PIPE_BUF, so it fits where poll()
 * sees room.
 */
__attribute__((format(printf, 2, 3))) static bool say(const struct supervisor *s,
						      const char *format, ...)
{
	struct pollfd p = { .fd = STDERR_FILENO, .events = POLLOUT };
	char text[1024];
	va_list args;
	int n;

	if (!s->has_stderr || poll(&p, 1, 0) <= 0 || !(p.revents & POLLOUT))
		return false;
	va_start(args, format);
	n = vsnprintf(text, sizeof(text), format, args);
	va_end(args);
	if (n < 0)
		return false;
	if ((size_t)n >= sizeof(text)) {
		n = sizeof(text) - 1;
		text[n - 1] = '\n';
	}
	return write(STDERR_FILENO, text, (size_t)n) == n;
}

/* A few bytes from /proc, made fit for a terminal: a process may choose any bytes as its name. */
static void read_word(const char *path, char *text, size_t size)
{
	cleanup_fd int fd = open(path, O_RDONLY | O_CLOEXEC);
	ssize_t n = fd < 0 ? 0 : read(fd, text, size - 1);

	text[n < 0 ? 0 : n] = '\0';
	text[strcspn(text, "\n")] = '\0';
	for (char *c = text; *c; c++)
		if (!isascii(*c) || !isprint(*c))
			*c = '?';
}

/*
 * Only once: a command that opens a hundred files that we cannot see would print it a hundred
 * times.
 */
static void warn_unreadable(struct supervisor *s, __u32 pid)
{
	char name[32], scope[8], path[64];
	const char *help;

	if (s->warned_unreadable || !s->n_lent)
		return;
	snprintf(path, sizeof(path), "/proc/%u/comm", pid);
	read_word(path, name, sizeof(name));
	read_word("/proc/sys/kernel/yama/ptrace_scope", scope, sizeof(scope));

	if (!strcmp(scope, "1") && s->children < 0)
		help = "kernel.yama.ptrace_scope was raised to 1 since; start gpubroker again";
	else if (*scope > '1')
		help = "kernel.yama.ptrace_scope is above 1, so no process can be served: have the "
		       "administrator set it to 1 or 0";
	else
		help = "the process does not let itself be read; that is so when you may execute "
		       "its program file but not read it";
	s->warned_unreadable =
		say(s,
		    "gpubroker: cannot see which file process %u (%s) opens; if it is the one that "
		    "should get %s, it will not: %s.\n",
		    pid, name, s->lent[0].file.what, help);
}

static ssize_t read_path(const struct supervisor *s, __u64 address)
{
	return memory_read((pid_t)s->request->pid, address, s->path, s->path_size);
}

/* Returns true if the path is the one that was read, of which there are n bytes. */
static bool is_opened(const struct supervisor *s, size_t n, const char *path)
{
	const size_t size = strlen(path) + 1;

	return size <= n && !memcmp(s->path, path, size);
}

static struct lent *find_lent(struct supervisor *s, size_t n)
{
	for (size_t i = 0; i < s->n_lent; i++)
		if (is_opened(s, n, s->lent[i].file.path))
			return &s->lent[i];
	return s->added.file.fd >= 0 && is_opened(s, n, s->added_path) ? &s->added : NULL;
}

/* The caller may be gone by now (ENOENT): then there is nothing to do. */
static void send_response(struct supervisor *s, int error, __u32 flags)
{
	memset(s->response, 0, s->response_size);
	s->response->id = s->request->id;
	s->response->error = error;
	s->response->flags = flags;
	ioctl(s->listener, SECCOMP_IOCTL_NOTIF_SEND, s->response);
}

/* Lets the kernel do the call as if we were not there. */
static void let_pass(struct supervisor *s)
{
	send_response(s, 0, SECCOMP_USER_NOTIF_FLAG_CONTINUE);
}

/*
 * While we have the group open, the kernel binds none of its device nodes, and nobody uses one
 * lease in both ways. So the first open decides, and we close the other kind for good.
 */
static void give_up_other_kind(struct supervisor *s, const struct lent *chosen)
{
	for (size_t i = 0; i < s->n_lent; i++) {
		struct lent *other = &s->lent[i];

		if (!chosen->file.lease || other->file.lease != chosen->file.lease ||
		    other->is_cdev == chosen->is_cdev || other->given_up)
			continue;
		other->file.fd = fd_close(other->file.fd);
		other->given_up = true;
	}
}

/* A node that is bound has served a VMM: a bound device answers, one that is not does not. */
static bool is_used_up(const struct lent *lent)
{
	struct vfio_device_info info = { .argsz = sizeof(info) };

	return lent->is_cdev && !ioctl(lent->file.fd, VFIO_DEVICE_GET_INFO, &info);
}

/* Returns true if it cannot be had, after answering the caller. */
static bool refuse_to_hand_out(struct supervisor *s, const struct lent *lent)
{
	const char *why =
		lent->taken ? "it has been taken back"
		: lent->given_up
			? "it was opened in the other way already (an IOMMU group, or devices by "
			  "iommufd), and one lease is never used in both"
		: is_used_up(lent) ? "a VMM has bound it to its iommufd, and the kernel does "
				     "that once: claim it again for another VMM"
				   : NULL;

	if (!why)
		return false;
	if (!s->warned_kind)
		s->warned_kind = say(s, "gpubroker: %s is not opened again for process %u: %s.\n",
				     lent->file.what, s->request->pid, why);
	if (lent->taken)
		let_pass(s); /* into what the kernel says to anybody without a lease */
	else
		send_response(s, -EBUSY, 0);
	return true;
}

static void hand_out(struct supervisor *s, struct lent *lent, __u64 flags)
{
	struct seccomp_notif_addfd addfd = {
		.id = s->request->id,
		.flags = SECCOMP_ADDFD_FLAG_SEND,
		.srcfd = (__u32)lent->file.fd,
		.newfd_flags = (__u32)(flags & O_CLOEXEC),
	};

	if (refuse_to_hand_out(s, lent))
		return;
	give_up_other_kind(s, lent);
	/*
	 * A VMM that was killed has closed its copy of the group, not ours, so the group is still
	 * attached to the dead VMM's container, and the next VMM's attach would fail. While a
	 * device of it is open the kernel says EBUSY; so would a second open of the real node, and
	 * so do we. (A device's own node has no such way back, see is_used_up().)
	 */
	if (lent->is_group && lent->handed_out &&
	    ioctl(lent->file.fd, VFIO_GROUP_UNSET_CONTAINER) < 0 && errno == EBUSY) {
		send_response(s, -EBUSY, 0);
		return;
	}

	if (ioctl(s->listener, SECCOMP_IOCTL_NOTIF_ADDFD, &addfd) >= 0) {
		lent->handed_out = true;
		return;
	}
	/*
	 * The caller is gone, or was interrupted by a signal: the call is then started again, and
	 * reported again.
	 */
	if (errno == ENOENT || errno == ESRCH)
		return;
	if (errno != EMFILE && !s->warned_refused)
		s->warned_refused = say(s, "gpubroker: cannot put %s into process %u: %s.\n",
					lent->file.what, s->request->pid, strerror(errno));
	let_pass(s); /* into the same EMFILE, or whatever the kernel says to an open of that path */
}

/*
 * Returns true if a call for that path gets what is lent, and its flags. The RESOLVE_ flags that
 * concern links and the cache change nothing for the node of a device; with others the path may
 * mean another file, or none, so the kernel answers, as it does a size or a field that it may know
 * and we do not.
 */
static bool wants_lent(const struct supervisor *s, __u64 *ret_flags)
{
	const __u64 harmless = RESOLVE_NO_SYMLINKS | RESOLVE_NO_MAGICLINKS | RESOLVE_CACHED;
	const struct seccomp_data *data = &s->request->data;
	struct open_how how;

	if (data->nr != SYS_openat2) {
		*ret_flags = data->args[data->nr == SYS_openat ? 2 : 1];
		return true;
	}
	if (data->args[3] != sizeof(how) ||
	    memory_read((pid_t)s->request->pid, data->args[2], &how, sizeof(how)) != sizeof(how))
		return false;
	*ret_flags = how.flags;
	return (how.flags & SUPERVISOR_FLAGS) == O_RDWR && how.flags >> 32 == 0 &&
	       !(how.resolve & ~harmless) && !how.mode;
}

static void answer_one(struct supervisor *s)
{
	const struct seccomp_data *data = &s->request->data;
	struct lent *lent = NULL;
	__u64 flags = 0;
	ssize_t n;

	memset(s->request, 0, s->request_size); /* the kernel insists */
	if (ioctl(s->listener, SECCOMP_IOCTL_NOTIF_RECV, s->request) < 0) {
		/*
		 * ENOENT: killed since poll() saw it. This does not block, although
		 * seccomp_unotify(2) warns of it: each notification raises a count that only RECV
		 * lowers, and we are the only reader, so after POLLIN the count cannot be zero.
		 */
		if (errno != ENOENT && errno != EINTR)
			poll(NULL, 0, 10); /* unexpected; do not spin */
		return;
	}

	n = read_path(s, data->args[data->nr == SYS_openat || data->nr == SYS_openat2]);
	if (n > 0)
		lent = find_lent(s, (size_t)n);
	if (lent && !wants_lent(s, &flags))
		lent = NULL;
	/*
	 * Checks from here on whether that was the caller's memory, or that of a process that has
	 * its pid since.
	 */
	if (ioctl(s->listener, SECCOMP_IOCTL_NOTIF_ID_VALID, &s->request->id) < 0)
		return;
	/* An openat2 is most often for something else, so it is no reason to say anything. */
	if (n == -EPERM && data->nr != SYS_openat2)
		warn_unreadable(s, s->request->pid);
	if (lent)
		hand_out(s, lent, flags);
	else
		let_pass(s);
}

/* Returns true if the command's program is a QEMU, which uses all that it is given at its start. */
static bool is_qemu(const struct supervisor *s)
{
	char name[32], path[64];

	snprintf(path, sizeof(path), "/proc/%ld/comm", (long)s->pid);
	read_word(path, name, sizeof(name));
	return !strncmp(name, "qemu-", 5) || !strcmp(name, "kvm");
}

/*
 * Says that nothing of what is lent was opened: by a QEMU that runs for a while, or, on a terminal,
 * by a command that has ended. A script may have its reasons.
 */
static void warn_unused(const struct supervisor *s, bool qemu)
{
	for (size_t i = 0; i < s->n_lent; i++)
		if (s->lent[i].handed_out)
			return;
	if (!s->n_lent || (!qemu && !isatty(STDERR_FILENO)))
		return;
	if (qemu)
		say(s, "gpubroker: QEMU has not opened %s, so the VM is without %s%s.\n",
		    s->lent[0].file.path, s->lent[0].file.what,
		    s->lent[0].file.given ? ""
					  : "; `gpubroker run --qemu` adds the arguments that give "
					    "it to QEMU");
	else
		say(s, "gpubroker: the command never opened %s, so it did not use %s%s.\n",
		    s->lent[0].file.path, s->lent[0].file.what,
		    s->lent[0].file.given ? "" : "; for QEMU, add --qemu");
}

/* The descriptor that tells of the leases, or -1. */
static int notices_fd(const struct supervisor *s)
{
	return s->notices ? s->notices->fd(s->notices->userdata) : -1;
}

/* Says what there is to say of the leases, on a terminal. */
static void say_notices(struct supervisor *s)
{
	char text[512];

	while (s->notices && s->notices->next(s->notices->userdata, text, sizeof(text)))
		if (isatty(STDERR_FILENO))
			say(s, "%s", text);
}

#define SURVIVORS_NAMED 3

/* Says which processes that the command has started go on. Returns false if it finds none. */
static bool say_survivors(const struct supervisor *s)
{
	struct marked list[SURVIVORS_NAMED];
	char names[160] = "";
	size_t n = s->mark && s->n_lent ? marked_find(s->mark, getuid(), list, ARRAY_SIZE(list))
					: 0;
	size_t used = 0;
	bool pause = false;

	for (size_t i = 0; i < n && i < ARRAY_SIZE(list); i++) {
		pause |= !strcmp(list[i].name, "catatonit") ||
			 !strcmp(list[i].name, "podman pause");
		used += (size_t)snprintf(names + used, sizeof(names) - used, "%s%s (pid %u)",
					 i ? ", " : "", list[i].name, list[i].pid);
	}
	if (n > ARRAY_SIZE(list))
		snprintf(names + used, sizeof(names) - used, " and %zu more", n - ARRAY_SIZE(list));
	return n && say(s,
			"gpubroker: %s stays leased, since the command has started what goes on: "
			"%s.%s\n",
			s->lent[0].file.what, names,
			pause ? " 'podman system migrate' ends podman's own." : "");
}

/*
 * The command has ended. If all that it started has, too, the device goes back with us. What a
 * script leaves behind on purpose is no news to it, so only a terminal is told.
 */
static void take_leave(struct supervisor *s, time_t begun, bool goes_on)
{
	char text[FAREWELL_TEXT];

	if (s->has_stderr && isatty(STDERR_FILENO) && !(goes_on && say_survivors(s))) {
		farewell_text(s, time(NULL) - begun, goes_on, text);
		say(s, "%s", text);
	}
	dup2(STDOUT_FILENO, STDERR_FILENO);
	s->has_stderr = false;
}

#define UNUSED_FOR 10000 /* ms that a QEMU may take to open what is lent */
#define LAST_FOR 100	 /* ms in which the last processes of a command end with it */

/*
 * The process that started the command may wait for the end of its stderr, as in `x=$(gpubroker run
 * … -daemonize 2>&1)`: that is when the command ends, not when the daemon does. Returns how long
 * the last processes of the command are waited for.
 */
static int command_ended(struct supervisor *s)
{
	warn_unused(s, false);
	s->command = fd_close(s->command);
	if (notices_fd(s) >= 0)
		fd_close(notices_fd(s));
	s->notices = NULL;
	return isatty(STDERR_FILENO) ? LAST_FOR : 0;
}

/* Returns the shorter of two times, of which -1 is for ever. */
static int earlier(int a, int b)
{
	return a < 0 || (b >= 0 && b < a) ? b : a;
}

/* Returns how long to wait, in milliseconds; -1: for ever. */
static int next_wait(const struct supervisor *s, int limit)
{
	int wait = nodes_wait(s);

	wait = earlier(wait, s->notices ? s->notices->wait(s->notices->userdata) : -1);
	return earlier(wait, limit);
}

void supervisor_serve(struct supervisor *s, int listener)
{
	const time_t begun = time(NULL);
	int limit = UNUSED_FOR, wait, n;

	s->listener = listener;
	for (;;) {
		struct pollfd p[] = {
			{ .fd = listener, .events = POLLIN },
			{ .fd = s->command, .events = POLLIN },
			{ .fd = notices_fd(s), .events = POLLIN },
			{ .fd = s->children, .events = POLLIN },
			{ .fd = s->parent, .events = POLLIN },
			{ .fd = s->inbox, .events = POLLIN },
			{ .fd = s->visitor, .events = POLLIN },
			{ .fd = s->nodes, .events = POLLIN },
		};

		wait = next_wait(s, limit);
		n = poll(p, ARRAY_SIZE(p), wait);
		if (n < 0) {
			if (errno != EINTR)
				poll(NULL, 0, 10);
			continue;
		}
		if (!n && limit >= 0 && (limit -= wait) <= 0) {
			limit = -1;
			if (s->command < 0)
				take_leave(s, begun, true);
			else if (is_qemu(s))
				warn_unused(s, true);
		}
		if (!n || p[2].revents)
			say_notices(s);
		if (!n || p[7].revents)
			nodes_look(s);
		if (p[3].revents)
			children_take(s);
		if (p[4].revents && s->parent >= 0)
			children_unparented(s);
		if (p[6].revents)
			inbox_take(s);
		if (p[5].revents)
			inbox_accept(s);
		if (p[1].revents)
			limit = command_ended(s);
		if (p[0].revents & POLLIN) {
			answer_one(s);
		} else if (p[0].revents & (POLLHUP | POLLNVAL)) {
			/* A process leaves its filter before its end is seen. */
			if (s->command >= 0)
				warn_unused(s, false);
			children_finish(s);
			take_leave(s, begun, false);
			return; /* and process exit closes all that is lent */
		}
	}
}
