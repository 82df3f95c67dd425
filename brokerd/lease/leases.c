/* SPDX-License-Identifier: MIT */
/*
 * Shared by all files of lease/: access to the context, the one timer of a lease, and how a lease
 * becomes stuck. It starts no worker.
 */
#include "config.h"

#include "brokerd/lease/leases.h"
#include "brokerd/process/log.h"
#include "brokerd/record/audit.h"
#include "brokerd/record/lease-record.h"

#include <event2/event.h>
#include <inttypes.h>
#include <stddef.h>
#include <stdio.h>
#include <string.h>
#include <time.h>

struct leases *leases_of(const struct lease *lease)
{
	return (struct leases *)(void *)((char *)lease->table - offsetof(struct leases, table));
}

static void on_lease_timer(evutil_socket_t fd, short what, void *userdata)
{
	struct lease *lease = userdata;

	(void)fd;
	(void)what;
	lease->later(lease);
}

bool lease_later(struct lease *lease, const struct timeval *after,
		 void (*then)(struct lease *lease))
{
	lease->later = then;
	if (!lease->timer)
		lease->timer = evtimer_new(leases_of(lease)->base, on_lease_timer, lease);
	if (lease->timer && !evtimer_add(lease->timer, after))
		return true;
	log_error("lease %" PRIu64 ": no memory for a timer; a restart tries again", lease->id);
	return false;
}

int lease_record(const struct lease *lease)
{
	return lease_record_write(leases_of(lease)->store, lease);
}

void lease_mark_stuck(struct lease *lease, const struct pci_address *address, const char *what,
		      const char *why)
{
	char text[PCI_ADDRESS_TEXT], reason[sizeof(lease->reason)];
	const struct lease_table *table = lease->table;
	int r;

	snprintf(reason, sizeof(reason), "%s: %s%s%s",
		 lease_has_address(lease) ? pci_address_format(address, text) : lease->mdev.parent,
		 what, *why ? ": " : "", why);
	if (lease->stuck_since && !strcmp(lease->reason, reason))
		return; /* tried again, with the same result */
	memcpy(lease->reason, reason, sizeof(reason));
	if (!lease->stuck_since)
		lease->stuck_since = (uint64_t)time(NULL);
	if (lease->state == GPUBROKER_LEASE_ASKED)
		audit_lease(lease, "asked", LOG_NOTICE, lease->reason);
	else
		audit_lease(lease, "stuck", LOG_ERROR, lease->reason);
	/* Recorded, so that a restart takes the lease up as stuck. */
	r = lease->recorded ? lease_record(lease) : 0;
	if (r)
		log_error("lease %" PRIu64 ": cannot record that it is stuck: %s", lease->id,
			  strerror(-r));
	if (table->events)
		table->events->state(table->userdata, lease);
}

void lease_worker_late(void *userdata, const char *what, const struct pci_address *address)
{
	struct lease *lease = userdata;

	if (!lease_transition(lease, LEASE_LATE))
		return;
	lease_mark_stuck(lease, address, what, "has not come back from the kernel");
	lease_fail(lease, address, what, 0);
	lease_report_settled(lease);
}
