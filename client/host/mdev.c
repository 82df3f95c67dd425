/* SPDX-License-Identifier: MIT */
/*
 * Reads mdevs from sysfs, see mdev.h. It must never write, and never read an attribute for which
 * the kernel asks a driver (available_instances, description), since a driver may take its time.
 * The name of a type is no such attribute: since Linux 6.1 the kernel has it itself.
 */
#include "config.h"

#include "client/host/mdev.h"
#include "client/host/directory.h"
#include "client/common/name.h"
#include "client/host/sysfs.h"
#include "client/common/util.h"

#include <errno.h>
#include <fcntl.h>
#include <limits.h>
#include <string.h>

static int each_name(int sys, const char *path, size_t size, mdev_func func, void *userdata)
{
	cleanup_fd int fd = sysfs_open(sys, O_RDONLY | O_DIRECTORY, "%s", path);
	struct directory dir = DIRECTORY(fd);
	const char *name;
	int r = 0;

	if (fd < 0)
		return fd;
	while (!r && (name = directory_next(&dir)))
		if (mdev_is_name(name, size))
			r = func(userdata, name);
	return r ? r : dir.error;
}

int mdev_each_parent(int sys, mdev_func func, void *userdata)
{
	int r = each_name(sys, "class/mdev_bus", MDEV_PARENT_MAX, func, userdata);

	return r == -ENOENT ? 0 : r;
}

int mdev_each_type(int sys, const char *parent, mdev_func func, void *userdata)
{
	char path[96];
	int r;

	if (!mdev_is_name(parent, MDEV_PARENT_MAX))
		return -ENODEV;
	snprintf(path, sizeof(path), "class/mdev_bus/%s/mdev_supported_types", parent);
	r = each_name(sys, path, MDEV_TYPE_MAX, func, userdata);
	return r == -ENOENT ? -ENODEV : r;
}

void mdev_type_name(int sys, const char *parent, const char *type, char ret_name[MDEV_TYPE_MAX])
{
	cleanup_fd int fd = sysfs_open(
		sys, O_RDONLY, "class/mdev_bus/%s/mdev_supported_types/%s/name", parent, type);
	char text[MDEV_TYPE_MAX + 1];
	ssize_t n = fd < 0 ? -1 : read(fd, text, sizeof(text));

	ret_name[0] = '\0';
	if (n <= 0 || (size_t)n == sizeof(text))
		return;
	text[text[n - 1] == '\n' ? n - 1 : n] = '\0';
	if (mdev_is_name(text, MDEV_TYPE_MAX))
		strcpy(ret_name, text);
}

static int count_made(int sys, const char *path)
{
	cleanup_fd int fd = sysfs_open(sys, O_RDONLY | O_DIRECTORY, "%s", path);
	struct directory dir = DIRECTORY(fd);
	int n = 0;

	if (fd < 0)
		return fd;
	while (n < INT_MAX && directory_next(&dir))
		n++;
	return dir.error ? dir.error : n;
}

int mdev_count(int sys, const char *parent, const char *type)
{
	char path[192];

	snprintf(path, sizeof(path), "class/mdev_bus/%s/mdev_supported_types/%s/devices", parent,
		 type);
	return count_made(sys, path);
}

struct type_search {
	int sys;
	const char *parent;
};

static int has_some(void *userdata, const char *type)
{
	const struct type_search *search = userdata;
	int n = mdev_count(search->sys, search->parent, type);

	return n == -ENOENT ? 0 : n < 0 ? n : n > 0;
}

int mdev_has_any(int sys, const struct pci_address *address)
{
	char parent[PCI_ADDRESS_TEXT];
	struct type_search search = { sys, pci_address_format(address, parent) };
	int r = mdev_each_type(sys, parent, has_some, &search);

	return r == -ENODEV ? 0 : r;
}

int mdev_group_of(int sys, const char *uuid, uint32_t *ret_group)
{
	cleanup_fd int dir = sysfs_open(sys, O_PATH | O_DIRECTORY, "bus/mdev/devices/%s", uuid);

	if (dir < 0)
		return dir == -ENOENT ? -ENODEV : dir;
	return sysfs_group_below(dir, ret_group);
}
