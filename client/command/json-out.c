/* SPDX-License-Identifier: MIT */
/* Writes JSON to standard output, see json-out.h. */
#include "config.h"

#include "client/command/json-out.h"

#include <pwd.h>
#include <stdio.h>

struct json_object *json_out_text(const char *text)
{
	return *text ? json_object_new_string(text) : NULL;
}

struct json_object *json_out_number(uint64_t number)
{
	return number ? json_object_new_int64((int64_t)number) : NULL;
}

struct json_object *json_out_user(uint32_t uid)
{
	const struct passwd *user = getpwuid((uid_t)uid);

	return user ? json_object_new_string(user->pw_name) : NULL;
}

static void print_as(struct json_object *object, int flags)
{
	puts(json_object_to_json_string_ext(object, flags | JSON_C_TO_STRING_NOSLASHESCAPE));
	json_object_put(object);
}

void json_out_print(struct json_object *object)
{
	print_as(object, JSON_C_TO_STRING_PRETTY);
}

void json_out_line(struct json_object *object)
{
	print_as(object, JSON_C_TO_STRING_PLAIN);
}
