/* SPDX-License-Identifier: MIT */
/*
 * Notifies systemd that the daemon is ready. These few lines replace libsystemd, which would bring
 * its code and its system calls into the root process. The socket is connected before confinement,
 * since no socket can be made afterwards.
 */
#include "config.h"

#include "brokerd/process/notify.h"
#include "client/wire/passfd.h"
#include "client/common/util.h"

#include <errno.h>
#include <stdio.h>
#include <string.h>
#include <sys/socket.h>
#include <sys/un.h>

int notify_open(void)
{
	struct sockaddr_un address = { .sun_family = AF_UNIX };
	const char *path = getenv("NOTIFY_SOCKET");
	cleanup_fd int fd = -1;
	size_t n;

	if (!path || (*path != '/' && *path != '@'))
		return -1;
	n = strlen(path);
	if (n >= sizeof(address.sun_path))
		return -1;
	memcpy(address.sun_path, path, n);
	if (*path == '@')
		address.sun_path[0] = '\0';
	fd = socket(AF_UNIX, SOCK_DGRAM | SOCK_CLOEXEC, 0);
	if (fd < 0 || connect(fd, (struct sockaddr *)&address,
			      (socklen_t)(offsetof(struct sockaddr_un, sun_path) + n)))
		return -1;
	return TAKE_FD(fd);
}

int notify_keep(int fd, const char *name, int kept)
{
	char text[128];

	/* FDPOLL=0: not until something happens on it, but until it is taken back. */
	snprintf(text, sizeof(text), "FDSTORE=1\nFDPOLL=0\nFDNAME=%s", name);
	return passfd_send(fd, text, strlen(text), &kept, 1);
}

int notify_forget(int fd, const char *name)
{
	char text[128];

	snprintf(text, sizeof(text), "FDSTOREREMOVE=1\nFDNAME=%s", name);
	return notify_send(fd, text);
}

int notify_send(int fd, const char *text)
{
	return fd < 0 ? 0 : passfd_send(fd, text, strlen(text), NULL, 0);
}
