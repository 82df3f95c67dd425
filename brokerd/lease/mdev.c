/* SPDX-License-Identifier: MIT */
/*
 * The course of the lease of an mdev, or of a vGPU (vgpu.c), see mdev.h, once it is known which it becomes (mdevask.c) and that is recorded
 * with its number (claim.c); each step of it a worker's:
 *
 *	make:   the number goes into the type's `create`; then its IOMMU group is known, and lent
 *	end:    1 goes into its `remove`, which waits for whoever still has it
 *
 * Whether it is made is known by its number alone, which is ours and recorded before: after a death of the
 * daemon it is there, and held or removed, or it is not there and its record goes. It must never
 * touch an mdev that is in no record, never ask a driver, and never wait.
 */
#include "config.h"

#include "brokerd/lease/cdev.h"
#include "brokerd/lease/ending.h"
#include "brokerd/process/log.h"
#include "brokerd/lease/mdev.h"
#include "brokerd/record/lease-record.h"
#include "brokerd/process/worker.h"
#include "client/host/mdev.h"
#include "client/common/util.h"

#include <errno.h>
#include <inttypes.h>
#include <string.h>
#include <sys/random.h>

#define LOOK_USEC 50000 /* between looks at one that is only half there */
#define LOOKS 40

static const struct part_ops mdev_part;

static const struct part_ops *part_of(const struct lease *lease)
{
	return lease->mdev.vendor ? &vgpu_part : &mdev_part;
}

/* ---- its number ---- */

int mdev_init(struct daemon *daemon)
{
	/* A seed now, since whoever is confined has no such call; the numbers are public anyway. */
	return getrandom(daemon->mdev_seed, sizeof(daemon->mdev_seed), 0) ==
			       sizeof(daemon->mdev_seed)
		       ? 0
		       : -EIO;
}

/* A UUID of the form for numbers of one's own making (RFC 9562, version 8). */
void mdev_number(struct daemon *daemon, struct lease *lease)
{
	uint8_t u[sizeof(daemon->mdev_seed)];

	memcpy(u, daemon->mdev_seed, sizeof(u));
	for (size_t i = sizeof(u); i-- && !++daemon->mdev_seed[i];) /* counts up from the seed */
		;
	u[6] = (uint8_t)((u[6] & 0x0f) | 0x80);
	u[8] = (uint8_t)((u[8] & 0x3f) | 0x80);
	snprintf(lease->mdev.uuid, sizeof(lease->mdev.uuid),
		 "%02x%02x%02x%02x-%02x%02x-%02x%02x-%02x%02x-%02x%02x%02x%02x%02x%02x", u[0], u[1],
		 u[2], u[3], u[4], u[5], u[6], u[7], u[8], u[9], u[10], u[11], u[12], u[13], u[14],
		 u[15]);
}

/* ---- make ---- */

static void made(struct lease *lease, const struct work_result *result)
{
	const struct daemon *daemon = lease->owner;
	struct claim *claim = lease->claim;
	const struct part_ops *part = part_of(lease);
	uint32_t group = NO_GROUP;
	int r;

	if (result->error && part->is_anothers(result)) {
		record_remove(daemon->state_dir, lease->id);
		lease->recorded = false;
	}
	if (result->error && part->is_none_left(lease, result)) {
		mdev_refuse_none_left(lease, NULL, result->error);
	} else if (result->error) {
		claim_fail(claim, lease, NULL, result->what, result->error);
	} else if ((r = part->group_of(daemon->kernel.sys, lease, &group)) || group == NO_GROUP) {
		claim_fail(claim, lease, NULL, part->lacks, -r);
	} else {
		lease->group = group;
		lease_go(lease, LEASE_BOUND);
	}
}

static void on_made(void *userdata, const struct work_result *result)
{
	struct lease *lease = userdata;
	struct daemon *daemon = lease->owner;
	struct claim *claim = lease->claim;

	lease->work = NULL;
	if (!lease_came_late(lease)) {
		made(lease, result);
		claim_advance(claim);
	}
	daemon_quit_if_idle(daemon);
}

static void on_told(void *userdata, const struct pci_address *address, const char *text)
{
	struct mdev_choice *choice = mdev_choice_of(userdata);

	(void)address;
	if (choice && choice->n_rows < ARRAY_SIZE(choice->rows) &&
	    vgpu_row_parse(text, &choice->rows[choice->n_rows]))
		choice->n_rows++;
}

const char *mdev_why_not_made(const struct lease *lease, int error)
{
	/* Landlock, see landlock.c. */
	return error == -EACCES
		       ? "what makes it came after the broker's start, which may use only what "
			 "was there; restart it"
		       : part_of(lease)->making;
}

int mdev_make(struct daemon *daemon, struct lease *lease)
{
	static const struct work_ops ops = {
		.told = on_told,
		.done = on_made,
		.late = on_work_late,
	};
	struct mdev_choice *choice = mdev_choice_of(lease);
	struct work *work = work_new(&ops, lease);
	int r = work ? 0 : -ENOMEM;

	if (choice)
		choice->n_rows = 0; /* once more, for is_none_left() */
	if (!r)
		r = part_of(lease)->add_make(&daemon->kernel, work, lease);
	if (!r)
		r = work_start(work, daemon->base, daemon->worker_filter, WORKER_SECONDS);
	if (r) {
		work_free(work);
		return r;
	}
	lease->work = work;
	return 0;
}

/* ---- remove ---- */

static void on_look(evutil_socket_t fd, short what, void *userdata)
{
	struct lease *lease = userdata;

	(void)fd;
	(void)what;
	if (lease->work)
		return;
	if (lease->state == GPUBROKER_LEASE_PREPARING)
		mdev_take_up(lease->owner, lease);
	else
		mdev_restore(lease->owner, lease);
}

/* Looks again in a moment. False: it did so often enough. */
static bool look_soon(struct daemon *daemon, struct lease *lease)
{
	const struct timeval after = { .tv_usec = LOOK_USEC };

	if (lease->tries >= LOOKS)
		return false;
	if (lease->timer)
		event_free(lease->timer);
	lease->timer = evtimer_new(daemon->base, on_look, lease);
	if (!lease->timer || evtimer_add(lease->timer, &after))
		return false;
	lease->tries++;
	return true;
}

static void on_removed(void *userdata, const struct work_result *result)
{
	struct lease *lease = userdata;
	struct daemon *daemon = lease->owner;
	const struct part_ops *part = part_of(lease);
	enum part_end end;

	lease->work = NULL;
	end = part->how_ended(daemon, lease, result);
	if ((end == PART_NOT_OURS || end == PART_TRY_AGAIN) && look_soon(daemon, lease))
		return;
	if (end == PART_GONE || end == PART_NOT_OURS)
		lease_restored(daemon, lease, NULL, NULL, 0);
	else
		lease_restored(daemon, lease, part->ending, &lease->asked, result->error);
	daemon_quit_if_idle(daemon);
}

/*
 * An mdev that is being made has no `remove` yet, and one that is being removed has it no more: both by a
 * worker of an earlier run, which was in the kernel when it was killed.
 */
void mdev_restore(struct daemon *daemon, struct lease *lease)
{
	static const struct work_ops ops = { .done = on_removed, .late = on_work_late };
	const struct part_ops *part = part_of(lease);
	struct work *work;
	int r;

	if (!lease->recorded || part->is_gone(daemon, lease)) {
		lease_restored(daemon, lease, NULL, NULL, 0);
		return;
	}
	work = work_new(&ops, lease);
	r = work ? part->add_end(&daemon->kernel, work, lease) : -ENOMEM;
	if (!r)
		r = work_start(work, daemon->base, daemon->worker_filter, WORKER_SECONDS);
	if (!r) {
		lease->work = work;
		return;
	}
	work_free(work);
	if (r == -ENOENT && look_soon(daemon, lease))
		return;
	lease_restored(daemon, lease, part->ending, &lease->asked, -r);
}

/* ---- at start ---- */

/*
 * One that is not there may come yet: the worker that was making it is killed, but may be in the kernel.
 * The kernel shows it before the driver is asked, which may take long; so it is looked for a few times.
 */
void mdev_take_up(struct daemon *daemon, struct lease *lease)
{
	uint32_t group = NO_GROUP;
	int watch;

	if (!part_of(lease)->group_of(daemon->kernel.sys, lease, &group) && group != NO_GROUP) {
		lease->group = group;
		lease->tries = 0;
		if (lease->timer) /* lending.c has one of its own in its place */
			event_free(TAKE_PTR(lease->timer));
		/* Watch first, look then: a close in between is heard. */
		watch = kernel_group_watch(&daemon->kernel, group);
		lease->watch = watch >= 0 ? watch : -1;
		cdevs_watch(daemon, lease);
		lease->group_file = GROUP_UNKNOWN;
		lease_set_clock(daemon, lease);
		lease_look(daemon, lease);
		return;
	}
	if (look_soon(daemon, lease))
		return;
	/* Of a vGPU it is looked for once more, since others may say what a VF is. */
	lease->tries = lease->mdev.vendor ? LOOKS - 1 : 0;
	if (lease_go(lease, LEASE_ABANDON))
		mdev_restore(daemon, lease);
}

bool mdev_is_there(const struct daemon *daemon, const struct lease *lease)
{
	uint32_t group;

	return !part_of(lease)->group_of(daemon->kernel.sys, lease, &group) &&
	       group == lease->group;
}

/* ---- mdevs ---- */

static int add_create(const struct kernel *kernel, struct work *work, const struct lease *lease)
{
	return work_add(work, kernel_open_mdev_create(kernel, lease->mdev.parent, lease->mdev.type),
			lease->mdev.uuid, mdev_part.making, &lease->asked, 0);
}

static int add_remove(const struct kernel *kernel, struct work *work, const struct lease *lease)
{
	return work_add(work, kernel_open_mdev_remove(kernel, lease->mdev.uuid), "1",
			mdev_part.ending, &lease->asked, 0);
}

/* Somebody's has our number, which cannot be, but then it is not ours to remove. */
static bool has_our_number(const struct work_result *result)
{
	return result->error == EEXIST;
}

/* What drivers say where nothing is left: mtty, mbochs and mdpy each another. */
static bool is_none_left(const struct lease *lease, const struct work_result *result)
{
	(void)lease;
	return result->error == ENOSPC || result->error == EUSERS || result->error == ENOMEM ||
	       result->error == EBUSY;
}

static int group_of(int sys, const struct lease *lease, uint32_t *ret_group)
{
	return mdev_group_of(sys, lease->mdev.uuid, ret_group);
}

static bool is_gone(const struct daemon *daemon, const struct lease *lease)
{
	uint32_t group;

	return mdev_group_of(daemon->kernel.sys, lease->mdev.uuid, &group) == -ENODEV;
}

/* The kernel says EAGAIN of one that somebody else is removing, or that is still being made. */
static enum part_end how_ended(const struct daemon *daemon, const struct lease *lease,
			       const struct work_result *result)
{
	if (is_gone(daemon, lease))
		return PART_GONE;
	return result->error && result->error != EAGAIN ? PART_STAYS : PART_TRY_AGAIN;
}

static const struct part_ops mdev_part = {
	.making = "making the mdev",
	.ending = "removing the mdev",
	.lacks = "the mdev has no IOMMU group",
	.add_make = add_create,
	.add_end = add_remove,
	.is_anothers = has_our_number,
	.is_none_left = is_none_left,
	.group_of = group_of,
	.is_gone = is_gone,
	.how_ended = how_ended,
};
