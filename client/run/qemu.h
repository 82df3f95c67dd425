/* SPDX-License-Identifier: MIT */
/*
 * The arguments that give QEMU the leased devices, for `gpubroker run --qemu`. Pure: QEMU's
 * arguments and groups in, arguments out.
 */
#pragma once

#include <stdbool.h>
#include <stddef.h>

#include "client/host/function.h"

struct qemu_cdev {
	struct pci_address address;
	int fd; /* as the command inherits it */
};

struct qemu_options {
	const char *rom;	  /* romfile= of the GPU, NULL: none */
	bool primary;		  /* x-vga=on on the VGA controller */
	const char *const *mdevs; /* their UUIDs; each is a device of its own */
	size_t n_mdevs;
	bool iommufd; /* devices by their nodes: `fd` is /dev/iommu, as the command inherits it */
	int fd;
	const struct qemu_cdev *cdevs; /* of the groups' functions; without one, fd is -1 */
	size_t n_cdevs;
	const char *drivers;	    /* the serial of a disk with drivers, NULL: there is none */
	bool drivers_cd;	    /* it is a CD, as Windows mounts an ISO from nothing else */
	int drivers_fd;		    /* as the command inherits it, open for reading */
	const char *const *configs; /* the texts of the -readconfig files of the given arguments */
	size_t n_configs;
};

struct qemu_command {
	char **argv; /* ended by NULL; those before n_given are the caller's, the others its own */
	size_t n_given, n;
	struct pci_address *left; /* functions that the given arguments have already */
	size_t n_left;
	char why[192]; /* for -EINVAL */
};

/*
 * Makes the arguments: `given`, ended by NULL, followed by a device for each function of the
 * groups. `first` is the function that was asked for, of the first group: if there are several
 * GPUs, the options mean that one. 0; -EINVAL with a sentence in ret_command->why; or -errno. Call
 * qemu_command_done() in each case.
 */
int qemu_command_make(char *const *given, const struct group_view *const *groups, size_t n_groups,
		      const struct pci_address *first, const struct qemu_options *options,
		      struct qemu_command *ret_command);
void qemu_command_done(struct qemu_command *command);
