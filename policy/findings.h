/* SPDX-License-Identifier: MIT */
/* Reports of mistakes and warnings in the text. Private to policy/. */
#pragma once

#include "policy/parser.h"
#include "policy/words.h"

/* A word in a message is cut: a finding is one line on a terminal. */
#define FINDING_WORD "\"%.64s\""

/* The current line, and in it the column of the current word. */
struct place finding_place(const struct policy_parser *parser);

/* Hands one finding to the parser's caller, and counts the mistakes. */
void finding_report(struct policy_parser *parser, enum policy_kind kind, const struct place *place,
		    const char *format, ...) __attribute__((format(printf, 4, 5)));

/*
 * Reports that the current word is not `what`, which was expected. `kinds` (enum word_kind) are the
 * words that may stand here, for "did you mean". Returns false, for the caller to return.
 */
bool finding_expected(struct policy_parser *parser, const char *what, unsigned int kinds);

/* The same where the current word should be the value of `word`. */
bool finding_value(struct policy_parser *parser, const struct word *word);
