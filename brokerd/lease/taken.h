/* SPDX-License-Identifier: MIT */
/*
 * Functions that somebody takes from VFIO while they are lent, as root may by driverctl, by `virsh
 * nodedev-reattach` or by hand.
 */
#pragma once

#include "brokerd/lease/leases.h"

/* Notes the binding of each function of the lease that is on VFIO and was not noted before. */
void taken_note(struct lease *lease);

/*
 * Writes to the journal that a function is on VFIO no more, or is again. To be called when the
 * watcher has reported the function. Changes nothing else.
 */
void taken_look(struct lease *lease, const struct pci_address *address);

/*
 * Decides which functions somebody has taken, and to be called at the begin of each attempt to give
 * them back. Such a function is left to whoever took it: its override stays as it is, and so does
 * its driver, which is the one to restore from now on.
 */
void taken_decide(struct lease *lease);

/*
 * Looks at a function that is taken and has no driver, and of which the override was read. Where
 * that is a VFIO driver's still, nobody has said what the function is to have: at the first look
 * this returns true, and the lease is to be given back again after a while; at the second the
 * function counts as taken no more, and the next attempt gives it to the host.
 */
bool taken_is_bare(struct lease *lease, const struct pci_address *address, const char *override);

/* Returns true if somebody has taken a function of the lease, and not for VFIO. */
bool taken_for_host(const struct lease *lease);
