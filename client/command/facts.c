/* SPDX-License-Identifier: MIT */
/*
 * Access to facts, see facts.h. A snapshot is anybody's file: nothing here may rely on a member
 * being there, or being of the type that this version writes.
 */
#include "config.h"

#include "client/command/facts.h"
#include "client/common/util.h"

#include <string.h>
#include <sys/stat.h>

static struct json_object *member(struct json_object *facts, const char *key, json_type type)
{
	struct json_object *value;

	if (!json_object_is_type(facts, json_type_object) ||
	    !json_object_object_get_ex(facts, key, &value) || !json_object_is_type(value, type))
		return NULL;
	return value;
}

const char *facts_text(struct json_object *facts, const char *key)
{
	struct json_object *value = member(facts, key, json_type_string);

	return value ? json_object_get_string(value) : "";
}

int64_t facts_number(struct json_object *facts, const char *key, int64_t otherwise)
{
	struct json_object *value = member(facts, key, json_type_int);

	return value ? json_object_get_int64(value) : otherwise;
}

bool facts_flag(struct json_object *facts, const char *key)
{
	struct json_object *value = member(facts, key, json_type_boolean);

	return value && json_object_get_boolean(value);
}

struct json_object *facts_part(struct json_object *facts, const char *key)
{
	return member(facts, key, json_type_object);
}

struct json_object *facts_list(struct json_object *facts, const char *key)
{
	return member(facts, key, json_type_array);
}

void facts_add_text(struct json_object *facts, const char *key, const char *text)
{
	json_object_object_add(facts, key, *text ? json_object_new_string(text) : NULL);
}

void facts_add_number(struct json_object *facts, const char *key, int64_t number)
{
	json_object_object_add(facts, key, json_object_new_int64(number));
}

void facts_add_flag(struct json_object *facts, const char *key, bool flag)
{
	json_object_object_add(facts, key, json_object_new_boolean(flag));
}

bool facts_read_line(const char *path, char *out, size_t size)
{
	cleanup_file FILE *file = fopen(path, "re");

	if (!file || !fgets(out, (int)size, file)) {
		out[0] = '\0';
		return false;
	}
	out[strcspn(out, "\n")] = '\0';
	return true;
}

int64_t facts_read_number(const char *path, int64_t otherwise)
{
	char line[32], *end;
	long long number;

	if (!facts_read_line(path, line, sizeof(line)))
		return otherwise;
	errno = 0;
	number = strtoll(line, &end, 10);
	return end == line || *end || errno ? otherwise : number;
}

bool facts_path_exists(const char *path)
{
	struct stat st;

	return !stat(path, &st);
}
