/* SPDX-License-Identifier: MIT */
/* VFIO drivers: which one a function gets, and the writes that bind it. */
#pragma once

#include <stdbool.h>

#include "brokerd/kernel/kernel.h"
#include "brokerd/process/worker.h"
#include "brokerd/state/devices.h"

/*
 * Adds the writes that bind a function to a VFIO driver; adds none if `bound`, its driver, is one
 * already. `wanted` is the rule's driver, or "" for the kernel's choice: the most specific variant
 * driver that is loaded, else vfio-pci. Returns 0, or -errno; -ENOENT if the kernel does not have
 * that driver: then nothing could take the function, which must not lose its own driver for that.
 */
int driver_add_bind(const struct kernel *kernel, const struct devices *devices, struct work *work,
		    const struct pci_address *address, const char *bound, const char *wanted);

/* Returns `driver` if the kernel has it; else "", which means the kernel's choice. */
const char *driver_or_any(const struct kernel *kernel, const char *driver);

/* Returns the reason why a function that was to be bound is on no VFIO driver. Static. */
const char *driver_why_not_bound(const struct kernel *kernel);
