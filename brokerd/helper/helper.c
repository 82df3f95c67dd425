/* SPDX-License-Identifier: MIT */
/* Shared by both sides of a helper's socket, see helper.h. */
#include "config.h"

#include "brokerd/helper/helper.h"
#include "client/wire/passfd.h"

#include <errno.h>
#include <poll.h>

int helper_send(int socket, const void *packet, size_t size)
{
	int r;

	while ((r = passfd_send(socket, packet, size, NULL, 0)) == -EAGAIN) {
		struct pollfd p = { .fd = socket, .events = POLLOUT };

		if (poll(&p, 1, -1) < 0 && errno != EINTR)
			return -errno;
	}
	return r;
}
