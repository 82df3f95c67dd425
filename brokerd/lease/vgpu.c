/* SPDX-License-Identifier: MIT */
/*
 * Vendors' vGPUs, where their course is another than an mdev's (mdev.c): NVIDIA's where the driver makes no mdevs.
 * A VF stays with its driver. The number of a type, written to its nvidia/current_vgpu_type, makes it one, and a
 * VFIO device appears below it; 0 clears it, which the driver refuses while somebody has that open.
 *
 * What a VF is has no number of ours, so whether it is ours is told by the record: the VF, and the type. A
 * worker looks just before it writes: it makes one only of what is nothing, and clears only what is still the
 * type on record. Others who set one beside us should keep to other VFs.
 *
 * It must never write to a VF that is in no record, nor ask its driver: that is a worker's.
 */
#include "config.h"

#include "brokerd/lease/ending.h"
#include "brokerd/lease/mdev.h"
#include "client/host/sysfs.h"
#include "client/common/util.h"

#include <errno.h>
#include <fcntl.h>
#include <string.h>

static const char step_look[] = "looking what it is";
static const char step_again[] = "looking what is left";

/* What is offered is read once more after a failure: drivers differ in what they say where nothing is left. */
static int add_make(const struct kernel *kernel, struct work *work, const struct lease *lease)
{
	const struct pci_address *vf = &lease->asked;
	int r = work_add_expect(work, kernel_open_vgpu_read(kernel, vf), "0", step_look, vf);

	if (!r)
		r = work_add(work, kernel_open_vgpu(kernel, vf), lease->mdev.type, vgpu_part.making,
			     vf, WORK_SOFT);
	if (!r)
		r = work_add_table(work, kernel_open_vgpu_types(kernel, vf), vgpu_row, step_again,
				   vf);
	return r;
}

static int add_end(const struct kernel *kernel, struct work *work, const struct lease *lease)
{
	const struct pci_address *vf = &lease->asked;
	int r = work_add_expect(work, kernel_open_vgpu_read(kernel, vf), lease->mdev.type,
				step_look, vf);

	return r ? r : work_add(work, kernel_open_vgpu(kernel, vf), "0", vgpu_part.ending, vf, 0);
}

/* It was something already, or the driver said no: then nothing of it is ours. A killed worker may have made it. */
static bool is_anothers(const struct work_result *result)
{
	return result->error != EINTR && result->what != step_again;
}

static bool is_none_left(const struct lease *lease, const struct work_result *result)
{
	const struct mdev_choice *choice = mdev_choice_of(lease);

	if (result->error == ESTALE)
		return true;
	if (result->what != vgpu_part.making || result->error == EINTR || !choice)
		return false;
	for (size_t i = 0; i < choice->n_rows; i++)
		if (!strcmp(choice->rows[i].type, lease->mdev.type))
			return false;
	return true;
}

static int group_of(int sys, const struct lease *lease, uint32_t *ret_group)
{
	int r = sysfs_has_vfio(sys, &lease->asked);

	if (r <= 0)
		return r ? r : -ENODEV;
	return sysfs_group_of(sys, &lease->asked, ret_group);
}

/* The VF is gone, or has another driver now, which makes none. */
static bool is_gone(const struct daemon *daemon, const struct lease *lease)
{
	cleanup_fd int fd =
		sysfs_function_open(daemon->kernel.sys, &lease->asked, O_PATH, "nvidia");

	return fd == -ENOENT;
}

/* EPERM is what the driver has been seen to say while it is in use, which may be over in a moment. */
static enum part_end how_ended(const struct daemon *daemon, const struct lease *lease,
			       const struct work_result *result)
{
	if (!result->error || is_gone(daemon, lease))
		return PART_GONE;
	if (result->error == ESTALE)
		return PART_NOT_OURS;
	return result->error == EPERM || result->error == EBUSY || result->error == EAGAIN
		       ? PART_TRY_AGAIN
		       : PART_STAYS;
}

const struct part_ops vgpu_part = {
	.making = "making the vGPU",
	.ending = "clearing the vGPU",
	.lacks = "the vGPU has no VFIO device",
	.add_make = add_make,
	.add_end = add_end,
	.is_anothers = is_anothers,
	.is_none_left = is_none_left,
	.group_of = group_of,
	.is_gone = is_gone,
	.how_ended = how_ended,
};
