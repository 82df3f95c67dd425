/* SPDX-License-Identifier: MIT */
/* Words that stand for PCI class codes, as "display". Private to policy/. */
#pragma once

#include <stddef.h>
#include <stdint.h>

struct class_word {
	const char *text;
	uint32_t code; /* 24 bits */
	uint32_t mask; /* which of them count */
};

/* The class of this word, or NULL. */
const struct class_word *classes_find(const char *text);

/* The i-th of all words, NULL behind the last. */
const char *classes_text(size_t i);
