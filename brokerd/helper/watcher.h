/* SPDX-License-Identifier: MIT */
/* The watcher: reads PCI functions, and sends the core records of them (state/devices.h). */
#pragma once

struct confine_filter;

/*
 * Runs the watcher until the core ends. Applies the filter `settled` when it has started, and frees
 * it. Returns the exit status.
 */
int watcher_run(int socket, struct confine_filter *settled, const void *unused);
