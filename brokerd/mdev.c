/* SPDX-License-Identifier: MIT */
/*
 * The course of an mdev's lease, see mdev.h, once it is known which it becomes (mdevask.c) and that is recorded
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

#include "brokerd/cdev.h"
#include "brokerd/lending.h"
#include "brokerd/log.h"
#include "brokerd/mdev.h"
#include "brokerd/record.h"
#include "brokerd/worker.h"
#include "client/mdev.h"
#include "client/util.h"

#include <errno.h>
#include <inttypes.h>
#include <string.h>
#include <sys/random.h>

#define LOOK_USEC 50000 /* between looks at one that is only half there */
#define LOOKS 40

static const char step_create[] = "making the mdev";
static const char step_remove[] = "removing the mdev";

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

/* What drivers say where nothing is left: mtty, mbochs and mdpy each another. */
static bool is_none_left(int error)
{
	return error == ENOSPC || error == EUSERS || error == ENOMEM || error == EBUSY;
}

static void made(struct lease *lease, const struct work_result *result)
{
	const struct daemon *daemon = lease->owner;
	struct claim *claim = lease->claim;
	uint32_t group = NO_GROUP;
	int r;

	if (result->error == EEXIST) {
		/* Somebody's has our number, which cannot be, but then it is not ours to remove. */
		record_remove(daemon->state_dir, lease->id);
		lease->recorded = false;
	}
	if (is_none_left(result->error)) {
		mdev_refuse_none_left(lease, NULL, result->error);
	} else if (result->error) {
		claim_fail(claim, lease, NULL, result->what, result->error);
	} else if ((r = mdev_group_of(daemon->kernel.sys, lease->mdev.uuid, &group)) ||
		   group == NO_GROUP) {
		claim_fail(claim, lease, NULL, "the mdev has no IOMMU group", -r);
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

const char *mdev_why_not_made(int error)
{
	/* Landlock, see landlock.c. */
	return error == -EACCES
		       ? "what makes it came after the broker's start, which may use only what "
			 "was there; restart it"
		       : step_create;
}

int mdev_make(struct daemon *daemon, struct lease *lease)
{
	static const struct work_ops ops = { .done = on_made, .late = on_work_late };
	struct work *work = work_new(&ops, lease);
	int r = work ? 0 : -ENOMEM;

	if (!r)
		r = work_add(work,
			     kernel_open_mdev_create(&daemon->kernel, lease->mdev.parent,
						     lease->mdev.type),
			     lease->mdev.uuid, step_create, &lease->asked, 0);
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

static bool is_gone(const struct daemon *daemon, const struct lease *lease)
{
	uint32_t group;

	return mdev_group_of(daemon->kernel.sys, lease->mdev.uuid, &group) == -ENODEV;
}

static void on_removed(void *userdata, const struct work_result *result)
{
	struct lease *lease = userdata;
	struct daemon *daemon = lease->owner;

	lease->work = NULL;
	if (is_gone(daemon, lease))
		lease_restored(daemon, lease, NULL, NULL, 0);
	/* The kernel says so of one that somebody else is removing, or that is still being made. */
	else if ((result->error && result->error != EAGAIN) || !look_soon(daemon, lease))
		lease_restored(daemon, lease, step_remove, &lease->asked, result->error);
	daemon_quit_if_idle(daemon);
}

/*
 * An mdev that is being made has no `remove` yet, and one that is being removed has it no more: both by a
 * worker of an earlier run, which was in the kernel when it was killed.
 */
void mdev_restore(struct daemon *daemon, struct lease *lease)
{
	static const struct work_ops ops = { .done = on_removed, .late = on_work_late };
	struct work *work;
	int r;

	if (!lease->recorded || is_gone(daemon, lease)) {
		lease_restored(daemon, lease, NULL, NULL, 0);
		return;
	}
	work = work_new(&ops, lease);
	r = work ? work_add(work, kernel_open_mdev_remove(&daemon->kernel, lease->mdev.uuid), "1",
			    step_remove, &lease->asked, 0)
		 : -ENOMEM;
	if (!r)
		r = work_start(work, daemon->base, daemon->worker_filter, WORKER_SECONDS);
	if (!r) {
		lease->work = work;
		return;
	}
	work_free(work);
	if (r == -ENOENT && look_soon(daemon, lease))
		return;
	lease_restored(daemon, lease, step_remove, &lease->asked, -r);
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

	if (!mdev_group_of(daemon->kernel.sys, lease->mdev.uuid, &group) && group != NO_GROUP) {
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
	lease->tries = 0;
	if (lease_go(lease, LEASE_ABANDON))
		mdev_restore(daemon, lease);
}

bool mdev_is_there(const struct daemon *daemon, const struct lease *lease)
{
	uint32_t group;

	return !mdev_group_of(daemon->kernel.sys, lease->mdev.uuid, &group) &&
	       group == lease->group;
}
