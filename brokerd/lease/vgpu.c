/* SPDX-License-Identifier: MIT */
/*
 * Leases of vendors' vGPUs, see vgpu.h: NVIDIA's, if the driver makes no mediated devices. A VF
 * stays with its driver. A worker writes the number of a type to its nvidia/current_vgpu_type,
 * which makes the vGPU, and a VFIO device appears below the VF. Writing 0 removes the vGPU; the
 * driver refuses that while a process has it open.
 *
 * A vGPU type carries no identifier of ours, so ownership rests on the record (VF and type). A
 * worker checks just before it writes: it sets a type only on a VF that has none, and clears only
 * the recorded type. Other programs that set types should use other VFs.
 *
 * It must never write to a VF that is in no record, and never read from its driver in this process:
 * a worker does.
 */
#include "config.h"

#include "brokerd/lease/vgpu.h"
#include "brokerd/lease/mdev.h"
#include "client/common/name.h"
#include "client/common/util.h"
#include "client/host/profile.h"
#include "client/host/sysfs.h"

#include <errno.h>
#include <fcntl.h>
#include <string.h>

static const char step_look[] = "looking what it is";
static const char step_make[] = "making the vGPU", step_clear[] = "clearing the vGPU";
static const char step_again[] = "looking what is left";

/* ---- rows of the driver's table ---- */

/* Runs in the worker, so it neither allocates nor prints. */
bool vgpu_row(const char *line, char ret_text[WORK_TEXT_MAX])
{
	char type[VGPU_TYPE_MAX], name[128];
	size_t n;

	if (!profile_parse_creatable(line, type, name))
		return false;
	n = strlen(type);
	if (n > 10 || strlen(name) >= PROTOCOL_PROFILE_MAX)
		return false;
	memcpy(ret_text, type, n);
	ret_text[n] = ' ';
	strcpy(ret_text + n + 1, name);
	return true;
}

bool vgpu_number_parse(const char *text, uint32_t *ret_number)
{
	uint64_t number = 0;
	size_t n = strspn(text, "0123456789");

	if (!n || n > 10 || text[n] || (*text == '0' && n > 1))
		return false;
	for (size_t i = 0; i < n; i++)
		number = number * 10 + (uint64_t)(text[i] - '0');
	*ret_number = (uint32_t)number;
	return number <= UINT32_MAX;
}

bool vgpu_row_parse(const char *text, struct vgpu_row *ret_row)
{
	size_t n = strcspn(text, " ");
	struct vgpu_row row = { .type = "" };
	uint32_t number;

	if (n >= sizeof(row.type) || text[n] != ' ')
		return false;
	memcpy(row.type, text, n);
	if (!vgpu_number_parse(row.type, &number) || !number ||
	    !mdev_is_name(text + n + 1, sizeof(row.name)))
		return false;
	strcpy(row.name, text + n + 1);
	*ret_row = row;
	return true;
}

/* ---- make ---- */

/*
 * The table of types is read again after a failure: drivers differ in what they return when nothing
 * is left.
 */
static int add_type(struct lease *lease, struct work *work)
{
	const struct kernel *kernel = leases_of(lease)->kernel;
	const struct pci_address *vf = &lease->asked;
	int r = work_add_expect(work, kernel_open_vgpu_read(kernel, vf), "0", step_look, vf);

	lease->offered = false;
	if (!r)
		r = work_add(work, kernel_open_vgpu(kernel, vf), lease->mdev.type, step_make, vf,
			     CONTINUE);
	if (!r)
		r = work_add_table(work, kernel_open_vgpu_types(kernel, vf), vgpu_row, step_again,
				   vf);
	return r;
}

static void note_offered(struct lease *lease, const struct pci_address *address, const char *text)
{
	struct vgpu_row row;

	(void)address;
	if (vgpu_row_parse(text, &row) && !strcmp(row.type, lease->mdev.type))
		lease->offered = true;
}

static void check_typed(struct lease *lease, const struct work_result *result)
{
	const struct making making = {
		.none_left = result->error == ESTALE || (result->what == step_make &&
							 result->error != EINTR && !lease->offered),
		.lacks = "the vGPU has no VFIO device",
	};

	mdev_finish_making(lease, result, &making);
}

/*
 * The VF had a type already, or the driver refused. A worker that was killed may have made the
 * vGPU.
 */
static bool has_anothers_type(const struct work_result *result)
{
	return result->error != EINTR && result->what != step_again;
}

static const char *why_not_typed(const struct lease *lease, int error)
{
	(void)lease;
	return mdev_why_not_begun(error, step_make);
}

/* ---- end ---- */

static int vgpu_group(const struct lease *lease, uint32_t *ret_group)
{
	const int sys = leases_of(lease)->kernel->sys;
	int r = sysfs_has_vfio(sys, &lease->asked);

	if (r <= 0)
		return r ? r : -ENODEV;
	return sysfs_group_of(sys, &lease->asked, ret_group);
}

/* Returns true if the VF is gone, or has another driver now, which makes no vGPUs. */
static bool vf_is_gone(const struct lease *lease)
{
	cleanup_fd int fd =
		sysfs_function_open(leases_of(lease)->kernel->sys, &lease->asked, O_PATH, "nvidia");

	return fd == -ENOENT;
}

static int add_clear(struct lease *lease, struct work *work)
{
	const struct kernel *kernel = leases_of(lease)->kernel;
	const struct pci_address *vf = &lease->asked;
	int r = work_add_expect(work, kernel_open_vgpu_read(kernel, vf), lease->mdev.type,
				step_look, vf);

	return r ? r : work_add(work, kernel_open_vgpu(kernel, vf), "0", step_clear, vf, STOP);
}

/*
 * Drivers have been seen to return EPERM while the vGPU is in use, which may be over in a moment.
 */
static enum lease_end_result clear_ended(struct lease *lease, const struct work_result *result,
					 struct lease_end *ret_end)
{
	*ret_end = (struct lease_end){ step_clear, lease->asked, result->error, NULL };
	if (!result->error || vf_is_gone(lease))
		return END_OVER;
	if (result->error == ESTALE)
		return END_NOT_OURS;
	return result->error == EPERM || result->error == EBUSY || result->error == EAGAIN
		       ? END_TRY_AGAIN
		       : END_STAYS;
}

static enum lease_end_result clear_not_begun(struct lease *lease, int error,
					     struct lease_end *ret_end)
{
	*ret_end = (struct lease_end){ step_clear, lease->asked, error, NULL };
	return error == ENOENT ? END_TRY_AGAIN : END_STAYS;
}

/* The VF stays with its driver, but without the VF there is no vGPU. */
static bool needs_vf(const struct lease *lease, const struct pci_address *address)
{
	return !pci_address_compare(&lease->asked, address);
}

const struct lease_kind lease_of_vgpu = {
	.add_make = add_type,
	.made_text = note_offered,
	.made = check_typed,
	.is_anothers = has_anothers_type,
	.why_not_begun = why_not_typed,
	.group_of = vgpu_group,
	.is_gone = vf_is_gone,
	.add_end = add_clear,
	.how_ended = clear_ended,
	.end_not_begun = clear_not_begun,
	.looks_after_restart = 1, /* another program may have set the VF's type */
	.needs = needs_vf,
};
