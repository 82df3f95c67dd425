/* SPDX-License-Identifier: MIT */
/*
 * Functions that come into a lent group, or vanish from it: plugged in or out, or made and removed
 * by somebody. It must never leave one that came to a host driver, which would make the group
 * unusable to its holder, nor change one before it is recorded.
 */
#include "config.h"

#include "brokerd/record/audit.h"
#include "brokerd/lease/ending.h"
#include "brokerd/process/log.h"
#include "brokerd/record/lease-record.h"
#include "brokerd/process/worker.h"
#include "client/host/sysfs.h"
#include "client/common/util.h"

#include <errno.h>
#include <inttypes.h>
#include <string.h>

static void tell(const struct lease *lease, const char *outcome, const struct pci_address *address)
{
	struct audit line = audit_of(lease, outcome);

	line.level = LOG_WARNING;
	line.device = address;
	audit(&line);
}

/*
 * A worker has put a function that came into a lent group on VFIO. The lease may have ended
 * meanwhile.
 */
static void on_kept(void *userdata, const struct work_result *result)
{
	struct lease *lease = userdata;
	struct daemon *daemon = lease->owner;

	lease->work = NULL;
	if (lease->state == GPUBROKER_LEASE_STUCK) {
		lease_came_late(lease);
	} else {
		if (result->error)
			log_error("lease %" PRIu64 ": a function that came to its group: %s: %s",
				  lease->id, result->what, strerror(result->error));
		lease_work_was_done(daemon, lease);
		if (lease->state == GPUBROKER_LEASE_RELEASING)
			lease_look(daemon, lease);
	}
	daemon_quit_if_idle(daemon);
}

/*
 * A function has come into a lent group: plugged in, or made by somebody. A host driver on it would
 * make the group unusable to its holder, so it goes to VFIO for as long as the lease lasts, and
 * then to whatever driver claims it.
 */
static void function_came(struct daemon *daemon, struct lease *lease,
			  const struct watcher_record *record)
{
	static const struct work_ops ops = { .done = on_kept, .late = on_work_late };
	char text[PCI_ADDRESS_TEXT];
	struct lease_function *was;
	struct function now;
	struct work *work;
	int r;

	if (lease->n_functions == PROTOCOL_FUNCTIONS_MAX || lease->work || lease_is_mdev(lease) ||
	    class_is_bridge(record->class_code) ||
	    sysfs_function_read(daemon->kernel.sys, &record->address, &now) ||
	    now.iommu_group != lease->group)
		return;
	was = &lease->functions[lease->n_functions++];
	*was = (struct lease_function){
		.address = now.address,
		.vendor = now.vendor,
		.device = now.device,
		.driver = LEASE_DRIVER_UNKNOWN,
	};
	tell(lease, "arrived", &now.address);
	event_function(lease, &now.address, true);
	r = record_write(daemon->state_dir, lease);
	work = r ? NULL : work_new(&ops, lease);
	if (!r)
		r = work ? add_bind_steps(daemon, work, &now.address, now.driver, "") : -ENOMEM;
	if (!r && work_steps(work))
		r = work_start(work, daemon->base, daemon->worker_filter, WORKER_SECONDS);
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

/* A function of a lent group is gone: what is left of the group is of no use to its holder. */
static void function_went(struct daemon *daemon, struct lease *lease,
			  const struct pci_address *address)
{
	char driver[FUNCTION_NAME_MAX];

	if (sysfs_driver_read(daemon->kernel.sys, address, driver) != -ENODEV)
		return; /* it is there: an event is a hint */
	tell(lease, "vanished", address);
	event_function(lease, address, false);
	lease_recall(lease, "recalled");
}

static bool is_member(const struct lease *lease, const struct pci_address *address)
{
	for (size_t i = 0; i < lease->n_functions; i++)
		if (!pci_address_compare(&lease->functions[i].address, address))
			return true;
	/* Of a vGPU the VF is with its driver; that it goes is an end as well. */
	return lease->mdev.vendor && !pci_address_compare(&lease->asked, address);
}

void arrivals_look(struct daemon *daemon, struct lease *lease)
{
	for (size_t i = 0; i < daemon->devices.n && !lease->work; i++) {
		const struct watcher_record *record = &daemon->devices.list[i].record;

		if (record->group == lease->group && !is_member(lease, &record->address))
			function_came(daemon, lease, record);
	}
}

void arrivals_record(struct daemon *daemon, const struct watcher_record *record)
{
	struct lease *lease;

	if (record->type != WATCHER_DEVICE && record->type != WATCHER_GONE)
		return;
	TAILQ_FOREACH(lease, &daemon->leases.list, link) {
		bool member = is_member(lease, &record->address);

		if (lease->state != GPUBROKER_LEASE_LEASED)
			continue;
		if (record->type == WATCHER_GONE && member) {
			function_went(daemon, lease, &record->address);
			return; /* the list may have changed */
		}
		if (record->type == WATCHER_DEVICE && !member && record->group == lease->group) {
			function_came(daemon, lease, record);
			return;
		}
	}
}
