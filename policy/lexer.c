/* SPDX-License-Identifier: MIT */
/*
 * Cuts a policy file into lines and words. It owns no memory and reports nothing: a wrong byte
 * becomes a token of its own, and the parser reports it with a place. It must never read past the
 * text, which is not NUL-terminated and may hold any byte, and never return a word with a byte that
 * is not printable ASCII: words end up in messages on terminals and in calls to NSS.
 */
#include "config.h"

#include "policy/lexer.h"

#include <string.h>

void lexer_init(struct lexer *lexer, const char *text, size_t len)
{
	*lexer = (struct lexer){
		.end = text + len,
		.next = text,
		.line = text,
		.line_end = text,
		.cursor = text,
	};
}

bool lexer_next_line(struct lexer *lexer)
{
	const char *newline;

	if (lexer->next == lexer->end)
		return false;

	newline = memchr(lexer->next, '\n', (size_t)(lexer->end - lexer->next));
	lexer->line = lexer->next;
	lexer->line_end = newline ? newline : lexer->end;
	lexer->next = newline ? newline + 1 : lexer->end;
	/* Files that passed through Windows: the carriage return is part of the line end. */
	if (lexer->line_end > lexer->line && lexer->line_end[-1] == '\r')
		lexer->line_end--;
	lexer->cursor = lexer->line;
	lexer->number++;
	return true;
}

bool lexer_line_too_long(const struct lexer *lexer)
{
	return lexer->line_end - lexer->line > POLICY_LINE_MAX;
}

static bool is_blank(char c)
{
	return c == ' ' || c == '\t';
}

void lexer_next_word(struct lexer *lexer, struct token *ret_token)
{
	const char *end = lexer_line_too_long(lexer) ? lexer->line : lexer->line_end;
	const char *start = lexer->cursor, *p;
	size_t len;

	while (start < end && is_blank(*start))
		start++;

	ret_token->column = (uint32_t)(start - lexer->line) + 1;
	ret_token->byte = 0;
	for (p = start; p < end && !is_blank(*p) && *p != '#'; p++) {
		if (*p > ' ' && *p <= '~')
			continue;
		ret_token->kind = TOKEN_BYTE;
		ret_token->byte = (unsigned char)*p;
		ret_token->column = (uint32_t)(p - lexer->line) + 1;
		ret_token->text[0] = '\0';
		lexer->cursor = p; /* stays there: the line cannot be read past such a byte */
		return;
	}

	len = (size_t)(p - start);
	ret_token->kind = len ? TOKEN_WORD : TOKEN_END;
	memcpy(ret_token->text, start, len);
	ret_token->text[len] = '\0';
	lexer->cursor = p;
}
