/* SPDX-License-Identifier: MIT */
/*
 * Checks whether the number of virtual functions (VFs) may be changed, see sriov-guard.h. It only
 * reads, in this process and in sysfs. It must never read an attribute that takes the device's
 * lock, and never change anything but pf->vfs.
 */
#include "config.h"

#include "brokerd/prepare/sriov-guard.h"
#include "brokerd/state/refuse.h"
#include "client/host/function.h"
#include "client/host/sysfs.h"

#include <errno.h>
#include <stdlib.h>
#include <string.h>

int guard_read_vfs(struct pf *pf)
{
	const int sys = pf->sriov->kernel->sys;
	int n = sysfs_vfs_read(sys, &pf->address, NULL, 0), now;
	struct pci_address *vfs;

	if (n < 0)
		return n;
	vfs = calloc((size_t)n + 1, sizeof(*vfs));
	if (!vfs)
		return -ENOMEM;
	free(pf->vfs);
	pf->vfs = vfs;
	pf->n_vfs = 0;
	now = sysfs_vfs_read(sys, &pf->address, vfs, (size_t)n);
	if (now > n)
		return -EAGAIN; /* another process is making some */
	if (now > 0)
		pf->n_vfs = (size_t)now;
	return now < 0 ? now : 0;
}

static struct lease *lease_on(const struct sriov *sriov, const struct pci_address *address)
{
	uint32_t group;

	if (sysfs_group_of(sriov->kernel->sys, address, &group) || group == NO_GROUP)
		return NULL;
	return lease_find_group(sriov->leases, group);
}

/* Returns 0; or the reason, if the function is leased or being bound to VFIO. */
static int guard_function(const struct pf *pf, const struct pci_address *address,
			  struct message_refusal *ret_refusal)
{
	const struct sriov *sriov = pf->sriov;
	const struct lease *lease = lease_on(sriov, address);
	const struct allotment *allotment;
	const struct hold *hold;
	uint32_t group;
	int r;

	if (lease) {
		r = refuse_held_for_root(ret_refusal, lease, address);
		if (lease->state == GPUBROKER_LEASE_LEASED &&
		    pci_address_compare(address, &pf->address) != 0) {
			ret_refusal->detail = REFUSAL_LEASED_VF;
			ret_refusal->address = pf->address;
			refusal_set_other(ret_refusal, address);
		}
		return r;
	}
	if (sysfs_group_of(sriov->kernel->sys, address, &group))
		group = NO_GROUP;
	allotment = allotments_of(sriov->allotments, sriov->devices, address, group);
	if (allotment)
		return refuse_allotted(ret_refusal, allotment, address, group);
	if (group == NO_GROUP)
		return 0;
	hold = holds_find_group(sriov->holds, group);
	return hold ? refuse_preparing(ret_refusal, hold, address) : 0;
}

int guard_vfs(const struct pf *pf, struct message_refusal *ret_refusal)
{
	struct function f;
	int r;

	for (size_t i = 0; i < pf->n_vfs; i++) {
		r = guard_function(pf, &pf->vfs[i], ret_refusal);
		if (r)
			return r;
		r = sysfs_function_read(pf->sriov->kernel->sys, &pf->vfs[i], &f);
		if (r == -ENODEV)
			continue;
		if (r || f.in_use[0]) {
			pf_refuse(ret_refusal, GPUBROKER_REFUSED_IN_USE, &pf->address,
				  r ? strerror(-r) : f.in_use);
			ret_refusal->other = pf->vfs[i];
			ret_refusal->has_other = 1;
			return GPUBROKER_REFUSED_IN_USE;
		}
	}
	return 0;
}

int guard_pf(const struct pf *pf, const struct function *f, uint32_t wanted,
	     struct message_refusal *ret_refusal)
{
	int r = guard_function(pf, &pf->address, ret_refusal);

	if (r)
		return r;
	if (!f->vfs_total || wanted > f->vfs_total) {
		r = pf_refuse(ret_refusal, GPUBROKER_REFUSED_NO_VFS, &pf->address, "");
		ret_refusal->limit = f->vfs_total;
		return r;
	}
	if (!f->driver[0])
		return pf_refuse(
			ret_refusal, GPUBROKER_REFUSED_NO_VFS, &pf->address,
			"has no host driver, which is what makes virtual functions; load it first");
	if (driver_is_vfio(f->driver)) {
		r = pf_refuse(ret_refusal, GPUBROKER_REFUSED_NO_VFS, &pf->address, "");
		memcpy(ret_refusal->driver, f->driver, sizeof(ret_refusal->driver));
		return r;
	}
	return 0;
}

bool guard_all_known(const struct pf *pf)
{
	for (size_t i = 0; i < pf->n_vfs; i++)
		if (!devices_find(pf->sriov->devices, &pf->vfs[i]))
			return false;
	return true;
}

bool guard_on_vfio(const struct pf *pf, const struct pci_address *vf)
{
	char driver[FUNCTION_NAME_MAX];

	return !sysfs_driver_read(pf->sriov->kernel->sys, vf, driver) && driver_is_vfio(driver);
}

size_t guard_next_unbound(const struct pf *pf, size_t from)
{
	uint32_t group;

	for (; from < pf->n_vfs; from++) {
		if (guard_on_vfio(pf, &pf->vfs[from]) || lease_on(pf->sriov, &pf->vfs[from]))
			continue;
		if (pf->record.by == VF_BY_POLICY && !pf->changes &&
		    !sysfs_group_of(pf->sriov->kernel->sys, &pf->vfs[from], &group) &&
		    prepare_is_left(pf->sriov->prepare, group))
			continue; /* root has given the VF to the host */
		break;
	}
	return from;
}
