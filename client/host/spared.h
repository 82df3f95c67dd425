/* SPDX-License-Identifier: MIT */
/*
 * The functions that no prepare rule may take at boot although udev does not see why: those that
 * share an IOMMU group with the console's own display, since it sees one function at a time, and
 * such a display itself if no attribute of it shows that. A claim of such a group is refused, so
 * the group is spared whole. What is part of the console only now, as a display with a connector
 * that is on, is not spared: at boot a prepare rule is earlier than the host's driver.
 */
#pragma once

#include <stddef.h>

#include "client/host/function.h"

struct spared {
	/*
	 * Sorted by address, none twice; no bridges. The display itself only if udev does not see
	 * it by its boot_vga.
	 */
	struct function *list;
	size_t n;
};

/* Finds them among the functions of a host. Pure. Returns 0, or -ENOMEM. */
int spared_find(const struct function *functions, size_t n, struct spared *ret_spared);

/* Finds them on this host; `sys` is a descriptor of /sys. Returns 0, or -errno. */
int spared_read(int sys, struct spared *ret_spared);
void spared_done(struct spared *spared);
