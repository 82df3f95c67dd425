/* SPDX-License-Identifier: MIT */
/*
 * Sends and receives the packets between the processes of `gpubroker run`, see packet.h. The other
 * end is always ourselves, so there is less to check than in passfd.c, which is the library's and
 * not for the command. It must never be used with anybody else.
 */
#include "config.h"

#include "client/run/packet.h"

#include <errno.h>
#include <stdint.h>
#include <string.h>
#include <sys/socket.h>
#include <sys/uio.h>

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

	if (n < 0)
		return -errno;
	if (n != (ssize_t)size)
		return -EPIPE;
	if (!ret_fd)
		return 0;
	if (!CMSG_FIRSTHDR(&message) || control.header.cmsg_len != CMSG_LEN(sizeof(int)))
		return -EBADMSG;
	memcpy(ret_fd, CMSG_DATA(&control.header), sizeof(int));
	return 0;
}
