/* SPDX-License-Identifier: MIT */
/*
 * The state of a parser, see policy.h. Private to policy/: parser.c reads files, statement.c is the
 * grammar, findings.c reports, keep.c adds to the policy, review.c looks it over at the end.
 */
#pragma once

#include <stdbool.h>
#include <stddef.h>
#include <stdint.h>

#include "policy/lexer.h"
#include "policy/names.h"
#include "policy/policy.h"

struct source {
	struct source *next; /* in the order of the policy's files */
	char *path;
	size_t len;
	char text[];
};

/* A rule's use of a device name, whose definition may come later. */
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

	/* The current line. */
	struct source *source;
	struct lexer lexer;
	struct token token;
};
