/* SPDX-License-Identifier: MIT */
/*
 * The socket of an allotment, see allot-socket.h: makes it, gives it to the user who is meant, and
 * hands it over. It must never remove a file but a dead socket in the directory of such sockets,
 * and never follow a link: root alone must be able to change that directory and all above it.
 */
#include "config.h"

#include "client/command/allot-socket.h"
#include "client/command/cli.h"
#include "client/common/util.h"

#include <errno.h>
#include <fcntl.h>
#include <limits.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/file.h>
#include <sys/socket.h>
#include <sys/stat.h>
#include <sys/un.h>
#include <unistd.h>

#define BACKLOG 8 /* as in gpubroker.socket, which gives the reason */
#define DIRECTORY "allotments"
#define BROKER_SOCKET "/run/gpubroker/socket"
#define LOCK ".lock" /* no socket's name begins with a dot */

int allot_socket_parse(const struct cli *cli, const char *given, struct allot_socket *ret_socket)
{
	static const char may_be[] = "ABCDEFGHIJKLMNOPQRSTUVWXYZabcdefghijklmnopqrstuvwxyz"
				     "0123456789._@-";
	const char *broker = cli->socket ? cli->socket : BROKER_SOCKET;
	const char *slash = strrchr(broker, '/'), *name = strrchr(given, '/');
	char directory[108];
	int n;

	name = name ? name + 1 : given;
	n = snprintf(directory, sizeof(directory), "%.*s/" DIRECTORY "/",
		     slash ? (int)(slash - broker) : 0, broker);
	if (n >= (int)sizeof(directory) - 56 ||
	    (name != given && (strncmp(given, directory, (size_t)n) != 0 || name != given + n))) {
		cli_error("--socket '%s' is not in %s, where the sockets of allotments are; give "
			  "one there, or its name alone",
			  given, directory);
		return EXIT_BAD_USAGE;
	}
	if (!*name || *name == '.' || name[strspn(name, may_be)] || strlen(name) > 55) {
		cli_error("--socket '%s' is no name of a socket: give 1 to 55 letters, digits or "
			  "any of ._@-, and no dot first",
			  name);
		return EXIT_BAD_USAGE;
	}
	*ret_socket = (struct allot_socket){ .given = given, .fd = -1 };
	snprintf(ret_socket->path, sizeof(ret_socket->path), "%s%s", directory, name);
	ret_socket->name = ret_socket->path + n;
	return 0;
}

static int fail_path(const char *path, const char *why)
{
	cli_error("%s: %s", path, why);
	return -ECANCELED;
}

/*
 * Returns 0 if only root can change what the path's directory is and has in it, and none of it is a
 * link. Then nobody can have the names below mean something else. *ret_directory is that, O_PATH.
 */
static int check_socket_directory(const char *path, int *ret_directory)
{
	cleanup_fd int fd = open("/", O_PATH | O_DIRECTORY | O_CLOEXEC);
	char copy[108], *name, *rest = copy;
	struct stat st;

	snprintf(copy, sizeof(copy), "%s", path);
	*strrchr(copy, '/') = '\0';
	for (;;) {
		int next;

		if (fd < 0 || fstat(fd, &st))
			return fail_path(path, strerror(errno));
		if (!S_ISDIR(st.st_mode) || st.st_uid || st.st_mode & (S_IWGRP | S_IWOTH))
			return fail_path(path,
					 "a directory on the way is not root's alone, or is a "
					 "link: no socket is made there");
		name = strsep(&rest, "/");
		if (!name) {
			*ret_directory = TAKE_FD(fd);
			return 0;
		}
		if (!*name)
			continue;
		next = openat(fd, name, O_PATH | O_NOFOLLOW | O_CLOEXEC);
		fd_close(fd);
		fd = next;
	}
}

/* Removes what a broker has left that has ended. Returns 0 if nothing is in the way. */
static int remove_dead(const struct sockaddr_un *address)
{
	cleanup_fd int fd = socket(AF_UNIX, SOCK_SEQPACKET | SOCK_CLOEXEC | SOCK_NONBLOCK, 0);
	struct stat st;

	if (lstat(address->sun_path, &st))
		return errno == ENOENT ? 0 : fail_path(address->sun_path, strerror(errno));
	if (!S_ISSOCK(st.st_mode))
		return fail_path(address->sun_path, "is there already, and is no socket");
	if (fd < 0 || !connect(fd, (const struct sockaddr *)address, sizeof(*address)) ||
	    errno != ECONNREFUSED)
		return fail_path(address->sun_path, "another process listens there");
	return unlink(address->sun_path) && errno != ENOENT
		       ? fail_path(address->sun_path, strerror(errno))
		       : 0;
}

/*
 * Has the kernel label sockets as those of the broker, if it labels any: a domain that may connect
 * to the broker may connect to this one.
 */
static void label_as(int connection, bool as_broker)
{
	cleanup_fd int fd = open("/proc/thread-self/attr/sockcreate", O_WRONLY | O_CLOEXEC);
	char label[NAME_MAX + 1] = "";
	socklen_t size = sizeof(label);

	if (fd < 0 || (as_broker && getsockopt(connection, SOL_SOCKET, SO_PEERSEC, label, &size)))
		return;
	if (write(fd, label, as_broker ? strnlen(label, size) : 0) < 0)
		errno = 0; /* AppArmor has none; a domain that may not has its own label */
}

/*
 * Waits for other commands that make a socket, and keeps them waiting until the descriptor is
 * closed: until it listens, a socket looks like one that is dead. Only root can open the file, or
 * any user could keep root waiting. Returns -1 after the reason was printed.
 */
static int lock_sockets(const char *path)
{
	cleanup_fd int directory = -1;
	int fd;

	if (check_socket_directory(path, &directory))
		return -1;
	fd = openat(directory, LOCK, O_RDWR | O_CREAT | O_NOFOLLOW | O_CLOEXEC, 0600);
	if (fd < 0 || flock(fd, LOCK_EX)) {
		fail_path(path, strerror(errno));
		fd = fd_close(fd);
	}
	return fd;
}

static int make_allotment_socket(struct gpubroker *handle, const struct gpubroker_user *user,
				 struct allot_socket *s)
{
	struct sockaddr_un address = { .sun_family = AF_UNIX };
	cleanup_fd int lock = lock_sockets(s->path);
	cleanup_fd int fd = -1;
	mode_t before;
	bool bound;
	int r;

	snprintf(address.sun_path, sizeof(address.sun_path), "%s", s->path);
	r = lock < 0 ? -ECANCELED : remove_dead(&address);
	if (r)
		return r;
	label_as(gpubroker_fd(handle), true);
	fd = socket(AF_UNIX, SOCK_SEQPACKET | SOCK_CLOEXEC | SOCK_NONBLOCK, 0);
	label_as(-1, false);
	before = umask(0177);
	bound = fd >= 0 && !bind(fd, (struct sockaddr *)&address, sizeof(address));
	umask(before);
	if (!bound || lchown(s->path, user->uid, user->gid) || listen(fd, BACKLOG)) {
		r = fail_path(s->path, strerror(errno));
		if (bound)
			unlink(s->path);
		return r;
	}
	s->fd = TAKE_FD(fd);
	return 0;
}

int allot_socket_give(struct gpubroker *handle, const char *label,
		      const struct gpubroker_user *user, struct allot_socket *s)
{
	bool wanted = false;
	int r = gpubroker_allot_socket(handle, label, s->name, user, &wanted);

	if (r || !wanted)
		return r;
	/* A broker that had it and ended has said nothing of it: this process has it still. */
	if (s->fd < 0)
		r = make_allotment_socket(handle, user, s);
	if (!r)
		r = gpubroker_allot_listener(handle, s->fd);
	/* A broker that has ended may have taken it. One that refuses has not. */
	if (r > 0) {
		unlink(s->path);
		s->fd = fd_close(s->fd);
	}
	return r;
}
