/* SPDX-License-Identifier: MIT */
/*
 * Finds commands that have a daemon start the program, which then is no child of `gpubroker run`.
 */
#pragma once

#include <stdbool.h>

/*
 * 0, or an exit status after the reason was printed. `argv` is the command, ended by NULL. A script
 * is no such command, since it may do anything, as the `docker` that calls podman does.
 */
int elsewhere_check(char *const *argv);

/*
 * Returns true if the command is podman: by its name, or as the script `docker` that executes it.
 */
bool elsewhere_is_podman(const char *command);
