/* SPDX-License-Identifier: MIT */
/*
 * What the host would lose if a function were lent: part of its console, or something that it uses.
 * gpubroker.policy(5) has the list, and what is not on it. Only links and attributes are read for
 * which the kernel takes no lock of a device. Used by pci.c.
 */
#pragma once

#include "client/host/function.h"

/*
 * Reads `boot_vga`, `console` and `in_use` of a function, whose address, class and driver are set.
 * Returns 0, or -errno.
 */
int inuse_read(int sys, struct function *function);
