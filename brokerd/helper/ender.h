/* SPDX-License-Identifier: MIT */
/* The ender: ends the processes that keep a device after the end of its lease. */
#pragma once

struct confine_filter;

/*
 * The main function of the ender, see helper/start.c. It carries out the core's orders until the
 * core ends. Returns the exit status.
 */
int ender_run(int socket, struct confine_filter *settled, const void *unused);
