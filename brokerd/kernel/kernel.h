/* SPDX-License-Identifier: MIT */
/*
 * Every way in which the root process changes or lends the kernel's devices. attributes.c and
 * vfio.c implement it. client/ opens files below /sys too, only to read them. landlock.c opens
 * directories below /sys and /dev, to name them in its rules, and makes /dev/vfio where there is
 * none.
 *
 * Paths are made of checked numbers and of driver names that came from sysfs, and opened with
 * openat2() beneath descriptors that were opened before the process was confined. All return 0 or a
 * descriptor, or -errno.
 */
#pragma once

#include <stdbool.h>
#include <stdint.h>

#include "client/common/address.h"

#define KERNEL_IOMMU_OPTION 0x3b87 /* linux/iommufd.h, _IO(';', 0x87) */

struct kernel {
	int sys;     /* /sys, O_PATH */
	int dev;     /* /dev, O_PATH */
	int inotify; /* group nodes that are lent */
	int ends;    /* epoll's: has a process ended */
	bool cdevs;  /* /dev/iommu was there at the start, so devices may have nodes of their own */
};

#define KERNEL_NONE                                                                                \
	{                                                                                          \
		-1, -1, -1, -1, false                                                              \
	}

int kernel_init(struct kernel *kernel);
void kernel_done(struct kernel *kernel);

/* ---- changing: opened here, written and read by a worker ---- */

int kernel_open_override(const struct kernel *kernel, const struct pci_address *address);
/*
 * The same for reading. Never read it here: the kernel takes the device's lock for it, which a
 * driver that hangs in its probe or remove holds.
 */
int kernel_open_override_read(const struct kernel *kernel, const struct pci_address *address);
/* -ENOENT: the kernel has no way to reset the function. Writing "1" resets it. */
int kernel_open_reset(const struct kernel *kernel, const struct pci_address *address);
int kernel_open_unbind(const struct kernel *kernel, const struct pci_address *address); /* of its
											   driver */
int kernel_open_probe(const struct kernel *kernel);		       /* bus/pci/drivers_probe */
int kernel_open_bind(const struct kernel *kernel, const char *driver); /* -ENOENT: no such driver */

/*
 * SR-IOV, of a physical function. Reading or writing sriov_numvfs takes the device's lock; writing
 * waits for whoever holds one that goes.
 */
int kernel_open_numvfs(const struct kernel *kernel, const struct pci_address *address);
int kernel_open_numvfs_read(const struct kernel *kernel, const struct pci_address *address);
/* Whether host drivers take the VFs that are made, "1" or "0". */
int kernel_open_autoprobe(const struct kernel *kernel, const struct pci_address *address);
/*
 * What xe lets all virtual functions have of the card: "exec_quantum_ms" or "preempt_timeout_us".
 */
int kernel_open_vf_quota(const struct kernel *kernel, const struct pci_address *address,
			 const char *file);
int kernel_open_autoprobe_read(const struct kernel *kernel, const struct pci_address *address);

/*
 * mdevs. Parents, types and uuids are checked to be a path's one component. The driver is asked by
 * reading available_instances and writing a uuid to `create`; writing "1" to `remove` waits for
 * whoever has it.
 */
int kernel_open_mdev_available(const struct kernel *kernel, const char *parent, const char *type);
int kernel_open_mdev_create(const struct kernel *kernel, const char *parent, const char *type);
int kernel_open_mdev_remove(const struct kernel *kernel, const char *uuid);

/*
 * A vendor's vGPUs, each a VF that stays with its driver. That is asked, or told, by reading and by
 * writing.
 */
int kernel_open_vgpu_types(const struct kernel *kernel, const struct pci_address *vf);
int kernel_open_vgpu_read(const struct kernel *kernel, const struct pci_address *vf);
int kernel_open_vgpu(const struct kernel *kernel, const struct pci_address *vf);

/* ---- lending ---- */

/*
 * Opens /dev/vfio/N. -EBUSY: somebody holds it (a group opens once). -ENOENT: nothing in it is on
 * VFIO. Waits for a holder who is just opening or letting go of a device of it, so only for one
 * that nobody has: else see work_add_open().
 */
int kernel_group_open(const struct kernel *kernel, uint32_t group);
/* The same in a directory that kernel_open_vfio() opened; only a worker may be made to wait. */
int kernel_group_open_in(int directory, uint32_t group);
int kernel_open_vfio(const struct kernel *kernel); /* /dev/vfio, O_PATH */
/* 0: viable, the kernel would let it be attached; -EPERM: not. */
int kernel_group_viable(int group_fd);
/*
 * Watches the node for the close that ends its lease; the watch's number, for kernel_watch_read().
 */
int kernel_group_watch(const struct kernel *kernel, uint32_t group);
void kernel_group_unwatch(const struct kernel *kernel, int watch);
/*
 * Device nodes, /dev/vfio/devices/vfioN, only where there are cdevs. One that is opened to be lent
 * is locked (flock), and the lock lasts as long as that open file, in whatever process: so the
 * kernel can be asked whether it is gone, by whoever asks later. -ENOENT: the kernel makes no such
 * nodes; -EBUSY: it is lent.
 */
int kernel_cdev_open(const struct kernel *kernel, uint32_t number);
bool kernel_cdev_is_held(const struct kernel *kernel, uint32_t number);
int kernel_cdev_watch(const struct kernel *kernel, uint32_t number);
/*
 * A fresh /dev/iommu, which counts locked memory by process where we have the capability to say so.
 */
int kernel_iommu_open(const struct kernel *kernel);
/* The next watch that saw a close; -EAGAIN: none; -EOVERFLOW: some were lost, look at all. */
int kernel_watch_read(const struct kernel *kernel);
/* Raises a process's RLIMIT_MEMLOCK, soft and hard, to at least bytes. Needs CAP_SYS_RESOURCE. */
int kernel_memlock_raise(const struct kernel *kernel, int pidfd, int pid, uint64_t bytes);
