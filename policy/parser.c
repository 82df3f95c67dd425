/* SPDX-License-Identifier: MIT */
/*
 * The parser around the grammar: files in, findings out, and at the end the policy. Owns the policy
 * until it is handed over, and a copy of every file's text, so that a finding at the end can still
 * show its line.
 *
 * It must never hand over a policy with a mistake in it, or one whose names are not all defined.
 * It does no I/O; the findings go to its caller, in words that are printable ASCII whatever the
 * file holds.
 */
#include "config.h"

#include "policy/parser.h"

#include <limits.h>
#include <stdarg.h>
#include <string.h>

#include "client/common/util.h"
#include "policy/words.h"

#define FOUND_MAX 512
/*
 * Searches for a near device name, and how many names each looks at: else a long file of typing
 * mistakes would cost the square of its length.
 */
#define HINTS_MAX 1000
#define HINT_NAMES_MAX 1000

int policy_parser_new(const struct policy_parser_ops *ops, struct policy_parser **ret_parser)
{
	struct policy_parser *parser;

	if (!ops->user || !ops->group || !ops->found)
		return -EINVAL;
	parser = calloc(1, sizeof(*parser));
	if (!parser)
		return -ENOMEM;
	parser->ops = *ops;
	*ret_parser = parser;
	return 0;
}

struct policy_parser *policy_parser_free(struct policy_parser *parser)
{
	if (!parser)
		return NULL;
	policy_done(&parser->policy);
	names_done(&parser->names);
	while (parser->first_source) {
		struct source *source = parser->first_source;

		parser->first_source = source->next;
		free(source);
	}
	free(parser->uses);
	free(parser);
	return NULL;
}

/* ---- findings ---- */

struct place parser_place(const struct policy_parser *parser)
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

void parser_report(struct policy_parser *parser, enum policy_kind kind, const struct place *place,
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

bool parser_expected(struct policy_parser *parser, const char *what, unsigned int kinds)
{
	const char *text = parser->token.text, *near = NULL, *before = "";
	struct place place = parser_place(parser);
	const struct word *word;
	struct pci_address address;

	switch (parser->token.kind) {
	case TOKEN_END:
		parser_report(parser, POLICY_KIND_MISTAKE, &place,
			      "expected %s, found the end of the line", what);
		return false;
	case TOKEN_BYTE:
		parser_report(parser, POLICY_KIND_MISTAKE, &place,
			      "expected %s, found byte 0x%02x, which may stand only in a comment",
			      what, parser->token.byte);
		return false;
	case TOKEN_WORD:
		break;
	}

	word = words_near(kinds, text);
	if (word) {
		near = word->text;
	} else if ((kinds & WORD_ATTRIBUTE) && pci_address_parse(text, &address) == 0) {
		before = "address ";
		near = text;
	} else if ((kinds & WORD_ATTRIBUTE) && words_find(WORD_CLASS, text)) {
		before = "class ";
		near = text;
	}
	if (near)
		parser_report(parser, POLICY_KIND_MISTAKE, &place,
			      "expected %s, found " PARSER_WORD "; did you mean \"%s%s\"?", what,
			      text, before, near);
	else
		parser_report(parser, POLICY_KIND_MISTAKE, &place,
			      "expected %s, found " PARSER_WORD, what, text);
	return false;
}

/* ---- memory ---- */

/* The array with room for one more. NULL, and parser->error set, where there is no memory. */
static void *grow(struct policy_parser *parser, void *array, size_t count, size_t *room,
		  size_t size)
{
	size_t want = *room ? *room * 2 : 64;
	void *grown;

	if (count < *room)
		return array;
	grown = want > *room ? reallocarray(array, want, size) : NULL;
	if (!grown) {
		parser->error = -ENOMEM;
		return NULL;
	}
	*room = want;
	return grown;
}

bool parser_add_rule(struct policy_parser *parser, const struct policy_rule *rule,
		     const struct place *place)
{
	struct policy *policy = &parser->policy;
	struct policy_rule *rules;

	if (policy->n_rules == POLICY_RULES_MAX) {
		if (!parser->too_many_rules)
			parser_report(parser, POLICY_KIND_MISTAKE, place,
				      "expected at most %d rules in all", POLICY_RULES_MAX);
		parser->too_many_rules = true;
		return false;
	}
	rules = grow(parser, policy->rules, policy->n_rules, &parser->rules_room, sizeof(*rules));
	if (!rules)
		return false;
	policy->rules = rules;
	policy->rules[policy->n_rules++] = *rule;
	return true;
}

bool parser_add_use(struct policy_parser *parser, struct name *name, const struct place *place)
{
	struct use *uses;

	uses = grow(parser, parser->uses, parser->n_uses, &parser->uses_room, sizeof(*uses));
	if (!uses)
		return false;
	parser->uses = uses;
	parser->uses[parser->n_uses++] = (struct use){ .name = name, .place = *place };
	return true;
}

bool parser_add_text(struct policy_parser *parser, const char *text, uint32_t *ret_index)
{
	struct name *name = names_find(&parser->names, NAME_TEXT, text);

	if (!name && parser->names.lists[NAME_TEXT].n == POLICY_TEXTS_MAX) {
		struct place place = parser_place(parser);

		if (!parser->too_many_texts)
			parser_report(parser, POLICY_KIND_MISTAKE, &place,
				      "expected at most %d different drivers, serial numbers and "
				      "paths in all",
				      POLICY_TEXTS_MAX);
		parser->too_many_texts = true;
		return false;
	}
	if (!name && names_add(&parser->names, NAME_TEXT, text, &name) < 0) {
		parser->error = -ENOMEM;
		return false;
	}
	*ret_index = name->index;
	return true;
}

struct name *parser_device_name(struct policy_parser *parser)
{
	struct name *name = names_find(&parser->names, NAME_DEVICE, parser->token.text);

	if (name)
		return name;
	if (parser->names.lists[NAME_DEVICE].n == POLICY_NAMES_MAX) {
		struct place place = parser_place(parser);

		if (!parser->too_many_names)
			parser_report(parser, POLICY_KIND_MISTAKE, &place,
				      "expected at most %d device names in all", POLICY_NAMES_MAX);
		parser->too_many_names = true;
		return NULL;
	}
	if (names_add(&parser->names, NAME_DEVICE, parser->token.text, &name) < 0) {
		parser->error = -ENOMEM;
		return NULL;
	}
	return name;
}

/* ---- files ---- */

static void keep_source(struct policy_parser *parser, struct source *source)
{
	source->next = NULL;
	if (parser->last_source)
		parser->last_source->next = source;
	else
		parser->first_source = source;
	parser->last_source = source;
	parser->source = source;
}

static struct source *source_new(const char *path, const char *text, size_t len)
{
	size_t path_size = strlen(path) + 1;
	struct source *source;

	if (len > SIZE_MAX - sizeof(*source) - path_size)
		return NULL;
	source = malloc(sizeof(*source) + len + path_size);
	if (!source)
		return NULL;
	if (len)
		memcpy(source->text, text, len);
	source->len = len;
	source->path = memcpy(source->text + len, path, path_size);
	return source;
}

/* A mistake of the file as a whole. Returns what policy_parser_file() returns. */
static int refuse_file(struct policy_parser *parser, const char *path, const char *why)
{
	struct source *source = source_new(path, "", 0);
	struct place place = { .source = source, .number = 1, .column = 1 };

	if (!source)
		return parser->error = -ENOMEM;
	parser_report(parser, POLICY_KIND_MISTAKE, &place, "%s", why);
	free(source);
	return 0;
}

static void parse_line(struct policy_parser *parser)
{
	if (lexer_line_too_long(&parser->lexer)) {
		struct place place = parser_place(parser);

		place.column = POLICY_LINE_MAX + 1;
		parser_report(parser, POLICY_KIND_MISTAKE, &place,
			      "expected at most %d bytes in a line", POLICY_LINE_MAX);
		return;
	}
	lexer_next_word(&parser->lexer, &parser->token);
	if (parser->token.kind != TOKEN_END)
		parser_statement(parser);
}

int policy_parser_file(struct policy_parser *parser, const char *path, const char *text, size_t len)
{
	struct policy *policy = &parser->policy;
	struct policy_file *files;
	struct source *source;

	if (parser->error)
		return parser->error;
	if (strlen(path) >= POLICY_FILE_MAX)
		return refuse_file(parser, path, "expected a path of at most 255 bytes");
	if (policy->n_files == POLICY_FILES_MAX)
		return refuse_file(parser, path, "expected at most 65535 files");
	if (len > POLICY_BYTES_MAX)
		return refuse_file(parser, path, "expected a file of at most 1 GiB");
	files = grow(parser, policy->files, policy->n_files, &parser->files_room, sizeof(*files));
	if (!files)
		return parser->error;
	policy->files = files;
	source = source_new(path, text, len);
	if (!source)
		return parser->error = -ENOMEM;
	keep_source(parser, source);
	policy->files[policy->n_files] = (struct policy_file){ 0 };
	memcpy(policy->files[policy->n_files++].path, path, strlen(path));

	lexer_init(&parser->lexer, source->text, source->len);
	while (!parser->error && lexer_next_line(&parser->lexer))
		parse_line(parser);
	return parser->error;
}

/* ---- the end ---- */

/* A defined name that is near this one, or a word that may have been meant; NULL if none is. */
static const char *near_name(struct policy_parser *parser, const char *text)
{
	const struct name *name = parser->names.lists[NAME_DEVICE].first;
	const struct word *word;

	if (parser->hints == HINTS_MAX)
		return NULL;
	parser->hints++;
	for (int i = 0; name && i < HINT_NAMES_MAX; i++, name = name->next)
		if (name->defined && words_are_near(text, name->text))
			return name->text;
	word = words_near(WORD_ATTRIBUTE | WORD_ANY, text);
	return word ? word->text : NULL;
}

static void report_undefined(struct policy_parser *parser, const struct use *use)
{
	const char *text = use->name->text, *near, *before = "";

	if (words_find(WORD_CLASS, text)) {
		before = "class ";
		near = text;
	} else {
		near = near_name(parser, text);
	}
	if (near)
		parser_report(parser, POLICY_KIND_MISTAKE, &use->place,
			      "expected a device name that is defined, found " PARSER_WORD
			      "; did you mean \"%s%s\"?",
			      text, before, near);
	else
		parser_report(parser, POLICY_KIND_MISTAKE, &use->place,
			      "expected a device name that is defined, found " PARSER_WORD, text);
}

static void check_names(struct policy_parser *parser)
{
	for (size_t i = 0; i < parser->n_uses; i++)
		if (!parser->uses[i].name->defined)
			report_undefined(parser, &parser->uses[i]);
	for (const struct name *name = parser->names.lists[NAME_DEVICE].first; name;
	     name = name->next)
		if (name->defined && !name->used)
			parser_report(parser, POLICY_KIND_UNUSED, &name->place,
				      "no rule uses the device name " PARSER_WORD
				      ", so only \"run --gpu %.64s\" can",
				      name->text, name->text);
}

int policy_parser_finish(struct policy_parser *parser, struct policy *ret_policy)
{
	struct policy *policy = &parser->policy;
	const struct name *name;

	if (parser->error)
		return parser->error;
	check_names(parser);
	if (parser->mistakes)
		return parser->mistakes < INT_MAX ? (int)parser->mistakes : INT_MAX;

	policy->names = calloc(parser->names.lists[NAME_DEVICE].n + 1, sizeof(*policy->names));
	policy->texts = calloc(parser->names.lists[NAME_TEXT].n + 1, sizeof(*policy->texts));
	if (!policy->names || !policy->texts)
		return parser->error = -ENOMEM;
	for (name = parser->names.lists[NAME_DEVICE].first; name; name = name->next)
		memcpy(policy->names[policy->n_names++].text, name->text, strlen(name->text) + 1);
	for (name = parser->names.lists[NAME_TEXT].first; name; name = name->next)
		memcpy(policy->texts[policy->n_texts++].text, name->text, strlen(name->text) + 1);
	parser->error = parser_review(parser);
	if (parser->error)
		return parser->error;

	*ret_policy = *policy;
	*policy = (struct policy){ 0 };
	return 0;
}
