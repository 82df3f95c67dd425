/* SPDX-License-Identifier: MIT */
/*
 * Names of mdev types and their parents, which become parts of paths below /sys and go to
 * terminals.
 */
#pragma once

#include <stdbool.h>
#include <stddef.h>

/*
 * Returns true for one component of a path, of printable ASCII without "..", that fits into `size`
 * bytes with its NUL.
 */
bool mdev_is_name(const char *text, size_t size);
