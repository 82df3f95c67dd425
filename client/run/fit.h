/* SPDX-License-Identifier: MIT */
/*
 * Which device, or part of one, fits a wish for memory best: the order of candidates, and what of each sysfs
 * tells every user. For `gpubroker run --memory`: the broker knows nothing of it, since how much memory a
 * part has stands in a driver's prose, which nobody with privileges shall read.
 */
#pragma once

#include <stdbool.h>
#include <stddef.h>
#include <stdint.h>

#include "client/common/address.h"

#define FIT_NO_NODE (-1)

struct fit_candidate {
	char device[32];  /* a function's address, or a name as "mbochs" of what makes parts */
	char profile[64]; /* the type of the part; "": the device whole */
	uint64_t memory;  /* bytes */
	int node;	  /* of the device, or FIT_NO_NODE */
	uint32_t group;	  /* the device's IOMMU group, or NO_GROUP */
	bool is_part;	  /* a virtual function, or a profile */
	bool is_busy;	  /* somebody has it, or all of them; it could be waited for */
};

/*
 * Best first: what has at least so much memory, the least of it before more; of equals what is on the node,
 * before what is on none, before what is on another; a part before a device whole; what is not
 * busy before what is. Behind them the rest, the largest first.
 */
void fit_sort(struct fit_candidate *list, size_t n, uint64_t memory, int node);

/* Of a function's `resource` file: the size of its largest prefetchable memory BAR; 0: it has none. */
uint64_t fit_largest_bar(const char *text);
/*
 * How much memory a function has, as far as everybody may know: what its driver says (amdgpu), or else that BAR,
 * through which a card may show only a part. 0: not known.
 */
uint64_t fit_memory(int sys, const struct pci_address *address);
/* The NUMA node of a function. */
int fit_node(int sys, const struct pci_address *address);
/* That which the calling process' memory is bound to, or else the CPU is of that it runs on. */
int fit_own_node(int sys);
