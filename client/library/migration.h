/* SPDX-License-Identifier: MIT */
/*
 * Whether a lent device can be migrated with its virtual machine. Only the device's own driver knows, and it
 * says so only through an open device: who holds the lease can ask, and the broker, which opens none, cannot.
 */
#pragma once

#include <stdbool.h>

/*
 * `group` is the open /dev/vfio/N, still without a container, and so it is afterwards; `device` is the
 * device's PCI address or its mdev's number. 1 or 0, or -errno. A function on vfio-pci itself, which
 * migrates none, is not opened: that would reset it.
 */
int migration_probe(int group, const char *device);
