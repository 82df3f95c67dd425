/* SPDX-License-Identifier: MIT */
/*
 * The usage of devices in memory: the last USAGE_KEPT entries, packed, since they are most of what
 * the core needs. All of the memory is taken at the start: what a daemon needs does not grow with
 * its leases.
 */
#pragma once

#include <stdbool.h>
#include <stdint.h>

#include "client/common/address.h"
#include "client/wire/protocol.h"

#define USAGE_KEPT 16384
#define USAGE_NAMES                                                                                \
	256 /* of parents that are no PCI functions, and of profiles: drivers have few */

struct usage_entry {
	uint64_t number; /* counts the entries from 1, also over restarts; 0: there is none */
	uint64_t lease, since, seconds;
	uint32_t uid;
	char device[PROTOCOL_NAME_MAX];	    /* a PCI address, or an mdev parent as "mtty" */
	char profile[PROTOCOL_PROFILE_MAX]; /* "": the whole device */
};

/* An entry as it is kept. */
struct usage_packed {
	uint64_t number, lease, since;
	struct pci_address address; /* the device, where it has no name */
	uint32_t seconds, uid;
	uint16_t device, profile; /* places in `names`, 0: none */
};

struct usage_ring {
	struct usage_packed entries[USAGE_KEPT];       /* at the entry's number modulo USAGE_KEPT */
	char names[USAGE_NAMES][PROTOCOL_PROFILE_MAX]; /* "": free; the first is never used */
};

/* Returns an empty ring, or NULL. The caller frees it by free(). */
struct usage_ring *usage_ring_new(void);
/*
 * Keeps an entry, unless a later one has its place. Returns false if there is no room for another
 * name.
 */
bool usage_ring_put(struct usage_ring *ring, const struct usage_entry *entry);
/* Returns false if the ring does not have that number. */
bool usage_ring_get(const struct usage_ring *ring, uint64_t number, struct usage_entry *ret_entry);
