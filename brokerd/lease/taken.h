/* SPDX-License-Identifier: MIT */
/*
 * Functions that somebody takes from VFIO while they are lent, as root may by driverctl, by `virsh
 * nodedev-reattach` or by hand.
 */
#pragma once

#include "brokerd/lease/leases.h"

/*
 * Notes the binding of each function of the lease that is on VFIO and was not noted before, also in
 * the lease's record, so that the next start of the broker has it.
 */
void taken_note(struct lease *lease);

/*
 * Writes to the journal that a function is on VFIO no more, or is again. To be called when the
 * watcher has reported the function. Changes nothing else.
 */
void taken_look(struct lease *lease, const struct pci_address *address);

/*
 * Decides which functions somebody has taken, and to be called at the begin of each attempt to give
 * them back. Such a function is left to whoever took it: its override stays as it is, and so does
 * its driver, which is the one to restore from now on. The record no longer has the bindings, which
 * this attempt changes.
 */
void taken_decide(struct lease *lease);

/*
 * Looks at the override that a function has at the end of an attempt. Sets lease->bare or
 * lease->again where the attempt was not the last:
 *
 * - It is taken, has no driver, and the override is a VFIO driver's still: nobody has said what the
 *   function is to have. At the first look it is bare, and the lease is to be given back again
 *   after a while; at the second it counts as taken no more, and goes to the host.
 * - It is taken and has no driver, by any other override. The kernel binds no host driver while the
 *   group is a holder's, and does not try again by itself, so the next attempt has it try.
 * - Another override was written than this attempt has: see taken_meanwhile().
 */
void taken_compare(struct lease *lease, struct lease_function *function, const char *override);

/*
 * Notes that the attempt has found another override than it had written, and has therefore not
 * bound the function: see taken_meanwhile().
 */
void taken_differs(struct lease *lease, const struct pci_address *address);

/*
 * To be called when the attempt has waited so that others come first, and has not bound anything
 * yet: returns true if a function has another binding than when the attempt began, which is then
 * somebody else's. Notes it: see taken_meanwhile().
 */
bool taken_while_waited(struct lease *lease);

/*
 * Counts what somebody has changed during the attempt as taken: a function whose override is not
 * the one that the attempt has written, which no step failed to do, and those that were noted.
 */
void taken_meanwhile(struct lease *lease);

/* Returns true if somebody has taken a function of the lease, and not for VFIO. */
bool taken_for_host(const struct lease *lease);
