/* SPDX-License-Identifier: MIT */
/*
 * The memory that a VM needs locked, and the warning of `gpubroker run` if less may be. Only
 * the warning reads anything but its arguments.
 */
#pragma once

#include <stdint.h>
#include <sys/types.h>

#include "client/gpubroker.h"

/*
 * Returns how much memory QEMU locks by its arguments, for a claim of n groups: the VM's (-m), once
 * for each group if the VM has an IOMMU of its own. 0: they do not tell.
 */
uint64_t memlock_of_command(char *const *argv, uint64_t n);

/*
 * Returns what a rule should grant for that: as libvirt counts, with 1 GiB more for each container.
 */
uint64_t memlock_to_grant(uint64_t locked, uint64_t n, char *const *argv);

/*
 * Warns if the memory of a VM, which is locked while a device is attached, may not fit, before the
 * VMM fails with a bare "-12".
 */
void memlock_warn(const struct gpubroker_claim *claim, char *const *argv);

/*
 * Reads how much memory a process may lock, and how much of it devices have pinned through iommufd.
 * 0, or -errno. UINT64_MAX: there is no limit.
 */
int memlock_of_process(pid_t pid, uint64_t *ret_limit, uint64_t *ret_pinned);
