/* SPDX-License-Identifier: MIT */
/* For the random tests of the policy: chance, statements and devices made by it, and their text. */
#pragma once

#include <stddef.h>
#include <stdint.h>

#include "tests/unit/policy/model.h"

#define MAKE_NAMES 4 /* each of the first statements defines a name */

/* The same seed gives the same numbers everywhere. */
void make_seed(uint64_t number);
uint32_t make_roll(uint32_t below);

struct statement make_statement(int i);
void make_functions(struct policy_facts *functions, size_t n);
void make_shuffle(struct statement *all, int n);

/* Returns the text in a random spelling; the caller frees it. */
char *make_text(const struct statement *all, int n);
