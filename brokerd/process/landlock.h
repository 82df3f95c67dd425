/* SPDX-License-Identifier: MIT */
/*
 * Landlock: limits which files a process may open, in addition to owner and mode. The kernel has it
 * since 5.13, if it is enabled; newer features are used if the kernel has them.
 */
#pragma once

/* Returns the kernel's Landlock version; 0 if it has none, or it is not enabled. */
int landlock_version(void);

/*
 * Confines the core: it may read below /sys, write below the PCI and mdev parts of it, and open
 * /dev/vfio, /dev/iommu and its records, in `state_dir`; nothing else, and it may execute nothing.
 * To be called when everything else is open. Returns 0, also without Landlock; or -errno.
 */
int landlock_core(int state_dir, int history_dir, int sockets_dir);

/*
 * Confines a helper: it may only read, and only what its account may read. Returns as
 * landlock_core().
 */
int landlock_helper(void);
