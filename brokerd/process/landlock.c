/* SPDX-License-Identifier: MIT */
/*
 * Landlock rules, see landlock.h, each with its reason. The kernel's constants are defined here,
 * since older headers lack the newer ones. A rule names a directory that exists from the boot on,
 * never one device's file: what is plugged in later is below one of them.
 *
 * Kernel ABI: landlock(7), linux/landlock.h.
 */
#include "config.h"

#include "brokerd/process/landlock.h"
#include "client/host/directory.h"
#include "client/common/util.h"

#include <errno.h>
#include <fcntl.h>
#include <stdbool.h>
#include <stdint.h>
#include <string.h>
#include <sys/syscall.h>

#define EXECUTE (UINT64_C(1) << 0)
#define WRITE_FILE (UINT64_C(1) << 1)
#define READ_FILE (UINT64_C(1) << 2)
#define READ_DIR (UINT64_C(1) << 3)
#define REMOVE_DIR (UINT64_C(1) << 4)
#define REMOVE_FILE (UINT64_C(1) << 5)
#define MAKE_CHAR (UINT64_C(1) << 6)
#define MAKE_DIR (UINT64_C(1) << 7)
#define MAKE_REG (UINT64_C(1) << 8)
#define MAKE_SOCK (UINT64_C(1) << 9)
#define MAKE_FIFO (UINT64_C(1) << 10)
#define MAKE_BLOCK (UINT64_C(1) << 11)
#define MAKE_SYM (UINT64_C(1) << 12)
#define REFER (UINT64_C(1) << 13)     /* version 2, Linux 5.19 */
#define TRUNCATE (UINT64_C(1) << 14)  /* version 3, Linux 6.2 */
#define IOCTL_DEV (UINT64_C(1) << 15) /* version 5, Linux 6.10 */

#define NET_BIND_TCP (UINT64_C(1) << 0) /* version 4, Linux 6.7 */
#define NET_CONNECT_TCP (UINT64_C(1) << 1)

#define SCOPE_ABSTRACT_UNIX_SOCKET (UINT64_C(1) << 0) /* version 6, Linux 6.12 */
#define SCOPE_SIGNAL (UINT64_C(1) << 1)

#define CREATE_RULESET_VERSION 1U
#define RULE_PATH_BENEATH 1

struct ruleset {
	uint64_t files, net, scoped;
};

struct path_beneath {
	uint64_t allowed;
	int32_t parent;
} __attribute__((packed));

int landlock_version(void)
{
	long version = syscall(SYS_landlock_create_ruleset, NULL, 0, CREATE_RULESET_VERSION);

	return version < 0 ? 0 : (int)version;
}

/* Returns all rights that a Landlock version can forbid. */
static struct ruleset all_of(int version)
{
	struct ruleset all = { .files = MAKE_SYM * 2 - 1 };

	if (version >= 2)
		all.files |= REFER;
	if (version >= 3)
		all.files |= TRUNCATE;
	if (version >= 4)
		all.net = NET_BIND_TCP | NET_CONNECT_TCP;
	if (version >= 5)
		all.files |= IOCTL_DEV;
	if (version >= 6)
		all.scoped = SCOPE_ABSTRACT_UNIX_SOCKET | SCOPE_SIGNAL;
	return all;
}

/*
 * Makes a ruleset that forbids all rights that the kernel can; rules then allow some. Returns a
 * descriptor, -ENOSYS if the kernel has no Landlock, or another -errno.
 */
static int new_ruleset(struct ruleset *ret_all)
{
	const int version = landlock_version();
	const struct ruleset all = all_of(version);
	size_t size = version >= 6 ? sizeof(all) : version >= 4 ? 16 : 8;
	long fd;

	if (!version)
		return -ENOSYS;
	fd = syscall(SYS_landlock_create_ruleset, &all, size, 0);
	if (fd < 0)
		return -errno;
	*ret_all = all;
	return (int)fd;
}

static int allow_below(int ruleset, const struct ruleset *all, int directory, uint64_t what)
{
	const struct path_beneath rule = { .allowed = what & all->files, .parent = directory };

	return syscall(SYS_landlock_add_rule, ruleset, RULE_PATH_BENEATH, &rule, 0) ? -errno : 0;
}

/* Adds a rule for a path; a path that does not exist needs none. Returns 0, or -errno. */
static int allow(int ruleset, const struct ruleset *all, const char *path, uint64_t what)
{
	cleanup_fd int fd = open(path, O_PATH | O_CLOEXEC);

	if (fd < 0)
		return errno == ENOENT ? 0 : -errno;
	return allow_below(ruleset, all, fd, what);
}

static int restrict_self(int ruleset)
{
	return syscall(SYS_landlock_restrict_self, ruleset, 0) ? -errno : 0;
}

/* ---- the core ---- */

/*
 * Cuts the target of a function's link after its host bridge, "pci0000:00", so that it names the
 * bridge's directory below /sys/devices. On a PC there are only a few, in /sys/devices itself; on
 * other machines they are deeper. Returns false if the target has no host bridge.
 */
static bool host_bridge(char *target)
{
	for (char *p = target; (p = strstr(p, "/pci")); p++) {
		size_t n = strspn(p + 4, "0123456789abcdef:");

		if (n && p[4 + n] == '/') {
			p[4 + n] = '\0';
			return true;
		}
	}
	return false;
}

/*
 * Allows writes below the host bridges: to the files of functions, and of the mdevs whose parents
 * are functions.
 */
static int allow_functions(int ruleset, const struct ruleset *all)
{
	cleanup_fd int fd = open("/sys/bus/pci/devices", O_RDONLY | O_DIRECTORY | O_CLOEXEC);
	struct directory dir = DIRECTORY(fd);
	char target[1024], last[1024] = "";
	const char *name;
	int r = 0;

	if (fd < 0)
		return errno == ENOENT ? 0 : -errno;
	while (!r && (name = directory_next(&dir))) {
		ssize_t n = readlinkat(fd, name, target, sizeof(target) - 1);
		cleanup_fd int bridge = -1;

		if (n <= 0)
			continue; /* it has gone meanwhile */
		target[n] = '\0';
		if (!host_bridge(target) || !strcmp(target, last))
			continue;
		strcpy(last, target);
		bridge = openat(fd, target, O_PATH | O_DIRECTORY | O_CLOEXEC);
		if (bridge >= 0)
			r = allow_below(ruleset, all, bridge, WRITE_FILE);
	}
	return r ? r : dir.error;
}

/*
 * Allows writes below parents of mdevs that are not PCI functions, as in the kernel's samples: they
 * are not below a host bridge. Only parents that exist now can be named.
 */
static int allow_parents(int ruleset, const struct ruleset *all)
{
	cleanup_fd int fd = open("/sys/class/mdev_bus", O_RDONLY | O_DIRECTORY | O_CLOEXEC);
	struct directory dir = DIRECTORY(fd);
	const char *name;
	int r = 0;

	if (fd < 0)
		return errno == ENOENT ? 0 : -errno;
	while (!r && (name = directory_next(&dir))) {
		cleanup_fd int parent = openat(fd, name, O_PATH | O_DIRECTORY | O_CLOEXEC);

		if (parent >= 0)
			r = allow_below(ruleset, all, parent, WRITE_FILE);
	}
	return r ? r : dir.error;
}

int landlock_core(int state_dir, int history_dir, int sockets_dir)
{
	const uint64_t records = READ_FILE | READ_DIR | WRITE_FILE | TRUNCATE | MAKE_REG |
				 REMOVE_FILE;
	struct ruleset all;
	cleanup_fd int ruleset = new_ruleset(&all);
	int r;

	if (ruleset < 0)
		return ruleset == -ENOSYS ? 0 : ruleset;
	/* facts about functions and groups; network interfaces and disks that the host uses */
	if ((r = allow(ruleset, &all, "/sys", READ_FILE | READ_DIR)) ||
	    /* drivers' bind, drivers_probe */
	    (r = allow(ruleset, &all, "/sys/bus/pci", WRITE_FILE)) ||
	    (r = allow(ruleset, &all, "/sys/bus/mdev", WRITE_FILE)) ||
	    /* driver_override, driver/unbind, reset, sriov_* */
	    (r = allow_functions(ruleset, &all)) ||
	    /* mdev_supported_types/TYPE/create, UUID/remove */
	    (r = allow_parents(ruleset, &all)) ||
	    /*
	     * Groups, and devices' own nodes below devices/. A node that is opened without
	     * IOCTL_DEV would refuse ioctl() to the holder as well.
	     */
	    (r = allow(ruleset, &all, "/dev/vfio",
		       READ_FILE | READ_DIR | WRITE_FILE | IOCTL_DEV)) ||
	    (r = allow(ruleset, &all, "/dev/iommu", READ_FILE | WRITE_FILE | IOCTL_DEV)) ||
	    /* records */
	    (r = allow_below(ruleset, &all, state_dir, records)) ||
	    /* the usage of devices, a ring, whose file is opened anew at its start */
	    (history_dir >= 0 && (r = allow_below(ruleset, &all, history_dir, WRITE_FILE))) ||
	    /* sockets of allotments, which root makes and the core removes */
	    (sockets_dir >= 0 && (r = allow_below(ruleset, &all, sockets_dir, REMOVE_FILE))))
		return r;
	return restrict_self(ruleset);
}

/* ---- helpers ---- */

int landlock_helper(void)
{
	struct ruleset all;
	cleanup_fd int ruleset = new_ruleset(&all);
	int r;

	if (ruleset < 0)
		return ruleset == -ENOSYS ? 0 : ruleset;
	/* Name services, udev's databases and the policy read files in many places. */
	r = allow(ruleset, &all, "/", READ_FILE | READ_DIR);
	return r ? r : restrict_self(ruleset);
}
