/* SPDX-License-Identifier: MIT */
/*
 * Leases by cdevs: the nodes that devices have of their own beside their group's, where the kernel has
 * iommufd. A claim that asks for them is lent both, group and cdevs, and the kernel lets its holder use
 * but one: it binds no cdev while anybody has the group open, and opens no group while a cdev of it
 * is bound.
 *
 * When such a lease is over. A group opens once, so that we can open it again says that it was let go.
 * A cdev opens any number of times, and one that was never bound shows nowhere. So each is locked (flock) as
 * it is opened to be lent: the lock is the open file's, goes with it from process to process, and ends with the
 * last reference to it. Another open file of ours that can be locked says that it is gone; after a restart
 * as well, so nothing of it is recorded. inotify only says when to look: it may tell of two closes as of one,
 * so closes are not counted.
 *
 * A holder may unlock what it has. Then its lease ends, and it has gained nothing: the way back unbinds
 * every function that was lent, which the kernel finishes only when the last descriptor of it is gone, bound
 * or idle, and until then the lease is stuck and nobody else is lent it (restore.c). That unbind is what stands
 * between two tenants: a cdev's idle descriptor could be bound as soon as the next tenant lets go of theirs.
 *
 * It must never keep a cdev open longer than it takes to send or to ask, nor change anything.
 */
#include "config.h"

#include "brokerd/lease/cdev.h"
#include "brokerd/process/log.h"
#include "client/host/sysfs.h"
#include "client/common/util.h"

#include <errno.h>
#include <string.h>

static size_t count(const struct lease *lease)
{
	return lease_is_mdev(lease) ? 1 : lease->n_functions;
}

/* The i-th device's number. */
static int number_of(const struct daemon *daemon, const struct lease *lease, size_t i,
		     uint32_t *ret_number)
{
	const struct pci_address *function = lease_is_mdev(lease) ? &lease->asked
								  : &lease->functions[i].address;
	char path[96], address[PCI_ADDRESS_TEXT];

	if (lease->mdev.uuid[0])
		snprintf(path, sizeof(path), "bus/mdev/devices/%s", lease->mdev.uuid);
	else /* a vGPU's is its virtual function's, which was asked for */
		snprintf(path, sizeof(path), "bus/pci/devices/%s",
			 pci_address_format(function, address));
	return sysfs_cdev_of(daemon->kernel.sys, path, ret_number);
}

static int watch_one(const struct daemon *daemon, struct lease *lease, uint32_t number)
{
	int watch = lease->n_cdev_watches < ARRAY_SIZE(lease->cdev_watches)
			    ? kernel_cdev_watch(&daemon->kernel, number)
			    : -E2BIG;

	if (watch < 0)
		return watch;
	lease->cdev_watches[lease->n_cdev_watches++] = watch;
	return 0;
}

static int open_one(const struct daemon *daemon, struct lease *lease, size_t i,
		    struct granted_cdev *cdev, int *ret_fd)
{
	cleanup_fd int fd = -1;
	int r = number_of(daemon, lease, i, &cdev->number);

	if (r)
		return r;
	fd = kernel_cdev_open(&daemon->kernel, cdev->number);
	if (fd < 0)
		return fd;
	cdev->address = lease_is_mdev(lease) ? lease->asked : lease->functions[i].address;
	r = watch_one(daemon, lease, cdev->number);
	if (!r)
		*ret_fd = TAKE_FD(fd);
	return r;
}

int cdevs_open(const struct daemon *daemon, struct lease *const *leases, size_t n,
	       struct message_grant *grant, int *fds, size_t *n_fds, size_t *ret_which)
{
	size_t total = 0, opened = *n_fds;
	int r;

	for (size_t i = 0; i < n; i++)
		total += count(leases[i]);
	if (!daemon->kernel.cdevs || total > PROTOCOL_CDEVS_MAX)
		return 0;
	r = fds[opened] = kernel_iommu_open(&daemon->kernel);
	if (r >= 0) {
		opened++;
		r = 0;
	}
	for (size_t i = 0; !r && i < n; i++)
		for (size_t k = 0; !r && k < count(leases[i]); k++) {
			struct granted_cdev *cdev = &grant->cdevs[grant->n_cdevs];

			*ret_which = i;
			r = open_one(daemon, leases[i], k, cdev, &fds[opened]);
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
	/* What we close ourselves is no end of a lease. */
	for (size_t i = 0; i < n; i++)
		cdevs_unwatch(daemon, leases[i]);
	while (opened > *n_fds)
		fd_close(fds[--opened]);
	memset(grant->cdevs, 0, sizeof(grant->cdevs));
	grant->n_cdevs = 0;
	if (r == -EBUSY)
		return r;
	/* The group is as good. */
	if (r != -ENOENT)
		log_warning("a claim gets no device nodes for iommufd: %s", strerror(-r));
	return 0;
}

bool cdevs_are_held(const struct daemon *daemon, const struct lease *lease)
{
	uint32_t number;

	if (!daemon->kernel.cdevs || count(lease) > PROTOCOL_CDEVS_MAX)
		return false;
	for (size_t i = 0; i < count(lease); i++)
		if (!number_of(daemon, lease, i, &number) &&
		    kernel_cdev_is_held(&daemon->kernel, number))
			return true;
	return false;
}

void cdevs_watch(const struct daemon *daemon, struct lease *lease)
{
	uint32_t number;

	if (!daemon->kernel.cdevs || count(lease) > PROTOCOL_CDEVS_MAX)
		return;
	for (size_t i = 0; i < count(lease); i++)
		if (!number_of(daemon, lease, i, &number))
			watch_one(daemon, lease, number);
}

void cdevs_unwatch(const struct daemon *daemon, struct lease *lease)
{
	while (lease->n_cdev_watches)
		kernel_group_unwatch(&daemon->kernel, lease->cdev_watches[--lease->n_cdev_watches]);
}
