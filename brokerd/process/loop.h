/* SPDX-License-Identifier: MIT */
/* The core's event loop. */
#pragma once

struct event_base;

/* The loop does what peers ask for behind everything else. */
#define PRIORITY_PEERS 2

/*
 * Makes the loop, in which events of PRIORITY_PEERS come last. NULL where there is no memory for
 * it.
 */
struct event_base *loop_new(void);
