/* SPDX-License-Identifier: MIT */
/*
 * The finder: tells the core which processes have nodes of a function open, before a claim takes
 * the function from its host driver (state/finding.h has question and answer).
 */
#pragma once

struct confine_filter;

/*
 * Runs the finder until the core ends, or until it has to learn anew how NVIDIA's driver numbers
 * its cards. Applies the filter `settled` when it has started, and frees it. Returns the exit
 * status.
 */
int finder_run(int socket, struct confine_filter *settled, const void *unused);
