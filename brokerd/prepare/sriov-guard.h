/* SPDX-License-Identifier: MIT */
/*
 * Checks whether the number of virtual functions may be changed, and which of them are still to be
 * bound.
 */
#pragma once

#include "brokerd/prepare/pf.h"

/* Reads the PF's VFs into pf->vfs. Returns 0, or -errno. */
int guard_read_vfs(struct pf *pf);
/*
 * Returns 0 if the VFs that guard_read_vfs() found may be removed; else the reason, with
 * *ret_refusal.
 */
int guard_vfs(const struct pf *pf, struct message_refusal *ret_refusal);
/*
 * Returns 0 if the PF can have so many VFs, by `f`, which was just read; else the reason, with
 * *ret_refusal.
 */
int guard_pf(const struct pf *pf, const struct function *f, uint32_t wanted,
	     struct message_refusal *ret_refusal);
/* Returns true if the device table has all of pf->vfs. */
bool guard_all_known(const struct pf *pf);
/* Returns true if the VF is on a VFIO driver. */
bool guard_on_vfio(const struct pf *pf, const struct pci_address *vf);
/*
 * Returns the index of the first of pf->vfs, from `from` on, that is still to be bound; pf->n_vfs
 * if there is none. A VF that a lease has is left to the lease.
 */
size_t guard_next_unbound(const struct pf *pf, size_t from);
