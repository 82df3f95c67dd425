/* SPDX-License-Identifier: MIT */
/* JSON as the commands write it: NULL where a value is not known, which becomes null. */
#pragma once

#include <json.h>
#include <stdint.h>

/* A string, null for "". */
struct json_object *json_out_text(const char *text);

/* A number, null for 0. */
struct json_object *json_out_number(uint64_t number);

/* The name of a user, null where the host knows none. */
struct json_object *json_out_user(uint32_t uid);

/* Prints the object in many lines, or as one line, and frees it. */
void json_out_print(struct json_object *object);
void json_out_line(struct json_object *object);
