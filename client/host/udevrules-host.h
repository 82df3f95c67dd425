/* SPDX-License-Identifier: MIT */
/*
 * The udev rules of udevrules.h for this host, and files that have such rules. Reads only.
 */
#pragma once

#include "client/host/udevrules.h"

/* The same as udevrules_text(), with the aliases of this host. */
int udevrules_for_host(const struct policy *policy, const struct places *places, char **ret_text);

/*
 * Returns 0 if a file has the rules of this policy, whatever it says of places; 1 if it has others;
 * or -errno if it cannot be read, which is 0 where there is no file and nothing to prepare.
 */
int udevrules_is_stale(const struct policy *policy, const char *path);

/*
 * Compares a file with such a text. Returns 0 if the file has it, 1 if it has another one, or
 * -errno if it cannot be read.
 */
int udevrules_compare(const char *path, const char *text);
