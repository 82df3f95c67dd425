/* SPDX-License-Identifier: MIT */
/*
 * What a QEMU that runs has, as far as `attach` and `detach` need it, and what they have put there.
 *
 * Everything that `attach` adds has a name of its own: a device "gpubroker-LEASE-DDDD-BB-SS.F", or
 * "gpubroker-LEASE-UUID" for an mdev, the iommufd that all of them share "gpubroker-iommufd0". So
 * `detach` needs no memory but QEMU's.
 */
#pragma once

#include <stdbool.h>
#include <stddef.h>
#include <stdint.h>

#include "client/common/address.h"
#include "client/run/qmp.h"

#define VM_ID 80   /* room for an id of QEMU's */
#define VM_NAME 40 /* an address, or a UUID */
#define VM_PORTS_MAX 64
#define VM_DEVICES_MAX 64
#define VM_FD "gpubroker-fd" /* QEMU's name for a descriptor on its way to it */

struct vm_device {
	char id[VM_ID];
	uint64_t lease;
	char name[VM_NAME];	    /* its address on the host, or the UUID of an mdev */
	struct pci_address address; /* of an mdev all 0 */
	bool is_mdev;
	char bus[VM_ID]; /* the port that it is behind, "": not known */
};

struct vm {
	char ports[VM_PORTS_MAX][VM_ID]; /* free root ports that devices can be plugged into */
	size_t n_ports;
	size_t n_full;				  /* ports that have a device */
	struct vm_device devices[VM_DEVICES_MAX]; /* what `attach` has attached */
	size_t n_devices;
	char iommufd[VM_ID]; /* the iommufd of `attach`, or of `run --qemu --iommufd`, "": none */
	bool has_iommufd;    /* this QEMU can use one, and takes descriptors of devices */
	bool runs;	     /* its guest is not paused */
	uint64_t memory;     /* of the guest, in bytes; 0: not known */
};

/*
 * Connects to the monitor at the path and checks that it is of this user. 0, or an exit status
 * after the reason was printed, with `end` behind it, as "nothing was claimed".
 */
int vm_open(const char *path, const char *end, struct qmp **ret_qmp);

/* Asks for all of it. 0, or as qmp_ask(). */
int vm_look(struct qmp *qmp, struct vm *ret_vm);

/* Asks for the devices of `attach` alone. */
int vm_look_devices(struct qmp *qmp, struct vm *vm);

/* Asks whether the guest has the device in use: one of its regions is mapped. */
int vm_is_used(struct qmp *qmp, const char *id, bool *ret_used);

/* Makes what `attach` calls a device of a lease. False: `name` is neither an address nor a UUID. */
bool vm_device_make(uint64_t lease, const char *name, struct vm_device *ret_device);
/* Reads an id. False: `attach` has made none like it. */
bool vm_device_parse(const char *id, struct vm_device *ret_device);
