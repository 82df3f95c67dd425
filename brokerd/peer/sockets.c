/* SPDX-License-Identifier: MIT */
/*
 * The sockets of allotments, see sockets.h. Owns the descriptors, and the names in their directory.
 * It must never create or bind a socket, never remove a file outside of that directory, and never
 * be the last to close a socket in whose backlog somebody waits: see listener.c.
 */
#include "config.h"

#include "brokerd/peer/sockets.h"
#include "brokerd/peer/listener.h"
#include "brokerd/peer/peer.h"
#include "brokerd/process/log.h"
#include "brokerd/process/notify.h"
#include "brokerd/process/worker.h"
#include "client/common/util.h"

#include <errno.h>
#include <event2/event.h>
#include <fcntl.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/stat.h>
#include <unistd.h>

#define KEPT_PREFIX "allotment-" /* of the name under which the service manager keeps one */
#define TELL_AGAIN 1		 /* seconds: any user may fill the service manager's socket */
#define ENDED_MAX 256 /* that it is not told of yet; it has no more of them (ALLOTMENTS_MAX) */

/* ---- the directory, and what a daemon before has left ---- */

int sockets_open(struct sockets *sockets, const char *broker_socket)
{
	const char *slash = strrchr(broker_socket, '/');
	const int n = slash ? (int)(slash - broker_socket) : 0;

	if (snprintf(sockets->path, sizeof(sockets->path), "%.*s/" PROTOCOL_SOCKETS, n,
		     broker_socket) >= (int)(sizeof(sockets->path) - PROTOCOL_SOCKET_NAME))
		return -ENAMETOOLONG;
	/* Each socket has its own owner and mode; root alone may put one here. */
	if (mkdir(sockets->path, 0755) ? errno != EEXIST : chmod(sockets->path, 0755))
		return -errno;
	sockets->directory = open(sockets->path, O_RDONLY | O_DIRECTORY | O_CLOEXEC | O_NOFOLLOW);
	return sockets->directory < 0 ? -errno : 0;
}

static struct allotment_socket *make_socket_entry(struct sockets *sockets, const char *name, int fd)
{
	struct allotment_socket *s = calloc(1, sizeof(*s));

	if (!s)
		return NULL;
	snprintf(s->name, sizeof(s->name), "%s", name);
	s->fd = fd;
	TAILQ_INSERT_TAIL(&sockets->list, s, link);
	return s;
}

bool sockets_keep(void *userdata, const char *name, int fd)
{
	struct sockets *sockets = userdata;
	const size_t n = strlen(KEPT_PREFIX);

	if (strncmp(name, KEPT_PREFIX, n) != 0 || strlen(name + n) >= PROTOCOL_SOCKET_NAME)
		return false;
	if (fd >= 0 && !make_socket_entry(sockets, name + n, fd))
		log_error("no memory for the socket of an allotment, %s", name + n);
	return true;
}

static void remove_file(const struct sockets *sockets, const char *name)
{
	if (sockets->directory >= 0 && unlinkat(sockets->directory, name, 0) && errno != ENOENT)
		log_error("%s/%s cannot be removed: %s", sockets->path, name, strerror(errno));
}

static void format_kept(const struct allotment_socket *s, char out[80])
{
	snprintf(out, 80, KEPT_PREFIX "%s", s->name);
}

/* ---- serving ---- */

static void stop_socket(struct allotment_socket *s)
{
	if (s->on_connect)
		event_free(TAKE_PTR(s->on_connect));
}

static void forget_ended(struct sockets *sockets, struct allotment_socket *s)
{
	TAILQ_REMOVE(&sockets->ended, s, link);
	sockets->n_ended--;
	free(s);
}

/*
 * Tells the service manager which sockets it is to keep, and before that which not: one that has
 * ended may have had the name of one that there is. Returns 0, or -errno of the first that failed.
 */
static int tell_all(struct sockets *sockets)
{
	struct allotment_socket *s;
	char kept[80];
	int r = 0;

	while (!r && (s = TAILQ_FIRST(&sockets->ended))) {
		format_kept(s, kept);
		r = notify_forget(sockets->notify_fd, kept);
		if (!r)
			forget_ended(sockets, s);
	}
	TAILQ_FOREACH(s, &sockets->list, link) {
		if (r)
			break;
		if (s->told || sockets->notify_fd < 0)
			continue;
		format_kept(s, kept);
		r = notify_keep(sockets->notify_fd, kept, s->fd);
		s->told = !r;
	}
	return r;
}

static void on_tell_again(evutil_socket_t fd, short what, void *userdata);

/* The same, and again later if that fails: users may keep the service manager's socket full. */
static void tell_service_manager(struct peers *peers)
{
	const struct timeval later = { .tv_sec = TELL_AGAIN };
	struct sockets *sockets = &peers->sockets;
	int r = tell_all(sockets);

	if (!r)
		return;
	if (!sockets->tell_again)
		sockets->tell_again = peers_new_event(peers, -1, 0, on_tell_again, peers);
	if (!sockets->tell_again || evtimer_add(sockets->tell_again, &later))
		log_error("no memory to tell the service manager again which sockets of "
			  "allotments it is to keep");
}

static void on_tell_again(evutil_socket_t fd, short what, void *userdata)
{
	(void)fd;
	(void)what;
	tell_service_manager(userdata);
}

/* Forgets a socket that nobody may connect to any more. */
static void end_socket(struct peers *peers, struct allotment_socket *s)
{
	stop_socket(s);
	remove_file(&peers->sockets, s->name);
	sockets_drop(peers, TAKE_FD(s->fd));
	TAILQ_REMOVE(&peers->sockets.list, s, link);
	TAILQ_INSERT_TAIL(&peers->sockets.ended, s, link);
	if (++peers->sockets.n_ended > ENDED_MAX)
		forget_ended(&peers->sockets, TAILQ_FIRST(&peers->sockets.ended));
	tell_service_manager(peers);
}

static void on_allotment_connect(evutil_socket_t fd, short what, void *userdata)
{
	struct allotment_socket *s = userdata;
	const struct allotment *allotment = allotments_find(s->peers->claims->allotments, s->label);

	/* A process with a copy has shut it down: it would be ready for ever, and nobody comes. */
	if (what & EV_CLOSED) {
		log_warning("another process has shut the socket of %s down: 'gpubroker allot' "
			    "with the same --socket makes it anew",
			    s->label);
		end_socket(s->peers, s);
	} else if (allotment) {
		listener_accept(s->peers, fd, allotment);
	}
}

static int start_socket(struct peers *peers, struct allotment_socket *s)
{
	s->peers = peers;
	s->fd = worker_move_high(s->fd);
	s->on_connect = peers_new_event(peers, s->fd, EV_READ | EV_CLOSED | EV_PERSIST,
					on_allotment_connect, s);
	return s->on_connect && !event_add(s->on_connect, NULL) ? 0 : -ENOMEM;
}

static struct allotment_socket *find_socket(const struct peers *peers, const char *label)
{
	struct allotment_socket *s;

	TAILQ_FOREACH(s, &peers->sockets.list, link)
		if (!strcmp(s->label, label))
			return s;
	return NULL;
}

bool sockets_has(const struct peers *peers, const char *label)
{
	return find_socket(peers, label);
}

void sockets_serve(struct peers *peers)
{
	const struct allotment *allotment;
	struct allotment_socket *s, *next;

	for (s = TAILQ_FIRST(&peers->sockets.list); s; s = next) {
		next = TAILQ_NEXT(s, link);
		allotment = allotments_find_socket(peers->claims->allotments, s->name);
		if (!allotment || sockets_has(peers, allotment->label)) {
			end_socket(peers, s);
			continue;
		}
		s->told = true;
		memcpy(s->label, allotment->label, sizeof(s->label));
		if (start_socket(peers, s))
			log_error("no memory to serve the socket of %s", s->label);
	}
	TAILQ_FOREACH(allotment, &peers->claims->allotments->list, link)
		if (allotment->socket[0] && !sockets_has(peers, allotment->label))
			log_warning("nobody has kept the socket of %s while the broker was away: "
				    "'gpubroker allot' with the same --socket makes it anew",
				    allotment->label);
}

int sockets_add(struct peers *peers, const struct allotment *allotment, int fd)
{
	struct allotment_socket *s;

	s = make_socket_entry(&peers->sockets, allotment->socket, fd);
	if (!s) {
		sockets_drop(peers, fd);
		return -ENOMEM;
	}
	memcpy(s->label, allotment->label, sizeof(s->label));
	if (start_socket(peers, s)) {
		end_socket(peers, s);
		return -ENOMEM;
	}
	if (peers->sockets.notify_fd < 0)
		log_notice("no service manager keeps the socket of %s: it ends with this process",
			   s->label);
	tell_service_manager(peers);
	return 0;
}

void sockets_end(struct peers *peers, const struct allotment *allotment)
{
	struct allotment_socket *s = find_socket(peers, allotment->label);
	struct peer *peer;

	if (s)
		end_socket(peers, s);
	else if (allotment->socket[0])
		remove_file(&peers->sockets, allotment->socket);
	/* Their claims end in the next turn of the loop, in which they are freed. */
	TAILQ_FOREACH(peer, &peers->list, link)
		if (peer->fd >= 0 && !strcmp(peer->claimant.through, allotment->label))
			peer_doom(peer);
}

void sockets_drop(struct peers *peers, int fd)
{
	listener_drain(peers, fd);
	fd_close(fd);
}

/* ---- all of them ---- */

void sockets_stop(struct peers *peers)
{
	struct allotment_socket *s;

	TAILQ_FOREACH(s, &peers->sockets.list, link)
		stop_socket(s);
}

/*
 * The service manager has copies of them, and of what waits there. If it has not, the end of this
 * process closes them: a close here might wait for what somebody has sent.
 */
void sockets_done(struct peers *peers)
{
	struct sockets *sockets = &peers->sockets;
	struct allotment_socket *s;

	sockets_stop(peers);
	tell_all(sockets);
	if (sockets->tell_again)
		event_free(TAKE_PTR(sockets->tell_again));
	while ((s = TAILQ_FIRST(&sockets->ended)))
		forget_ended(sockets, s);
	while ((s = TAILQ_FIRST(&sockets->list))) {
		if (sockets->notify_fd < 0)
			sockets_drop(peers, TAKE_FD(s->fd));
		TAILQ_REMOVE(&sockets->list, s, link);
		free(s);
	}
	sockets->directory = fd_close(sockets->directory);
}
