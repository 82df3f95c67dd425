/* SPDX-License-Identifier: MIT */
/*
 * Bring-up, see bringup.h: ask, then the claim records the lease, then make. It must never change a
 * device that is not recorded, and never wait: a worker does what may take time.
 */
#include "config.h"

#include "brokerd/lease/bringup.h"
#include "brokerd/lease/restore.h"
#include "brokerd/lease/taken.h"

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

static void on_lease_asked(void *userdata, const struct work_result *result)
{
	struct lease *lease = userdata;

	if (!lease_worker_ended(lease))
		return;
	if (result->error) {
		lease_fail(lease, &result->address, result->what, result->error);
		/* Of the steps of asking, only the look at the group ends so. */
		lease->failure.foreign = result->error == EBUSY ||
					 result->error == -KERNEL_ATTACHED;
	} else {
		lease->kind->asked(lease);
	}
	lease_report_settled(lease);
}

int lease_ask(struct lease *lease)
{
	static const struct work_ops ops = {
		.told = on_asked_text,
		.done = on_lease_asked,
		.late = lease_worker_late,
	};
	struct work *work;

	if (!lease->kind->add_ask)
		return 0;
	work = work_new(&ops, lease);
	return start_worker(lease, work, work ? lease->kind->add_ask(lease, work) : -ENOMEM);
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

static void on_lease_made(void *userdata, const struct work_result *result)
{
	struct lease *lease = userdata;

	if (!lease_worker_ended(lease))
		return;
	lease->kind->made(lease, result);
	lease_report_settled(lease);
}

int lease_make(struct lease *lease)
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
