/* SPDX-License-Identifier: MIT */
/*
 * Guards of virtual functions (VFs), see vfs.h: what keeps their number from being changed, and
 * what keeps others from those that are being made. It only looks, here and in sysfs.
 *
 * It must never read what takes the device's lock, and never change anything but what pf->vfs says.
 */
#include "config.h"

#include "brokerd/claim/claim.h"
#include "brokerd/state/verdict.h"
#include "brokerd/prepare/prepare.h"
#include "brokerd/prepare/sriov-change.h"
#include "client/host/sysfs.h"

#include <errno.h>
#include <stdlib.h>
#include <string.h>

/* ---- what is at work ---- */

static const struct pf *at_work(const struct daemon *daemon, const struct group_view *view)
{
	for (size_t i = 0; i < view->n_functions; i++) {
		const struct function *f = &view->functions[i];
		const struct pf *pf = pf_find(daemon, f->is_vf ? &f->physfn : &f->address);

		if (pf && pf->phase != VFS_IDLE)
			return pf;
	}
	return NULL;
}

bool vfs_has_group(const struct daemon *daemon, const struct group_view *view)
{
	return at_work(daemon, view);
}

int vfs_refuse(const struct daemon *daemon, const struct group_view *view,
	       const struct pci_address *asked, struct message_refusal *ret_refusal)
{
	const struct pf *pf = at_work(daemon, view);

	if (!pf)
		return 0;
	refuse_prepared(ret_refusal, asked, view->group, pf->late);
	ret_refusal->other = pf->address;
	ret_refusal->has_other = 1;
	if (pf->late)
		strcpy(ret_refusal->text, "its virtual functions do not go, or do not come");
	else
		ret_refusal->detail = REFUSAL_SRIOV;
	return (int)ret_refusal->reason;
}

bool vfs_is_busy(const struct daemon *daemon)
{
	const struct pf *pf;

	if (daemon->vfs)
		TAILQ_FOREACH(pf, &daemon->vfs->list, link)
			if (pf->phase != VFS_IDLE && !pf->late)
				return true;
	return false;
}

/* ---- what there is, and whose it is ---- */

int pf_read_vfs(struct pf *pf)
{
	const int sys = pf->daemon->kernel.sys;
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
		return -EAGAIN; /* somebody makes some right now */
	if (now > 0)
		pf->n_vfs = (size_t)now;
	return now < 0 ? now : 0;
}

static struct lease *lease_on(const struct daemon *daemon, const struct pci_address *address)
{
	uint32_t group;

	if (sysfs_group_of(daemon->kernel.sys, address, &group) || group == NO_GROUP)
		return NULL;
	return lease_find_group(&daemon->leases, group);
}

/* Is anybody at the function, or is it somebody's? */
static int guard_one(const struct pf *pf, const struct pci_address *address,
		     struct message_refusal *ret_refusal)
{
	const struct daemon *daemon = pf->daemon;
	const struct lease *lease = lease_on(daemon, address);
	uint32_t group;
	bool late;
	int r;

	if (lease) {
		r = refuse_held(ret_refusal, lease, address);
		if (lease->state == GPUBROKER_LEASE_LEASED)
			ret_refusal->detail = REFUSAL_LEASED;
		if (lease->state == GPUBROKER_LEASE_LEASED &&
		    pci_address_compare(address, &pf->address) != 0) {
			ret_refusal->detail = REFUSAL_LEASED_VF;
			ret_refusal->address = pf->address;
			ret_refusal->other = *address;
			ret_refusal->has_other = 1;
		}
		return r;
	}
	if (!sysfs_group_of(daemon->kernel.sys, address, &group) && group != NO_GROUP &&
	    prepare_has_group(daemon, group, &late))
		return refuse_prepared(ret_refusal, address, group, late);
	return 0;
}

int pf_guard_vfs(const struct pf *pf, struct message_refusal *ret_refusal)
{
	struct function f;
	int r;

	for (size_t i = 0; i < pf->n_vfs; i++) {
		r = guard_one(pf, &pf->vfs[i], ret_refusal);
		if (r)
			return r;
		r = sysfs_function_read(pf->daemon->kernel.sys, &pf->vfs[i], &f);
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

int pf_guard(const struct pf *pf, const struct function *f, uint32_t wanted,
	     struct message_refusal *ret_refusal)
{
	int r = guard_one(pf, &pf->address, ret_refusal);

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

bool pf_all_known(const struct pf *pf)
{
	for (size_t i = 0; i < pf->n_vfs; i++)
		if (!devices_find(&pf->daemon->devices, &pf->vfs[i]))
			return false;
	return true;
}

bool pf_on_vfio(const struct pf *pf, const struct pci_address *vf)
{
	char driver[FUNCTION_NAME_MAX];

	return !sysfs_driver_read(pf->daemon->kernel.sys, vf, driver) && driver_is_vfio(driver);
}

size_t pf_next_unbound(const struct pf *pf, size_t from)
{
	uint32_t group;

	for (; from < pf->n_vfs; from++) {
		if (pf_on_vfio(pf, &pf->vfs[from]) || lease_on(pf->daemon, &pf->vfs[from]))
			continue;
		if (pf->record.by == VFS_NOBODY && !pf->changes &&
		    !sysfs_group_of(pf->daemon->kernel.sys, &pf->vfs[from], &group) &&
		    prepare_is_left(pf->daemon, group))
			continue; /* root has given it to the host */
		break;
	}
	return from;
}
