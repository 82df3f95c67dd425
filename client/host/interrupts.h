/* SPDX-License-Identifier: MIT */
/*
 * Whether a VM's device could raise any interrupt of the host's, as sysfs shows it. On a PC it can
 * unless the IOMMU remaps interrupts; then VFIO attaches no group, except by root's order. `sys` is
 * a descriptor of /sys.
 */
#pragma once

#include <stdbool.h>

/*
 * Returns false if the kernel certainly does not remap interrupts. Looks at all of them, and does
 * not change while the kernel runs.
 */
bool interrupts_are_remapped(int sys);

/*
 * Returns true if root has the kernel attach groups nevertheless, or if that cannot be read: its
 * module may not be loaded yet. `iommufd`: for devices' own nodes.
 */
bool interrupts_may_be_unsafe(int sys, bool iommufd);

/*
 * Returns true if a group may be attached on a host that does not remap interrupts in one of the
 * ways that a claim can take: by the group, or, if the kernel has /dev/iommu (`cdevs`), by the
 * devices' own nodes. Each has a parameter of its own.
 */
bool interrupts_may_be_unsafe_somehow(int sys, bool cdevs);
