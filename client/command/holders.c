/* SPDX-License-Identifier: MIT */
/*
 * Finds the processes that have /dev/vfio/N open, or the node of a device of that group, or one
 * that the kernel is taking off VFIO, by reading /proc/PID/fd. It only informs an administrator:
 * nothing is decided by it, since a descriptor may be on its way between two processes. It skips
 * what it may not read.
 */
#include "config.h"

#include "client/command/holders.h"
#include "client/common/util.h"

#include <dirent.h>
#include <fcntl.h>
#include <inttypes.h>
#include <pwd.h>
#include <stdbool.h>
#include <stdio.h>
#include <string.h>
#include <sys/stat.h>

struct holder {
	int pid;
	char command[64]; /* printable */
	char user[64];
};

#define HOLDERS_MAX 8 /* more are not printed */
#define NODES_MAX 64  /* of the devices of a group; more are not looked for */

/* The nodes of a group, and of its devices. */
struct nodes {
	size_t n;
	char path[1 + NODES_MAX][48];
};

/* Adds the nodes of one device, which has one, or none. */
static void add_device_nodes(int devices, const char *device, struct nodes *nodes)
{
	char path[320];
	struct dirent *entry;
	DIR *dir;
	int fd;

	snprintf(path, sizeof(path), "%s/vfio-dev", device);
	fd = openat(devices, path, O_RDONLY | O_DIRECTORY | O_CLOEXEC);
	dir = fd < 0 ? NULL : fdopendir(fd);
	if (!dir) {
		fd_close(fd);
		return;
	}
	while (nodes->n < ARRAY_SIZE(nodes->path) && (entry = readdir(dir)))
		if (!strncmp(entry->d_name, "vfio", 4))
			snprintf(nodes->path[nodes->n++], sizeof(nodes->path[0]),
				 "/dev/vfio/devices/%.16s", entry->d_name);
	closedir(dir);
}

static void nodes_of_group(uint32_t group, struct nodes *nodes)
{
	char path[64];
	struct dirent *entry;
	DIR *dir;

	snprintf(nodes->path[0], sizeof(nodes->path[0]), "/dev/vfio/%" PRIu32, group);
	nodes->n = 1;
	snprintf(path, sizeof(path), "/sys/kernel/iommu_groups/%" PRIu32 "/devices", group);
	dir = opendir(path);
	if (!dir)
		return;
	while ((entry = readdir(dir)))
		if (entry->d_name[0] != '.')
			add_device_nodes(dirfd(dir), entry->d_name, nodes);
	closedir(dir);
}

/*
 * Returns true for a node of the group, or for a device node that is deleted, since the kernel
 * waits to take its device off VFIO: nothing tells which device that was, but there is seldom more
 * than one. /proc shows only the end of the path if a broker that has ended since, with its mounts,
 * opened the node.
 */
static bool is_held_node(const char *target, const struct nodes *nodes)
{
	const char *cdev = strstr(target, "/devices/vfio");

	for (size_t i = 0; i < nodes->n; i++)
		if (!strcmp(target, nodes->path[i]) ||
		    !strcmp(target, nodes->path[i] + strlen("/dev")))
			return true;
	if (!cdev)
		return false;
	cdev += strlen("/devices/vfio");
	return *cdev && !strcmp(cdev + strspn(cdev, "0123456789"), " (deleted)");
}

static bool has_open(int proc, const char *pid, const struct nodes *nodes)
{
	char name[320], target[64];
	struct dirent *entry;
	bool found = false;
	DIR *dir;
	int fd;

	snprintf(name, sizeof(name), "%s/fd", pid);
	fd = openat(proc, name, O_RDONLY | O_DIRECTORY | O_CLOEXEC);
	if (fd < 0)
		return false;
	dir = fdopendir(fd);
	if (!dir) {
		fd_close(fd);
		return false;
	}
	while (!found && (entry = readdir(dir))) {
		ssize_t n = readlinkat(fd, entry->d_name, target, sizeof(target) - 1);

		if (n <= 0)
			continue;
		target[n] = '\0';
		found = is_held_node(target, nodes);
	}
	closedir(dir);
	return found;
}

static void describe_process(int proc, const char *pid, struct holder *holder)
{
	const struct passwd *user = NULL;
	cleanup_fd int fd = -1;
	struct stat st;
	char name[320];
	ssize_t n = 0;

	holder->pid = atoi(pid);
	snprintf(name, sizeof(name), "%s/comm", pid);
	fd = openat(proc, name, O_RDONLY | O_CLOEXEC);
	if (fd >= 0)
		n = read(fd, holder->command, sizeof(holder->command) - 1);
	holder->command[n > 0 ? n : 0] = '\0';
	for (char *p = holder->command; *p; p++) {
		if (*p == '\n')
			*p = '\0';
		else if ((unsigned char)*p < ' ' || *p == 0x7f)
			*p = '?';
		if (!*p)
			break;
	}
	if (!fstatat(proc, pid, &st, 0)) {
		user = getpwuid(st.st_uid);
		snprintf(holder->user, sizeof(holder->user), "uid %u", (unsigned)st.st_uid);
	}
	if (user)
		snprintf(holder->user, sizeof(holder->user), "%s", user->pw_name);
}

void holders_print(uint32_t group, void (*print)(const char *text))
{
	struct dirent *entry;
	struct nodes nodes = { 0 };
	char text[160];
	size_t n = 0;
	DIR *dir;
	int proc = open("/proc", O_RDONLY | O_DIRECTORY | O_CLOEXEC);

	if (proc < 0)
		return;
	dir = fdopendir(proc);
	if (!dir) {
		fd_close(proc);
		return;
	}
	nodes_of_group(group, &nodes);
	while (n < HOLDERS_MAX && (entry = readdir(dir))) {
		struct holder holder = { 0 };

		if (entry->d_name[0] < '1' || entry->d_name[0] > '9' ||
		    !has_open(proc, entry->d_name, &nodes))
			continue;
		describe_process(proc, entry->d_name, &holder);
		snprintf(text, sizeof(text), "held by pid %d (%s) of %s", holder.pid,
			 holder.command, holder.user);
		print(text);
		n++;
	}
	closedir(dir);
}

bool holders_node_text(uint32_t group, char *out, size_t size)
{
	struct nodes nodes = { 0 };

	nodes_of_group(group, &nodes);
	for (size_t i = 0; i < nodes.n; i++) {
		const struct passwd *user;
		char uid[16];
		struct stat st;

		if (lstat(nodes.path[i], &st) || (!st.st_uid && !(st.st_mode & 077)))
			continue;
		user = getpwuid(st.st_uid);
		snprintf(uid, sizeof(uid), "uid %u", (unsigned)st.st_uid);
		snprintf(out, size,
			 "others than root may open %s (owner %s, mode %04o), past the policy; "
			 "grep -rl vfio /etc/udev/rules.d /run/udev/rules.d /usr/lib/udev/rules.d "
			 "finds the rule that gives it away",
			 nodes.path[i], user ? user->pw_name : uid, (unsigned)(st.st_mode & 07777));
		return true;
	}
	return false;
}
