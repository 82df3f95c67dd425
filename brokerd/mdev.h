/* SPDX-License-Identifier: MIT */
/*
 * Leases of mdevs, parts of a device that its driver makes: one is made for its lease, below what the
 * claim chose, and removed at its end. All else is as with other leases: the descriptor that is lent is
 * its IOMMU group's.
 *
 *	mdevselect.c	what a claim's selector means, and may it be had
 *	mdevask.c	how many are left, and so which one it becomes
 *	mdev.c		the course: make it, remove it, take it up again
 */
#pragma once

#include "brokerd/claim.h"

#define MDEV_CANDIDATES_MAX 16 /* that a claim of one mdev looks at; those behind are not found */
#define MDEV_OTHERS_MAX 16     /* types of the first one's parent that a refusal tells of */

struct mdev_candidate {
	struct lease_mdev mdev; /* without its uuid */
	struct pci_address address;
	struct lease_terms terms;
	uint32_t limit; /* of the rule */
};

/* What one mdev of a claim may become: the first of which something is left. */
struct mdev_choice {
	size_t n;
	struct mdev_candidate list[MDEV_CANDIDATES_MAX];
	uint64_t memlock; /* the least that one of them grants, so that it does not hang on which it becomes */
	size_t n_others;
	char others[MDEV_OTHERS_MAX][PROTOCOL_PROFILE_MAX];
	/* What the kernel says of those in turn. */
	size_t n_told;
	uint64_t available[MDEV_CANDIDATES_MAX + MDEV_OTHERS_MAX];
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
const char *mdev_why_not_made(int error);
int mdev_make(struct daemon *daemon, struct lease *lease);
void mdev_restore(struct daemon *daemon, struct lease *lease);
void mdev_take_up(struct daemon *daemon, struct lease *lease);
/* Is it there, with the group that was lent? */
bool mdev_is_there(const struct daemon *daemon, const struct lease *lease);
