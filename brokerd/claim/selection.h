/* SPDX-License-Identifier: MIT */
/*
 * The devices that a claim would get: decided, not begun. select.c fills it; begin.c makes leases
 * of it.
 *
 * A "part" is a mediated device or a vGPU. A claim of one names a profile, and only when a worker
 * has asked the driver is it known which device it becomes. Until then a part_choice holds
 * everything that it may become.
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

#define PART_CANDIDATES_MAX 16 /* mediated device types that a claim considers; more are ignored */
#define PART_OTHERS_MAX 16     /* types of the first candidate's parent that a refusal names */
#define PART_VFS_MAX 64	       /* virtual functions that a claim considers */

struct part_candidate {
	struct lease_mdev mdev; /* its UUID is empty */
	struct pci_address address;
	struct lease_terms terms;
	uint32_t limit; /* of leases, by the rule; 0: none */
};

/*
 * The part becomes the first mediated device that has an instance left, or else the first type of
 * the first virtual function that the claim means and the policy allows. Only the driver knows the
 * types of a VF, so the policy is asked about them after a worker has read them.
 */
struct part_choice {
	struct selector selector;	/* what the client asked for */
	bool is_fixed;			/* the lease has become one of the candidates */
	struct message_refusal nearest; /* the nearest miss so far; reason 0: none */
	/* ---- mediated devices ---- */
	size_t n;
	struct part_candidate list[PART_CANDIDATES_MAX];
	size_t n_others;
	char others[PART_OTHERS_MAX][PROTOCOL_PROFILE_MAX];
	/* how many instances are left of each entry of `list`, and then of each of `others` */
	size_t n_available;
	uint64_t available[PART_CANDIDATES_MAX + PART_OTHERS_MAX];
	/* ---- virtual functions ---- */
	size_t n_vfs, at_vf; /* at_vf: the one that is being asked */
	struct pci_address vfs[PART_VFS_MAX];
	bool current_known;
	uint32_t current; /* the VF's vGPU type; 0: none */
	size_t n_rows;
	struct vgpu_row rows[WORK_ROWS_MAX];
	uint32_t of_type; /* VFs that have the type that the client asked for */
	uint32_t in_use;  /* VFs that have any type, or a lease */
	bool free;	  /* a VF has no type */
	char left[64];	  /* the types that the first such VF offers, "558, 560" */
};

/* One group, or one part. */
struct selected {
	struct pci_address asked;
	struct lease_terms terms;
	struct group_view *view;    /* for whole functions; else NULL */
	struct part_choice *choice; /* for a part; else NULL */
};

struct selection {
	size_t n;
	struct selected items[PROTOCOL_SELECTORS_MAX];
	struct wanted wanted; /* what the claim would get if it were free */
	struct wanted one;    /* the same for the selector that is being decided */
	uint64_t cost;	      /* of deciding it, in the unit of state/users.h */
	size_t n_gids;	      /* the claimant's groups, see selecting_keep_groups() */
	uint32_t gids[LEASE_GIDS_MAX];
};
