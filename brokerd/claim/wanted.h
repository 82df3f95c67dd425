/* SPDX-License-Identifier: MIT */
/* The keys that a claim competes for, its rules, and the devices that its selectors mean. */
#pragma once

#include <stdbool.h>
#include <stddef.h>
#include <stdint.h>

#include "brokerd/state/devices.h"
#include "brokerd/state/lease.h"
#include "brokerd/state/verdict.h"
#include "client/wire/protocol.h"
#include "policy/policy.h"

/* Room for all leases, groups that are being prepared, and reserved groups. */
#define WANTED_MAX 1024

/*
 * Keys that a waiting claim competes for. For a whole function: its IOMMU group. For a mediated
 * device or vGPU: the group of its parent (of the parent's PF if that is a VF). For a parent that
 * is not a PCI function: a hash of its name, outside the range of groups; a collision only makes
 * somebody wait longer.
 */
struct wanted {
	size_t n;
	uint32_t keys[WANTED_MAX];
	/*
	 * The rules ("file:line") by which the claim would get its devices, one for each device
	 * whose rule is certain: it is the only one for all candidates, or the device is free.
	 */
	size_t n_rules;
	char rules[PROTOCOL_SELECTORS_MAX][RULE_ORIGIN_MAX];
	bool own; /* the claim waits for leases of its own user, and for nobody else's */
};

/* Adds a key, and the rule by which the claim would get what it stands for. */
void wanted_add(struct wanted *wanted, uint32_t key, const char *rule);
/*
 * Adds what one selector wants. `rule` is the rule of the device that was chosen for it; NULL: none
 * is free.
 */
void wanted_add_selector(struct wanted *wanted, const struct wanted *one, const char *rule);
/*
 * Returns true if each key has a lease, and all leases of all keys are the user's, by whichever of
 * the owner's uids.
 */
bool wanted_is_own(const struct wanted *wanted, const struct policy *policy, uint32_t uid,
		   const struct lease_table *leases, const struct devices *devices);

/* Returns the key of the parts that a parent makes. */
uint32_t wanted_key_of_parent(const struct devices *devices, const char *parent);
/* Returns the IOMMU group that a key stands for, or NO_GROUP. */
uint32_t wanted_group(uint32_t key);

/*
 * Returns true if a policy name, or POLICY_NO_NAME for "any", means the device. Adds the cost, in
 * the unit of state/users.h, to *cost.
 */
bool name_means(const struct policy *policy, uint32_t name, const struct device *device,
		uint64_t *cost);
/* The same for a selector by name, or "any"; always false for addresses and groups. */
bool selector_means(const struct policy *policy, const struct selector *selector,
		    const struct device *device);
