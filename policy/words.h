/* SPDX-License-Identifier: MIT */
/* The vocabulary of the language, as a table. Private to policy/. */
#pragma once

#include <stdbool.h>
#include <stddef.h>
#include <stdint.h>

#include "policy/policy.h"
#include "policy/units.h"
#include "policy/values.h"

/* Where a word may stand. */
enum word_kind {
	WORD_STATEMENT = 1 << 0,
	WORD_WHO = 1 << 1,
	WORD_CLAIM = 1 << 2,
	WORD_ANY = 1 << 3, /* the `any` that stands for all devices */
	WORD_ATTRIBUTE = 1 << 4,
	WORD_LIMIT = 1 << 5,  /* of allow */
	WORD_OPTION = 1 << 6, /* of prepare */
	WORD_CLASS = 1 << 7,  /* a word of classes.h, only for words_near() */
	WORD_VENDOR = 1 << 8, /* an id, only for words_near() */

	WORD_RESERVED = WORD_STATEMENT | WORD_WHO | WORD_CLAIM | WORD_ANY | WORD_ATTRIBUTE |
			WORD_LIMIT | WORD_OPTION,
};

/* Limits have no bit in struct policy_match; these come after those of enum policy_attribute. */
#define WORD_MEMLOCK (1U << 16)
#define WORD_BOOT_VGA (1U << 17)
#define WORD_LEASES (1U << 18)
#define WORD_LIFETIME (1U << 19)
#define WORD_VFIO_DRIVER (1U << 20)
#define WORD_REQUIRE_RESET (1U << 21)
#define WORD_VFS (1U << 22)
#define WORD_VF_EXEC_QUANTUM (1U << 23)
#define WORD_VF_PREEMPT_TIMEOUT (1U << 24)
#define WORD_IN_USE (1U << 25)
#define WORD_KILL (1U << 26)

struct word {
	const char *text;
	enum word_kind kind;
	uint32_t value; /* statement: its verb; who: enum policy_who; attribute and limit: its bit,
			   which shows that a word is there twice */
	const char *expected; /* what must follow, for the message; NULL: nothing does */
	/* a value that may stand behind a `=` in the same word, for the message; NULL: none may */
	const char *optional;
	/* Reads the following word (NULL if there is none) into the rule; false if it is wrong. */
	bool (*read)(const char *text, struct policy_rule *rule);
	/*
	 * Or, for a word of the table of texts: its spelling, and the field of the rule for its
	 * index.
	 */
	value_speller spell;
	size_t field;
	/* Guesses the value that a wrong one means, for the message; NULL where nothing is near. */
	char *(*near)(const char *text, char out[UNITS_TEXT]);
};

/* The word of one of these kinds with this very text; NULL if there is none. */
const struct word *words_find(unsigned int kinds, const char *text);

/* The nearest word of these kinds, or NULL where none is near. */
const char *words_near(unsigned int kinds, const char *text);

/* Writes "one, two or three", all the words of these kinds. Returns out. */
char *words_list(unsigned int kinds, char *out, size_t size);

/* Returns true if a device may have this name. Reserved words may not. */
bool words_is_name(const char *text);
