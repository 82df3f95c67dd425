/* SPDX-License-Identifier: MIT */
/*
 * Opens and reads what is in /sys. It must never write, and never follow a path out of /sys
 * (openat2 with RESOLVE_BENEATH and without mounts and magic links).
 */
#include "config.h"

#include "client/host/sysfs.h"
#include "client/host/directory.h"
#include "client/host/function.h"
#include "client/common/util.h"

#include <errno.h>
#include <fcntl.h>
#include <linux/openat2.h>
#include <stdarg.h>
#include <string.h>

/*
 * All of /sys/bus/pci/devices is links into /sys/devices: resolving starts at /sys, so they stay
 * beneath.
 */
static int __attribute__((format(printf, 3, 0)))
beneath(int root, uint64_t flags, const char *format, va_list args)
{
	char path[256];
	int n = vsnprintf(path, sizeof(path), format, args);

	if (n < 0 || (size_t)n >= sizeof(path))
		return -ENAMETOOLONG;
	return open_beneath(root, path, flags, 0,
			    RESOLVE_BENEATH | RESOLVE_NO_XDEV | RESOLVE_NO_MAGICLINKS);
}

int sysfs_open(int sys, uint64_t flags, const char *format, ...)
{
	va_list args;
	int fd;

	va_start(args, format);
	fd = beneath(sys, flags, format, args);
	va_end(args);
	return fd;
}

int sysfs_function_open(int sys, const struct pci_address *address, uint64_t flags,
			const char *file)
{
	char text[PCI_ADDRESS_TEXT];

	return sysfs_open(sys, flags, "bus/pci/devices/%s%s%s", pci_address_format(address, text),
			  *file ? "/" : "", file);
}

int sysfs_read_text(int fd, char *out, size_t size)
{
	cleanup_fd int owned = fd;
	ssize_t n;

	if (fd < 0)
		return fd;
	do
		n = read(owned, out, size);
	while (n < 0 && errno == EINTR);
	if (n < 0)
		return -errno;
	if ((size_t)n == size)
		return -E2BIG;
	if (n && out[n - 1] == '\n')
		n--;
	out[n] = '\0';
	return 0;
}

static int number_from(int fd, int base, uint32_t *ret_value)
{
	char text[32], *end;
	int r = sysfs_read_text(fd, text, sizeof(text));
	unsigned long value;

	if (r)
		return r;
	errno = 0;
	value = strtoul(text, &end, base);
	if (errno || end == text || *end || value > UINT32_MAX)
		return -EINVAL;
	*ret_value = (uint32_t)value;
	return 0;
}

int sysfs_read_number(int sys, const struct pci_address *address, const char *file, int base,
		      uint32_t *ret_value)
{
	return number_from(sysfs_function_open(sys, address, O_RDONLY, file), base, ret_value);
}

int sysfs_number_below(int dir, const char *file, int base, uint32_t *ret_value)
{
	return number_from(sysfs_open(dir, O_RDONLY, "%s", file), base, ret_value);
}

int sysfs_read_link(int dir, const char *link, char *out, size_t size)
{
	char target[1024];
	const char *name;
	ssize_t n = readlinkat(dir, link, target, sizeof(target));

	if (n < 0)
		return -errno;
	if ((size_t)n == sizeof(target))
		return -ENAMETOOLONG;
	target[n] = '\0';
	name = strrchr(target, '/');
	name = name ? name + 1 : target;
	if (strlen(name) >= size)
		return -ENAMETOOLONG;
	strcpy(out, name);
	return 0;
}

int sysfs_group_below(int dir, uint32_t *ret_group)
{
	char text[16], *end;
	int r = sysfs_read_link(dir, "iommu_group", text, sizeof(text));
	unsigned long value;

	if (r == -ENOENT) {
		*ret_group = NO_GROUP;
		return 0;
	}
	if (r)
		return r;
	errno = 0;
	value = strtoul(text, &end, 10);
	if (errno || *end || end == text || value >= NO_GROUP)
		return -EINVAL;
	*ret_group = (uint32_t)value;
	return 0;
}

/* Linux, Documentation/ABI/testing/sysfs-devices-vfio-dev: from 6.1 on. */
int sysfs_has_vfio(int sys, const struct pci_address *address)
{
	cleanup_fd int fd = sysfs_function_open(sys, address, O_RDONLY | O_DIRECTORY, "vfio-dev");
	struct directory dir = DIRECTORY(fd);

	if (fd < 0)
		return fd == -ENOENT ? 0 : fd;
	return directory_next(&dir) ? 1 : dir.error;
}
