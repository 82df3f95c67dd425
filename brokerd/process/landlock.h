/* SPDX-License-Identifier: MIT */
/*
 * Landlock: which files a process may open, beside what their owner and mode allow. The kernel has
 * it from 5.13 on, where it is enabled; what is newer in it is used where it is found.
 */
#pragma once

/* The version that the kernel has; 0: none, or it is not enabled. */
int landlock_version(void);

/*
 * The core may read below /sys, write below the PCI and mdev parts of it, and open /dev/vfio,
 * /dev/iommu and its records, `state_dir`; nothing else, and it executes nothing. To be called when
 * everything else is open. 0, also where there is no Landlock; or -errno.
 */
int landlock_core(int state_dir);

/* A helper only reads, what its account may read. */
int landlock_helper(void);
