/* SPDX-License-Identifier: MIT */
/* Functions that come into a lent group, or vanish from it. */
#pragma once

#include "brokerd/lease/leases.h"

/* The watcher has sent this record, which the device table does not have yet. */
void hotplug_device_seen(struct leases *leases, const struct watcher_record *record);
/* Looks for functions that came into the lease's group while nobody looked. */
void hotplug_look(struct lease *lease);
