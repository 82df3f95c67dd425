/* SPDX-License-Identifier: MIT */
/* Which processes have a VFIO group open, as /proc shows it to the caller. */
#pragma once

#include <stddef.h>
#include <stdint.h>

struct holder {
	int pid;
	char command[64]; /* printable */
	char user[64];
};

/* How many there are, of which the first `max` are filled in. Root sees all, others their own. */
size_t holders_find(uint32_t group, struct holder *ret_holders, size_t max);
