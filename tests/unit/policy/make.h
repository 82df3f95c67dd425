/* SPDX-License-Identifier: MIT */
/* For the random tests of the policy: chance, statements and devices made by it, and their text. */
#pragma once

#include <stddef.h>
#include <stdint.h>

#include "tests/unit/policy/model.h"

#define MAKE_NAMES 4 /* the first statements define a name each */

/* The same numbers everywhere for the same seed. */
void make_seed(uint64_t number);
uint32_t make_roll(uint32_t below);

struct statement make_statement(int i);
void make_functions(struct policy_facts *functions, size_t n);
void make_shuffle(struct statement *all, int n);

/* The text, in random spelling; the caller's to free. */
char *make_text(const struct statement *all, int n);
