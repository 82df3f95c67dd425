/* SPDX-License-Identifier: MIT */
/* For tests of the policy: a graphics card with its audio, and a network card in the same group. */
#pragma once

#include "policy/policy.h"

static const struct policy_facts card[] = {
	{ .address = { .bus = 1 },
	  .vendor = 0x10de,
	  .device = 0x20b0,
	  .subsystem_vendor = 0x1028,
	  .subsystem_device = 0x1533,
	  .class_code = 0x030000,
	  .iommu_group = 7,
	  .driver = "nouveau",
	  .serial = "00-AA",
	  .path = "pci0000:00/01.0/00.0",
	  .profile = "" },
	{ .address = { .bus = 1, .function = 1 },
	  .vendor = 0x10de,
	  .device = 0x1aef,
	  .subsystem_vendor = 0x1028,
	  .subsystem_device = 0x1533,
	  .class_code = 0x040300,
	  .iommu_group = 7,
	  .driver = "",
	  .serial = "",
	  .path = "pci0000:00/01.0/00.1",
	  .profile = "" },
	{ .address = { .bus = 1, .device = 2 },
	  .vendor = 0x8086,
	  .device = 0x1533,
	  .subsystem_vendor = 0x1028,
	  .subsystem_device = 0x1533,
	  .class_code = 0x020000,
	  .iommu_group = 7,
	  .driver = "igb",
	  .serial = "",
	  .path = "pci0000:00/01.0/02.0",
	  .profile = "" },
};
