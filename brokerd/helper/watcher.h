/* SPDX-License-Identifier: MIT */
/* The watcher: looks at PCI functions, and sends the core records of them (state/devices.h). */
#pragma once

struct confine_filter;

/*
 * Runs until the core ends. Goes under `settled` when it has started, and frees it. Returns the
 * exit status.
 */
int watcher_run(int socket, struct confine_filter *settled, const void *unused);
