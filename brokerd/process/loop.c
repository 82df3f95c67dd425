/* SPDX-License-Identifier: MIT */
/* Makes the event loop and sets its priorities. It adds no event of its own. */
#include "config.h"

#include "brokerd/process/loop.h"

#include <event2/event.h>

/*
 * The loop looks for events of our own, of a worker that has finished, say, after so many that
 * peers asked for. Not after fewer: a peer that may do no more in this turn is still ready, and
 * each look lists all of those again; of 10,000 connections that end at once most are such.
 */
#define PEERS_BURST 1024

struct event_base *loop_new(void)
{
	struct event_config *config = event_config_new();
	struct event_base *base = NULL;

	if (config &&
	    !event_config_set_max_dispatch_interval(config, NULL, PEERS_BURST, PRIORITY_PEERS))
		base = event_base_new_with_config(config);
	if (config)
		event_config_free(config);
	if (base && event_base_priority_init(base, PRIORITY_PEERS + 1)) {
		event_base_free(base);
		return NULL;
	}
	return base;
}
