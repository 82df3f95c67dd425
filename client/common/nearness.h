/* SPDX-License-Identifier: MIT */
/* How near a misspelled word is to another, for "did you mean". */
#pragma once

#include <stddef.h>
#include <stdint.h>

#define NEARNESS_NONE UINT32_MAX

/*
 * Returns the number of edits that make b of a, a swap of neighbours being one edit and case not
 * counting (so ALLOW is near allow), or NEARNESS_NONE if these are too many for the words' length.
 */
unsigned int nearness(const char *a, const char *b);

/* Returns the nearest of n words, the first of several; NULL if none is near. */
const char *nearness_best(const char *text, const char *const *words, size_t n);
