/* SPDX-License-Identifier: MIT */
/*
 * Prepare rules after the boot: what they name and a host driver has, or none, is given to VFIO,
 * where the host is not using it. At boot udev has done most of it (client/host/udevrules.h).
 */
#pragma once

#include "brokerd/daemon.h"

/* There is a new policy, or the daemon begins to serve: looks at everything. */
void prepare_all(struct daemon *daemon);
/* The watcher said this; to be called before the device table takes it. */
void prepare_record(struct daemon *daemon, const struct watcher_record *record);
/*
 * Is a worker at this group? It must not be claimed meanwhile. *ret_late: it does not come back
 * from the kernel.
 */
bool prepare_has_group(const struct daemon *daemon, uint32_t group, bool *ret_late);
/* Is any worker at work that is not late? */
bool prepare_is_busy(const struct daemon *daemon);
/* Root has given the group back to its host driver: leave it there until the policy is loaded anew. */
void prepare_leave(struct daemon *daemon, uint32_t group);
/* Has root done so? */
bool prepare_is_left(const struct daemon *daemon, uint32_t group);
void prepare_done(struct daemon *daemon);
