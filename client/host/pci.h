/* SPDX-License-Identifier: MIT */
/*
 * PCI functions and IOMMU groups as sysfs shows them now, whatever helpers said before. `sys` is a
 * descriptor of /sys (O_PATH is enough). All return 0, or what is said, or -errno.
 */
#pragma once

#include <stdint.h>

#include "client/host/function.h"

/* Reads one function. -ENODEV: no such function. */
int sysfs_function_read(int sys, const struct pci_address *address, struct function *ret_function);
/*
 * The same without what inuse_read() and sysfs_opened() find, which costs most of the time: what a
 * policy is asked about.
 */
int sysfs_function_read_ids(int sys, const struct pci_address *address,
			    struct function *ret_function);

/* Its driver alone, "" where it has none. -ENODEV: no such function. */
int sysfs_driver_read(int sys, const struct pci_address *address,
		      char ret_driver[FUNCTION_NAME_MAX]);

/*
 * The number N of the device node /dev/vfio/devices/vfioN of a device, by its directory below /sys.
 * -ENOENT: it is on no VFIO driver, or the kernel makes no such nodes.
 */
int sysfs_cdev_of(int sys, const char *device, uint32_t *ret_number);

/*
 * Reads the VFs of a function, in any order, at most `max`; returns how many there are. -ENODEV: no
 * such function.
 */
int sysfs_vfs_read(int sys, const struct pci_address *physfn, struct pci_address *ret_vfs,
		   size_t max);

/*
 * Returns 1 if a process seems to have the function open through VFIO, else 0. It opens nothing,
 * and is only a hint: a host driver that left the function enabled makes it untrue.
 */
int sysfs_opened(int sys, const struct pci_address *address);
/* The IOMMU group of a function, NO_GROUP where it has none. -ENODEV: no such function. */
int sysfs_group_of(int sys, const struct pci_address *address, uint32_t *ret_group);
/*
 * Reads a group whole. -ENODEV: no such group; -E2BIG: it has more than FUNCTIONS_MAX functions,
 * and only not_viable of *ret_view is filled in, with how many.
 */
int sysfs_group_read(int sys, uint32_t group, struct group_view *ret_view);
/*
 * The same in two steps: the ids, for the policy; and, where that allows the group, what the guards
 * need to know of it.
 */
int sysfs_group_read_ids(int sys, uint32_t group, struct group_view *ret_view);
int sysfs_group_read_use(int sys, struct group_view *view);
/*
 * Reads which functions a group has, bridges included, in any order, at most `max`; returns how
 * many there are. Reads nothing of the functions themselves. -ENODEV: no such group.
 */
int sysfs_group_members(int sys, uint32_t group, struct pci_address *ret_members, size_t max);
/* Returns 1 if the function is a bridge, which stays with the host, or 0. -ENODEV: none such. */
int sysfs_is_bridge(int sys, const struct pci_address *address);
/* Reads which groups there are, in any order, at most `max`; returns how many there are. */
int sysfs_groups(int sys, uint32_t *ret_groups, size_t max);
