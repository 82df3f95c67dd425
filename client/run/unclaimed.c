/* SPDX-License-Identifier: MIT */
/*
 * Compares the functions that QEMU's arguments name with what was claimed, see unclaimed.h. It must
 * never be a reason to fail: the user may have such a device by other means.
 */
#include "config.h"

#include "client/run/unclaimed.h"
#include "client/command/cli.h"
#include "client/common/util.h"
#include "client/host/pci.h"
#include "client/run/qemu-given.h"

#include <fcntl.h>

static bool claim_has_group(const struct gpubroker_claim *claim, uint32_t group)
{
	for (size_t i = 0; i < gpubroker_claim_groups(claim); i++)
		if (gpubroker_claim_grant(claim, i)->iommu_group == group)
			return true;
	return false;
}

void unclaimed_warn(const struct gpubroker_claim *claim, char *const *argv)
{
	cleanup_fd int sys = open("/sys", O_PATH | O_DIRECTORY | O_CLOEXEC);
	char address[PCI_ADDRESS_TEXT];
	struct qemu_given given;
	uint32_t group;

	if (!qemu_given_look(argv, NULL, 0, &given)) {
		for (size_t i = 0; sys >= 0 && i < given.n_hosts; i++) {
			if (sysfs_group_of(sys, &given.hosts[i], &group) ||
			    claim_has_group(claim, group))
				continue;
			pci_address_format(&given.hosts[i], address);
			cli_error(
				"warning: the command names %s, which this claim does not have, so "
				"it will fail; did you mean to add --gpu %s?",
				address, address);
		}
	}
	qemu_given_done(&given);
}
