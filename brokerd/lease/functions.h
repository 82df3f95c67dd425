/* SPDX-License-Identifier: MIT */
/* Leases of the whole functions of an IOMMU group. */
#pragma once

#include "brokerd/lease/kind.h"

extern const struct lease_kind lease_of_functions;

/*
 * Adds only the reads of the functions' overrides. The core must never read one itself: the kernel
 * takes the device's lock for it. Returns 0, or -errno.
 */
int functions_add_override_reads(struct lease *lease, struct work *work);

/* Returns what a read of driver_override means: the kernel prints "(null)" for none. */
const char *functions_override_text(const char *text);
