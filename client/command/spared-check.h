/* SPDX-License-Identifier: MIT */
/* Warnings about prepare rules whose devices are spared, for `gpubroker policy check`. */
#pragma once

#include "client/command/inventory.h"
#include "client/command/policy-sources.h"

/*
 * Warns of each prepare rule that means a function whose IOMMU group the broker would lend to
 * nobody, so that nothing of the group is prepared. Returns 0, or -ENOMEM.
 */
int spared_check(const struct policy *policy, const struct inventory *inventory,
		 struct policy_report *report);
