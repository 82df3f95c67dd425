/* SPDX-License-Identifier: MIT */
/* Says it where a QEMU's arguments name a function of the host that was not claimed. */
#pragma once

#include "client/gpubroker.h"

/*
 * Prints a warning for each function that a vfio-pci in argv names and whose IOMMU group the claim
 * does not have: QEMU's own message would be "No such file". argv is ended by NULL.
 */
void unclaimed_warn(const struct gpubroker_claim *claim, char *const *argv);
