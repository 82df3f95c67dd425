/* SPDX-License-Identifier: MIT */
/* Warnings about rules that do nothing. Private to policy/. */
#pragma once

#include "policy/parser.h"

/*
 * Warns of duplicate rules and of allow rules that a deny shadows, in a policy without mistakes. 0
 * or -ENOMEM.
 */
int policy_review(struct policy_parser *parser);
