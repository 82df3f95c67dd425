/* SPDX-License-Identifier: MIT */
/*
 * How leases end, see ending.h:
 *
 *	let go:  inotify -> a worker has opened the group, so nobody else has it -> restore.c
 *	recall:  a release, a revocation, the end of a rule's time, a vanished function -> restore.c
 *
 * The kernel's own reference is the lease: it ends neither with a process nor with a connection. It
 * must never wait: a worker does what may take time.
 */
#include "config.h"

#include "brokerd/lease/ending.h"
#include "brokerd/lease/cdev.h"
#include "brokerd/lease/restore.h"
#include "brokerd/lease/taken.h"
#include "brokerd/process/log.h"
#include "brokerd/record/audit.h"
#include "client/common/util.h"
#include "client/host/pci.h"
#include "client/host/sysfs.h"

#include <errno.h>
#include <event2/event.h>
#include <inttypes.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <time.h>

/* ---- letting go ---- */

#define QUICK_PROBES 10 /* in the first two seconds */
#define SLOW_SECONDS 10 /* after this time it is said what a lease that is ending waits for */

/*
 * Probes again later. inotify reports the close when the kernel begins to release the file, so the
 * group may be busy a moment longer. It is probed ten times in the first seconds, then every second
 * for as long as it takes. A lease that stays LEASED and is watched is probed for about a minute
 * only: it was taken up from a record and may have been closed before the watch was set, or its
 * holder uses cdevs. No event tells when a holder with an iommufd lets go, so it is probed for
 * good.
 */
static void probe_later(struct lease *lease)
{
	struct timeval after = { .tv_usec = 20000 << (lease->tries < 4 ? lease->tries : 4) };

	if (lease->tries >= QUICK_PROBES)
		after = (struct timeval){ .tv_sec = lease->attached ? 2 : 1 };
	if (lease->state == GPUBROKER_LEASE_LEASED && lease->tries > 60 && lease->watch >= 0 &&
	    !lease->attached)
		return;
	lease->tries++;
	lease_later(lease, &after, lease_probe_holder);
}

/* Says once what a lease whose holder has let go has waited for. `what` is static. */
static void say_slow(struct lease *lease, const char *what)
{
	if (lease->state != GPUBROKER_LEASE_RELEASING || lease->slow == what)
		return;
	lease->slow = what;
	log_warning("lease %" PRIu64 ", group %" PRIu32 ": %s", lease->id, lease->group, what);
}

/* The holder has closed the group. */
static void mark_released(struct lease *lease)
{
	if (!lease_transition(lease, LEASE_CLOSED))
		return;
	lease->released_at = (uint64_t)time(NULL);
	lease->slow = NULL;
}

/* Nobody holds the lease any more, and nobody can get hold of it. Begins to restore it. */
static void regain_lease(struct lease *lease)
{
	kernel_group_unwatch(leases_of(lease)->kernel, lease->watch);
	lease->watch = -1;
	cdevs_unwatch(lease);
	if (lease_transition(lease, LEASE_REGAINED))
		lease_restore(lease);
}

void lease_end_is_late(struct lease *lease)
{
	if (lease->late)
		lease_worker_late(lease, "binding what came into its group", &lease->asked);
}

void lease_resume_pending(struct lease *lease)
{
	const struct lease_table *table = lease->table;

	if (lease->recall)
		lease_recall(lease, lease->recall);
	else if (lease->state == GPUBROKER_LEASE_LEASED && table->events)
		table->events->resumed(table->userdata, lease);
}

/*
 * Returns true if nobody holds the lease; `error` is that of opening its group. Without a node no
 * function of the group is on VFIO, so there is nothing that anybody could hold. If a function is
 * on VFIO nevertheless, the error has another cause.
 */
static bool is_let_go(const struct lease *lease, int error)
{
	char driver[FUNCTION_NAME_MAX];
	int r;

	if (error && error != ENOENT && error != ENODEV && error != ENXIO)
		return false;
	for (size_t i = 0; error && i < lease->n_functions; i++) {
		r = sysfs_driver_read(leases_of(lease)->kernel->sys, &lease->functions[i].address,
				      driver);
		if (r != -ENODEV && (r || driver_is_vfio(driver)))
			return false;
	}
	return true;
}

/*
 * Returns true if the group is attached because of a host driver: then no process can have one of
 * its devices by an iommufd, and none can get one.
 */
static bool has_host_driver(const struct lease *lease)
{
	cleanup_free struct group_view *view = calloc(1, sizeof(*view));

	if (!view || sysfs_group_read(leases_of(lease)->kernel->sys, lease->group, view))
		return false;
	for (size_t i = 0; i < view->n_functions; i++)
		if (view->functions[i].driver[0] && !driver_is_vfio(view->functions[i].driver) &&
		    strcmp(view->functions[i].driver, "pci-stub") != 0)
			return true;
	return false;
}

/*
 * The group cannot be opened, and not because it is busy. Whether a process has it is not known, so
 * a lease that may be held stays as it is. One whose holder has let go is stuck, and then restored:
 * the unbind waits for any holder that there may be.
 */
static void on_unknown(struct lease *lease, int error)
{
	static const char unknown[] = "its node cannot be opened, so the broker does not learn "
				      "when its holder lets go";
	const struct timeval after = { .tv_sec = SLOW_SECONDS };
	struct kernel_node node;
	char what[48], why[80];

	if (lease->group_file == GROUP_CLOSED && lease->tries >= 4)
		mark_released(lease);
	if (lease->tries < QUICK_PROBES || lease->state != GPUBROKER_LEASE_RELEASING) {
		if (lease->state == GPUBROKER_LEASE_LEASED && lease->slow != unknown) {
			lease->slow = unknown;
			log_warning("lease %" PRIu64 ", /dev/vfio/%" PRIu32 ": %s: %s", lease->id,
				    lease->group, unknown, strerror(error));
		}
		probe_later(lease);
		return;
	}
	snprintf(what, sizeof(what), "opening /dev/vfio/%" PRIu32, lease->group);
	snprintf(why, sizeof(why), "%.40s", strerror(error));
	if (kernel_group_is_open(leases_of(lease)->kernel, lease->group, &node))
		snprintf(why, sizeof(why), "%.32s: it is uid %" PRIu32 "'s, mode %04" PRIo32,
			 strerror(error), node.uid, node.mode);
	lease_transition(lease, LEASE_FAILED);
	lease_mark_stuck(lease, &lease->asked, what, why);
	lease_later(lease, &after, lease_retry);
}

/* A process has the lease: the group, or with an iommufd a device of it. */
static void on_held(struct lease *lease, int error)
{
	lease->attached = error == -KERNEL_ATTACHED;
	lease->busy = true;
	taken_note(lease); /* a lease that was taken up: its functions are the holder's still */
	if (lease->state == GPUBROKER_LEASE_LEASED)
		lease->slow = NULL;
	if (lease->attached) { /* no close of the group will come */
		lease->group_file = GROUP_CLOSED;
		lease->released_at = 0;
	}
	/* A record does not tell whether anybody holds the lease. This result does. */
	if (lease->state == GPUBROKER_LEASE_PREPARING ||
	    (lease->state == GPUBROKER_LEASE_RELEASING && lease->attached))
		lease_transition(lease, LEASE_SENT);
	else if (lease->group_file == GROUP_CLOSED && !lease->attached && lease->tries >= 4)
		mark_released(lease);
	if (lease->released_at && (uint64_t)time(NULL) >= lease->released_at + SLOW_SECONDS)
		say_slow(lease, "its holder has closed it, and a process has it open still or "
				"again; 'gpubroker leases' tells root which");
	probe_later(lease);
}

static void on_probed(void *userdata, const struct work_result *result)
{
	struct lease *lease = userdata;
	const bool attached = result->error == -KERNEL_ATTACHED;

	lease->work = NULL;
	lease->probing = false;
	if (is_let_go(lease, result->error) || (attached && has_host_driver(lease))) {
		regain_lease(lease);
		return;
	}
	if (attached || result->error == EBUSY) {
		on_held(lease, result->error);
	} else {
		if (lease->state == GPUBROKER_LEASE_PREPARING)
			lease_transition(lease, LEASE_SENT);
		on_unknown(lease, result->error);
	}
	lease_resume_pending(lease);
}

/* The open waits in the kernel. That is not stuck, since a large machine takes that long to end. */
static void on_probe_late(void *userdata, const char *what, const struct pci_address *address)
{
	struct lease *lease = userdata;

	(void)what;
	(void)address;
	if (lease->group_file == GROUP_CLOSED && lease->state == GPUBROKER_LEASE_LEASED)
		mark_released(lease);
	say_slow(lease, "the kernel is still releasing the memory of its holder");
}

static bool is_there(const struct lease *lease)
{
	uint32_t group;

	return !lease->kind->group_of(lease, &group) && group == lease->group;
}

void lease_probe_holder(struct lease *lease)
{
	static const struct work_ops ops = {
		.done = on_probed,
		.late = on_probe_late,
		.may_be_left = true,
	};
	struct leases *leases = leases_of(lease);
	struct work *work;
	int r;

	if (lease->work || lease->state == GPUBROKER_LEASE_RESTORING || lease_is_overdue(lease))
		return;
	/*
	 * Another program has removed the mediated device or vGPU, which waits for the holder; the
	 * group's number may belong to another group now.
	 */
	if (!is_there(lease)) {
		regain_lease(lease);
		return;
	}
	/* Then the group must not be opened: the kernel would bind no cdev meanwhile. */
	if (cdevs_are_held(lease)) {
		bool news = lease->state == GPUBROKER_LEASE_PREPARING;

		taken_note(lease);
		probe_later(lease);
		if (news && lease_transition(lease, LEASE_SENT))
			lease_resume_pending(lease);
		return;
	}
	work = work_new(&ops, lease);
	r = work ? work_add_open(work, kernel_open_vfio(leases->kernel), lease->group,
				 &lease->asked)
		 : -ENOMEM;
	if (!r)
		r = workers_start(leases->workers, work);
	if (!r) {
		lease->work = work;
		lease->probing = true;
		return;
	}
	work_free(work);
	if (is_let_go(lease, -r))
		regain_lease(lease);
	else
		on_unknown(lease, -r);
}

void lease_closed(struct lease *lease)
{
	lease->busy = false;
	if (lease->state == GPUBROKER_LEASE_RELEASING)
		return; /* another process has opened it since; it is being probed already */
	lease->group_file = GROUP_CLOSED;
	if (lease->state == GPUBROKER_LEASE_ASKED) {
		lease_asked_closed(lease);
		return;
	}
	lease->tries = 0;
	/*
	 * Either the holder uses cdevs and needs no group, or both are being closed; a probe in a
	 * moment shows which. With an iommufd a device can also be in use after its group was
	 * closed, which a probe shows too.
	 */
	if (lease->state == GPUBROKER_LEASE_LEASED && cdevs_are_held(lease)) {
		probe_later(lease);
	} else if (lease->state == GPUBROKER_LEASE_LEASED && leases_of(lease)->kernel->cdevs) {
		lease_probe_holder(lease);
	} else {
		mark_released(lease);
		lease_end_is_late(lease);
		if (lease->state == GPUBROKER_LEASE_RELEASING)
			lease_probe_holder(lease);
	}
}

/*
 * A cdev was closed. If the group file is still open, that means nothing. Otherwise it may have
 * been the last reference, so the holder is probed.
 */
static void cdev_closed(struct lease *lease)
{
	if (lease->state != GPUBROKER_LEASE_LEASED || lease->group_file == GROUP_OPEN)
		return;
	if (lease->group_file == GROUP_CLOSED) {
		lease_closed(lease);
	} else {
		lease->tries = 0;
		lease_probe_holder(lease);
	}
}

/* inotify has lost events, so any lease may have ended. */
static void probe_all(struct leases *leases)
{
	struct lease *lease, *next;

	for (lease = TAILQ_FIRST(&leases->table.list); lease; lease = next) {
		next = TAILQ_NEXT(lease, link);
		if (lease->state != GPUBROKER_LEASE_LEASED)
			continue;
		lease->tries = 0;
		if (lease->group_file == GROUP_OPEN)
			lease->group_file = GROUP_UNKNOWN;
		lease_probe_holder(lease);
	}
}

void ending_read_inotify(struct leases *leases)
{
	int watch;

	while ((watch = kernel_watch_read(leases->kernel)) != -EAGAIN) {
		struct lease *lease;

		if (watch >= 0) {
			lease = lease_find_watch(&leases->table, watch);
			if (lease && lease->watch == watch)
				lease_closed(lease);
			else if (lease)
				cdev_closed(lease);
			continue;
		}
		log_warning("inotify: %s; looking at every lease", strerror(-watch));
		probe_all(leases);
		if (watch != -EOVERFLOW)
			return;
	}
}

/* ---- taking it back ---- */

/*
 * Restore takes each function from VFIO. The kernel asks the holder to let go (QEMU unplugs the
 * device from its guest) and then waits, in a worker. If the holder does not let go, the lease is
 * asked until it does.
 */
void lease_recall(struct lease *lease, const char *why)
{
	/*
	 * It must wait until the worker has ended, or until a probe has shown whether anybody holds
	 * the lease: see lease_resume_pending().
	 */
	if (lease->state == GPUBROKER_LEASE_PREPARING ||
	    (lease->work &&
	     (lease->state == GPUBROKER_LEASE_LEASED || lease->state == GPUBROKER_LEASE_RELEASING)))
		lease->recall = why;
	lease_end_is_late(lease);
	if (lease->work || !lease_transition(lease, LEASE_RECALLED))
		return;
	if (!lease->busy && lease->group_file != GROUP_OPEN)
		lease->busy = cdevs_are_held(lease);
	audit_lease(lease, why, LOG_NOTICE, NULL);
	lease_restore(lease);
}

static void on_clock(evutil_socket_t fd, short what, void *userdata)
{
	struct lease *lease = userdata;
	const struct lease_table *table = lease->table;
	char reason[32];

	(void)fd;
	(void)what;
	if ((uint64_t)time(NULL) >= lease->ends) {
		lease_recall(lease, "expired");
		return;
	}
	if (!lease->warned && (uint64_t)time(NULL) >= lease->warn_at) {
		lease->warned = true;
		snprintf(reason, sizeof(reason), "at %" PRIu64, lease->ends);
		audit_lease(lease, "ending", LOG_NOTICE, reason);
		if (table->events)
			table->events->ending(table->userdata, lease);
	}
	lease_set_clock(lease);
}

/*
 * The holder is warned a minute before the end, or half-way through what is left of a shorter time.
 * The clock is the wall clock, which may be set, and the host may sleep; so it is read again at
 * least once a minute.
 */
void lease_set_clock(struct lease *lease)
{
	const uint64_t now = (uint64_t)time(NULL);
	const uint64_t left = lease->ends > now ? lease->ends - now : 0;
	uint64_t next;
	struct timeval after;

	if (!lease->ends)
		return;
	if (!lease->warn_at)
		lease->warn_at = left > 120 ? lease->ends - 60 : now + left / 2;
	next = lease->warned ? lease->ends : lease->warn_at;
	next = next > now ? next - now : 0;
	after = (struct timeval){ .tv_sec = (time_t)(next < 60 ? next : 60) };
	if (!lease->expiry)
		lease->expiry = evtimer_new(leases_of(lease)->base, on_clock, lease);
	if (!lease->expiry || evtimer_add(lease->expiry, &after))
		log_error("lease %" PRIu64
			  ": no memory for its timer; it lasts until it is released",
			  lease->id);
}
