/* SPDX-License-Identifier: MIT */
/*
 * Every way in which the root process changes or lends the kernel's devices, implemented in
 * attributes.c and vfio.c. client/host/ opens files below /sys too, but only to read them.
 * landlock.c opens directories below /sys and /dev, to name them in its rules.
 *
 * Paths consist of checked numbers and of driver names that came from sysfs. They are opened with
 * openat2() beneath descriptors that were opened before the process was confined. All functions
 * return 0, a descriptor or -errno, unless they say otherwise.
 */
#pragma once

#include <errno.h>
#include <stdbool.h>
#include <stdint.h>

#include "client/common/address.h"

#define KERNEL_IOMMU_OPTION 0x3b87 /* linux/iommufd.h, _IO(';', 0x87) */

struct kernel {
	int sys;     /* /sys, O_PATH */
	int dev;     /* /dev, O_PATH */
	int inotify; /* watches the nodes that are lent */
	int nodes;   /* watches /dev/vfio for what udev does to a new node */
	int ends;    /* an epoll instance, to check whether a process has ended */
	bool cdevs;  /* /dev/iommu existed at the start, so devices may have nodes of their own */
	/*
	 * VFIO was not loaded when systemd made the unit's rules for devices, which name its nodes
	 * by their major number: they can be opened only after another start.
	 */
	bool late;
	bool no_remapping; /* of interrupts: see client/host/interrupts.h */
};

/* Whom the permissions of a node let open it, besides root. */
struct kernel_node {
	uint32_t uid, gid;
	uint32_t mode; /* permission bits; those of the group include an ACL's */
};

#define KERNEL_CDEV (UINT32_C(1) << 31)

/* The nodes that were touched last, see kernel_nodes_mark(). */
struct kernel_touches {
	uint64_t n;	   /* touches so far */
	uint32_t keys[64]; /* of groups their number, of devices KERNEL_CDEV and their number */
	bool cdevs;	   /* touches of devices' nodes are seen, too */
};

#define KERNEL_NONE                                                                                \
	{                                                                                          \
		-1, -1, -1, -1, -1, false, false, false                                            \
	}

/* Opens what the process needs before it is confined, and makes /dev/vfio if it does not exist. */
int kernel_init(struct kernel *kernel);
void kernel_done(struct kernel *kernel);

/* ---- changes: opened here, written and read by a worker ---- */

int kernel_open_override(const struct kernel *kernel, const struct pci_address *address);
/*
 * The same for reading. The core must never read it: the kernel takes the device's lock for it,
 * which a driver that hangs in its probe or remove holds.
 */
int kernel_open_override_read(const struct kernel *kernel, const struct pci_address *address);
/* -ENOENT: the kernel has no way to reset the function. Writing "1" resets it. */
int kernel_open_reset(const struct kernel *kernel, const struct pci_address *address);
/* The `unbind` file of the driver that the function has. */
int kernel_open_unbind(const struct kernel *kernel, const struct pci_address *address);
int kernel_open_probe(const struct kernel *kernel);		       /* bus/pci/drivers_probe */
int kernel_open_bind(const struct kernel *kernel, const char *driver); /* -ENOENT: no such driver */
/*
 * The `unbind` file of a driver by its name. A write waits for an unbind that is under way, also
 * after the function's link to the driver is gone, and fails with ENODEV if there is none.
 */
int kernel_open_unbind_of(const struct kernel *kernel, const char *driver);

/*
 * SR-IOV of a physical function. Reading or writing sriov_numvfs takes the device's lock. A write
 * also waits for the holders of the VFs that it removes.
 */
int kernel_open_numvfs(const struct kernel *kernel, const struct pci_address *address);
int kernel_open_numvfs_read(const struct kernel *kernel, const struct pci_address *address);
/* "1": host drivers are bound to the VFs that are made; "0": they are not. */
int kernel_open_autoprobe(const struct kernel *kernel, const struct pci_address *address);
/* xe's quotas for all VFs of the card: "exec_quantum_ms" or "preempt_timeout_us". */
int kernel_open_vf_quota(const struct kernel *kernel, const struct pci_address *address,
			 const char *file);
int kernel_open_autoprobe_read(const struct kernel *kernel, const struct pci_address *address);

/*
 * Mediated devices. Parents, types and UUIDs are checked to be one path component. A worker asks
 * the driver by reading available_instances, makes a device by writing its UUID to `create`, and
 * removes it by writing "1" to `remove`, which waits for the holder.
 */
int kernel_open_mdev_available(const struct kernel *kernel, const char *parent, const char *type);
int kernel_open_mdev_create(const struct kernel *kernel, const char *parent, const char *type);
int kernel_open_mdev_remove(const struct kernel *kernel, const char *uuid);

/*
 * A vendor's vGPUs. Each is a VF that stays with its driver. A worker reads the types that the
 * driver offers for a VF, and reads or writes the type that the VF has.
 */
int kernel_open_vgpu_types(const struct kernel *kernel, const struct pci_address *vf);
int kernel_open_vgpu_read(const struct kernel *kernel, const struct pci_address *vf);
int kernel_open_vgpu(const struct kernel *kernel, const struct pci_address *vf);

/* ---- lending ---- */

/*
 * Checks that what is about to be bound can be opened afterwards. Opens no device but, if `cdevs`,
 * a new /dev/iommu. -ENOENT: VFIO is not loaded. -ESTALE: the directory or the node is not the one
 * of the start, or was not there then, so the process must be started again to open it.
 */
int kernel_vfio_check(const struct kernel *kernel, bool cdevs);
/* Returns true if vfio.ko is there, or built in: it makes a class. */
bool kernel_vfio_is_loaded(const struct kernel *kernel);

/*
 * Opens /dev/vfio/N. -EBUSY: a process holds it (a group opens once). -ENOENT: no function of it is
 * on VFIO. The call waits for a holder that is just opening a device of the group, or letting go of
 * it; so use it only for a group that nobody holds, and work_add_open() for others.
 */
int kernel_group_open(const struct kernel *kernel, uint32_t group);
/*
 * Looks, in the directory that kernel_open_vfio() opened, whether a process has the group; only a
 * worker may call it. Returns 0 if none has; -EBUSY if one has it open; KERNEL_ATTACHED if it can
 * be opened, but belongs to a driver or to an iommufd: then a process that has closed the group may
 * still use its devices. Closes the group again, unseen by kernel_group_watch().
 */
#define KERNEL_ATTACHED (-EINPROGRESS)
int kernel_group_probe_in(int directory, uint32_t group);
int kernel_open_vfio(const struct kernel *kernel); /* /dev/vfio, O_PATH */
/*
 * Returns 0 if the group is viable, so that the kernel would let it be attached; -EPERM if it is
 * not.
 */
int kernel_group_viable(int group_fd);
/*
 * Watches the group's node for the close that ends its lease. Returns the watch's number, see
 * kernel_watch_read().
 */
int kernel_group_watch(const struct kernel *kernel, uint32_t group);
/*
 * Return true if others than root may open a node: it is not root's, or its permissions say so. The
 * first is about an open one, the others about that of a group or device, which may have none.
 */
bool kernel_node_is_open(int fd, struct kernel_node *ret_node);
bool kernel_group_is_open(const struct kernel *kernel, uint32_t group,
			  struct kernel_node *ret_node);
bool kernel_cdev_is_open(const struct kernel *kernel, uint32_t number,
			 struct kernel_node *ret_node);
/* Reads the device number of a group's node, or of a device's with KERNEL_CDEV. 0, or -errno. */
int kernel_node_number(const struct kernel *kernel, uint32_t key, uint32_t *ret_major,
		       uint32_t *ret_minor);
/*
 * udev applies its rules to a node after the kernel has made it, and touches it then, with or
 * without a rule. kernel_nodes_mark() returns the present moment; kernel_node_touched() says
 * whether the node of a group, or of a device with KERNEL_CDEV, was touched after it. Both are only
 * hints; true if the kernel does not tell. kernel_nodes_read() is called when kernel->nodes is
 * readable, since the kernel reports two touches as one if nobody has read the first.
 */
void kernel_nodes_read(struct kernel_touches *touches, const struct kernel *kernel);
uint64_t kernel_nodes_mark(struct kernel_touches *touches, const struct kernel *kernel);
bool kernel_node_touched(struct kernel_touches *touches, const struct kernel *kernel, uint32_t key,
			 uint64_t since);
void kernel_group_unwatch(const struct kernel *kernel, int watch);
/*
 * Device nodes, /dev/vfio/devices/vfioN, if the kernel has them. A node that is opened to be lent
 * is locked (flock). The lock lasts as long as that open file, in whatever process, so it shows
 * later whether the file is still open. -ENOENT: the kernel makes no such nodes; -EBUSY: the node
 * is lent.
 */
int kernel_cdev_open(const struct kernel *kernel, uint32_t number);
bool kernel_cdev_is_held(const struct kernel *kernel, uint32_t number);
int kernel_cdev_watch(const struct kernel *kernel, uint32_t number);
/*
 * Opens a new /dev/iommu, which counts locked memory by process if we have the capability to ask
 * for that.
 */
int kernel_iommu_open(const struct kernel *kernel);
/*
 * Returns the next watch that saw a close; -EAGAIN: none; -EOVERFLOW: the kernel dropped some, so
 * probe all leases.
 */
int kernel_watch_read(const struct kernel *kernel);
/* Raises a process's RLIMIT_MEMLOCK, soft and hard, to at least `bytes`. Needs CAP_SYS_RESOURCE. */
int kernel_memlock_raise(const struct kernel *kernel, int pidfd, int pid, uint64_t bytes);
