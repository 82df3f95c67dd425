/* SPDX-License-Identifier: MIT */
/*
 * The devices that were seen at places. A prepare rule by address or group means a device, but
 * after a card was added the same address may be another one's, as the disk that the host starts
 * from. So the udev rules for the boot hold the ids that were at each such place when they were
 * made, as comments in the file too, and leave anything else alone.
 */
#pragma once

#include <stddef.h>
#include <stdint.h>
#include <stdio.h>

#include "client/host/function.h"
#include "policy/policy.h"

#define PLACE_KEY_MAX 64

/* A function that was seen at a place; if there was none, one entry without `seen`. */
struct place {
	char key[PLACE_KEY_MAX]; /* "address 0000:07:00.0" or "iommu-group 17", or both */
	bool seen;
	struct pci_address address;
	uint16_t vendor, device;
};

struct places {
	struct place *list; /* by key, then address; none twice */
	size_t n;
};

/*
 * Writes the key of a rule, or of a rule with a device line of its name (else NULL). Returns false
 * if it needs none: it has no address and no group, or the ids or serial number of what it means.
 */
bool place_key(const struct policy_match *rule, const struct policy_match *name,
	       char ret_key[PLACE_KEY_MAX]);

/*
 * Reads the places from a file of udev rules; a file that is not there, or that has none, has none.
 * 0 or -errno.
 */
int places_read(const char *path, struct places *ret_places);

/*
 * Completes the places for a policy: those whose keys `kept` has are taken from there; for others
 * functions[] are looked at. 0, -ENOMEM, or -E2BIG.
 */
int places_make(const struct policy *policy, const struct places *kept,
		const struct function *functions, size_t n_functions, struct places *ret_places);
void places_done(struct places *places);

/* The entries of a key: *ret_n of them, from the returned one on. */
const struct place *places_find(const struct places *places, const char *key, size_t *ret_n);

/* Writes an entry as a comment, which places_read() reads. */
void place_print(FILE *out, const struct place *place);
