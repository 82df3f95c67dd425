/* SPDX-License-Identifier: MIT */
/* The grammar of one statement. Private to policy/. */
#pragma once

#include "policy/parser.h"

/*
 * Parses the statement whose first word is the current one, up to the end of its line, and adds its
 * rule. False where it has a mistake, which was reported, or there is no memory (parser->error).
 */
bool statement_parse(struct policy_parser *parser);
