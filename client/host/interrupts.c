/* SPDX-License-Identifier: MIT */
/*
 * Reads of interrupts what VFIO knows of them, see interrupts.h. Only reads, and must never say
 * that something is unsafe of which it is not sure: VFIO itself decides.
 *
 * The kernel tells nobody whether it remaps interrupts, but on a PC it names the chip behind each:
 * "IR-IO-APIC" and "IR-PCI-MSI" if it does, "IO-APIC" and "PCI-MSI" if not (Linux,
 * drivers/iommu/intel/irq_remapping.c, drivers/iommu/amd/iommu.c; from 6.2 on a device's name may
 * follow). Other architectures have other names, and isolate by other means.
 */
#include "config.h"

#include "client/host/interrupts.h"
#include "client/host/directory.h"
#include "client/host/sysfs.h"
#include "client/common/util.h"

#include <fcntl.h>
#include <string.h>

#define CHIP_MAX 128

bool interrupts_are_remapped(int sys)
{
	cleanup_fd int fd = sysfs_open(sys, O_RDONLY | O_DIRECTORY, "kernel/irq");
	struct directory dir = DIRECTORY(fd);
	const char *number;
	bool plain = false;

	while (fd >= 0 && (number = directory_next(&dir))) {
		char chip[CHIP_MAX];

		if (sysfs_read_text(sysfs_open(sys, O_RDONLY, "kernel/irq/%.32s/chip_name", number),
				    chip, sizeof(chip)))
			continue;
		if (!strncmp(chip, "IR-", 3))
			return true;
		plain = plain || !strcmp(chip, "IO-APIC");
	}
	return !plain;
}

bool interrupts_may_be_unsafe(int sys, bool iommufd)
{
	char text[8];

	return sysfs_read_text(sysfs_open(sys, O_RDONLY,
					  "module/%s/parameters/allow_unsafe_interrupts",
					  iommufd ? "iommufd" : "vfio_iommu_type1"),
			       text, sizeof(text)) ||
	       strcmp(text, "N") != 0;
}

bool interrupts_may_be_unsafe_somehow(int sys, bool cdevs)
{
	return interrupts_may_be_unsafe(sys, false) ||
	       (cdevs && interrupts_may_be_unsafe(sys, true));
}
