/* SPDX-License-Identifier: MIT */
/* Lines and words of a policy file. Private to policy/. */
#pragma once

#include <stdbool.h>
#include <stddef.h>
#include <stdint.h>

#include "policy/policy.h"

enum token_kind {
	TOKEN_END,  /* of the line; a comment counts as the end */
	TOKEN_WORD, /* `text` is the word: printable ASCII without blanks and '#' */
	TOKEN_BYTE, /* `byte` may not stand outside a comment */
};

struct token {
	enum token_kind kind;
	uint32_t column; /* from 1 */
	unsigned char byte;
	char text[POLICY_LINE_MAX + 1];
};

struct lexer {
	const char *end;  /* of the file */
	const char *next; /* where the next line starts */
	const char *line; /* the current line, without its line end */
	const char *line_end;
	const char *cursor; /* in that line */
	uint32_t number;    /* of that line, from 1; 0 before the first */
};

/* The text must be shorter than UINT32_MAX, so that no line number or column can overflow. */
void lexer_init(struct lexer *lexer, const char *text, size_t len);

/* Goes to the next line. False at the end of the file. */
bool lexer_next_line(struct lexer *lexer);

/* Returns true if the current line is longer than POLICY_LINE_MAX, and so has no words. */
bool lexer_line_too_long(const struct lexer *lexer);

/* Reads the next word of the line. At the end of the line it gives TOKEN_END again and again. */
void lexer_next_word(struct lexer *lexer, struct token *ret_token);
