/* SPDX-License-Identifier: MIT */
/* Ranges of ids: which range each id is in, where several lines say so. No I/O. */
#pragma once

#include <stddef.h>
#include <stdint.h>

#include "policy/policy.h"

/* A range that a line gives to its owner; an empty one says nothing. */
struct id_range {
	uint64_t first, end; /* end is past the last, and at most UINT32_MAX */
	uint32_t owner;
};

enum id_fault {
	ID_OF_SYSTEM,  /* the range has ids below POLICY_RANGE_FIRST; they are left out */
	ID_IS_ACCOUNT, /* `id` is an account of its own; it is left out */
	ID_SHARED,     /* `id` is in a range of another owner too; it is POLICY_NOBODY's */
};

/* Each fault of a range, the which-th, once. */
typedef void (*ids_found)(void *userdata, enum id_fault fault, size_t which, uint32_t id);

/*
 * Makes the ranges of *owners, which are valid for policy_owners_valid(). accounts[] are sorted,
 * and are in no range. Returns 0, -ENOMEM, or -E2BIG.
 */
int ids_join(const struct id_range *ranges, size_t n, const uint32_t *accounts, size_t n_accounts,
	     ids_found found, void *userdata, struct policy_owners *owners);

/* Sorts ids, and keeps each once. Returns how many are left. */
size_t ids_sort(uint32_t *ids, size_t n);
int ids_compare(const void *a, const void *b); /* for qsort() and bsearch() of uint32_t */
