/* SPDX-License-Identifier: MIT */
/*
 * The differences between the three kinds of lease: of whole functions (functions.c), of a mediated
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
	END_NOT_OURS,  /* it is another program's, or does not exist, or does not exist yet */
	END_TRY_AGAIN, /* it may succeed in a moment */
	END_STAYS,     /* it did not go back, see struct lease_end */
};

/* The step or device that failed to go back, and the error. */
struct lease_end {
	const char *what;
	struct pci_address address;
	int error; /* errno, or 0 */
	/* The recorded driver, if the reason is that it is not loaded; else NULL. Recorded text. */
	const char *unloaded;
};

struct lease_kind {
	/*
	 * Adds the reads of what must be recorded before the first change, if they may block. NULL:
	 * there are none. asked_text() gets each text that was read. asked() is called when all has
	 * been read; it fails a lease that cannot be lent.
	 */
	int (*add_ask)(struct lease *lease, struct work *work);
	void (*asked_text)(struct lease *lease, const struct pci_address *address,
			   const char *text);
	void (*asked)(struct lease *lease);

	/*
	 * Adds the steps that make the lease ready; if there are none, it is READY at once.
	 * made_text() may be NULL. made() moves the lease to READY, or fails it.
	 */
	int (*add_make)(struct lease *lease, struct work *work);
	/*
	 * The steps of add_make() are known before add_ask()'s have read anything, so one worker
	 * can do both. If that was wrong, asked() sets made_otherwise.
	 */
	bool makes_at_once;
	void (*made_text)(struct lease *lease, const struct pci_address *address, const char *text);
	void (*made)(struct lease *lease, const struct work_result *result);
	/*
	 * Returns true if a worker that has failed made nothing, and what has its place is another
	 * program's, which is never touched. NULL: never.
	 */
	bool (*is_anothers)(const struct work_result *result);
	/* Returns why add_make() failed with -error, or its worker could not be started. Static. */
	const char *(*why_not_begun)(const struct lease *lease, int error);

	/*
	 * Reads the lease's group, NO_GROUP if it has none yet. Returns 0; or -ENODEV if the device
	 * does not exist.
	 */
	int (*group_of)(const struct lease *lease, uint32_t *ret_group);

	/*
	 * Returns true if the device does not exist any more, so that there is nothing to restore.
	 * NULL: never.
	 */
	bool (*is_gone)(const struct lease *lease);
	/*
	 * Adds the steps that give everything back; if there are none, the lease is over.
	 * ended_text() may be NULL.
	 */
	int (*add_end)(struct lease *lease, struct work *work);
	void (*ended_text)(struct lease *lease, const struct pci_address *address,
			   const char *text);
	/* Checks whether the host has everything back. */
	enum lease_end_result (*how_ended)(struct lease *lease, const struct work_result *result,
					   struct lease_end *ret_end);
	/* The same if add_end() failed with -error, or its worker could not be started. */
	enum lease_end_result (*end_not_begun)(struct lease *lease, int error,
					       struct lease_end *ret_end);
	/*
	 * How often to look for a device that was not found after a restart before the lease is
	 * over; 0: as often as at any other end.
	 */
	unsigned looks_after_restart;

	/* Returns true if the lease is of no use to its holder without this function. */
	bool (*needs)(const struct lease *lease, const struct pci_address *address);
};

/* Returns the kind of a lease, from its recorded fields. */
const struct lease_kind *lease_kind_of(const struct lease *lease);
