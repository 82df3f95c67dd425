/* SPDX-License-Identifier: MIT */
/* Device names, texts, and the answers about users and groups. Private to policy/. */
#pragma once

#include <stdbool.h>
#include <stddef.h>
#include <stdint.h>

enum name_kind { NAME_DEVICE, NAME_TEXT, NAME_USER, NAME_GROUP };
#define NAME_LISTS 2 /* for the first two kinds, which have an index, in its order */

struct source;

/* A place in a file's text, which the parser keeps until its end. */
struct place {
	const struct source *source;
	const char *line;
	uint32_t line_len;
	uint32_t number; /* of the line */
	uint32_t column;
};

struct name {
	enum name_kind kind;
	const char *text;
	struct name *next; /* of the same kind, in order of appearance */

	uint32_t index; /* NAME_DEVICE, NAME_TEXT */

	/* NAME_DEVICE */
	bool used;
	bool defined;
	struct place place; /* of the first definition */

	/* NAME_USER, NAME_GROUP: NSS's answer */
	int answer;
	uint32_t id;
};

struct name_list {
	struct name *first, *last;
	size_t n;
};

struct names {
	void *tree; /* of tsearch(3) */
	struct name_list lists[NAME_LISTS];
};

void names_done(struct names *names);

/* NULL where there is none. */
struct name *names_find(const struct names *names, enum name_kind kind, const char *text);

/* Adds a name that is not there yet; all but kind, text and index is 0. -ENOMEM. */
int names_add(struct names *names, enum name_kind kind, const char *text, struct name **ret_name);
