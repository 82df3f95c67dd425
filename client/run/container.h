/* SPDX-License-Identifier: MIT */
/* Whether a VMM can use what is lent: VFIO's container, /dev/vfio/vfio, which is not lent. */
#pragma once

/*
 * Prints a warning if this process cannot open the container, or if the kernel has no driver for
 * its IOMMU: a VMM's own message about that names no cure.
 */
void container_warn(void);
