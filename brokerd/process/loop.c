/* SPDX-License-Identifier: MIT */
/* Makes the event loop and sets its priorities. It adds no events. */
#include "config.h"

#include "brokerd/process/loop.h"

#include <event2/event.h>

/*
 * After so many events of peers the loop checks for events of higher priority, such as the end of a
 * worker. The number is not smaller because a peer whose user is over its limit stays ready, and
 * each check lists all ready peers again: if 10,000 connections end at once, most are of that kind.
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
