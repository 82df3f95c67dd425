/* SPDX-License-Identifier: MIT */
/*
 * Leases of parts of a device that its driver makes: an mdev, or of a virtual function a vendor's vGPU. One is
 * made for its lease, below what the claim chose, and removed at its end. All else is as with other leases:
 * the descriptor that is lent is its IOMMU group's.
 *
 *	mdevselect.c	what a claim's selector means, and may it be had
 *	mdevask.c	how many are left, and so which one it becomes
 *	mdev.c		the course: make it, remove it, take it up again
 *	vgpuask.c	what a virtual function could be made, and so which one it becomes
 *	vgpu.c		where the course of a vGPU is another than an mdev's
 */
#pragma once

#include "brokerd/claim/claim.h"
#include "brokerd/process/worker.h"

#define VGPU_CANDIDATES_MAX 64 /* virtual functions that a claim asks */
#define VGPU_TYPE_MAX 16
#define MDEV_CANDIDATES_MAX 16 /* that a claim of one mdev looks at; those behind are not found */
#define MDEV_OTHERS_MAX 16     /* types of the first one's parent that a refusal tells of */

struct mdev_candidate {
	struct lease_mdev mdev; /* without its uuid */
	struct pci_address address;
	struct lease_terms terms;
	uint32_t limit; /* of the rule */
};

/*
 * What one part of a claim may become: the first mdev of which something is left, or what the first virtual
 * function offers that is meant and allowed. What one offers only its driver can say, so of those the policy
 * is asked when a worker has read it.
 */
struct mdev_choice {
	size_t n;
	struct mdev_candidate list[MDEV_CANDIDATES_MAX];
	uint64_t memlock; /* the least that one of them grants, so that it does not hang on which it becomes */
	size_t n_others;
	char others[MDEV_OTHERS_MAX][PROTOCOL_PROFILE_MAX];
	/* What the kernel says of those in turn. */
	size_t n_told;
	uint64_t available[MDEV_CANDIDATES_MAX + MDEV_OTHERS_MAX];
	/* What the lease has become, see mdev_become(); no parent: that is not known yet. */
	struct mdev_candidate chosen;
	struct selector selector; /* what was asked for */
	/* Of virtual functions. */
	size_t n_vfs, at_vf;	  /* and the one that is being asked */
	struct pci_address vfs[VGPU_CANDIDATES_MAX];
	bool current_told;
	uint32_t current; /* what it is; 0: nothing */
	size_t n_rows;
	struct vgpu_row {
		char type[VGPU_TYPE_MAX];
		char name[PROTOCOL_PROFILE_MAX];
	} rows[WORK_ROWS_MAX];
	uint32_t of_type;		/* how many are what was asked for, */
	uint32_t in_use;		/* and how many are anything */
	bool free;			/* one is nothing */
	char left[64];			/* what that one offers, "558, 560" */
	struct message_refusal nearest; /* its reason is 0 while there is none */
};

/* ---- mdevselect.c ---- */

/* Does the selector mean an mdev, and not a device whole? */
bool mdev_is_meant(const struct daemon *daemon, const struct selector *selector);
/*
 * What it may become, by policy and by what there is; nothing has changed. 0 with *ret_choice, the caller's
 * to free, or the reason, with *ret_refusal.
 */
int mdev_select(struct claim *claim, const struct policy_subject *subject,
		const struct selector *selector, const struct policy_usage *usage,
		struct mdev_choice **ret_choice, struct message_refusal *ret_refusal);
/* Would the policy in force grant the lease? */
bool mdev_is_allowed(const struct daemon *daemon, const struct lease *lease,
		     const struct policy_subject *subject);
/*
 * Looks at the rows that the VF at turn offers: the lease becomes the first that is meant and allowed. False: there
 * is none, and the choice knows why.
 */
bool vgpu_choose(struct lease *lease, struct mdev_choice *choice);
/* Why none could be had of any VF. */
struct message_refusal vgpu_refusal(struct lease *lease, const struct mdev_choice *choice);
/* The lease of an mdev that a function of the group makes, or is to make; or NULL. */
struct lease *mdev_lease_below(const struct daemon *daemon, const struct group_view *view);

/* ---- mdev.c, mdevask.c: what lending.c and restore.c do for other leases ---- */

/* Before the process is confined: whence numbers of mdevs are taken. 0, or -errno. */
int mdev_init(struct daemon *daemon);
/* Gives the lease the number of the mdev that will be its. */
void mdev_number(struct daemon *daemon, struct lease *lease);

int mdev_ask(struct daemon *daemon, struct lease *lease);
/* Fails the claim of a lease: `error` is what the driver said, or 0 where it was asked in time. */
void mdev_refuse_none_left(struct lease *lease, const struct mdev_choice *choice, int error);
/* Why it could not be begun to make one. */
const char *mdev_why_not_made(const struct lease *lease, int error);
int mdev_make(struct daemon *daemon, struct lease *lease);
void mdev_restore(struct daemon *daemon, struct lease *lease);
void mdev_take_up(struct daemon *daemon, struct lease *lease);
/* What the lease's claim has for it, or NULL. */
struct mdev_choice *mdev_choice_of(const struct lease *lease);
void mdev_become(struct lease *lease, const struct mdev_candidate *candidate);
/* What a claim says of memory once all of it is known. False: it has failed. */
bool mdev_settle(struct claim *claim);
/* Is it there, with the group that was lent? */
bool mdev_is_there(const struct daemon *daemon, const struct lease *lease);

/* ---- what kind it is ---- */

enum part_end {
	PART_GONE,	/* it is over */
	PART_NOT_OURS,	/* what is there is another's, or nothing; or it has not come yet */
	PART_TRY_AGAIN, /* in a moment it may go */
	PART_STAYS,
};

/* One of the two kinds, for mdev.c. Steps are a worker's. */
struct part_ops {
	const char *making, *ending; /* the steps' names */
	const char *lacks;	     /* what is wrong where it is made and has no group */
	int (*add_make)(const struct kernel *kernel, struct work *work, const struct lease *lease);
	int (*add_end)(const struct kernel *kernel, struct work *work, const struct lease *lease);
	/* It was not made, and what is there in its place is another's: never touched again. */
	bool (*is_anothers)(const struct work_result *result);
	/* Somebody else was faster. */
	bool (*is_none_left)(const struct lease *lease, const struct work_result *result);
	/* Its group; NO_GROUP where it has none yet. -ENODEV: it is not there. */
	int (*group_of)(int sys, const struct lease *lease, uint32_t *ret_group);
	/* There is nothing to end, whatever anybody did. */
	bool (*is_gone)(const struct daemon *daemon, const struct lease *lease);
	enum part_end (*how_ended)(const struct daemon *daemon, const struct lease *lease,
				   const struct work_result *result);
};

extern const struct part_ops vgpu_part;
/* ---- vgpuask.c ---- */
int vgpu_ask(struct daemon *daemon, struct lease *lease);
/* A row of creatable_vgpu_types as work_add_table() has it, "557 NVIDIA RTX5880-Ada-1Q". */
bool vgpu_row(const char *line, char ret_text[WORK_TEXT_MAX]);
bool vgpu_row_parse(const char *text, struct vgpu_row *ret_row);
