/* SPDX-License-Identifier: MIT */
/*
 * The order of candidates for --memory, and the facts of each that sysfs shows to every user. For
 * `gpubroker run`: the broker does not know how much memory a part has, since that is in a driver's
 * prose, which no privileged process should parse.
 */
#pragma once

#include <stdbool.h>
#include <stddef.h>
#include <stdint.h>

#include "client/common/address.h"

#define FIT_NO_NODE (-1)

struct fit_candidate {
	char device[32];  /* a function's address, or an mdev parent's name, as "mbochs" */
	char profile[64]; /* the type of the part; "": the device whole */
	uint64_t memory;  /* bytes */
	int node;	  /* NUMA node of the device, or FIT_NO_NODE */
	uint32_t group;	  /* the device's IOMMU group, or NO_GROUP */
	bool is_part;	  /* a virtual function, or a profile */
	bool is_busy;	  /* it is in use, or all of the profile are; a claim could wait for it */
};

/*
 * Sorts, the best first. Those that have at least so much memory come first, the smallest of them
 * first; of equals, those on the node before those on none before those on another; a part before a
 * whole device; a free one before a busy one. Then the others, the largest first.
 */
void fit_sort(struct fit_candidate *list, size_t n, uint64_t memory, int node);

/* The size of the largest prefetchable memory BAR in a `resource` file; 0: there is none. */
uint64_t fit_largest_bar(const char *text);
/*
 * How much memory a function has, as far as every user may know: what its driver says (amdgpu), or
 * the size of that BAR, through which a card may show only a part. 0: not known.
 */
uint64_t fit_memory(int sys, const struct pci_address *address);
/* The NUMA node of a function. */
int fit_node(int sys, const struct pci_address *address);
/*
 * The node that the calling process' memory is bound to, or else that of the CPU on which it runs.
 */
int fit_own_node(int sys);
