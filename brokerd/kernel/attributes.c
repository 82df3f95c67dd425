/* SPDX-License-Identifier: MIT */
/*
 * Opens the files below /sys through which drivers are changed, see kernel.h. It never writes to
 * them: workers do. Paths consist of checked numbers and of names that are checked here to be one
 * path component.
 */
#include "config.h"

#include "brokerd/kernel/kernel.h"
#include "client/host/sysfs.h"

#include <errno.h>
#include <fcntl.h>
#include <stdio.h>
#include <string.h>

/* Returns true if a name is one path component. Names come from sysfs or a lease record. */
static bool is_component(const char *name)
{
	return *name && !strchr(name, '/') && strcmp(name, ".") != 0 && strcmp(name, "..") != 0;
}

int kernel_open_override(const struct kernel *kernel, const struct pci_address *address)
{
	return sysfs_function_open(kernel->sys, address, O_WRONLY, "driver_override");
}

int kernel_open_override_read(const struct kernel *kernel, const struct pci_address *address)
{
	return sysfs_function_open(kernel->sys, address, O_RDONLY, "driver_override");
}

int kernel_open_reset(const struct kernel *kernel, const struct pci_address *address)
{
	return sysfs_function_open(kernel->sys, address, O_WRONLY, "reset");
}

int kernel_open_unbind(const struct kernel *kernel, const struct pci_address *address)
{
	return sysfs_function_open(kernel->sys, address, O_WRONLY, "driver/unbind");
}

int kernel_open_probe(const struct kernel *kernel)
{
	return sysfs_open(kernel->sys, O_WRONLY, "bus/pci/drivers_probe");
}

int kernel_open_bind(const struct kernel *kernel, const char *driver)
{
	if (!is_component(driver))
		return -EINVAL;
	return sysfs_open(kernel->sys, O_WRONLY, "bus/pci/drivers/%s/bind", driver);
}

int kernel_open_unbind_of(const struct kernel *kernel, const char *driver)
{
	if (!is_component(driver))
		return -EINVAL;
	return sysfs_open(kernel->sys, O_WRONLY, "bus/pci/drivers/%s/unbind", driver);
}

int kernel_open_numvfs(const struct kernel *kernel, const struct pci_address *address)
{
	return sysfs_function_open(kernel->sys, address, O_WRONLY, "sriov_numvfs");
}

int kernel_open_numvfs_read(const struct kernel *kernel, const struct pci_address *address)
{
	return sysfs_function_open(kernel->sys, address, O_RDONLY, "sriov_numvfs");
}

int kernel_open_autoprobe(const struct kernel *kernel, const struct pci_address *address)
{
	return sysfs_function_open(kernel->sys, address, O_WRONLY, "sriov_drivers_autoprobe");
}

int kernel_open_autoprobe_read(const struct kernel *kernel, const struct pci_address *address)
{
	return sysfs_function_open(kernel->sys, address, O_RDONLY, "sriov_drivers_autoprobe");
}

/* Documentation/ABI/testing/sysfs-driver-intel-xe-sriov, since Linux 6.19. */
int kernel_open_vf_quota(const struct kernel *kernel, const struct pci_address *address,
			 const char *file)
{
	char path[64];

	snprintf(path, sizeof(path), "sriov_admin/.bulk_profile/%s", file);
	return sysfs_function_open(kernel->sys, address, O_WRONLY, path);
}

static int open_type(const struct kernel *kernel, const char *parent, const char *type,
		     uint64_t flags, const char *file)
{
	if (!is_component(parent) || !is_component(type))
		return -EINVAL;
	return sysfs_open(kernel->sys, flags, "class/mdev_bus/%s/mdev_supported_types/%s/%s",
			  parent, type, file);
}

int kernel_open_mdev_available(const struct kernel *kernel, const char *parent, const char *type)
{
	return open_type(kernel, parent, type, O_RDONLY, "available_instances");
}

int kernel_open_mdev_create(const struct kernel *kernel, const char *parent, const char *type)
{
	return open_type(kernel, parent, type, O_WRONLY, "create");
}

int kernel_open_mdev_remove(const struct kernel *kernel, const char *uuid)
{
	if (!is_component(uuid))
		return -EINVAL;
	return sysfs_open(kernel->sys, O_WRONLY, "bus/mdev/devices/%s/remove", uuid);
}

int kernel_open_vgpu_types(const struct kernel *kernel, const struct pci_address *vf)
{
	return sysfs_function_open(kernel->sys, vf, O_RDONLY, "nvidia/creatable_vgpu_types");
}

int kernel_open_vgpu_read(const struct kernel *kernel, const struct pci_address *vf)
{
	return sysfs_function_open(kernel->sys, vf, O_RDONLY, "nvidia/current_vgpu_type");
}

int kernel_open_vgpu(const struct kernel *kernel, const struct pci_address *vf)
{
	return sysfs_function_open(kernel->sys, vf, O_WRONLY, "nvidia/current_vgpu_type");
}
