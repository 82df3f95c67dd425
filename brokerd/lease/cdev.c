/* SPDX-License-Identifier: MIT */
/*
 * Leases by cdevs, see cdev.h: the nodes that devices have of their own, in addition to their
 * group's, if the kernel has iommufd. A claim that asks for cdevs gets both, group and cdevs. The
 * kernel lets the holder use only one of the two: it binds no cdev while a process has the group
 * open, and opens no group while a cdev of it is bound.
 *
 * How the end is detected: a group opens once, so if it can be opened, the holder has let go of it.
 * A cdev opens any number of times, and an unbound one is not visible anywhere. So each cdev is
 * locked (flock) when it is opened to be lent. The lock belongs to the open file, goes with it from
 * process to process, and ends with the last reference to it. If another open file of ours can be
 * locked, the lent one is gone. That holds after a restart too, so it need not be recorded. inotify
 * only says when to probe: it may report two closes as one, so closes are not counted.
 *
 * A holder may unlock its cdev. Then its lease ends, and the holder gains nothing: restore unbinds
 * every function that was lent, and the kernel finishes that only when the last descriptor of the
 * function is gone, bound or not. Until then the lease is stuck and nobody else gets the function
 * (functions.c). That unbind is the barrier between two tenants: an unbound descriptor of a cdev
 * could be bound as soon as the next tenant lets go of theirs.
 *
 * It must never keep a cdev open longer than it takes to send it or to probe it, and must never
 * change anything.
 */
#include "config.h"

#include "brokerd/lease/cdev.h"
#include "brokerd/process/log.h"
#include "client/host/sysfs.h"
#include "client/common/util.h"

#include <errno.h>
#include <stdio.h>
#include <string.h>

/* Returns how many devices a lease has; a mediated device or vGPU is one. */
static size_t count_devices(const struct lease *lease)
{
	return lease->n_functions ? lease->n_functions : 1;
}

static const struct pci_address *address_of(const struct lease *lease, size_t i)
{
	return lease->n_functions ? &lease->functions[i].address : &lease->asked;
}

/* Reads the number of the i-th device's node. Returns 0, or -errno. */
static int number_of(const struct lease *lease, size_t i, uint32_t *ret_number)
{
	char path[96], address[PCI_ADDRESS_TEXT];

	if (lease->mdev.uuid[0])
		snprintf(path, sizeof(path), "bus/mdev/devices/%s", lease->mdev.uuid);
	else /* a function, or a vGPU, which has its VF's node */
		snprintf(path, sizeof(path), "bus/pci/devices/%s",
			 pci_address_format(address_of(lease, i), address));
	return sysfs_cdev_of(leases_of(lease)->kernel->sys, path, ret_number);
}

static int watch_one(struct lease *lease, uint32_t number)
{
	int watch = lease->n_cdev_watches < ARRAY_SIZE(lease->cdev_watches)
			    ? kernel_cdev_watch(leases_of(lease)->kernel, number)
			    : -E2BIG;

	if (watch < 0)
		return watch;
	lease->cdev_watches[lease->n_cdev_watches++] = watch;
	return 0;
}

static int open_one(struct lease *lease, size_t i, struct granted_cdev *cdev, int *ret_fd)
{
	cleanup_fd int fd = -1;
	int r = number_of(lease, i, &cdev->number);

	if (r)
		return r;
	fd = kernel_cdev_open(leases_of(lease)->kernel, cdev->number);
	if (fd < 0)
		return fd;
	cdev->address = *address_of(lease, i);
	r = watch_one(lease, cdev->number);
	if (!r)
		*ret_fd = TAKE_FD(fd);
	return r;
}

int cdevs_open(const struct kernel *kernel, struct lease *const *leases, size_t n,
	       struct message_grant *grant, int *fds, size_t *n_fds, size_t *ret_which)
{
	size_t total = 0, opened = *n_fds;
	int r;

	for (size_t i = 0; i < n; i++)
		total += count_devices(leases[i]);
	if (!kernel->cdevs || total > PROTOCOL_CDEVS_MAX)
		return 0;
	r = fds[opened] = kernel_iommu_open(kernel);
	if (r >= 0) {
		opened++;
		r = 0;
	}
	for (size_t i = 0; !r && i < n; i++)
		for (size_t k = 0; !r && k < count_devices(leases[i]); k++) {
			struct granted_cdev *cdev = &grant->cdevs[grant->n_cdevs];

			*ret_which = i;
			r = open_one(leases[i], k, cdev, &fds[opened]);
			if (r)
				break;
			cdev->group = (uint32_t)i;
			grant->n_cdevs++;
			opened++;
		}
	if (!r) {
		*n_fds = opened;
		return 0;
	}
	/* Our own close must not be taken for the end of a lease. */
	for (size_t i = 0; i < n; i++)
		cdevs_unwatch(leases[i]);
	while (opened > *n_fds)
		fd_close(fds[--opened]);
	memset(grant->cdevs, 0, sizeof(grant->cdevs));
	grant->n_cdevs = 0;
	if (r == -EBUSY)
		return r;
	/* The group can be lent without them. */
	if (r != -ENOENT)
		log_warning("a claim gets no device nodes for iommufd: %s", strerror(-r));
	return 0;
}

static bool may_have_cdevs(const struct lease *lease)
{
	return leases_of(lease)->kernel->cdevs && count_devices(lease) <= PROTOCOL_CDEVS_MAX;
}

bool cdevs_are_held(const struct lease *lease)
{
	uint32_t number;

	for (size_t i = 0; may_have_cdevs(lease) && i < count_devices(lease); i++)
		if (!number_of(lease, i, &number) &&
		    kernel_cdev_is_held(leases_of(lease)->kernel, number))
			return true;
	return false;
}

bool cdevs_are_open(const struct lease *lease, uint32_t *ret_number, struct kernel_node *ret_node)
{
	const struct kernel *kernel = leases_of(lease)->kernel;

	for (size_t i = 0; kernel->cdevs && i < count_devices(lease); i++)
		if (!number_of(lease, i, ret_number) &&
		    kernel_cdev_is_open(kernel, *ret_number, ret_node))
			return true;
	return false;
}

bool cdevs_are_touched(const struct lease *lease, struct kernel_touches *touches, uint64_t since)
{
	const struct kernel *kernel = leases_of(lease)->kernel;
	uint32_t number;

	for (size_t i = 0; kernel->cdevs && i < count_devices(lease); i++)
		if (!number_of(lease, i, &number) &&
		    !kernel_node_touched(touches, kernel, number | KERNEL_CDEV, since))
			return false;
	return true;
}

size_t cdevs_numbers(const struct lease *lease, uint32_t numbers[PROTOCOL_CDEVS_MAX])
{
	size_t n = 0;

	for (size_t i = 0; may_have_cdevs(lease) && i < count_devices(lease); i++)
		n += !number_of(lease, i, &numbers[n]);
	return n;
}

void cdevs_watch(struct lease *lease)
{
	uint32_t number;

	for (size_t i = 0; may_have_cdevs(lease) && i < count_devices(lease); i++)
		if (!number_of(lease, i, &number))
			watch_one(lease, number);
}

void cdevs_unwatch(struct lease *lease)
{
	while (lease->n_cdev_watches)
		kernel_group_unwatch(leases_of(lease)->kernel,
				     lease->cdev_watches[--lease->n_cdev_watches]);
}
