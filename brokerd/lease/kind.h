/* SPDX-License-Identifier: MIT */
/*
 * What differs between the three kinds of lease: of whole functions (functions.c), of a mediated
 * device (mdev.c), of a vendor's vGPU (vgpu.c). bringup.c, ending.c, restore.c and recover.c do the
 * rest for all of them.
 */
#pragma once

#include <stdbool.h>
#include <stdint.h>

#include "brokerd/process/worker.h"
#include "brokerd/state/lease.h"

enum lease_end_result {
	END_OVER,      /* the host has everything back */
	END_NOT_OURS,  /* what is there is another's, or nothing; or it has not come yet */
	END_TRY_AGAIN, /* it may go in a moment */
	END_STAYS,     /* it did not go, see struct lease_end */
};

/* What did not go back, and why. */
struct lease_end {
	const char *what;
	struct pci_address address;
	int error; /* errno, or 0 */
};

struct lease_kind {
	/*
	 * Adds the reads of what must be recorded, and may block, before the first change. NULL:
	 * nothing has to be read. asked_text() gets what a step has read, asked() comes when all
	 * was read, and fails the lease where it cannot be lent.
	 */
	int (*add_ask)(struct lease *lease, struct work *work);
	void (*asked_text)(struct lease *lease, const struct pci_address *address,
			   const char *text);
	void (*asked)(struct lease *lease);

	/*
	 * Adds the steps that make the lease ready; with none it is ready at once. made_text() may
	 * be NULL. made() moves the lease to READY, or fails it.
	 */
	int (*add_make)(struct lease *lease, struct work *work);
	void (*made_text)(struct lease *lease, const struct pci_address *address, const char *text);
	void (*made)(struct lease *lease, const struct work_result *result);
	/* Returns why add_make() failed with -error, or its worker could not be started. Static. */
	const char *(*why_not_begun)(const struct lease *lease, int error);

	/* Its group, now; NO_GROUP where it has none yet. -ENODEV: it is not there. */
	int (*group_of)(const struct lease *lease, uint32_t *ret_group);

	/* Returns true if there is nothing to end, whatever anybody did. NULL: there always is. */
	bool (*is_gone)(const struct lease *lease);
	/*
	 * Adds the steps that give everything back; with none it is over. ended_text() may be NULL.
	 */
	int (*add_end)(struct lease *lease, struct work *work);
	void (*ended_text)(struct lease *lease, const struct pci_address *address,
			   const char *text);
	/* Looks whether the host has everything back. */
	enum lease_end_result (*how_ended)(struct lease *lease, const struct work_result *result,
					   struct lease_end *ret_end);
	/* The same where add_end() failed with -error, or its worker could not be started. */
	enum lease_end_result (*end_not_begun)(struct lease *lease, int error,
					       struct lease_end *ret_end);
	/*
	 * Looks at the end of a lease that was not found after a restart; 0: as many as at any
	 * other end.
	 */
	unsigned looks_after_restart;

	/* Returns true if the lease is of no use to its holder without this function. */
	bool (*needs)(const struct lease *lease, const struct pci_address *address);
};

/* Returns the kind of a lease, by what is recorded of it. */
const struct lease_kind *lease_kind_of(const struct lease *lease);
