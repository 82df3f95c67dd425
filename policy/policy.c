/* SPDX-License-Identifier: MIT */
/*
 * The policy as a whole: its end, and whose subordinate uids are. Runs in the root core under the
 * rules at the top of match.c.
 */
#include "config.h"

#include "policy/policy.h"

#include "client/common/util.h"
#include "policy/index.h"

void policy_done(struct policy *policy)
{
	free(policy->rules);
	free(policy->names);
	free(policy->texts);
	free(policy->files);
	policy_owners_done(&policy->owners);
	index_done(policy);
	*policy = (struct policy){ 0 };
}

void policy_owners_done(struct policy_owners *owners)
{
	free(owners->ranges);
	free(owners->members);
	*owners = (struct policy_owners){ 0 };
}

uint32_t policy_owner(const struct policy *policy, uint32_t uid)
{
	const struct policy_range *ranges = policy->owners.ranges;
	size_t low = 0, high = policy->owners.n_ranges;

	while (low < high) {
		size_t middle = low + (high - low) / 2;

		if (uid < ranges[middle].first)
			high = middle;
		else if (uid - ranges[middle].first < ranges[middle].count)
			return ranges[middle].owner;
		else
			low = middle + 1;
	}
	return uid;
}

bool policy_owners_valid(const struct policy_owners *owners)
{
	uint64_t end = POLICY_RANGE_FIRST; /* of the range before */

	for (size_t i = 0; i < owners->n_ranges; i++) {
		const struct policy_range *range = &owners->ranges[i];

		if (range->first < end || !range->count || !range->owner)
			return false;
		end = (uint64_t)range->first + range->count;
		if (end > UINT32_MAX) /* the last uid means "none" */
			return false;
	}
	for (size_t i = 0; i < owners->n_members; i++) {
		const struct policy_member *member = &owners->members[i];

		if (!member->uid || member->uid == UINT32_MAX || member->gid == UINT32_MAX)
			return false;
		if (i && (member[-1].uid > member->uid ||
			  (member[-1].uid == member->uid && member[-1].gid >= member->gid)))
			return false;
	}
	return true;
}
