/* SPDX-License-Identifier: MIT */
/*
 * Asks a device's driver whether it migrates, see migration.h, with VFIO_DEVICE_FEATURE_MIGRATION
 * (linux/vfio.h, since Linux 5.18). It must never leave the group attached, since a VMM uses it
 * next.
 */
#include "config.h"

#include "client/library/migration.h"
#include "client/common/address.h"
#include "client/common/util.h"

#include <errno.h>
#include <fcntl.h>
#include <linux/vfio.h>
#include <string.h>
#include <sys/ioctl.h>

#define VFIO_PCI "vfio-pci"

/* Returns true for a PCI function on vfio-pci itself, which can migrate none. */
static bool is_on_vfio_pci(const char *device)
{
	struct pci_address address;
	char path[64], target[256];
	const char *driver;
	ssize_t n;

	if (pci_address_parse(device, &address))
		return false;
	snprintf(path, sizeof(path), "/sys/bus/pci/devices/%s/driver", device);
	n = readlink(path, target, sizeof(target) - 1);
	if (n < 0)
		return true;
	target[n] = '\0';
	driver = strrchr(target, '/');
	return !driver || !strcmp(driver + 1, VFIO_PCI);
}

/* Asks for a device of an attached group: 1 or 0, or -errno. */
static int ask_driver(int group, const char *device)
{
	struct vfio_device_feature feature = {
		.argsz = sizeof(feature),
		.flags = VFIO_DEVICE_FEATURE_PROBE | VFIO_DEVICE_FEATURE_GET |
			 VFIO_DEVICE_FEATURE_MIGRATION,
	};
	cleanup_fd int fd = ioctl(group, VFIO_GROUP_GET_DEVICE_FD, device);

	if (fd < 0)
		return -errno;
	if (!ioctl(fd, VFIO_DEVICE_FEATURE, &feature))
		return 1;
	return errno == ENOTTY || errno == EINVAL ? 0 : -errno;
}

int migration_probe(int group, const char *device)
{
	cleanup_fd int container = -1;
	int r;

	if (is_on_vfio_pci(device))
		return 0;
	container = open("/dev/vfio/vfio", O_RDWR | O_CLOEXEC);
	if (container < 0 || ioctl(group, VFIO_GROUP_SET_CONTAINER, &container))
		return -errno;
	r = ioctl(container, VFIO_SET_IOMMU, VFIO_TYPE1v2_IOMMU) ? -errno
								 : ask_driver(group, device);
	if (ioctl(group, VFIO_GROUP_UNSET_CONTAINER) && r >= 0)
		r = -errno;
	return r;
}
