/* SPDX-License-Identifier: MIT */
/*
 * Names by text, for the parser: device names with the place of their definition, users and groups
 * with NSS's answer, so that a million lines for one user ask once, and the texts of a policy's
 * table. Owns its copies of the texts. It must stay logarithmic, since every line of a policy looks
 * a name up.
 */
#include "config.h"

#include "policy/names.h"

#include <search.h>
#include <string.h>

#include "client/common/util.h"

static int compare_names(const void *a, const void *b)
{
	const struct name *x = a, *y = b;

	if (x->kind != y->kind)
		return x->kind < y->kind ? -1 : 1;
	return strcmp(x->text, y->text);
}

void names_done(struct names *names)
{
	tdestroy(names->tree, free);
	*names = (struct names){ 0 };
}

struct name *names_find(const struct names *names, enum name_kind kind, const char *text)
{
	const struct name key = { .kind = kind, .text = text };
	void *const *node = tfind(&key, &names->tree, compare_names);

	return node ? *node : NULL;
}

int names_add(struct names *names, enum name_kind kind, const char *text, struct name **ret_name)
{
	size_t size = strlen(text) + 1;
	struct name *name = calloc(1, sizeof(*name) + size);

	if (!name)
		return -ENOMEM;
	name->kind = kind;
	name->text = memcpy(name + 1, text, size);
	if (!tsearch(name, &names->tree, compare_names)) {
		free(name);
		return -ENOMEM;
	}

	if ((size_t)kind < NAME_LISTS) {
		struct name_list *list = &names->lists[kind];

		name->index = (uint32_t)list->n++;
		if (list->last)
			list->last->next = name;
		else
			list->first = name;
		list->last = name;
	}
	*ret_name = name;
	return 0;
}
