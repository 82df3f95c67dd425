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
	/* Sorted by address, none twice; no bridges, nor the display itself. */
	struct function *list;
	size_t n;
};

/* Finds them among the functions of a host. Pure. Returns 0, or -ENOMEM. */
int spared_find(const struct function *functions, size_t n, struct spared *ret_spared);

/* Finds them on this host; `sys` is a descriptor of /sys. Returns 0, or -errno. */
int spared_read(int sys, struct spared *ret_spared);
void spared_done(struct spared *spared);
