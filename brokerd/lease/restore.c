/* SPDX-License-Identifier: MIT */
/*
 * Restore, see restore.h. One worker does the steps of the lease's kind. Then the kind checks
 * whether the host has everything back, and the record is removed last. A lease of which something
 * did not go back is stuck, notes the reason, and is tried again.
 *
 * It must never change anything that is not recorded, never report a restore without having checked
 * it, and never wait.
 */
#include "config.h"

#include "brokerd/lease/restore.h"
#include "brokerd/lease/cdev.h"
#include "brokerd/lease/hooks.h"
#include "brokerd/lease/kill.h"
#include "brokerd/lease/taken.h"
#include "brokerd/process/log.h"
#include "brokerd/record/audit.h"
#include "brokerd/record/lease-record.h"

#include <errno.h>
#include <event2/event.h>
#include <inttypes.h>
#include <limits.h>
#include <string.h>

/* Between attempts to restore a stuck lease: the first ones, and the last ones. */
#define RETRY_SECONDS 10
#define RETRY_SECONDS_MAX 600
#define RETRIES_AT_ONCE 6 /* attempts before the time between them is doubled each time */
#define LOOK_USEC 50000	  /* between looks at a device that is half made or removed */
#define LOOKS 40
#define WAY_USEC 500000 /* for those who have waited in the kernel as long as the holder did */

bool lease_look_soon(struct lease *lease, void (*then)(struct lease *lease))
{
	const struct timeval after = { .tv_usec = LOOK_USEC };

	if (lease->tries >= LOOKS || !lease_later(lease, &after, then))
		return false;
	lease->tries++;
	return true;
}

/* ---- the end of a restore ---- */

/*
 * Settles the damaged record of a lease, if no other lease keeps a device of that record from being
 * lent.
 */
static void settle_damaged(const struct lease *lease)
{
	const struct store *store = leases_of(lease)->store;
	const struct lease *other;
	int r;

	TAILQ_FOREACH(other, &lease->table->list, link)
		if (other != lease && !strcmp(other->damaged, lease->damaged))
			return;
	r = store_settle(store, lease->damaged);
	if (r)
		log_error("lease record %s: cannot be renamed: %s", lease->damaged, strerror(-r));
	else
		log_notice("lease record %s: settled, the host has its devices", lease->damaged);
}

/* Forgets a lease that is over: the host has everything back, and the record is gone. */
static void forget_lease(struct lease *lease)
{
	const struct lease_table *table = lease->table;

	if (lease->damaged[0])
		settle_damaged(lease);
	if (lease->recorded)
		audit_ended(lease);
	kernel_group_unwatch(leases_of(lease)->kernel, lease->watch);
	cdevs_unwatch(lease);
	if (lease->timer)
		event_free(lease->timer);
	if (lease->expiry)
		event_free(lease->expiry);
	if (lease->kill_timer)
		event_free(lease->kill_timer);
	if (table->events)
		table->events->freed(table->userdata, lease);
	lease_free(lease);
}

/* Returns how long to wait before the next attempt: what did not help often will not help soon. */
static unsigned retry_after(unsigned attempts)
{
	unsigned seconds = RETRY_SECONDS;

	for (; attempts > RETRIES_AT_ONCE && seconds < RETRY_SECONDS_MAX; attempts--)
		seconds *= 2;
	return seconds < RETRY_SECONDS_MAX ? seconds : RETRY_SECONDS_MAX;
}

/* Marks a lease as stuck, and has it tried again later. */
static void keep_stuck(struct lease *lease, const struct lease_end *end)
{
	struct timeval after = { 0 };
	char what[64], text[PCI_ADDRESS_TEXT], load[96] = "";

	/* A driver that refuses because a process has the device does not wait for it. */
	if ((end->error != EPERM && end->error != EBUSY) || !lease_has_holder(lease) ||
	    !lease_transition(lease, LEASE_WAITS))
		lease_transition(lease, LEASE_FAILED);
	lease->waits_for_driver = end->unloaded != NULL;
	if (end->unloaded) {
		snprintf(what, sizeof(what), "its driver %s is not loaded", end->unloaded);
		/* By its alias: a module need not have its driver's name. */
		snprintf(load, sizeof(load), "modprobe $(cat /sys/bus/pci/devices/%s/modalias)",
			 pci_address_format(&end->address, text));
	}
	lease_mark_stuck(lease, &end->address, end->unloaded ? what : end->what,
			 end->unloaded ? load
			 : end->error  ? strerror(end->error)
				       : "");
	/* It may succeed later: a driver is loaded again, memory is free again. */
	if (lease->restores < UINT_MAX)
		lease->restores++;
	after.tv_sec = (time_t)retry_after(lease->restores);
	lease_later(lease, &after, lease_retry);
	if (!lease->follower)
		kill_begin(lease);
	lease_report_settled(lease);
}

static void finish_restored(struct lease *lease);

/*
 * Ends a lease (`end` NULL), or marks it as stuck because of `end`. The lease may be gone on
 * return.
 */
static void finish_restore(struct lease *lease, const struct lease_end *end)
{
	struct lease_follower *follower = lease->follower;
	struct lease_end failed = { 0 };
	int r = 0;

	if (!end && kill_is_under_way(lease, finish_restored))
		return;
	lease->kill_waits = 0;
	if (!end && lease->recorded)
		r = lease_record_remove(leases_of(lease)->store, lease->id);
	if (r) { /* else the next start would take it up */
		failed = (struct lease_end){ "its record cannot be removed", lease->asked, -r,
					     NULL };
		end = &failed;
	}
	if (end) {
		keep_stuck(lease, end);
		return;
	}
	lease_transition(lease, LEASE_RESTORED);
	if (follower)
		follower->ops->over(follower, lease);
	forget_lease(lease);
	if (follower)
		follower->ops->settled(follower, NULL);
}

static void finish_restored(struct lease *lease)
{
	if (!lease->work && !lease->hook.event)
		finish_restore(lease, NULL);
}

/* No failed hook keeps a device: the host has it, and the administrator finds why in the log. */
static void on_restore_hooked(struct lease *lease, const struct hook_answer *answer)
{
	char text[96];

	hooking_say(answer, text, sizeof(text));
	if (answer->result != HOOK_DONE)
		log_warning("lease %" PRIu64 ", group %" PRIu32 ": after its restore %s", lease->id,
			    lease->group, *text ? text : "no hook ran");
	finish_restore(lease, NULL);
}

/*
 * The host has everything back: has hooks run, while the lease keeps others from the devices, and
 * while its record makes the next start run them again.
 */
static void restored(struct lease *lease)
{
	if (!lease->recorded || !hooks_run(lease, HOOK_RESTORE, on_restore_hooked))
		finish_restore(lease, NULL);
}

static void restore_again(struct lease *lease);

/* The pause counts as work, as the worker before it and the one behind it do. */
static void restore_after_pause(struct lease *lease)
{
	struct workers *workers = leases_of(lease)->workers;

	restore_again(lease);
	workers_leave(workers);
}

/* Has the restore go on in a moment. False: that was done often enough. */
static bool pause_restore(struct lease *lease)
{
	if (lease_is_overdue(lease)) /* the daemon's end does not wait for it */
		return lease_look_soon(lease, restore_again);
	if (!lease_look_soon(lease, restore_after_pause))
		return false;
	workers_enter(leases_of(lease)->workers);
	return true;
}

static void take_result(struct lease *lease, enum lease_end_result result,
			const struct lease_end *end)
{
	if ((result == END_NOT_OURS || result == END_TRY_AGAIN) && pause_restore(lease))
		return;
	if (result == END_OVER || result == END_NOT_OURS)
		restored(lease);
	else
		finish_restore(lease, end);
}

/* ---- the worker ---- */

static void on_restore_begun(void *userdata, const struct pci_address *address, uint32_t index,
			     uint32_t total)
{
	lease_report_progress(userdata, GPUBROKER_STEP_RESTORE, address, index, total);
}

static void on_restore_text(void *userdata, const struct pci_address *address, const char *text)
{
	struct lease *lease = userdata;

	if (lease->kind->ended_text)
		lease->kind->ended_text(lease, address, text);
}

static void on_restored(void *userdata, const struct work_result *result)
{
	struct lease *lease = userdata;
	struct lease_end end = { 0 };

	lease->work = NULL;
	lease->gives_way = false;
	take_result(lease, lease->kind->how_ended(lease, result, &end), &end);
}

static void go_on(struct lease *lease)
{
	lease->gives_way = false;
	if (!lease->work)
		return;
	if (taken_while_waited(lease))
		work_give_up(lease->work); /* the next attempt leaves it as it is */
	else
		work_go(lease->work);
}

/* The holder has let go, and the worker waits so that others come first. */
static void on_restore_awaits(void *userdata)
{
	const struct timeval after = { .tv_usec = WAY_USEC };
	struct lease *lease = userdata;

	lease->gives_way = lease_later(lease, &after, go_on);
	if (!lease->gives_way)
		work_go(lease->work);
}

/*
 * The worker has not ended in time. Usually it waits in the kernel for a process that has the
 * device, which the kernel has asked for it: then nothing is wrong with the device, and claims may
 * wait for it.
 */
static void on_restore_late(void *userdata, const char *what, const struct pci_address *address)
{
	struct lease *lease = userdata;

	if (lease->follower || !lease_has_holder(lease) || !lease_transition(lease, LEASE_WAITS))
		lease_worker_late(lease, what, address);
	else
		lease_mark_stuck(lease, address, LEASE_ASKED_WHY, "");
	kill_begin(lease);
}

static void asked_in_vain(struct lease *lease)
{
	if (lease->state != GPUBROKER_LEASE_ASKED || lease_has_holder(lease))
		return;
	if (lease->work)
		lease_worker_late(lease, "giving it back", &lease->asked);
	else
		lease_retry(lease);
}

void lease_asked_closed(struct lease *lease)
{
	const struct timeval after = { .tv_sec = WORKER_SECONDS };

	if (!lease->kill_waits && !lease->gives_way) /* else it is over */
		lease_later(lease, &after, asked_in_vain);
}

static void restore_again(struct lease *lease)
{
	const struct work_ops ops = {
		.begun = on_restore_begun,
		.told = on_restore_text,
		.awaits = on_restore_awaits,
		.done = on_restored,
		.late = on_restore_late,
		/*
		 * The worker of a stuck lease may never end, so the daemon's end does not wait for
		 * it.
		 */
		.may_be_left = lease_is_overdue(lease),
	};
	struct lease_end end = { 0 };
	struct work *work;
	int r;

	if (lease->work || lease->hook.event)
		return;
	/* Without a record nothing was changed. */
	if (!lease->recorded || (lease->kind->is_gone && lease->kind->is_gone(lease))) {
		restored(lease);
		return;
	}
	work = work_new(&ops, lease);
	r = work ? lease->kind->add_end(lease, work) : -ENOMEM;
	if (!r && !work_steps(work)) { /* everything was unplugged */
		work_free(work);
		restored(lease);
		return;
	}
	if (!r)
		r = workers_start(leases_of(lease)->workers, work);
	if (!r) {
		lease->work = work;
		return;
	}
	work_free(work);
	take_result(lease, lease->kind->end_not_begun(lease, -r, &end), &end);
}

void lease_restore_with(struct lease *lease, unsigned looks)
{
	lease->tries = looks < LOOKS ? LOOKS - looks : 0;
	restore_again(lease);
}

void lease_restore(struct lease *lease)
{
	lease_restore_with(lease, LOOKS);
}

void lease_retry(struct lease *lease)
{
	if (!lease->work && !lease->hook.event && lease_transition(lease, LEASE_ABANDON))
		lease_restore(lease);
}

static void on_group_looked_at(void *userdata, const struct work_result *result)
{
	struct lease *lease = userdata;

	lease->work = NULL;
	lease->busy = result->error == EBUSY || result->error == -KERNEL_ATTACHED;
	lease_restore(lease);
}

void lease_look_and_restore(struct lease *lease)
{
	static const struct work_ops ops = { .done = on_group_looked_at, .may_be_left = true };
	struct leases *leases = leases_of(lease);
	struct work *work = work_new(&ops, lease);
	int r = work ? work_add_open(work, kernel_open_vfio(leases->kernel), lease->group,
				     &lease->asked)
		     : -ENOMEM;

	if (!r)
		r = workers_start(leases->workers, work);
	if (!r) {
		lease->work = work;
		return;
	}
	work_free(work);
	lease_restore(lease);
}

void lease_device_seen(struct leases *leases, const struct watcher_record *record)
{
	struct lease *lease;

	if (record->type != WATCHER_DEVICE || !record->driver[0])
		return;
	TAILQ_FOREACH(lease, &leases->table.list, link) {
		if (!lease->waits_for_driver || lease->state != GPUBROKER_LEASE_STUCK ||
		    !lease->kind->needs(lease, &record->address))
			continue;
		lease->waits_for_driver = false; /* once: what a retry does makes events too */
		lease_retry(lease);
		return; /* the list may have changed */
	}
}

bool lease_worker_ended(struct lease *lease)
{
	lease->work = NULL;
	if (lease->state != GPUBROKER_LEASE_STUCK && lease->follower)
		return true;
	if (lease_transition(lease, LEASE_ABANDON))
		lease_restore(lease);
	return false;
}
