/* SPDX-License-Identifier: MIT */
/*
 * Packets with descriptors, and packets without. Owns no state. It must never block, never let a
 * descriptor through that was not asked for, and never leave one open that it does not hand to the
 * caller: what the kernel has installed for us is closed on every path that is not success.
 *
 * The functions for the daemon must never close a descriptor that comes from the other side, and
 * never have the kernel do that in the caller's context, as it does for a packet that is received
 * without room for its descriptors: closing can take hours (a TCP socket with unsent data and
 * SO_LINGER, a file of a FUSE server that does not answer).
 */
#include "config.h"

#include "client/wire/passfd.h"
#include "client/common/util.h"

#include <errno.h>
#include <stdbool.h>
#include <string.h>
#include <sys/socket.h>
#include <sys/uio.h>

/* Packets that passfd_end() reads: a client that follows the protocol leaves one or two unread. */
#define LEFT_MAX 4

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

ssize_t passfd_receive_any(int socket, void *packet, size_t size, int *fds, size_t *ret_n_fds)
{
	union {
		struct cmsghdr header;
		char space[CMSG_SPACE(sizeof(int) * PASSFD_ANY)];
	} control;
	struct iovec iov = { .iov_base = packet, .iov_len = size };
	struct msghdr message = {
		.msg_iov = &iov,
		.msg_iovlen = 1,
		.msg_control = &control,
		.msg_controllen = sizeof(control),
	};
	const struct cmsghdr *cmsg;
	ssize_t n;

	*ret_n_fds = 0;
	do
		n = recvmsg(socket, &message, MSG_DONTWAIT | MSG_CMSG_CLOEXEC);
	while (n < 0 && errno == EINTR);
	if (n < 0)
		return -errno;
	cmsg = CMSG_FIRSTHDR(&message); /* all of a packet's are in one */
	if (cmsg && cmsg->cmsg_level == SOL_SOCKET && cmsg->cmsg_type == SCM_RIGHTS) {
		size_t here = (cmsg->cmsg_len - CMSG_LEN(0)) / sizeof(int);

		*ret_n_fds = here < PASSFD_ANY ? here : PASSFD_ANY;
		memcpy(fds, CMSG_DATA(cmsg), *ret_n_fds * sizeof(int));
	}
	return message.msg_flags & (MSG_TRUNC | MSG_CTRUNC) ? -EBADMSG : n;
}

/* ---- without descriptors ---- */

/*
 * Copies the packet at the head of the queue, and leaves it there. `room` is the room for control
 * data. Returns its size, 0 at the end too, or -errno. *ret_flags gets what recvmsg() reports, and
 * *ret_control the size of the control data.
 */
static ssize_t peek(int socket, void *packet, size_t size, size_t room, int *ret_flags,
		    size_t *ret_control)
{
	char control[CMSG_SPACE(sizeof(struct ucred))] __attribute__((aligned(8)));
	struct iovec iov = { .iov_base = packet, .iov_len = size };
	struct msghdr message = {
		.msg_iov = &iov,
		.msg_iovlen = 1,
		.msg_control = room ? control : NULL,
		.msg_controllen = room,
	};
	ssize_t n;

	do
		n = recvmsg(socket, &message, MSG_PEEK | MSG_DONTWAIT | MSG_CMSG_CLOEXEC);
	while (n < 0 && errno == EINTR);
	if (n < 0)
		return -errno;
	*ret_flags = message.msg_flags;
	*ret_control = message.msg_controllen;
	return n;
}

/* Removes the packet at the head of the queue, which must have no descriptors. */
static void discard(int socket)
{
	struct msghdr message = { 0 };

	/* ECONNRESET comes once, before the packet, if the sender has died since the look. */
	while (recvmsg(socket, &message, MSG_DONTWAIT) < 0 &&
	       (errno == EINTR || errno == ECONNRESET))
		;
}

ssize_t passfd_receive_plain(int socket, void *packet, size_t size)
{
	size_t control;
	int flags;
	/* Without room for control data, the kernel sets MSG_CTRUNC if there are descriptors. */
	ssize_t n = peek(socket, packet, size, 0, &flags, &control);

	if (n < 0)
		return n;
	if (flags & (MSG_CTRUNC | MSG_TRUNC))
		return -EBADMSG;
	if (n)
		discard(socket);
	return n;
}

bool passfd_end(int socket)
{
	const int on = 1;
	char byte;

	/*
	 * From here on the kernel queues nothing more: a send takes the lock under which this sets
	 * the flag.
	 */
	if (shutdown(socket, SHUT_RDWR))
		return errno == EBADF || errno == ENOTSOCK;
	/*
	 * At the end recvmsg() returns 0, and for an empty packet too. They differ if the kernel
	 * has to add the sender's credentials. These also fill the room for control data, so that
	 * no descriptor is installed; without SO_PASSCRED some would be.
	 */
	if (setsockopt(socket, SOL_SOCKET, SO_PASSCRED, &on, sizeof(on)))
		return false;
	for (int i = 0; i < LEFT_MAX; i++) {
		size_t control = 0;
		int flags = 0;
		ssize_t n = peek(socket, &byte, sizeof(byte), CMSG_SPACE(sizeof(struct ucred)),
				 &flags, &control);

		if (n == -ECONNRESET) /* reported once, before what is queued */
			continue;
		if (n < 0 || flags & MSG_CTRUNC)
			return false;
		if (!control)
			return true;
		discard(socket);
	}
	return false;
}
