/* SPDX-License-Identifier: MIT */
/*
 * Reports of the parser: each finding with its place, and with what may have been meant where a
 * word was not expected. It keeps nothing; what it says is printable ASCII whatever the file holds.
 */
#include "config.h"

#include "policy/findings.h"

#include <stdarg.h>
#include <stdio.h>
#include <string.h>

#include "policy/classes.h"
#include "policy/words.h"

#define FOUND_MAX 512

struct place finding_place(const struct policy_parser *parser)
{
	size_t len = (size_t)(parser->lexer.line_end - parser->lexer.line);

	return (struct place){
		.source = parser->source,
		.line = parser->lexer.line,
		.line_len = (uint32_t)(len < POLICY_LINE_MAX ? len : POLICY_LINE_MAX),
		.number = parser->lexer.number,
		.column = parser->token.column,
	};
}

void finding_report(struct policy_parser *parser, enum policy_kind kind, const struct place *place,
		    const char *format, ...)
{
	char text[FOUND_MAX];
	struct policy_finding finding = {
		.severity = kind == POLICY_KIND_MISTAKE ? POLICY_MISTAKE : POLICY_WARNING,
		.kind = kind,
		.path = place->source->path,
		.line = place->number,
		.column = place->column,
		.text = text,
		.source = place->line,
		.source_len = place->line_len,
	};
	va_list args;

	va_start(args, format);
	vsnprintf(text, sizeof(text), format, args);
	va_end(args);
	if (kind == POLICY_KIND_MISTAKE)
		parser->mistakes++;
	parser->ops.found(parser->ops.userdata, &finding);
}

/* Bytes that an editor of another system puts before the first line. */
static const char *of_encoding(const struct policy_parser *parser)
{
	const unsigned char byte = parser->token.byte;

	if (parser->lexer.number != 1 || parser->token.column != 1)
		return "";
	return byte == 0xef		      ? "; save the file without a byte order mark"
	       : byte == 0xff || byte == 0xfe ? "; save the file as UTF-8, not UTF-16"
					      : "";
}

/* Suggests for a word that is near none: the word that belongs before it, or NULL. */
static const char *missing_before(unsigned int kinds, const char *text)
{
	struct pci_address address;

	if (kinds & WORD_ATTRIBUTE)
		return !pci_address_parse(text, &address) ? "address "
		       : classes_find(text)		  ? "class "
							  : NULL;
	return kinds & WORD_WHO && !words_find(WORD_RESERVED, text) ? "user " : NULL;
}

/* Suggests for "memlock=20G" the words "memlock 20G": only what follows a word may be its value. */
static bool split_value(unsigned int kinds, const char *text, char out[POLICY_LINE_MAX + 1])
{
	const char *equals = strchr(text, '=');
	const struct word *word;

	if (!equals || !equals[1])
		return false;
	memcpy(out, text, strlen(text) + 1);
	out[equals - text] = '\0';
	word = words_find(kinds, out);
	out[equals - text] = ' ';
	return word && word->expected;
}

/* The current word is not `what`; `meant`, unless NULL, may have been. */
static bool report_expected(struct policy_parser *parser, const char *what, const char *before,
			    const char *meant)
{
	const char *text = parser->token.text;
	struct place place = finding_place(parser);

	switch (parser->token.kind) {
	case TOKEN_END:
		finding_report(parser, POLICY_KIND_MISTAKE, &place,
			       "expected %s, found the end of the line", what);
		return false;
	case TOKEN_BYTE:
		finding_report(
			parser, POLICY_KIND_MISTAKE, &place,
			"expected %s, found byte 0x%02x, which may stand only in a comment%s", what,
			parser->token.byte, of_encoding(parser));
		return false;
	case TOKEN_WORD:
		break;
	}
	if (meant)
		finding_report(parser, POLICY_KIND_MISTAKE, &place,
			       "expected %s, found " FINDING_WORD "; did you mean \"%s%.64s\"?",
			       what, text, before, meant);
	else
		finding_report(parser, POLICY_KIND_MISTAKE, &place,
			       "expected %s, found " FINDING_WORD, what, text);
	return false;
}

bool finding_expected(struct policy_parser *parser, const char *what, unsigned int kinds)
{
	const char *text = parser->token.text, *near, *before = NULL;
	char split[POLICY_LINE_MAX + 1];

	if (parser->token.kind != TOKEN_WORD)
		return report_expected(parser, what, "", NULL);
	near = split_value(kinds, text, split) ? split : words_near(kinds, text);
	if (!near) {
		before = missing_before(kinds, text);
		near = before ? text : NULL;
	}
	return report_expected(parser, what, before ? before : "", near);
}

bool finding_value(struct policy_parser *parser, const struct word *word)
{
	struct lexer ahead = parser->lexer;
	struct token next;
	char what[256], joined[2 * POLICY_LINE_MAX + 1], out[UNITS_TEXT];
	const char *near = NULL;

	snprintf(what, sizeof(what), "after \"%s\" %s", word->text, word->expected);
	if (!word->near || parser->token.kind != TOKEN_WORD)
		return finding_expected(parser, what,
					word->value == POLICY_CLASS    ? WORD_CLASS
					: word->value == POLICY_VENDOR ? WORD_VENDOR
								       : 0);
	/* A unit that stands alone behind its number, as "8 h". */
	lexer_next_word(&ahead, &next);
	snprintf(joined, sizeof(joined), "%s%s", parser->token.text,
		 next.kind == TOKEN_WORD ? next.text : "");
	near = word->near(joined, out);
	if (!near)
		near = word->near(parser->token.text, out);
	return report_expected(parser, what, "", near);
}
