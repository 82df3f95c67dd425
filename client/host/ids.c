/* SPDX-License-Identifier: MIT */
/*
 * Ranges of ids, see ids.h. It must never leave an id to one of several owners, nor make a range
 * that policy_owners_valid() refuses.
 */
#include "config.h"

#include "client/host/ids.h"
#include "client/common/util.h"

#include <errno.h>
#include <stdbool.h>

int ids_compare(const void *a, const void *b)
{
	const uint32_t x = *(const uint32_t *)a, y = *(const uint32_t *)b;

	return x < y ? -1 : x > y;
}

size_t ids_sort(uint32_t *ids, size_t n)
{
	size_t kept = 0;

	if (n)
		qsort(ids, n, sizeof(*ids), ids_compare);
	for (size_t i = 0; i < n; i++)
		if (!kept || ids[kept - 1] != ids[i])
			ids[kept++] = ids[i];
	return kept;
}

/* The pieces between all ends of ranges and accounts: in each, all ids have the same owners. */
struct pieces {
	uint32_t *starts; /* n, sorted; the last is an end */
	uint32_t *owners; /* 0: none */
	size_t n;
};

struct joining {
	const uint32_t *accounts;
	size_t n_accounts;
	ids_found found;
	void *userdata;
	struct pieces pieces;
};

/* Returns the index of the first piece that starts at or after an id. */
static size_t piece_at(const struct pieces *pieces, uint64_t start)
{
	size_t low = 0, high = pieces->n;

	while (low < high) {
		size_t middle = low + (high - low) / 2;

		if (pieces->starts[middle] < start)
			low = middle + 1;
		else
			high = middle;
	}
	return low;
}

static uint32_t start_of(const struct id_range *range)
{
	return range->first < POLICY_RANGE_FIRST ? POLICY_RANGE_FIRST : (uint32_t)range->first;
}

static int cut_pieces(struct joining *joining, const struct id_range *ranges, size_t n)
{
	const size_t room = 2 * (n + joining->n_accounts) + 1;
	struct pieces *pieces = &joining->pieces;
	size_t n_starts = 0;

	pieces->starts = calloc(room, sizeof(*pieces->starts));
	pieces->owners = calloc(room, sizeof(*pieces->owners));
	if (!pieces->starts || !pieces->owners)
		return -ENOMEM;
	for (size_t i = 0; i < n; i++) {
		if (start_of(&ranges[i]) >= ranges[i].end)
			continue;
		pieces->starts[n_starts++] = start_of(&ranges[i]);
		pieces->starts[n_starts++] = (uint32_t)ranges[i].end;
	}
	for (size_t i = 0; i < joining->n_accounts; i++) {
		if (joining->accounts[i] == UINT32_MAX)
			continue;
		pieces->starts[n_starts++] = joining->accounts[i];
		pieces->starts[n_starts++] = joining->accounts[i] + 1;
	}
	pieces->n = ids_sort(pieces->starts, n_starts);
	return 0;
}

static bool is_account(const struct joining *joining, uint32_t id)
{
	return joining->n_accounts && bsearch(&id, joining->accounts, joining->n_accounts,
					      sizeof(*joining->accounts), ids_compare);
}

static void report(const struct joining *joining, bool *told, enum id_fault fault, size_t which,
		   uint32_t id)
{
	if (!*told)
		joining->found(joining->userdata, fault, which, id);
	*told = true;
}

/* Gives the pieces of one range to its owner. */
static void give_pieces(const struct joining *joining, const struct id_range *range, size_t which)
{
	const struct pieces *pieces = &joining->pieces;
	bool low = false, account = false, shared = false;

	if (range->first < range->end && range->first < POLICY_RANGE_FIRST)
		report(joining, &low, ID_OF_SYSTEM, which, (uint32_t)range->first);
	for (size_t i = piece_at(pieces, start_of(range));
	     i < pieces->n && pieces->starts[i] < range->end; i++) {
		uint32_t *owner = &pieces->owners[i];

		if (is_account(joining, pieces->starts[i])) {
			if (pieces->starts[i] != range->owner)
				report(joining, &account, ID_IS_ACCOUNT, which, pieces->starts[i]);
		} else if (!*owner || *owner == range->owner) {
			*owner = range->owner;
		} else {
			report(joining, &shared, ID_SHARED, which, pieces->starts[i]);
			*owner = POLICY_NOBODY;
		}
	}
}

/* Makes ranges of the pieces; neighbours of one owner become one. */
static int join_pieces(const struct pieces *pieces, struct policy_owners *owners)
{
	owners->ranges = calloc(pieces->n + 1, sizeof(*owners->ranges));
	if (!owners->ranges)
		return -ENOMEM;
	for (size_t i = 0; i + 1 < pieces->n; i++) {
		const uint32_t first = pieces->starts[i], count = pieces->starts[i + 1] - first;
		struct policy_range *next = owners->ranges + owners->n_ranges;

		if (!pieces->owners[i])
			continue;
		if (owners->n_ranges && next[-1].owner == pieces->owners[i] &&
		    next[-1].first + next[-1].count == first) {
			next[-1].count += count;
			continue;
		}
		if (owners->n_ranges == POLICY_RANGES_MAX)
			return -E2BIG;
		*next = (struct policy_range){ first, count, pieces->owners[i] };
		owners->n_ranges++;
	}
	return 0;
}

int ids_join(const struct id_range *ranges, size_t n, const uint32_t *accounts, size_t n_accounts,
	     ids_found found, void *userdata, struct policy_owners *owners)
{
	struct joining joining = {
		.accounts = accounts, .n_accounts = n_accounts, .found = found, .userdata = userdata
	};
	int r = cut_pieces(&joining, ranges, n);

	for (size_t i = 0; !r && i < n; i++)
		give_pieces(&joining, &ranges[i], i);
	if (!r)
		r = join_pieces(&joining.pieces, owners);
	free(joining.pieces.starts);
	free(joining.pieces.owners);
	return r;
}
