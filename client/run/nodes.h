/* SPDX-License-Identifier: MIT */
/*
 * How the supervisor lets go of a device that is taken back while the command does not have it
 * open: it closes the device's own node, for which the kernel would wait.
 */
#pragma once

#include "client/run/supervisor.h"

/* Before the supervisor serves: begins to follow the nodes that are lent. */
void nodes_begin(struct supervisor *s);

/* Something is to be read from s->nodes, or time has passed: closes what has been taken back. */
void nodes_look(struct supervisor *s);

/* Returns after how many milliseconds to look if nothing tells of it; -1: never. */
int nodes_wait(const struct supervisor *s);
