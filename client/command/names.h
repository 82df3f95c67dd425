/* SPDX-License-Identifier: MIT */
/*
 * The names that the policy gives devices, read from its files, which every user may read by
 * default. They need not be in force, so they are good for hints alone.
 */
#pragma once

#include <stddef.h>

#include "policy/policy.h"

/*
 * Reads the files. The caller gives the policy to policy_done(); it is empty if they cannot be
 * read, or have mistakes.
 */
void names_read(struct policy *ret_policy);
