/* SPDX-License-Identifier: MIT */
/*
 * What gpubroker-qemu executes for the arguments that libvirt, or whoever starts an emulator, gives
 * it. Pure: arguments in, arguments out.
 */
#pragma once

#include <stdbool.h>
#include <stdint.h>

#include "client/common/address.h"

struct emulator_ways {
	const char *qemu; /* the real QEMU's path */
	const char *wait; /* NULL: it does not wait; "": it waits for good; or a time, "30m" */
	/* Returns the IOMMU group of a function; UINT32_MAX: it is not known, or there is none. */
	uint32_t (*group_of)(void *userdata, const struct pci_address *address);
	void *userdata;
};

struct emulator_command {
	const char *
		*argv; /* of `gpubroker run` with QEMU behind it, or of QEMU alone; ended by NULL */
	bool claims;   /* it is that of `gpubroker run` */
	char *texts;   /* of the devices */
};

/*
 * Makes the command. QEMU's arguments are those of argv, unchanged. 0 or -ENOMEM; call
 * emulator_command_done() in either case.
 */
int emulator_command_make(char *const *argv, const struct emulator_ways *ways,
			  struct emulator_command *ret_command);
void emulator_command_done(struct emulator_command *command);

/*
 * Returns true if QEMU answers a question with these arguments, and starts no machine: "-version",
 * "-machine none", "-device vfio-pci,help".
 */
bool emulator_is_asked(char *const *argv);
