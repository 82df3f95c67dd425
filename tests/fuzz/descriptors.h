/* SPDX-License-Identifier: MIT */
/* Counts open descriptors in one system call, thousands of times a second. */
#pragma once

#include <poll.h>
#include <stddef.h>

#define DESCRIPTORS_LOOKED_AT 256

static inline size_t count_descriptors(void)
{
	struct pollfd all[DESCRIPTORS_LOOKED_AT];
	size_t n = 0;

	for (int i = 0; i < DESCRIPTORS_LOOKED_AT; i++)
		all[i] = (struct pollfd){ .fd = i };
	poll(all, DESCRIPTORS_LOOKED_AT, 0);
	for (int i = 0; i < DESCRIPTORS_LOOKED_AT; i++)
		n += !(all[i].revents & POLLNVAL);
	return n;
}
