/* SPDX-License-Identifier: MIT */
/*
 * Groups that other programs have through VFIO, without a lease: a VMM of root's, DPDK. Only an
 * open of the group tells, so a worker tries that when somebody claims it (lease/functions.c). The
 * finding is kept for a moment, as a hold (state/holds.h), so that a claim by a name goes on to
 * another device; and for as long as a claim waits for the group.
 */
#pragma once

#include "brokerd/claim/claims.h"

struct foreign;

void foreign_init(struct claims *claims);
void foreign_done(struct claims *claims);

/* Notes that another program has the group; `address` is a function of it. */
void foreign_note(struct claims *claims, uint32_t group, const struct pci_address *address);
