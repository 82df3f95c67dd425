/* SPDX-License-Identifier: MIT */
/*
 * Allotments: devices that root has promised to a user, under a label. The table and its questions,
 * without I/O. The files of claim/ make, record and end them.
 *
 * An allotment reserves the whole IOMMU group of each of its devices. Its user claims them by the
 * policy's rules with `allotted`, and nobody else does by any rule.
 */
#pragma once

#include <stdbool.h>
#include <stddef.h>
#include <stdint.h>
#include <sys/queue.h>

#include "client/host/function.h"
#include "client/wire/protocol.h"
#include "policy/policy.h"

struct devices;
struct lease;

#define ALLOTMENTS_MAX 256 /* labels */

/* One of its devices: the function that root named, and what it was then. */
struct allotted_device {
	struct pci_address address;
	uint16_t vendor, device;
	uint32_t group;
};

struct allotment {
	TAILQ_ENTRY(allotment) link;
	/* ---- recorded in the state directory ---- */
	char label[PROTOCOL_LABEL_MAX];
	uint32_t uid;
	uint64_t since;	 /* seconds since the epoch */
	uint64_t until;	 /* when it is taken away, in the same seconds; 0: never */
	bool retracting; /* it is being taken away: nobody may claim its devices */
	size_t n_devices;
	struct allotted_device devices[PROTOCOL_SELECTORS_MAX];
	char socket[PROTOCOL_SOCKET_NAME]; /* whoever connects there is the allotment; or "" */
	/* With a socket: the groups of its user, by which the policy decides then. */
	uint32_t gid;
	size_t n_gids;
	gid_t gids[PROTOCOL_GIDS_MAX];
	/* ---- not recorded ---- */
	bool damaged;	      /* its record cannot be trusted, so its devices are nobody's */
	bool all;	      /* ... and names no device, so it may mean any */
	uint32_t number;      /* in the order in which they were made or read, from 1 */
	unsigned connections; /* at its socket, those included that are still being closed */
};

struct allotments {
	TAILQ_HEAD(allotment_list, allotment) list; /* by number */
	size_t n;
	uint32_t last_number;
};

void allotments_init(struct allotments *table);
void allotments_done(struct allotments *table);

/* Returns true for a label: 1 to 47 letters, digits and any of "._:@-". */
bool allotment_is_label(const char text[PROTOCOL_LABEL_MAX]);

/* Returns true for a socket's name: letters, digits, any of "_@-", and '.' behind the first. */
bool allotment_is_socket(const char name[PROTOCOL_SOCKET_NAME]);

/* Adds a copy. Returns it, or NULL if there is no memory. The caller has counted them. */
struct allotment *allotments_add(struct allotments *table, const struct allotment *allotment);
/* Sorts those that were read by when they were made, and numbers them anew. */
void allotments_sort(struct allotments *table);
/* Removes an allotment and frees it. */
void allotments_remove(struct allotments *table, struct allotment *allotment);

struct allotment *allotments_find(const struct allotments *table, const char *label);
/* Returns the allotment that has a socket of that name, or NULL. */
struct allotment *allotments_find_socket(const struct allotments *table, const char *name);
/* Returns the first allotment whose number is at least that, or NULL: a cursor. */
struct allotment *allotments_from(const struct allotments *table, uint64_t number);

/*
 * Returns the allotment that reserves a function, by its address or because an allotted device is
 * in its IOMMU group; or NULL. NO_GROUP is no group.
 */
const struct allotment *allotments_of(const struct allotments *table, const struct devices *devices,
				      const struct pci_address *address, uint32_t group);
/* The same for a group, by each of its functions. */
const struct allotment *allotments_of_view(const struct allotments *table,
					   const struct group_view *view);

/* Returns true if it is the user's, by whichever of the owner's uids, and its record is sound. */
bool allotment_is_for(const struct allotment *allotment, const struct policy *policy, uint32_t uid);
/*
 * Returns true if an allotment that reserves the group lets a user claim it: it is the user's, it
 * is not being taken away, and the devices are those that were allotted.
 */
bool allotment_serves(const struct allotment *allotment, const struct policy *policy, uint32_t uid,
		      const struct group_view *view);
/* Returns true if its devices that are, or were, in the group are as they were allotted. */
bool allotment_is_unchanged(const struct allotment *allotment, const struct devices *devices,
			    uint32_t group);
/* Returns true for a lease that was granted by it, whose record has the label. */
bool allotment_is_of(const struct allotment *allotment, const struct lease *lease);

/* Fills the refusal for a device that is allotted. Returns its reason. */
int refuse_allotted(struct message_refusal *ret_refusal, const struct allotment *allotment,
		    const struct pci_address *address, uint32_t group);
