/* SPDX-License-Identifier: MIT */
/* The core's event loop. */
#pragma once

struct event_base;

/* The priority of events of peers, which the loop handles after all others. */
#define PRIORITY_PEERS 2

/*
 * Makes the loop, in which events of PRIORITY_PEERS come last. Returns NULL if there is no memory.
 */
struct event_base *loop_new(void);
