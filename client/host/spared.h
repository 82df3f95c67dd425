/* SPDX-License-Identifier: MIT */
/*
 * The functions that no prepare rule may take at boot because of their neighbours: those that share
 * an IOMMU group with the console's own display. A claim of such a group is refused, so the group
 * is spared whole. udev cannot find them itself: it sees one function at a time, and can read no
 * attribute of another one.
 */
#pragma once

#include <stddef.h>

#include "client/host/function.h"

struct spared {
	struct function *list; /* sorted by address; bridges and the display itself are not in it */
	size_t n;
};

/* Reads them; `sys` is a descriptor of /sys. Returns 0, or -errno. */
int spared_read(int sys, struct spared *spared);
void spared_done(struct spared *spared);
