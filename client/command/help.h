/* SPDX-License-Identifier: MIT */
/* The help of each command, and which command was perhaps meant. */
#pragma once

#include <stddef.h>
#include <stdio.h>

/* The usage of all commands. */
void help_print_all(FILE *file);

/* The help of a command, as "policy check"; it must be one. */
void help_print(FILE *file, const char *command);

/* Returns the i-th command with a help of its own, or NULL behind the last. */
const char *help_command(size_t i);

/* Returns what a command does, in a few words, or NULL. */
const char *help_what(const char *command);

/* Returns the text of a command's help, or NULL. */
const char *help_text(const char *command);

/*
 * Returns the command that was perhaps meant by `given`: the nearest, or the one that has that name
 * elsewhere (ls). NULL: none.
 */
const char *help_meant(const char *given);
