/* SPDX-License-Identifier: MIT */
/* Names around mdevs, which become parts of paths below /sys and go to terminals. */
#pragma once

#include <stdbool.h>
#include <stddef.h>

/* A path's one component of printable ASCII, without "..", that fits into `size` with its NUL. */
bool mdev_is_name(const char *text, size_t size);
