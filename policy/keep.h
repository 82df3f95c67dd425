/* SPDX-License-Identifier: MIT */
/*
 * Additions to the policy that a parser makes. Private to policy/. Each fails where a limit of the
 * language is reached, which it reports, or where there is no memory, which it leaves in
 * parser->error.
 */
#pragma once

#include "policy/parser.h"

/*
 * Returns the array of `count` elements of `size` bytes with room for one more, or NULL with
 * parser->error set.
 */
void *keep_room(struct policy_parser *parser, void *array, size_t count, size_t *room, size_t size);

bool keep_rule(struct policy_parser *parser, const struct policy_rule *rule,
	       const struct place *place);
bool keep_use(struct policy_parser *parser, struct name *name, const struct place *place);

/* Finds a text in the policy's table, or adds it: each text is in there once. */
bool keep_text(struct policy_parser *parser, const char *text, uint32_t *ret_index);

/* The device name that is the current word, added if it is new. NULL where it fails. */
struct name *keep_device_name(struct policy_parser *parser);
