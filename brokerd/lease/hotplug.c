/* SPDX-License-Identifier: MIT */
/*
 * Functions that come into a lent group, or vanish from it, see hotplug.h: plugged in or out, or
 * made and removed by another program. It must never leave a new function to a host driver, which
 * would make the group unusable to its holder, and never change a function before it is recorded.
 */
#include "config.h"

#include "brokerd/lease/hotplug.h"
#include "brokerd/lease/driver.h"
#include "brokerd/lease/ending.h"
#include "brokerd/lease/restore.h"
#include "brokerd/process/log.h"
#include "brokerd/record/audit.h"
#include "client/host/function.h"
#include "client/host/sysfs.h"

#include <errno.h>
#include <inttypes.h>
#include <string.h>

static void report_function(const struct lease *lease, const struct pci_address *address, bool came)
{
	const struct lease_table *table = lease->table;
	struct audit_line line = audit_line_of(lease, came ? "arrived" : "vanished");

	line.level = LOG_WARNING;
	line.device = address;
	audit_write(&line);
	if (table->events)
		table->events->function(table->userdata, lease, address, came);
}

/*
 * The worker that puts a new function of a lent group on VFIO has ended. The lease may have ended
 * meanwhile.
 */
static void on_kept(void *userdata, const struct work_result *result)
{
	struct lease *lease = userdata;

	if (lease->state == GPUBROKER_LEASE_STUCK) {
		lease_worker_ended(lease);
		return;
	}
	lease->work = NULL;
	if (result->error)
		log_error("lease %" PRIu64 ": a new function of its group cannot be bound: %s: %s",
			  lease->id, result->what, strerror(result->error));
	if (lease->state == GPUBROKER_LEASE_RELEASING)
		lease_probe_holder(lease);
	else
		lease_resume_pending(lease);
}

/*
 * A function has come into a lent group. A host driver on it would make the group unusable to the
 * holder. So it is bound to VFIO while the lease lasts, and then goes to whatever driver claims it.
 */
static void keep_function(struct lease *lease, const struct watcher_record *record)
{
	static const struct work_ops ops = { .done = on_kept, .late = lease_worker_late };
	const struct leases *leases = leases_of(lease);
	char text[PCI_ADDRESS_TEXT];
	struct function now;
	struct work *work;
	int r;

	if (!lease->n_functions || lease->n_functions == PROTOCOL_FUNCTIONS_MAX || lease->work ||
	    sysfs_function_read(leases->kernel->sys, &record->address, &now) || now.is_bridge ||
	    now.iommu_group != lease->group)
		return;
	lease->functions[lease->n_functions++] = (struct lease_function){
		.address = now.address,
		.vendor = now.vendor,
		.device = now.device,
		.driver = LEASE_DRIVER_UNKNOWN,
	};
	report_function(lease, &now.address, true);
	r = lease_record(lease);
	work = r ? NULL : work_new(&ops, lease);
	if (!r)
		r = work ? driver_add_bind(leases->kernel, leases->devices, work, &now.address,
					   now.driver, "")
			 : -ENOMEM;
	if (!r && work_steps(work))
		r = workers_start(leases->workers, work);
	else if (!r)
		work = work_free(work);
	if (r) {
		work_free(work);
		lease->n_functions--;
		log_error("lease %" PRIu64 ": %s cannot be kept from host drivers: %s", lease->id,
			  pci_address_format(&now.address, text), strerror(-r));
		return;
	}
	lease->work = work;
}

/*
 * A function of a lent group is gone. The rest of the group is of no use to the holder, so the
 * lease is taken back.
 */
static void recall_without(struct lease *lease, const struct pci_address *address)
{
	char driver[FUNCTION_NAME_MAX];

	if (sysfs_driver_read(leases_of(lease)->kernel->sys, address, driver) != -ENODEV)
		return; /* it exists: an event is only a hint */
	report_function(lease, address, false);
	lease_recall(lease, "recalled");
}

void hotplug_look(struct lease *lease)
{
	const struct devices *devices = leases_of(lease)->devices;

	for (size_t i = 0; i < devices->n && !lease->work; i++) {
		const struct watcher_record *record = &devices->list[i].record;

		if (record->group == lease->group && !lease->kind->needs(lease, &record->address))
			keep_function(lease, record);
	}
}

void hotplug_device_seen(struct leases *leases, const struct watcher_record *record)
{
	struct lease *lease;

	if (record->type != WATCHER_DEVICE && record->type != WATCHER_GONE)
		return;
	TAILQ_FOREACH(lease, &leases->table.list, link) {
		bool member;

		if (lease->state != GPUBROKER_LEASE_LEASED)
			continue;
		member = lease->kind->needs(lease, &record->address);
		if (record->type == WATCHER_GONE && member) {
			recall_without(lease, &record->address);
			return; /* the list may have changed */
		}
		if (record->type == WATCHER_DEVICE && !member && record->group == lease->group) {
			keep_function(lease, record);
			return;
		}
	}
}
