/* SPDX-License-Identifier: MIT */
/*
 * Opening and reading below /sys. `sys` is a descriptor of /sys (O_PATH is enough). All return 0 or
 * a descriptor, or -errno.
 */
#pragma once

#include <stddef.h>
#include <stdint.h>

#include "client/host/pci.h"

/* Opens a path below /sys, which cannot lead out of it. Close-on-exec. */
int sysfs_open(int sys, uint64_t flags, const char *format, ...)
	__attribute__((format(printf, 3, 4)));
/* Opens a file of a function's directory; "" for the directory itself. */
int sysfs_function_open(int sys, const struct pci_address *address, uint64_t flags,
			const char *file);

/*
 * Reads a small attribute whole, without its final newline, and closes fd, which may be the -errno
 * of an open. -E2BIG: it does not fit.
 */
int sysfs_read_text(int fd, char *out, size_t size);
/* Reads a number from a file of a function's directory. */
int sysfs_read_number(int sys, const struct pci_address *address, const char *file, int base,
		      uint32_t *ret_value);
/* The same below a directory that is open, which costs less. */
int sysfs_number_below(int dir, const char *file, int base, uint32_t *ret_value);
/* Reads the last component of a link's target. -ENOENT: there is no such link. */
int sysfs_read_link(int dir, const char *link, char *out, size_t size);

/* The IOMMU group of the device whose directory this is, NO_GROUP where it has none. */
int sysfs_group_below(int dir, uint32_t *ret_group);

/* Returns 1 if it has a VFIO device, whichever driver made it, else 0. */
int sysfs_has_vfio(int sys, const struct pci_address *address);
