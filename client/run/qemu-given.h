/* SPDX-License-Identifier: MIT */
/*
 * The functions of the host, slots and numbers that QEMU's given arguments use already. Private to
 * `gpubroker run --qemu`. Pure: arguments and the texts of configuration files in.
 */
#pragma once

#include <stdbool.h>
#include <stddef.h>

#include "client/common/address.h"

#define QEMU_CHASSIS_MAX 255

struct qemu_given {
	bool pcie; /* its root bus is "pcie.0" */
	bool vga;  /* -vga is there */
	bool json; /* a -device is written in JSON: QEMU makes those after all others */
	bool chassis[QEMU_CHASSIS_MAX + 1];
	bool slots[32];		   /* of the root bus */
	struct pci_address *hosts; /* functions that a vfio-pci has */
	size_t n_hosts;
};

/*
 * Looks at the arguments, ended by NULL, and at the text of each of their -readconfig files that
 * could be read. 0 or -ENOMEM; call qemu_given_done() in either case.
 */
int qemu_given_look(char *const *argv, const char *const *configs, size_t n_configs,
		    struct qemu_given *ret_given);
void qemu_given_done(struct qemu_given *given);

/* QEMU takes one dash or two. */
bool qemu_is_option(const char *argument, const char *name);

/*
 * Writes "DRIVER,key=value,key=value" as the JSON that QEMU takes for it. The caller frees it;
 * NULL: no memory.
 */
char *qemu_device_json(const char *device);
