/* SPDX-License-Identifier: MIT */
/* A descriptor whose last close takes SLOW_SECONDS, in a process that does not end. */
#pragma once

#include "client/common/util.h"
#include "tests/scratch.h"

#include <arpa/inet.h>
#include <fcntl.h>
#include <netinet/in.h>
#include <stdbool.h>
#include <string.h>
#include <sys/socket.h>
#include <time.h>

#define SLOW_SECONDS 120

static int slow_listener = -1; /* nobody accepts from it, so nobody reads */
static bool slow_is;

/* Makes what slow_open() needs; slow_is is false afterwards where there is no network. */
static inline void slow_start(void)
{
	const struct sockaddr_in address = { .sin_family = AF_INET,
					     .sin_addr.s_addr = htonl(INADDR_LOOPBACK) };

	slow_listener = socket(AF_INET, SOCK_STREAM | SOCK_CLOEXEC, 0);
	slow_is = slow_listener >= 0 &&
		  !bind(slow_listener, (const struct sockaddr *)&address, sizeof(address)) &&
		  !listen(slow_listener, 4096);
}

/* Returns a TCP socket with unsent data that lingers. */
static inline int slow_open(void)
{
	const struct linger linger = { .l_onoff = 1, .l_linger = SLOW_SECONDS };
	struct sockaddr_in address;
	socklen_t size = sizeof(address);
	static char data[65536];
	int fd = socket(AF_INET, SOCK_STREAM | SOCK_CLOEXEC, 0);

	need(fd >= 0 && !getsockname(slow_listener, (struct sockaddr *)&address, &size) &&
	     !connect(fd, (struct sockaddr *)&address, sizeof(address)));
	while (send(fd, data, sizeof(data), MSG_DONTWAIT) > 0)
		;
	need(!setsockopt(fd, SOL_SOCKET, SO_LINGER, &linger, sizeof(linger)));
	return fd;
}

/* Sends a packet with copies of a descriptor. Returns 0 or an errno. */
static inline int slow_send(int to, const void *packet, size_t size, int fd, size_t n)
{
	union {
		struct cmsghdr header;
		char space[CMSG_SPACE(sizeof(int) * 253)];
	} control = { 0 };
	struct iovec iov = { .iov_base = (void *)packet, .iov_len = size };
	struct msghdr message = {
		.msg_iov = &iov,
		.msg_iovlen = 1,
		.msg_control = &control,
		.msg_controllen = CMSG_SPACE(sizeof(int) * n),
	};

	control.header.cmsg_level = SOL_SOCKET;
	control.header.cmsg_type = SCM_RIGHTS;
	control.header.cmsg_len = CMSG_LEN(sizeof(int) * n);
	for (size_t i = 0; i < n; i++)
		memcpy(CMSG_DATA(&control.header) + i * sizeof(int), &fd, sizeof(int));
	return sendmsg(to, &message, MSG_NOSIGNAL | MSG_DONTWAIT) < 0 ? errno : 0;
}

static inline double slow_now(void)
{
	struct timespec now;

	clock_gettime(CLOCK_MONOTONIC, &now);
	return (double)now.tv_sec + (double)now.tv_nsec / 1e9;
}
