/* SPDX-License-Identifier: MIT */
/*
 * The core's side of /dev/vfio: opens a group, checks whether it is viable, and learns from inotify
 * when the last reference to a lent group is gone. The kernel's own reference is the lease:
 * IN_CLOSE_WRITE comes when the open file is released, including its device descriptors, duplicates
 * and passed copies.
 *
 * It does the same for a device's own node, a cdev. A cdev opens more than once, so each open file
 * that is lent is locked, and a lock by another open file shows whether it is gone.
 *
 * It must never keep either open longer than it takes to send it.
 *
 * Kernel ABI: linux/vfio.h (VFIO_GROUP_GET_STATUS), linux/iommufd.h (IOMMU_OPTION), inotify(7),
 * flock(2).
 */
#include "config.h"

#include "brokerd/kernel/kernel.h"
#include "client/host/directory.h"
#include "client/host/interrupts.h"
#include "client/common/util.h"

#include <errno.h>
#include <fcntl.h>
#include <linux/openat2.h>
#include <linux/vfio.h>
#include <stdbool.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/epoll.h>
#include <sys/file.h>
#include <sys/inotify.h>
#include <sys/ioctl.h>
#include <sys/resource.h>
#include <sys/stat.h>

/* From linux/iommufd.h, which headers before 6.2 do not have. */
struct iommu_option {
	uint32_t size;
	uint32_t option_id;
	uint16_t op, reserved;
	uint32_t object_id;
	uint64_t val64;
};
#define OPTION_RLIMIT_MODE 0
#define OPTION_SET 0

/*
 * Makes /dev/vfio, which a module may not have made yet, and /dev/vfio/devices in it. devtmpfs
 * removes a directory with its last node, but neither one that a process has made nor one that is
 * not empty. So the directory that Landlock's rule and the unit's mount name stays the same when
 * VFIO's modules are unloaded and loaded again. Users open nodes in it. Where it cannot be made,
 * kernel_vfio_check() notices a new one.
 */
static int make_directories(void)
{
	static const char *const paths[] = { "/dev/vfio", "/dev/vfio/devices" };

	for (size_t i = 0; i < ARRAY_SIZE(paths); i++)
		if (!mkdir(paths[i], 0755) && chmod(paths[i], 0755))
			return -errno;
	return 0;
}

int kernel_init(struct kernel *kernel)
{
	int r = make_directories();

	*kernel = (struct kernel)KERNEL_NONE;
	if (r)
		return r;
	kernel->sys = open("/sys", O_PATH | O_DIRECTORY | O_CLOEXEC);
	if (kernel->sys < 0)
		return -errno;
	kernel->dev = open("/dev", O_PATH | O_DIRECTORY | O_CLOEXEC);
	if (kernel->dev < 0)
		return -errno;
	kernel->inotify = inotify_init1(IN_CLOEXEC | IN_NONBLOCK);
	if (kernel->inotify < 0)
		return -errno;
	kernel->nodes = inotify_init1(IN_CLOEXEC | IN_NONBLOCK);
	/* If root has no inotify instance left, there is none, and grants do not wait for udev. */
	kernel->no_remapping = !interrupts_are_remapped(kernel->sys);
	kernel->cdevs = !faccessat(kernel->dev, "iommu", F_OK, 0);
	kernel->ends = epoll_create1(EPOLL_CLOEXEC);
	return kernel->ends < 0 ? -errno : 0;
}

void kernel_done(struct kernel *kernel)
{
	kernel->sys = fd_close(kernel->sys);
	kernel->dev = fd_close(kernel->dev);
	kernel->inotify = fd_close(kernel->inotify);
	kernel->nodes = fd_close(kernel->nodes);
	kernel->ends = fd_close(kernel->ends);
}

static int open_in(int directory, const char *path, uint64_t flags)
{
	return open_beneath(directory, path, flags, 0, RESOLVE_BENEATH | RESOLVE_NO_SYMLINKS);
}

/* Returns 0 if /dev/vfio/vfio is there; or as kernel_vfio_check(). */
static int check_directory(int fd)
{
	struct directory dir = DIRECTORY(fd);
	const char *name;

	while ((name = directory_next(&dir)))
		if (!strcmp(name, "vfio"))
			return 0;
	/* A directory that was removed is still there for a mount, but cannot be read. */
	return dir.error == -ENOENT ? -ESTALE : dir.error ? dir.error : -ENOENT;
}

/* statx() and not fstat(), which is another system call in each C library. */
static bool is_open_to_others(int directory, const char *path, int flags,
			      struct kernel_node *ret_node)
{
	struct statx st;

	if (statx(directory, path, flags | AT_SYMLINK_NOFOLLOW, STATX_UID | STATX_GID | STATX_MODE,
		  &st))
		return false;
	*ret_node = (struct kernel_node){ st.stx_uid, st.stx_gid, st.stx_mode & 07777 };
	return st.stx_uid || st.stx_mode & 077;
}

bool kernel_vfio_is_loaded(const struct kernel *kernel)
{
	/* The nodes tell nothing: kmod's static nodes are there without the module. */
	cleanup_fd int groups = open_in(kernel->sys, "class/vfio", O_PATH | O_DIRECTORY);
	cleanup_fd int devices = open_in(kernel->sys, "class/vfio-dev", O_PATH | O_DIRECTORY);

	return groups >= 0 || devices >= 0;
}

int kernel_vfio_check(const struct kernel *kernel, bool cdevs)
{
	/* To read a directory takes a right that Landlock gives for the one of the start alone. */
	cleanup_fd int fd = open_in(kernel->dev, "vfio", O_RDONLY | O_DIRECTORY);
	cleanup_fd int iommu = -1;
	struct kernel_node node;
	int r = fd < 0 ? fd : check_directory(fd);

	if (!r && kernel->late)
		r = kernel_vfio_is_loaded(kernel) ? -ESTALE : -ENOENT;
	if (!r && cdevs && kernel->cdevs) {
		/* Any other error means that the group is lent alone, see cdevs_open(). */
		iommu = open_in(kernel->dev, "iommu", O_RDWR);
		if (iommu == -EACCES && !is_open_to_others(kernel->dev, "iommu", 0, &node))
			r = -ESTALE;
	}
	return r == -EACCES ? -ESTALE : r;
}

int kernel_open_vfio(const struct kernel *kernel)
{
	return open_in(kernel->dev, "vfio", O_PATH | O_DIRECTORY);
}

int kernel_group_open(const struct kernel *kernel, uint32_t group)
{
	char path[32];

	snprintf(path, sizeof(path), "vfio/%u", (unsigned)group);
	return open_in(kernel->dev, path, O_RDWR);
}

int kernel_group_viable(int group_fd)
{
	struct vfio_group_status status = { .argsz = sizeof(status) };

	if (ioctl(group_fd, VFIO_GROUP_GET_STATUS, &status))
		return -errno;
	return status.flags & VFIO_GROUP_FLAGS_VIABLE ? 0 : -EPERM;
}

/*
 * Read-only: the close of a writable file would be reported as the close of a lent one. A group
 * that is not viable although it is not attached has a driver that uses DMA, or a device that is
 * bound to an iommufd (iommu_group_dma_owner_claimed()).
 */
int kernel_group_probe_in(int directory, uint32_t group)
{
	char name[16];
	cleanup_fd int fd = -1;
	int r;

	snprintf(name, sizeof(name), "%u", (unsigned)group);
	fd = open_in(directory, name, O_RDONLY);
	if (fd < 0)
		return fd;
	r = kernel_group_viable(fd);
	return r == -EPERM ? KERNEL_ATTACHED : r;
}

/* ---- who may open a node ---- */

bool kernel_node_is_open(int fd, struct kernel_node *ret_node)
{
	return is_open_to_others(fd, "", AT_EMPTY_PATH, ret_node);
}

bool kernel_group_is_open(const struct kernel *kernel, uint32_t group, struct kernel_node *ret_node)
{
	char path[32];

	snprintf(path, sizeof(path), "vfio/%u", (unsigned)group);
	return kernel->dev >= 0 && is_open_to_others(kernel->dev, path, 0, ret_node);
}

bool kernel_cdev_is_open(const struct kernel *kernel, uint32_t number, struct kernel_node *ret_node)
{
	char path[48];

	snprintf(path, sizeof(path), "vfio/devices/vfio%u", (unsigned)number);
	return kernel->dev >= 0 && is_open_to_others(kernel->dev, path, 0, ret_node);
}

int kernel_node_number(const struct kernel *kernel, uint32_t key, uint32_t *ret_major,
		       uint32_t *ret_minor)
{
	struct statx st;
	char path[48];

	if (key & KERNEL_CDEV)
		snprintf(path, sizeof(path), "vfio/devices/vfio%u", (unsigned)(key & ~KERNEL_CDEV));
	else
		snprintf(path, sizeof(path), "vfio/%u", (unsigned)key);
	if (statx(kernel->dev, path, AT_SYMLINK_NOFOLLOW, STATX_TYPE, &st))
		return -errno;
	if (!S_ISCHR(st.stx_mode))
		return -ENODEV;
	*ret_major = st.stx_rdev_major;
	*ret_minor = st.stx_rdev_minor;
	return 0;
}

/* Parses the name of a node, "14" or "vfio3". Returns its key, or UINT32_MAX. */
static uint32_t node_key(const char *name)
{
	const bool cdev = !strncmp(name, "vfio", 4);
	unsigned long number;
	char *end;

	if (cdev)
		name += 4;
	if (*name < '0' || *name > '9')
		return UINT32_MAX;
	number = strtoul(name, &end, 10);
	return *end || number >= KERNEL_CDEV ? UINT32_MAX
					     : (uint32_t)number | (cdev ? KERNEL_CDEV : 0);
}

/* So that a user who touches a node in a loop does not keep the process here. */
#define READS_A_TURN 16

void kernel_nodes_read(struct kernel_touches *touches, const struct kernel *kernel)
{
	const int inotify = kernel->nodes;
	char events[1024] __attribute__((aligned(__alignof__(struct inotify_event))));
	ssize_t n;

	for (int i = 0; i < READS_A_TURN && inotify >= 0; i++) {
		n = read(inotify, events, sizeof(events));
		if (n <= 0)
			break;
		for (ssize_t at = 0; at + (ssize_t)sizeof(struct inotify_event) <= n;) {
			const struct inotify_event *event = (const void *)(events + at);
			const uint32_t key = event->len ? node_key(event->name) : UINT32_MAX;

			at += (ssize_t)(sizeof(*event) + event->len);
			if (key != UINT32_MAX)
				touches->keys[touches->n++ % ARRAY_SIZE(touches->keys)] = key;
		}
	}
}

uint64_t kernel_nodes_mark(struct kernel_touches *touches, const struct kernel *kernel)
{
	const uint32_t mask = IN_ATTRIB | IN_ONLYDIR;

	if (kernel->nodes < 0)
		return 0;
	/* Each time: where kernel_init() has not made them, the kernel makes them anew. */
	inotify_add_watch(kernel->nodes, "/dev/vfio", mask);
	touches->cdevs = kernel->cdevs &&
			 inotify_add_watch(kernel->nodes, "/dev/vfio/devices", mask) >= 0;
	kernel_nodes_read(touches, kernel);
	return touches->n;
}

/* Returns true if the node has another time of modification than of birth. */
static bool is_modified(const struct kernel *kernel, uint32_t key)
{
	struct statx st;
	char path[48];

	snprintf(path, sizeof(path), key & KERNEL_CDEV ? "vfio/devices/vfio%u" : "vfio/%u",
		 (unsigned)(key & ~KERNEL_CDEV));
	return !statx(kernel->dev, path, AT_SYMLINK_NOFOLLOW, STATX_MTIME | STATX_BTIME, &st) &&
	       st.stx_mask & STATX_BTIME &&
	       (st.stx_mtime.tv_sec != st.stx_btime.tv_sec ||
		st.stx_mtime.tv_nsec != st.stx_btime.tv_nsec);
}

bool kernel_node_touched(struct kernel_touches *touches, const struct kernel *kernel, uint32_t key,
			 uint64_t since)
{
	unsigned n = 0;

	if (kernel->nodes < 0 || (key & KERNEL_CDEV && !touches->cdevs))
		return true;
	kernel_nodes_read(touches, kernel);
	if (touches->n > since + ARRAY_SIZE(touches->keys))
		return true; /* more than are remembered */
	/* The first is the kernel's own, when it sets the owner and mode (devtmpfs). */
	for (uint64_t i = since; i < touches->n; i++)
		n += touches->keys[i % ARRAY_SIZE(touches->keys)] == key;
	return n > 1 || is_modified(kernel, key);
}

/* ---- watches ---- */

static int watch_node(const struct kernel *kernel, const char *directory, uint32_t number)
{
	char path[48];
	int watch;

	snprintf(path, sizeof(path), "/dev/vfio/%s%u", directory, (unsigned)number);
	watch = inotify_add_watch(kernel->inotify, path, IN_CLOSE_WRITE | IN_DONT_FOLLOW);
	return watch < 0 ? -errno : watch;
}

int kernel_group_watch(const struct kernel *kernel, uint32_t group)
{
	return watch_node(kernel, "", group);
}

int kernel_cdev_watch(const struct kernel *kernel, uint32_t number)
{
	return watch_node(kernel, "devices/vfio", number);
}

static int cdev_open(const struct kernel *kernel, uint32_t number, uint64_t flags)
{
	char path[48];

	if (!kernel->cdevs)
		return -ENOENT;
	snprintf(path, sizeof(path), "vfio/devices/vfio%u", (unsigned)number);
	return open_in(kernel->dev, path, flags);
}

int kernel_cdev_open(const struct kernel *kernel, uint32_t number)
{
	cleanup_fd int fd = cdev_open(kernel, number, O_RDWR);

	if (fd < 0)
		return fd;
	if (flock(fd, LOCK_EX | LOCK_NB))
		return errno == EWOULDBLOCK ? -EBUSY : -errno;
	return TAKE_FD(fd);
}

/* Read-only: the close of a writable file would be reported as the close of a lent one. */
bool kernel_cdev_is_held(const struct kernel *kernel, uint32_t number)
{
	cleanup_fd int fd = cdev_open(kernel, number, O_RDONLY);

	return fd >= 0 && flock(fd, LOCK_SH | LOCK_NB) && errno == EWOULDBLOCK;
}

int kernel_iommu_open(const struct kernel *kernel)
{
	struct iommu_option option = {
		.size = sizeof(option),
		.option_id = OPTION_RLIMIT_MODE,
		.op = OPTION_SET,
		.val64 = 1,
	};
	int fd = kernel->cdevs ? open_in(kernel->dev, "iommu", O_RDWR) : -ENOENT;

	/*
	 * Count locked memory by process. By default iommufd counts it by user, so that all VMs of
	 * a user share the limit of one VM. Without CAP_SYS_RESOURCE, which the core drops when no
	 * rule grants memlock, the default stays.
	 */
	if (fd >= 0)
		ioctl(fd, KERNEL_IOMMU_OPTION, &option);
	return fd;
}

void kernel_group_unwatch(const struct kernel *kernel, int watch)
{
	if (watch >= 0)
		inotify_rm_watch(kernel->inotify, watch);
}

int kernel_watch_read(const struct kernel *kernel)
{
	/*
	 * One event for each read: a watch on a file reports no name, so an event has exactly this
	 * size.
	 */
	struct inotify_event event;
	ssize_t n;

	for (;;) {
		n = read(kernel->inotify, &event, sizeof(event));
		if (n < 0 && errno == EINTR)
			continue;
		if (n < 0)
			return -errno;
		if ((size_t)n != sizeof(event))
			return -EIO;
		if (event.mask & IN_Q_OVERFLOW)
			return -EOVERFLOW;
		/*
		 * IN_IGNORED follows every removed watch and node. The lease learns of those in
		 * other ways.
		 */
		if (event.mask & IN_CLOSE_WRITE)
			return event.wd;
	}
}

/*
 * Returns true if the process has not ended: a pidfd is readable when it has. By epoll, for which
 * the core's filter has rows anyway.
 */
static bool process_lives(const struct kernel *kernel, int pidfd)
{
	struct epoll_event event = { .events = EPOLLIN };
	int n;

	if (pidfd < 0 || epoll_ctl(kernel->ends, EPOLL_CTL_ADD, pidfd, &event))
		return false;
	do
		n = epoll_wait(kernel->ends, &event, 1, 0);
	while (n < 0 && errno == EINTR);
	epoll_ctl(kernel->ends, EPOLL_CTL_DEL, pidfd, NULL);
	return n == 0;
}

/*
 * prlimit() takes a pid, and pids are used again. The peer's pidfd has been held since it
 * connected; while its process lives, the pid is its own. So the process is checked before and
 * after: in between, the pids cannot wrap around.
 */
int kernel_memlock_raise(const struct kernel *kernel, int pidfd, int pid, uint64_t bytes)
{
	struct rlimit limit;

	if (!process_lives(kernel, pidfd))
		return -ESRCH;
	if (prlimit(pid, RLIMIT_MEMLOCK, NULL, &limit))
		return -errno;
	if (limit.rlim_cur != RLIM_INFINITY && limit.rlim_cur < bytes)
		limit.rlim_cur = bytes;
	if (limit.rlim_max != RLIM_INFINITY && limit.rlim_max < bytes)
		limit.rlim_max = bytes;
	if (prlimit(pid, RLIMIT_MEMLOCK, &limit, NULL))
		return -errno;
	return process_lives(kernel, pidfd) ? 0 : -ESRCH;
}
