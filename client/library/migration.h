/* SPDX-License-Identifier: MIT */
/*
 * Whether a leased device can be migrated with its virtual machine. Only the device's driver knows,
 * and tells only through an open device: so the holder of the lease can ask, and the broker, which
 * opens none, cannot.
 */
#pragma once

#include <stdbool.h>

/*
 * Returns 1 or 0, or -errno. `group` is the open /dev/vfio/N, without a container, before and
 * afterwards; `device` is the device's PCI address or its mdev's UUID. A function on vfio-pci
 * itself, which migrates none, is not opened, since that would reset it.
 */
int migration_probe(int group, const char *device);
