/* SPDX-License-Identifier: MIT */
/*
 * The listening socket: taken from systemd or made, and accepting connections. It must never spin
 * when the descriptor table is full, and it hands each connection to admit.c at once.
 */
#include "config.h"

#include "brokerd/peer/listener.h"
#include "brokerd/peer/admit.h"
#include "brokerd/process/log.h"
#include "brokerd/process/loop.h"
#include "client/common/util.h"

#include <errno.h>
#include <event2/event.h>
#include <fcntl.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/socket.h>
#include <sys/stat.h>
#include <sys/un.h>

#define LISTEN_FD 3		 /* sd_listen_fds(3): the first passed descriptor */
#define LISTEN_HELPERS "helpers" /* FileDescriptorName= of gpubroker-helpers.socket */
#define BACKLOG 8		 /* as in gpubroker.socket, which gives the reason */
/* Connections a turn, so that others' claims need not wait for a client that connects in a loop. */
#define ACCEPT_BURST 4
#define ACCEPT_BURST_SOCKET 1 /* ... at the socket of an allotment: of these there are many */

#ifndef SO_PASSRIGHTS
#define SO_PASSRIGHTS 83
#endif

/*
 * Has the kernel refuse descriptors that are sent to the connections of a listening socket, which
 * inherit this. Linux has that since 6.16, except on architectures with numbers of their own. There
 * is nothing to report where it does not: passfd_receive_plain() and closing.c go without.
 */
static void accept_no_descriptors(int fd)
{
	listener_pass_rights(fd, false);
}

void listener_pass_rights(int fd, bool pass)
{
	const int on = pass;

	setsockopt(fd, SOL_SOCKET, SO_PASSRIGHTS, &on, sizeof(on));
}

int listener_prepare(int fd)
{
	accept_no_descriptors(fd);
	return fcntl(fd, F_SETFL, O_NONBLOCK) ? -errno : 0;
}

static int adopt_socket(int fd)
{
	int type, listening;
	socklen_t size = sizeof(int);

	if (getsockopt(fd, SOL_SOCKET, SO_TYPE, &type, &size) ||
	    getsockopt(fd, SOL_SOCKET, SO_ACCEPTCONN, &listening, &size) ||
	    type != SOCK_SEQPACKET || !listening) {
		log_error("a descriptor that was passed is no listening SEQPACKET socket; see "
			  "gpubroker.socket and gpubroker-helpers.socket");
		return -EINVAL;
	}
	if (fcntl(fd, F_SETFD, FD_CLOEXEC) || fcntl(fd, F_SETFL, O_NONBLOCK))
		return -errno;
	accept_no_descriptors(fd);
	return fd;
}

/*
 * Returns true if a process already listens at the path. Then this is a second daemon, and taking
 * the path would hide the first.
 */
static bool is_served(const struct sockaddr_un *address)
{
	cleanup_fd int fd = socket(AF_UNIX, SOCK_SEQPACKET | SOCK_CLOEXEC | SOCK_NONBLOCK, 0);

	return fd >= 0 && (!connect(fd, (const struct sockaddr *)address, sizeof(*address)) ||
			   errno == EAGAIN);
}

static int make_socket(const char *path)
{
	struct sockaddr_un address = { .sun_family = AF_UNIX };
	cleanup_fd int fd = -1;

	if (strlen(path) >= sizeof(address.sun_path)) {
		log_error("%s: too long for a socket's path", path);
		return -ENAMETOOLONG;
	}
	strcpy(address.sun_path, path);
	if (is_served(&address)) {
		log_error("%s: another gpubrokerd is serving there", path);
		return -EADDRINUSE;
	}
	fd = socket(AF_UNIX, SOCK_SEQPACKET | SOCK_CLOEXEC | SOCK_NONBLOCK, 0);
	if (fd < 0)
		return -errno;
	accept_no_descriptors(fd);
	unlink(path);
	/* 0666: every user may connect; the policy decides. */
	if (bind(fd, (struct sockaddr *)&address, sizeof(address)) || chmod(path, 0666) ||
	    listen(fd, BACKLOG)) {
		int r = -errno;

		log_error("%s: cannot listen there: %s", path, strerror(-r));
		return r;
	}
	return TAKE_FD(fd);
}

/* Copies the index-th of the colon-separated names, "" if there is none or it is too long. */
static void copy_passed_name(const char *names, int index, char out[80])
{
	size_t n;

	for (; names && index; index--)
		if ((names = strchr(names, ':')))
			names++;
	n = names ? strcspn(names, ":") : 0;
	snprintf(out, 80, "%.*s", n < 80 ? (int)n : 0, names ? names : "");
}

int listener_open(const char *path, listener_keep keep, void *userdata, int *ret_helpers,
		  bool *ret_made)
{
	const char *pid = getenv("LISTEN_PID"), *n = getenv("LISTEN_FDS");
	const char *names = getenv("LISTEN_FDNAMES");
	int count, ours = -1, theirs = -1;

	count = pid && n && strtol(pid, NULL, 10) == (long)getpid() ? (int)strtol(n, NULL, 10) : 0;
	for (int i = 0; i < count; i++) {
		char name[80];
		int *fd;

		copy_passed_name(names, i, name);
		if (keep && keep(userdata, name, -1)) {
			keep(userdata, name, adopt_socket(LISTEN_FD + i));
			continue;
		}
		fd = !strcmp(name, LISTEN_HELPERS) ? &theirs : &ours;
		if (*fd >= 0) {
			log_error("more than one socket of a kind was passed; see gpubroker.socket "
				  "and gpubroker-helpers.socket");
			return -EINVAL;
		}
		*fd = adopt_socket(LISTEN_FD + i);
		if (*fd < 0)
			return *fd;
	}
	unsetenv("LISTEN_PID");
	unsetenv("LISTEN_FDS");
	unsetenv("LISTEN_FDNAMES");
	if (ours >= 0 && theirs < 0) {
		/*
		 * Not a start by hand: helpers that this process forked would fail in its sandbox.
		 */
		log_error("systemd passed no socket for the helpers; 'systemctl restart "
			  "gpubroker-helpers.socket gpubroker.socket gpubroker.service' as root");
		fd_close(ours);
		return -EINVAL;
	}
	if (ours < 0) {
		ours = make_socket(path);
		*ret_made = true;
	}
	if (ours >= 0 && theirs >= 0)
		*ret_helpers = theirs;
	return ours;
}

/* Stops accepting at the sockets of allotments, or begins again. */
static void pause_sockets(struct peers *peers, bool pause)
{
	struct allotment_socket *s;

	TAILQ_FOREACH(s, &peers->sockets.list, link) {
		if (s->on_connect && pause)
			event_del(s->on_connect);
		else if (s->on_connect)
			event_add(s->on_connect, NULL);
	}
}

static void pause_accepting(struct peers *peers, int error)
{
	const struct timeval second = { .tv_sec = 1 };

	log_warning("cannot accept connections: %s; trying again in a second", strerror(error));
	event_del(peers->on_connect);
	pause_sockets(peers, true);
	evtimer_add(peers->on_accept_again, &second);
}

void listener_accept(struct peers *peers, int listen_fd, const struct allotment *allotment)
{
	if (closing_is_full(peers->closing))
		return pause_accepting(peers, ENOBUFS);
	for (int i = 0; i < (allotment ? ACCEPT_BURST_SOCKET : ACCEPT_BURST); i++) {
		int fd = accept4(listen_fd, NULL, NULL, SOCK_CLOEXEC | SOCK_NONBLOCK);

		if (fd >= 0)
			admit_to(peers, fd, allotment);
		else if (errno == EAGAIN)
			return;
		else if (errno != ECONNABORTED && errno != EINTR)
			return pause_accepting(peers, errno);
	}
}

static void on_peer_connect(evutil_socket_t fd, short what, void *userdata)
{
	(void)what;
	listener_accept(userdata, fd, NULL);
}

static void on_accept_again(evutil_socket_t fd, short what, void *userdata)
{
	struct peers *peers = userdata;

	(void)fd;
	(void)what;
	event_add(peers->on_connect, NULL);
	pause_sockets(peers, false);
}

int listener_start(struct peers *peers)
{
	peers->on_connect = event_new(peers->base, peers->listen_fd, EV_READ | EV_PERSIST,
				      on_peer_connect, peers);
	peers->on_accept_again = evtimer_new(peers->base, on_accept_again, peers);
	if (!peers->on_connect || !peers->on_accept_again ||
	    event_priority_set(peers->on_connect, PRIORITY_PEERS) ||
	    event_add(peers->on_connect, NULL))
		return -ENOMEM;
	return 0;
}

void listener_stop(struct peers *peers)
{
	if (peers->on_connect)
		event_free(peers->on_connect);
	if (peers->on_accept_again)
		event_free(peers->on_accept_again);
	peers->on_connect = peers->on_accept_again = NULL;
}

void listener_drain(struct peers *peers, int listen_fd)
{
	int fd;

	if (listen_fd < 0 || shutdown(listen_fd, SHUT_RDWR)) /* so that there is an end */
		return;
	while ((fd = accept4(listen_fd, NULL, NULL, SOCK_CLOEXEC | SOCK_NONBLOCK)) >= 0)
		closing_drop(peers->closing, fd, CLOSING_NOBODY);
}

/*
 * systemd keeps its socket, and the connections that wait there. One that was made here closes them
 * with it, and everything that they have sent.
 */
void listener_done(struct peers *peers)
{
	if (peers->made_listener)
		listener_drain(peers, peers->listen_fd);
	peers->listen_fd = fd_close(peers->listen_fd);
}
