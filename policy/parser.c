/* SPDX-License-Identifier: MIT */
/*
 * The parser around the grammar: files in, findings out, and at the end the policy. Owns the policy
 * until it is handed over, and a copy of every file's text, so that a finding at the end can still
 * show its line.
 *
 * It must never hand over a policy with a mistake in it, or one whose names are not all defined. It
 * does no I/O.
 */
#include "config.h"

#include "policy/parser.h"

#include <limits.h>
#include <string.h>

#include "client/common/nearness.h"
#include "client/common/util.h"
#include "policy/classes.h"
#include "policy/findings.h"
#include "policy/keep.h"
#include "policy/review.h"
#include "policy/statement.h"
#include "policy/words.h"

/*
 * The most searches for a near device name, and the names that each looks at: otherwise a long file
 * of typing mistakes would cost the square of its length.
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

/* Reports a mistake of the file as a whole. Returns what policy_parser_file() returns. */
static int refuse_file(struct policy_parser *parser, const char *path, const char *why)
{
	struct source *source = source_new(path, "", 0);
	struct place place = { .source = source, .number = 1, .column = 1 };

	if (!source)
		return parser->error = -ENOMEM;
	finding_report(parser, POLICY_KIND_MISTAKE, &place, "%s", why);
	free(source);
	return 0;
}

static void parse_line(struct policy_parser *parser)
{
	if (lexer_line_too_long(&parser->lexer)) {
		struct place place = finding_place(parser);

		place.column = POLICY_LINE_MAX + 1;
		finding_report(parser, POLICY_KIND_MISTAKE, &place,
			       "expected at most %d bytes in a line", POLICY_LINE_MAX);
		return;
	}
	lexer_next_word(&parser->lexer, &parser->token);
	if (parser->token.kind != TOKEN_END)
		statement_parse(parser);
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
	files = keep_room(parser, policy->files, policy->n_files, &parser->files_room,
			  sizeof(*files));
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

/* A defined name that is near this one, or a word of the language that is; NULL: none is. */
static const char *near_name(struct policy_parser *parser, const char *text)
{
	const struct name *name = parser->names.lists[NAME_DEVICE].first;

	if (parser->hints == HINTS_MAX)
		return NULL;
	parser->hints++;
	for (int i = 0; name && i < HINT_NAMES_MAX; i++, name = name->next)
		if (name->defined && nearness(text, name->text) != NEARNESS_NONE)
			return name->text;
	return words_near(WORD_ATTRIBUTE | WORD_ANY, text);
}

static void report_undefined(struct policy_parser *parser, const struct use *use)
{
	const char *text = use->name->text, *near, *before = "";

	if (classes_find(text)) {
		before = "class ";
		near = text;
	} else {
		near = near_name(parser, text);
	}
	if (near)
		finding_report(parser, POLICY_KIND_MISTAKE, &use->place,
			       "expected a device name that is defined, found " FINDING_WORD
			       "; did you mean \"%s%s\"?",
			       text, before, near);
	else
		finding_report(parser, POLICY_KIND_MISTAKE, &use->place,
			       "expected a device name that is defined, found " FINDING_WORD, text);
}

static void check_names(struct policy_parser *parser)
{
	for (size_t i = 0; i < parser->n_uses; i++)
		if (!parser->uses[i].name->defined)
			report_undefined(parser, &parser->uses[i]);
	for (const struct name *name = parser->names.lists[NAME_DEVICE].first; name;
	     name = name->next)
		if (name->defined && !name->used)
			finding_report(parser, POLICY_KIND_UNUSED, &name->place,
				       "no rule uses the device name " FINDING_WORD
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
	parser->error = policy_review(parser);
	if (parser->error)
		return parser->error;

	*ret_policy = *policy;
	*policy = (struct policy){ 0 };
	return 0;
}
