/* SPDX-License-Identifier: MIT */
/* Functions that come into a lent group, or vanish from it. */
#pragma once

#include "brokerd/lease/leases.h"

/* Handles a record from the watcher. To be called before the device table takes the record. */
void hotplug_device_seen(struct leases *leases, const struct watcher_record *record);
/*
 * Looks for functions that came into the lease's group without being noticed. The lease may be gone
 * on return.
 */
void hotplug_look(struct lease *lease);
/* Does so for every lease: to be called when there is a new policy, or at the start of serving. */
void hotplug_look_at_all(struct leases *leases);
