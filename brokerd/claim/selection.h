/* SPDX-License-Identifier: MIT */
/*
 * What a claim would get: decided, not begun. select.c fills it; claim.c makes leases of it.
 *
 * A "part" is a mediated device or a vGPU: the claim of one names a profile, and what it becomes is
 * known only when a worker has asked the driver. Until then a part_choice holds everything that it
 * may become.
 */
#pragma once

#include <stdbool.h>
#include <stddef.h>
#include <stdint.h>

#include "brokerd/claim/wanted.h"
#include "brokerd/lease/vgpu.h"
#include "brokerd/state/lease.h"
#include "client/host/function.h"
#include "client/wire/protocol.h"

#define PART_CANDIDATES_MAX 16 /* mediated devices that a claim looks at; more are not found */
#define PART_OTHERS_MAX 16     /* types of the first one's parent that a refusal names */
#define PART_VFS_MAX 64	       /* virtual functions that a claim asks */

struct part_candidate {
	struct lease_mdev mdev; /* without its UUID */
	struct pci_address address;
	struct lease_terms terms;
	uint32_t limit; /* of the rule */
};

/*
 * The part becomes the first mediated device of which an instance is left, or what the first
 * virtual function offers that is meant and allowed. Only its driver knows what a VF offers, so the
 * policy is asked about that when a worker has read it.
 */
struct part_choice {
	struct selector selector;	/* what was asked for */
	bool is_fixed;			/* the lease has become one of them */
	struct message_refusal nearest; /* why not, so far; its reason is 0 while there is none */
	/* mediated devices */
	size_t n;
	struct part_candidate list[PART_CANDIDATES_MAX];
	uint64_t memlock; /* the least that one of them grants, whichever it becomes */
	size_t n_others;
	char others[PART_OTHERS_MAX][PROTOCOL_PROFILE_MAX];
	/* how many instances are left of those in `list` and then of `others`, in turn */
	size_t n_available;
	uint64_t available[PART_CANDIDATES_MAX + PART_OTHERS_MAX];
	/* virtual functions */
	size_t n_vfs, at_vf; /* and the one that is being asked */
	struct pci_address vfs[PART_VFS_MAX];
	bool current_known;
	uint32_t current; /* the VF's vGPU type; 0: none */
	size_t n_rows;
	struct vgpu_row rows[WORK_ROWS_MAX];
	uint32_t of_type; /* VFs that have the type that was asked for */
	uint32_t in_use;  /* and those that have any */
	bool free;	  /* one has none */
	char left[64];	  /* what that one offers, "558, 560" */
};

/* One group, or one part. */
struct selected {
	struct pci_address asked;
	struct lease_terms terms;
	struct group_view *view;    /* of whole functions, else NULL */
	struct part_choice *choice; /* of a part, else NULL */
};

struct selection {
	size_t n;
	struct selected items[PROTOCOL_SELECTORS_MAX];
	struct wanted wanted;	/* what it could have, were it free */
	uint64_t memlock;	/* to raise to; 0: not at all */
	uint64_t memlock_asked; /* what was asked for, while it is not known yet whether that may be
				 */
	bool undecided;		/* what a part of it becomes is not known yet, nor its rule */
	size_t n_gids;		/* the claimant's supplementary groups, the first of them */
	uint32_t gids[LEASE_GIDS_MAX];
};
