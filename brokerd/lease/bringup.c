/* SPDX-License-Identifier: MIT */
/*
 * Bring-up, see bringup.h: ask, then the claim records the lease, then make. It must never change a
 * device that is not recorded, and never wait: a worker does what may take time.
 */
#include "config.h"

#include "brokerd/lease/bringup.h"
#include "brokerd/lease/restore.h"
#include "brokerd/lease/taken.h"
#include "brokerd/record/lease-record.h"

#include <errno.h>

void lease_set_kind(struct lease *lease)
{
	lease->kind = lease_kind_of(lease);
}

/* Starts the lease's worker, unless `r` is an error. Frees the work if there is no worker. */
static int start_worker(struct lease *lease, struct work *work, int r)
{
	if (!r)
		r = workers_start(leases_of(lease)->workers, work);
	if (r) {
		work_free(work);
		return r;
	}
	lease->work = work;
	return 0;
}

/* ---- ask ---- */

static void on_asked_text(void *userdata, const struct pci_address *address, const char *text)
{
	struct lease *lease = userdata;

	lease->kind->asked_text(lease, address, text);
}

static void take_asked(struct lease *lease, const struct work_result *result)
{
	if (result && result->error) {
		lease_fail(lease, &result->address, result->what, result->error);
		/* Of the steps of asking, only the look at the group ends so. */
		lease->failure.foreign = result->error == EBUSY ||
					 result->error == -KERNEL_ATTACHED;
	} else {
		lease->kind->asked(lease);
	}
	lease_report_settled(lease);
}

static void on_lease_asked(void *userdata, const struct work_result *result)
{
	struct lease *lease = userdata;

	if (lease_worker_ended(lease))
		take_asked(lease, result);
}

/* ---- make ---- */

static void on_make_begun(void *userdata, const struct pci_address *address, uint32_t index,
			  uint32_t total)
{
	lease_report_progress(userdata, GPUBROKER_STEP_BIND, address, index, total);
}

static void on_made_text(void *userdata, const struct pci_address *address, const char *text)
{
	struct lease *lease = userdata;

	if (lease->kind->made_text)
		lease->kind->made_text(lease, address, text);
}

/*
 * If nothing was made, and what has its place is another program's, nothing is recorded any more:
 * the end of a lease that nobody waits for clears what is.
 */
static void disown_anothers(struct lease *lease, const struct work_result *result)
{
	if (!result->error || !lease->kind->is_anothers || !lease->kind->is_anothers(result))
		return;
	lease_record_remove(leases_of(lease)->store, lease->id);
	lease->recorded = false;
}

static void on_lease_made(void *userdata, const struct work_result *result)
{
	struct lease *lease = userdata;

	disown_anothers(lease, result);
	if (!lease_worker_ended(lease))
		return;
	lease->kind->made(lease, result);
	lease_report_settled(lease);
}

/* Starts a worker for making alone. */
static int make_anew(struct lease *lease)
{
	static const struct work_ops ops = {
		.begun = on_make_begun,
		.told = on_made_text,
		.done = on_lease_made,
		.late = lease_worker_late,
	};
	struct work *work = work_new(&ops, lease);
	int r = work ? lease->kind->add_make(lease, work) : -ENOMEM;

	if (!r && !work_steps(work)) {
		work_free(work);
		taken_note(lease);
		lease_transition(lease, LEASE_BOUND);
		return 0;
	}
	return start_worker(lease, work, r);
}

/* ---- both by one worker ---- */

static void on_asked_then_made_text(void *userdata, const struct pci_address *address,
				    const char *text)
{
	const struct lease *lease = userdata;

	if (lease->asking == ASKING_MAKES)
		on_made_text(userdata, address, text);
	else
		on_asked_text(userdata, address, text);
}

/* All that is to be recorded has been read, and the worker waits for that. */
static void on_awaits(void *userdata)
{
	struct lease *lease = userdata;

	lease->asking = ASKING_WAITS;
	/* Otherwise it is late, or abandoned: done() goes on. */
	if (lease->state != GPUBROKER_LEASE_STUCK && lease->follower)
		take_asked(lease, NULL);
	else
		lease_give_up(lease);
}

static void on_asked_then_made(void *userdata, const struct work_result *result)
{
	struct lease *lease = userdata;
	const enum lease_asking was = lease->asking;
	int r;

	lease->asking = ASKING_NOTHING;
	if (was == ASKING_MAKES) {
		on_lease_made(lease, result);
	} else if (was == ASKING_READS) {
		on_lease_asked(lease, result);
	} else if (lease_worker_ended(lease)) {
		/* It was killed while it waited, or was not wanted any more. */
		if (was == ASKING_AGAIN && !lease->failure.what) {
			r = make_anew(lease);
			if (r)
				lease_fail(lease, NULL, lease->kind->why_not_begun(lease, r), -r);
			if (!r && lease->work)
				return;
		} else if (was == ASKING_WAITS) {
			lease_fail(lease, &result->address, result->what, result->error);
		}
		lease_report_settled(lease);
	}
}

void lease_give_up(struct lease *lease)
{
	if (lease->asking != ASKING_WAITS)
		return;
	lease->asking = ASKING_ENDS;
	work_give_up(lease->work);
}

/*
 * Adds the steps of making behind those of asking, so that one worker does both. Without them a
 * worker of its own makes it, and says why it cannot.
 */
static void add_making(struct lease *lease, struct work *work)
{
	const size_t n = work_steps(work);

	if (!n || !lease->kind->makes_at_once || leases_of(lease)->hooks.expected)
		return;
	if (work_add_wait(work, &lease->asked) || lease->kind->add_make(lease, work) ||
	    work_steps(work) == n + 1)
		work_cut(work, n);
}

int lease_ask(struct lease *lease)
{
	static const struct work_ops ops = {
		.begun = on_make_begun,
		.told = on_asked_then_made_text,
		.awaits = on_awaits,
		.done = on_asked_then_made,
		.late = lease_worker_late,
	};
	struct work *work;
	int r;

	if (!lease->kind->add_ask)
		return 0;
	work = work_new(&ops, lease);
	r = work ? lease->kind->add_ask(lease, work) : -ENOMEM;
	if (!r)
		add_making(lease, work);
	r = start_worker(lease, work, r);
	if (!r)
		lease->asking = ASKING_READS;
	return r;
}

int lease_make(struct lease *lease)
{
	if (lease->asking != ASKING_WAITS)
		return make_anew(lease);
	if (lease->made_otherwise || leases_of(lease)->hooks.expected) {
		/* Its steps may not be those that it takes now: another worker does them. */
		lease->asking = ASKING_AGAIN;
		work_give_up(lease->work);
	} else {
		lease->asking = ASKING_MAKES;
		work_go(lease->work);
	}
	return 0;
}
