/* SPDX-License-Identifier: MIT */
/* The parser's own state, shared by parser.c (files, findings) and statement.c (the grammar). */
#pragma once

#include <stdbool.h>
#include <stddef.h>
#include <stdint.h>

#include "policy/lexer.h"
#include "policy/names.h"
#include "policy/policy.h"

/* A word in a message is cut: a finding is one line on a terminal. */
#define PARSER_WORD "\"%.64s\""

struct source {
	struct source *next; /* in the order of the policy's files */
	char *path;
	size_t len;
	char text[];
};

/* Where a rule uses a device name; whether it is defined is known only at the end. */
struct use {
	struct name *name;
	struct place place;
};

struct policy_parser {
	struct policy_parser_ops ops;
	struct policy policy;
	size_t rules_room, files_room, uses_room;
	struct names names;
	struct source *first_source, *last_source;
	struct use *uses;
	size_t n_uses;
	size_t mistakes;
	size_t hints;
	bool too_many_rules, too_many_names, too_many_texts;
	int error; /* sticky -ENOMEM */

	/* The line at hand. */
	struct source *source;
	struct lexer lexer;
	struct token token;
};

/* The line at hand, and in it the column of the word at hand. */
struct place parser_place(const struct policy_parser *parser);

/* Hands one finding out, and counts the mistakes. */
void parser_report(struct policy_parser *parser, enum policy_kind kind, const struct place *place,
		   const char *format, ...) __attribute__((format(printf, 4, 5)));

/*
 * Reports that the word at hand is not `what` was expected. `kinds` are those of enum word_kind
 * that belong here, for "did you mean". Returns false, for the caller to return.
 */
bool parser_expected(struct policy_parser *parser, const char *what, unsigned int kinds);

/*
 * These keep something for the end. False where a limit of the language was met, which they report,
 * or where there is no memory, which they leave in parser->error.
 */
bool parser_add_rule(struct policy_parser *parser, const struct policy_rule *rule,
		     const struct place *place);
bool parser_add_use(struct policy_parser *parser, struct name *name, const struct place *place);

/* The index of a text in the policy's table, where each is once. */
bool parser_add_text(struct policy_parser *parser, const char *text, uint32_t *ret_index);

/* The device name at hand, made known if it is new. NULL as above. */
struct name *parser_device_name(struct policy_parser *parser);

/* Reads the first word of a line that has one, and the rest of it (statement.c). False as above. */
bool parser_statement(struct policy_parser *parser);

/*
 * Warns of rules that are there twice and of allow rules that a deny shadows (review.c), in a
 * policy without mistakes. 0 or -ENOMEM.
 */
int parser_review(struct policy_parser *parser);
