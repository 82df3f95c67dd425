/* SPDX-License-Identifier: MIT */
/*
 * The user's machines, executable files in ~/.config/gpubroker/machines, and the claims that start
 * them. Called in a process of its own each time: these print JSON on standard output, or why not
 * by cli_error(), and return the exit status.
 */
#pragma once

#include "client/serve/spawn.h"

/* Prints an array of all claims. */
int machine_list(const struct spawn_setup *setup);
/* Starts a machine with the device, by systemd where the user has a manager. */
int machine_start(const struct spawn_setup *setup, const struct spawn_order *order,
		  const char *command);
/* Ends it. */
int machine_stop(const struct spawn_setup *setup, const struct spawn_order *order);
/* Prints the steps of its claim, a line each as they happen, up to the last. */
int machine_follow(const struct spawn_setup *setup, const struct spawn_order *order);
