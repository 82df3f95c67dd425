/* SPDX-License-Identifier: MIT */
/*
 * Leases of mediated devices, see mdev.h; a worker writes:
 *
 *	make:  the UUID to the type's `create`; then the device has an IOMMU group, which is lent
 *	end:   1 to its `remove`, which waits for the holder
 *
 * We choose the UUID and record it before the mediated device is made. After a crash, one with a
 * recorded UUID is ours: it is kept if held and removed if not. If there is none, the record is
 * dropped. It must never touch a mediated device that is in no record.
 */
#include "config.h"

#include "brokerd/lease/mdev.h"
#include "client/host/function.h"
#include "client/host/mdev.h"

#include <errno.h>
#include <stdio.h>
#include <string.h>
#include <sys/random.h>

static const char step_create[] = "making the mdev", step_remove[] = "removing the mdev";

/* ---- the UUID ---- */

int mdev_seed(struct leases *leases)
{
	/* Only a seed, since a confined process may not call getrandom(); UUIDs are not secret. */
	return getrandom(leases->uuid_seed, sizeof(leases->uuid_seed), 0) ==
			       sizeof(leases->uuid_seed)
		       ? 0
		       : -EIO;
}

/* Makes a UUID of version 8 (RFC 9562), which leaves the bits to the application. */
void mdev_new_uuid(struct lease *lease)
{
	uint8_t *seed = leases_of(lease)->uuid_seed, u[UUID_BYTES];

	memcpy(u, seed, sizeof(u));
	for (size_t i = sizeof(u); i-- && !++seed[i];) /* the seed counts up */
		;
	u[6] = (uint8_t)((u[6] & 0x0f) | 0x80);
	u[8] = (uint8_t)((u[8] & 0x3f) | 0x80);
	snprintf(lease->mdev.uuid, sizeof(lease->mdev.uuid),
		 "%02x%02x%02x%02x-%02x%02x-%02x%02x-%02x%02x-%02x%02x%02x%02x%02x%02x", u[0], u[1],
		 u[2], u[3], u[4], u[5], u[6], u[7], u[8], u[9], u[10], u[11], u[12], u[13], u[14],
		 u[15]);
}

/* ---- make ---- */

void mdev_finish_making(struct lease *lease, const struct work_result *result,
			const struct making *making)
{
	uint32_t group = NO_GROUP;
	int r;

	if (result->error) {
		lease_fail(lease, NULL, result->what, result->error);
		lease->failure.none_left = making->none_left;
		return;
	}
	r = lease->kind->group_of(lease, &group);
	if (r || group == NO_GROUP) {
		lease_fail(lease, NULL, making->lacks, -r);
		return;
	}
	lease->group = group;
	lease_transition(lease, LEASE_BOUND);
}

const char *mdev_why_not_begun(int error, const char *making)
{
	/* Landlock's refusal, see landlock.c. */
	return error == -EACCES
		       ? "what makes it came after the broker's start, which may use only what "
			 "was there; restart it"
		       : making;
}

static int add_create(struct lease *lease, struct work *work)
{
	return work_add(work,
			kernel_open_mdev_create(leases_of(lease)->kernel, lease->mdev.parent,
						lease->mdev.type),
			lease->mdev.uuid, step_create, &lease->asked, STOP);
}

static void check_created(struct lease *lease, const struct work_result *result)
{
	const struct making making = {
		/*
		 * Drivers differ in what they return when no instance is left: mtty, mbochs and
		 * mdpy do.
		 */
		.none_left = result->error == ENOSPC || result->error == EUSERS ||
			     result->error == ENOMEM || result->error == EBUSY,
		.lacks = "the mdev has no IOMMU group",
	};

	mdev_finish_making(lease, result, &making);
}

/* Another mdev has our UUID. That should not happen, but then it is not ours to remove. */
static bool has_our_uuid(const struct work_result *result)
{
	return result->error == EEXIST;
}

static const char *why_not_made(const struct lease *lease, int error)
{
	(void)lease;
	return mdev_why_not_begun(error, step_create);
}

/* ---- end ---- */

static int mdev_group(const struct lease *lease, uint32_t *ret_group)
{
	return mdev_group_of(leases_of(lease)->kernel->sys, lease->mdev.uuid, ret_group);
}

static bool mdev_is_gone(const struct lease *lease)
{
	uint32_t group;

	return mdev_group(lease, &group) == -ENODEV;
}

static int add_remove(struct lease *lease, struct work *work)
{
	return work_add(work, kernel_open_mdev_remove(leases_of(lease)->kernel, lease->mdev.uuid),
			"1", step_remove, &lease->asked, STOP);
}

/*
 * The kernel returns EAGAIN for an mdev that another process is removing, or that is still being
 * made.
 */
static enum lease_end_result removal_ended(struct lease *lease, const struct work_result *result,
					   struct lease_end *ret_end)
{
	*ret_end = (struct lease_end){ step_remove, lease->asked, result->error, NULL };
	if (mdev_is_gone(lease))
		return END_OVER;
	return result->error && result->error != EAGAIN ? END_STAYS : END_TRY_AGAIN;
}

/*
 * An mdev that is being made has no `remove` yet, and one that is being removed has lost it. Either
 * is done by a worker of an earlier run that was in the kernel when it was killed.
 */
static enum lease_end_result remove_not_begun(struct lease *lease, int error,
					      struct lease_end *ret_end)
{
	*ret_end = (struct lease_end){ step_remove, lease->asked, error, NULL };
	return error == ENOENT ? END_TRY_AGAIN : END_STAYS;
}

static bool needs_nothing(const struct lease *lease, const struct pci_address *address)
{
	(void)lease;
	(void)address;
	return false;
}

const struct lease_kind lease_of_mdev = {
	.add_make = add_create,
	.made = check_created,
	.is_anothers = has_our_uuid,
	.why_not_begun = why_not_made,
	.group_of = mdev_group,
	.is_gone = mdev_is_gone,
	.add_end = add_remove,
	.how_ended = removal_ended,
	.end_not_begun = remove_not_begun,
	.needs = needs_nothing,
};
