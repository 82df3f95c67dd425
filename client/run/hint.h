/* SPDX-License-Identifier: MIT */
/*
 * Guesses what a wrong argument of `gpubroker run` was meant to be, for the message. Claims
 * nothing.
 */
#pragma once

#include <stdbool.h>
#include <stddef.h>

#define HINT_TEXT 160

/*
 * Finds out what was meant by a DEVICE that is none, or that the policy does not have: an address
 * of another form, a node, a card of DRM, several at once. Returns true with a sentence in `out`.
 */
bool hint_device(const char *given, char out[HINT_TEXT]);

/*
 * The name of a COMMAND that changes the user, such as "sudo", which it could not below `run`: a
 * program that is served gains no privileges. NULL: it is none of these.
 */
const char *hint_privilege(const char *command);

/*
 * Finds out what was meant by a COMMAND that is not there, which stands behind `before`, NULL if it
 * is the first.
 */
bool hint_command(const char *given, const char *before, char out[HINT_TEXT]);
