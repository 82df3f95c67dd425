/* SPDX-License-Identifier: MIT */
/* Keys and the meaning of names, see wanted.h. No I/O; it decides nothing. */
#include "config.h"

#include "brokerd/claim/wanted.h"
#include "client/common/util.h"
#include "client/host/function.h"

/* A bit that no group number has: the kernel counts groups in an int. */
#define NO_FUNCTION (UINT32_C(1) << 31)

void wanted_add(struct wanted *wanted, uint32_t key)
{
	for (size_t i = 0; i < wanted->n; i++)
		if (wanted->keys[i] == key)
			return;
	if (wanted->n < ARRAY_SIZE(wanted->keys))
		wanted->keys[wanted->n++] = key;
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

bool name_means(const struct policy *policy, uint32_t name, const struct device *device)
{
	struct policy_facts facts = device_facts(device);

	return name == POLICY_NO_NAME ? device_is_gpu(device)
				      : policy_name_matches(policy, name, &facts);
}

bool selector_means(const struct policy *policy, const struct selector *selector,
		    const struct device *device)
{
	uint32_t name = POLICY_NO_NAME;

	if (selector->kind == SELECT_NAME && policy_name_find(policy, selector->name, &name))
		return false;
	return (selector->kind == SELECT_NAME || selector->kind == SELECT_ANY) &&
	       name_means(policy, name, device);
}
