/* SPDX-License-Identifier: MIT */
/*
 * The usage of devices in memory, see usage-ring.h. Owns the names that the entries share: one that
 * no entry has any more makes room for another.
 */
#include "config.h"

#include "brokerd/record/usage-ring.h"
#include "client/common/util.h"

#include <stdio.h>
#include <stdlib.h>
#include <string.h>

_Static_assert(sizeof(struct usage_packed) == 48, "the ring is most of the core's memory");
_Static_assert(PROTOCOL_NAME_MAX <= PROTOCOL_PROFILE_MAX, "a name may be of either");

struct usage_ring *usage_ring_new(void)
{
	struct usage_ring *ring = malloc(sizeof(*ring));

	/* Writes all of it, so that the memory is there: calloc() would leave that to later. */
	if (ring)
		explicit_bzero(ring, sizeof(*ring));
	return ring;
}

/* Drops the names that no entry has, but for one. */
static void drop_unused(struct usage_ring *ring, uint16_t but)
{
	bool used[USAGE_NAMES] = { false };

	used[but] = true;
	for (size_t i = 0; i < USAGE_KEPT; i++)
		used[ring->entries[i].device] = used[ring->entries[i].profile] = true;
	for (size_t i = 1; i < USAGE_NAMES; i++)
		if (!used[i])
			ring->names[i][0] = '\0';
}

/* Returns the place of a name, 0: there is none. */
static uint16_t find_name(const struct usage_ring *ring, const char *name)
{
	for (uint16_t i = 1; i < USAGE_NAMES; i++)
		if (!strcmp(ring->names[i], name))
			return i;
	return 0;
}

/* Returns the place of a name, which may be new, 0: there is no room. Spares another's place. */
static uint16_t add_name(struct usage_ring *ring, const char *name, uint16_t spare)
{
	uint16_t place = find_name(ring, name);

	if (place)
		return place;
	place = find_name(ring, "");
	if (!place) {
		drop_unused(ring, spare);
		place = find_name(ring, "");
	}
	if (place)
		memcpy(ring->names[place], name, strlen(name) + 1);
	return place;
}

bool usage_ring_put(struct usage_ring *ring, const struct usage_entry *entry)
{
	struct usage_packed *at = &ring->entries[entry->number % USAGE_KEPT];
	struct usage_packed packed = {
		.number = entry->number,
		.lease = entry->lease,
		.since = entry->since,
		.seconds = entry->seconds < UINT32_MAX ? (uint32_t)entry->seconds : UINT32_MAX,
		.uid = entry->uid,
	};
	char text[PCI_ADDRESS_TEXT];

	if (at->number >= entry->number)
		return true;
	/* An address in another form than ours is a name, so that it comes back as it was. */
	if (pci_address_parse(entry->device, &packed.address) ||
	    strcmp(pci_address_format(&packed.address, text), entry->device) != 0) {
		packed.address = (struct pci_address){ 0 };
		packed.device = add_name(ring, entry->device, 0);
		if (!packed.device)
			return false;
	}
	if (entry->profile[0]) {
		packed.profile = add_name(ring, entry->profile, packed.device);
		if (!packed.profile)
			return false;
	}
	*at = packed;
	return true;
}

bool usage_ring_get(const struct usage_ring *ring, uint64_t number, struct usage_entry *ret_entry)
{
	const struct usage_packed *packed = &ring->entries[number % USAGE_KEPT];

	if (!number || packed->number != number)
		return false;
	*ret_entry = (struct usage_entry){
		.number = packed->number,
		.lease = packed->lease,
		.since = packed->since,
		.seconds = packed->seconds,
		.uid = packed->uid,
	};
	if (packed->device)
		snprintf(ret_entry->device, sizeof(ret_entry->device), "%s",
			 ring->names[packed->device]);
	else
		pci_address_format(&packed->address, ret_entry->device);
	snprintf(ret_entry->profile, sizeof(ret_entry->profile), "%s",
		 ring->names[packed->profile]);
	return true;
}
