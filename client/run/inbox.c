/* SPDX-License-Identifier: MIT */
/*
 * Both ends of the socket by which a group is brought to a supervisor that serves, see inbox.h.
 *
 * The socket has an abstract name, of the user and of the first lease of the command, so that no
 * file is left behind. Anybody may take such a name first: then nothing can be attached by it, and
 * since both ends ask the kernel for the other's user, nothing comes into other hands. The
 * supervisor must never wait for who has connected, nor take from it what is no VFIO group.
 */
#include "config.h"

#include "client/run/inbox.h"
#include "client/run/closer.h"
#include "client/run/packet.h"
#include "client/common/util.h"

#include <errno.h>
#include <linux/vfio.h>
#include <poll.h>
#include <stddef.h>
#include <stdio.h>
#include <string.h>
#include <sys/ioctl.h>
#include <sys/socket.h>
#include <sys/un.h>

#define ANSWER_MS 5000
#define TURN UINT32_MAX	   /* no group: the visitor is the one that is served */
#define STRANGERS_MOST 256 /* that a supervisor sends away */

static const char variable[] = "GPUBROKER_LEASE=";

/* Fills in the address for a list of leases. Returns its size; 0: that is no such list. */
static socklen_t inbox_address(const char *leases, struct sockaddr_un *ret_address)
{
	const size_t digits = strspn(leases, "0123456789");
	int n;

	*ret_address = (struct sockaddr_un){ .sun_family = AF_UNIX };
	if (!digits || digits > 20)
		return 0;
	n = snprintf(ret_address->sun_path + 1, sizeof(ret_address->sun_path) - 1,
		     "gpubroker-lend/%u/%.*s", geteuid(), (int)digits, leases);
	return (socklen_t)(offsetof(struct sockaddr_un, sun_path) + 1 + (size_t)n);
}

static bool is_of_our_user(int socket)
{
	struct ucred peer;
	socklen_t size = sizeof(peer);

	return !getsockopt(socket, SOL_SOCKET, SO_PEERCRED, &peer, &size) && peer.uid == geteuid();
}

/* ---- the supervisor ---- */

void inbox_open(struct supervisor *s)
{
	cleanup_fd int fd = socket(AF_UNIX, SOCK_SEQPACKET | SOCK_CLOEXEC | SOCK_NONBLOCK, 0);
	struct sockaddr_un address;
	socklen_t size;

	if (fd < 0 || !s->mark || !s->n_lent || strncmp(s->mark, variable, strlen(variable)))
		return;
	size = inbox_address(s->mark + strlen(variable), &address);
	if (size && !bind(fd, (const struct sockaddr *)&address, size) && !listen(fd, 1))
		s->inbox = TAKE_FD(fd);
}

/*
 * One that comes while another is there is sent away: a group that was sent to a socket which
 * nobody has accepted would be kept open by that. After many of these nobody is looked at any more:
 * what a stranger's visits cost has an end.
 */
void inbox_accept(struct supervisor *s)
{
	int fd = accept4(s->inbox, NULL, NULL, SOCK_CLOEXEC | SOCK_NONBLOCK);
	const uint32_t turn = TURN;

	if (fd >= 0 && s->visitor < 0 && is_of_our_user(fd) &&
	    !packet_send(fd, &turn, sizeof(turn), -1))
		s->visitor = fd;
	else if (fd >= 0 ? !closer_close(fd) || ++s->sent_away == STRANGERS_MOST
			 : errno == EMFILE || errno == ENFILE || errno == ENOMEM)
		s->inbox = -1; /* open, and not looked at: what has been sent to it is not closed */
}

static bool is_group(int fd)
{
	struct vfio_group_status status = { .argsz = sizeof(status) };

	return !ioctl(fd, VFIO_GROUP_GET_STATUS, &status);
}

void inbox_take(struct supervisor *s)
{
	struct lent *added = &s->added;
	cleanup_fd int fd = -1;
	uint32_t group;
	int r = packet_receive(s->visitor, &group, sizeof(group), &fd);

	if (r == -EAGAIN)
		return;
	added->file.fd = fd_close(added->file.fd);
	if (!r && is_group(fd)) {
		snprintf(s->added_path, sizeof(s->added_path), "/dev/vfio/%u", group);
		*added = (struct lent){ .file = { .path = s->added_path,
						  .fd = TAKE_FD(fd),
						  .what = "the device that is attached" },
					.is_group = true };
		r = packet_send(s->visitor, &group, sizeof(group), -1);
		if (!r)
			return;
	}
	added->file.fd = fd_close(added->file.fd);
	s->visitor = fd_close(s->visitor);
}

/* ---- who attaches ---- */

/* Reads the leases that a process was started with. The text is to be freed; NULL: none. */
static char *leases_of(pid_t pid)
{
	cleanup_free char *text = NULL;
	cleanup_file FILE *f = NULL;
	char path[64];
	size_t size = 0;

	snprintf(path, sizeof(path), "/proc/%d/environ", (int)pid);
	f = fopen(path, "re");
	while (f && getdelim(&text, &size, '\0', f) > 0)
		if (!strncmp(text, variable, strlen(variable)))
			return strdup(text + strlen(variable));
	return NULL;
}

/* Takes the supervisor's next packet. -ETIMEDOUT, or -EBUSY: it has closed the connection. */
static int read_reply(int socket, uint32_t *ret_answer)
{
	struct pollfd p = { .fd = socket, .events = POLLIN };
	int r;

	if (poll(&p, 1, ANSWER_MS) != 1)
		return -ETIMEDOUT;
	r = packet_receive(socket, ret_answer, sizeof(*ret_answer), NULL);
	return r == -EPIPE || r == -ECONNRESET ? -EBUSY : r;
}

int inbox_connect(pid_t pid)
{
	cleanup_fd int fd = socket(AF_UNIX, SOCK_SEQPACKET | SOCK_CLOEXEC | SOCK_NONBLOCK, 0);
	cleanup_free char *leases = pid > 0 ? leases_of(pid) : NULL;
	struct sockaddr_un address;
	socklen_t size = leases ? inbox_address(leases, &address) : 0;
	uint32_t turn;
	int r;

	if (fd < 0)
		return -errno;
	if (!size)
		return -ESRCH;
	if (connect(fd, (const struct sockaddr *)&address, size))
		return errno == EAGAIN ? -EBUSY : -ESRCH;
	if (!is_of_our_user(fd)) {
		/* It stays open until this process ends: a stranger may have the close wait. */
		fd = -1;
		return -ESRCH;
	}
	r = read_reply(fd, &turn);
	if (r)
		return r;
	return turn == TURN ? TAKE_FD(fd) : -EPROTO;
}

int inbox_lend(int socket, uint32_t group, int fd)
{
	uint32_t answer;
	int r = packet_send(socket, &group, sizeof(group), fd);

	if (r)
		return r == -EPIPE ? -EBUSY : r;
	r = read_reply(socket, &answer);
	return r ? r : answer == group ? 0 : -EPROTO;
}
