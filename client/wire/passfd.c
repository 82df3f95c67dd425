/* SPDX-License-Identifier: MIT */
/*
 * Packets with descriptors. Owns no state. It must never block, never let a descriptor through that
 * was not asked for, and never leave one open that it does not hand to the caller: what the kernel
 * has installed for us is closed on every path that is not success.
 */
#include "config.h"

#include "client/wire/passfd.h"
#include "client/common/util.h"

#include <errno.h>
#include <stdbool.h>
#include <string.h>
#include <sys/socket.h>
#include <sys/uio.h>

int passfd_send(int socket, const void *packet, size_t size, const int *fds, size_t n_fds)
{
	union {
		struct cmsghdr header;
		char space[CMSG_SPACE(sizeof(int) * PASSFD_MAX)];
	} control;
	struct iovec iov = { .iov_base = (void *)packet, .iov_len = size };
	struct msghdr message = { .msg_iov = &iov, .msg_iovlen = 1 };
	ssize_t n;

	if (n_fds > PASSFD_MAX)
		return -E2BIG;
	if (n_fds) {
		struct cmsghdr *cmsg;

		memset(&control, 0, sizeof(control));
		message.msg_control = &control;
		message.msg_controllen = CMSG_SPACE(sizeof(int) * n_fds);
		cmsg = CMSG_FIRSTHDR(&message);
		cmsg->cmsg_level = SOL_SOCKET;
		cmsg->cmsg_type = SCM_RIGHTS;
		cmsg->cmsg_len = CMSG_LEN(sizeof(int) * n_fds);
		memcpy(CMSG_DATA(cmsg), fds, sizeof(int) * n_fds);
	}

	do
		n = sendmsg(socket, &message, MSG_DONTWAIT | MSG_NOSIGNAL);
	while (n < 0 && errno == EINTR);
	return n < 0 ? -errno : 0;
}

ssize_t passfd_receive(int socket, void *packet, size_t size, int *fds, size_t max_fds,
		       size_t *ret_n_fds)
{
	/*
	 * Room for one descriptor more than anybody may send: a surplus is then seen as a number,
	 * not as a truncated message. The kernel fills the padding too, so one more may arrive than
	 * was calculated: count what fits, not what was meant.
	 */
	union {
		struct cmsghdr header;
		char space[CMSG_SPACE(sizeof(int) * (PASSFD_MAX + 1))];
	} control;
	int received[(sizeof(control.space) - CMSG_LEN(0)) / sizeof(int)];
	struct iovec iov = { .iov_base = packet, .iov_len = size };
	struct msghdr message = {
		.msg_iov = &iov,
		.msg_iovlen = 1,
		.msg_control = &control,
		.msg_controllen = sizeof(control),
	};
	size_t n_received = 0;
	ssize_t n;

	do
		n = recvmsg(socket, &message, MSG_DONTWAIT | MSG_CMSG_CLOEXEC);
	while (n < 0 && errno == EINTR);
	if (n < 0)
		return -errno;

	for (struct cmsghdr *cmsg = CMSG_FIRSTHDR(&message); cmsg;
	     cmsg = CMSG_NXTHDR(&message, cmsg)) {
		size_t room = ARRAY_SIZE(received) - n_received, here;

		if (cmsg->cmsg_level != SOL_SOCKET || cmsg->cmsg_type != SCM_RIGHTS)
			continue;
		here = (cmsg->cmsg_len - CMSG_LEN(0)) / sizeof(int);
		if (here > room)
			here = room;
		memcpy(received + n_received, CMSG_DATA(cmsg), here * sizeof(int));
		n_received += here;
	}
	if (!n || message.msg_flags & (MSG_TRUNC | MSG_CTRUNC) || n_received > max_fds) {
		bool end = !n && !n_received; /* an empty packet with descriptors is no end */

		while (n_received)
			fd_close(received[--n_received]);
		return end ? 0 : -EBADMSG;
	}
	if (n_received)
		memcpy(fds, received, n_received * sizeof(int));
	*ret_n_fds = n_received;
	return n;
}
