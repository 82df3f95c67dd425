/* SPDX-License-Identifier: MIT */
/* The connections of `gpubroker serve`, and its loop. */
#pragma once

#include <stdint.h>

#include "client/serve/gate.h"

#define SERVER_LISTENERS 3

struct server_setup {
	struct gate gate;
	int listeners[SERVER_LISTENERS];
	bool tcp[SERVER_LISTENERS];
	unsigned n_listeners;
	int spawner;
	uint32_t uid; /* who may connect, beside root */
};

/* Serves until the other process is gone; returns the exit status. */
int server_run(const struct server_setup *setup);
