/* SPDX-License-Identifier: MIT */
/* Keys and the meaning of names, see wanted.h. No I/O; it decides nothing. */
#include "config.h"

#include "brokerd/claim/wanted.h"
#include "client/common/util.h"
#include "client/host/function.h"

#include <stdio.h>
#include <string.h>

/* A bit that no group number has: the kernel counts groups in an int. */
#define NO_FUNCTION (UINT32_C(1) << 31)

/* Returns the index of a key; if the key is not there, wanted->n. */
static size_t find_key(const struct wanted *wanted, uint32_t key)
{
	size_t i = 0;

	while (i < wanted->n && wanted->keys[i] != key)
		i++;
	return i;
}

static void add_key(struct wanted *wanted, uint32_t key)
{
	if (find_key(wanted, key) == wanted->n && wanted->n < ARRAY_SIZE(wanted->keys))
		wanted->keys[wanted->n++] = key;
}

static void add_rule(struct wanted *wanted, const char *rule)
{
	if (wanted->n_rules < ARRAY_SIZE(wanted->rules))
		snprintf(wanted->rules[wanted->n_rules++], sizeof(wanted->rules[0]), "%s", rule);
}

void wanted_add(struct wanted *wanted, uint32_t key, const char *rule)
{
	add_key(wanted, key);
	for (size_t i = 0; i < wanted->n_rules; i++)
		if (!strcmp(wanted->rules[i], rule))
			return;
	add_rule(wanted, rule);
}

void wanted_add_selector(struct wanted *wanted, const struct wanted *one, const char *rule)
{
	for (size_t i = 0; i < one->n; i++)
		add_key(wanted, one->keys[i]);
	if (rule)
		add_rule(wanted, rule);
	else if (one->n_rules == 1)
		add_rule(wanted, one->rules[0]);
}

bool wanted_is_own(const struct wanted *wanted, const struct policy *policy, uint32_t uid,
		   const struct lease_table *leases, const struct devices *devices)
{
	const uint32_t owner = policy_owner(policy, uid);
	bool covered[WANTED_MAX] = { false };
	const struct lease *lease;
	size_t n = 0;

	TAILQ_FOREACH(lease, &leases->list, link) {
		const size_t at[] = {
			find_key(wanted, lease->group),
			lease_is_made(lease)
				? find_key(wanted,
					   wanted_key_of_parent(devices, lease->mdev.parent))
				: wanted->n,
		};

		for (size_t i = 0; i < ARRAY_SIZE(at); i++) {
			if (at[i] == wanted->n)
				continue;
			if (policy_owner(policy, lease->uid) != owner)
				return false;
			n += !covered[at[i]];
			covered[at[i]] = true;
		}
	}
	return n && n == wanted->n;
}

uint32_t wanted_key_of_parent(const struct devices *devices, const char *parent)
{
	const struct device *device = NULL;
	struct pci_address own;
	uint32_t hash = 2166136261; /* FNV-1a */

	if (!pci_address_parse(parent, &own))
		device = devices_find(devices, &own);
	/* The types that a virtual function offers depend on its whole card. */
	if (device && device->record.is_vf)
		device = devices_find(devices, &device->record.physfn);
	if (device && !(device->record.group & NO_FUNCTION))
		return device->record.group;
	for (const char *p = parent; *p; p++)
		hash = (hash ^ (uint8_t)*p) * 16777619;
	return hash | NO_FUNCTION;
}

uint32_t wanted_group(uint32_t key)
{
	return key & NO_FUNCTION ? NO_GROUP : key;
}

bool name_means(const struct policy *policy, uint32_t name, const struct device *device,
		uint64_t *cost)
{
	struct policy_facts facts = device_facts(device);

	return name == POLICY_NO_NAME ? device_is_gpu(device)
				      : policy_name_matches(policy, name, &facts, cost);
}

bool selector_means(const struct policy *policy, const struct selector *selector,
		    const struct device *device)
{
	uint32_t name = POLICY_NO_NAME;

	if (selector->kind == SELECT_NAME && policy_name_find(policy, selector->name, &name))
		return false;
	return (selector->kind == SELECT_NAME || selector->kind == SELECT_ANY) &&
	       name_means(policy, name, device, NULL);
}
