/* SPDX-License-Identifier: MIT */
/*
 * Sends and receives the packets between the processes of `gpubroker run`, see packet.h. The other
 * end is ourselves, or `attach`, or what the same user has in its place, so there is less to check
 * than in passfd.c, which is the library's and not for the command. It must never keep a descriptor
 * that was not asked for, nor be used with another user.
 */
#include "config.h"

#include "client/run/packet.h"

#include <errno.h>
#include <stdbool.h>
#include <stdint.h>
#include <string.h>
#include <sys/socket.h>
#include <sys/uio.h>
#include <unistd.h>

union control {
	struct cmsghdr header;
	char space[CMSG_SPACE(sizeof(int))];
};

int packet_send(int socket, const void *packet, size_t size, int fd)
{
	struct iovec iov = { .iov_base = (void *)(uintptr_t)packet, .iov_len = size };
	struct msghdr message = { .msg_iov = &iov, .msg_iovlen = 1 };
	union control control = { .header = { .cmsg_len = CMSG_LEN(sizeof(fd)),
					      .cmsg_level = SOL_SOCKET,
					      .cmsg_type = SCM_RIGHTS } };

	if (fd >= 0) {
		memcpy(CMSG_DATA(&control.header), &fd, sizeof(fd));
		message.msg_control = &control;
		message.msg_controllen = sizeof(control);
	}
	return sendmsg(socket, &message, MSG_NOSIGNAL) < 0 ? -errno : 0;
}

/* There is room for two, by the alignment of the header. */
static void close_received(struct msghdr *message)
{
	struct cmsghdr *header = CMSG_FIRSTHDR(message);
	int fds[2];
	size_t n;

	if (!header || header->cmsg_level != SOL_SOCKET || header->cmsg_type != SCM_RIGHTS)
		return;
	n = header->cmsg_len - CMSG_LEN(0);
	memcpy(fds, CMSG_DATA(header), n < sizeof(fds) ? n : sizeof(fds));
	for (size_t i = 0; i < n / sizeof(int) && i < 2; i++)
		close(fds[i]);
}

int packet_receive(int socket, void *packet, size_t size, int *ret_fd)
{
	union control control = { .header = { .cmsg_len = 0 } };
	struct iovec iov = { .iov_base = packet, .iov_len = size };
	struct msghdr message = {
		.msg_iov = &iov,
		.msg_iovlen = 1,
		.msg_control = &control,
		.msg_controllen = sizeof(control),
	};
	ssize_t n = recvmsg(socket, &message, MSG_CMSG_CLOEXEC);
	bool has_one = n >= 0 && CMSG_FIRSTHDR(&message) &&
		       control.header.cmsg_len == CMSG_LEN(sizeof(int));

	if (n < 0)
		return -errno;
	if (n != (ssize_t)size || !has_one != !ret_fd) {
		close_received(&message);
		return n != (ssize_t)size ? -EPIPE : -EBADMSG;
	}
	if (ret_fd)
		memcpy(ret_fd, CMSG_DATA(&control.header), sizeof(int));
	return 0;
}
