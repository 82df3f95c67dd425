/* SPDX-License-Identifier: MIT */
/* Parts of devices, which their drivers offer to make, as the policy sees them. */
#pragma once

#include <stdbool.h>

#include "client/command/inventory.h"
#include "client/host/profile.h"

/*
 * Fills in the facts of a part for the policy. False: its device is not in the list, since it was
 * unplugged just now.
 */
bool part_facts(const struct inventory *inventory, const struct profile *p,
		struct policy_facts *ret_facts);

/* Prints a line: the part's type and name, its device, how many are left. */
void part_print(const struct profile *p);
