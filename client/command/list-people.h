/* SPDX-License-Identifier: MIT */
/*
 * The table of `gpubroker list` for people: which may I have, who has the others, why not. Widths
 * are columns of the terminal, colours are for a terminal alone.
 */
#pragma once

#include <stdbool.h>
#include <stddef.h>

#include "client/gpubroker.h"

struct list_look {
	const char *columns; /* as "gpu,status"; NULL: the usual ones */
	bool tree;	     /* functions below their device, VFs below their PF, and profiles */
	bool bare;	     /* indented, with neither headings nor what stands below the table */
};

/*
 * Prints the devices, n of them, in this order. Asks the broker for leases and waiting claims, and
 * reads /sys and the policy's files for the rest. Returns the exit status.
 */
int list_people(struct gpubroker *handle, const struct gpubroker_device *const *devices, size_t n,
		const struct list_look *look);

#define LIST_WIDE "address,model,driver,group,node,path,serial,name,you,status"
