/* SPDX-License-Identifier: MIT */
/* Reads the memory of a process that the supervisor of `gpubroker run` may trace. */
#pragma once

#include <stddef.h>
#include <stdint.h>
#include <sys/types.h>

/*
 * Reads at most a page, and less where the memory ends before: so a long string comes without its
 * terminator. Returns how much, or -errno; -EPERM: the kernel does not allow it.
 */
ssize_t memory_read(pid_t pid, uint64_t address, void *buffer, size_t size);
