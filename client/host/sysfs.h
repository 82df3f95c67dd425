/* SPDX-License-Identifier: MIT */
/*
 * Reading PCI functions and IOMMU groups from sysfs: what is true now, whatever helpers said. `sys`
 * is a descriptor of /sys (O_PATH is enough). All return 0 or a descriptor, or -errno.
 */
#pragma once

#include <stdint.h>

#include "client/host/function.h"

/* Opens a path below /sys, which cannot lead out of it. Close-on-exec. */
int sysfs_open(int sys, uint64_t flags, const char *format, ...)
	__attribute__((format(printf, 3, 4)));
/* Opens a file of a function's directory; "" for the directory itself. */
int sysfs_function_open(int sys, const struct pci_address *address, uint64_t flags,
			const char *file);

/*
 * The IOMMU group of a function; *ret_group is NO_GROUP where it has none. -ENODEV: no such
 * function.
 */
int sysfs_group_of(int sys, const struct pci_address *address, uint32_t *ret_group);
/* The same of any device's directory. */
int sysfs_group_below(int dir, uint32_t *ret_group);
/*
 * The number N of /dev/vfio/devices/vfioN of a device, by its directory below /sys. -ENOENT: it has none, since
 * it is on no VFIO driver or the kernel makes no such nodes.
 */
int sysfs_cdev_of(int sys, const char *device, uint32_t *ret_number);
/* A whole group. -ENODEV: no such group. */
int sysfs_group_read(int sys, uint32_t group, struct group_view *ret_view);
/* The groups that there are, in any order, at most `max`; how many there are, or -errno. */
int sysfs_groups(int sys, uint32_t *ret_groups, size_t max);
/* Its driver alone, "" where it has none. -ENODEV: no such function. */
int sysfs_driver_read(int sys, const struct pci_address *address,
		      char ret_driver[FUNCTION_NAME_MAX]);
/*
 * The VFs of a function, in any order, at most `max`; how many there are, or -errno. -ENODEV: no
 * such function.
 */
int sysfs_vfs_read(int sys, const struct pci_address *physfn, struct pci_address *ret_vfs,
		   size_t max);
/* Has it a VFIO device, whichever driver made it? 1, 0, or -errno. */
int sysfs_has_vfio(int sys, const struct pci_address *address);
/* One function. -ENODEV: no such function. */
int sysfs_function_read(int sys, const struct pci_address *address, struct function *ret_function);
