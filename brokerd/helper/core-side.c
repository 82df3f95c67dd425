/* SPDX-License-Identifier: MIT */
/*
 * The core's side of its helpers: gets them, hears them, and says so when one is missing. Under
 * systemd they connect, whenever they are there; what an earlier one has told holds until the next
 * one tells it anew. A core that was started by hand forks them, and does not go on without one.
 *
 * It must never wait for a helper, keep more than a few connections that have not said what they
 * are, or go on with one that has sent nonsense: then the core ends, to be started again.
 */
#include "config.h"

#include "brokerd/daemon.h"
#include "brokerd/lease/ending.h"
#include "brokerd/process/log.h"
#include "brokerd/prepare/prepare.h"
#include "brokerd/claim/queue.h"
#include "brokerd/prepare/sriov.h"
#include "brokerd/process/worker.h"
#include "client/wire/passfd.h"
#include "client/common/util.h"

#include <errno.h>
#include <string.h>
#include <sys/socket.h>
#include <sysexits.h>

#define HELPERS_ACCOUNT "gpubroker"
#define RECORD_BURST 256 /* helpers' records a turn */
#define ACCEPT_BURST 2	 /* connections in a row, after which there is a pause */
#define PAUSE_MS 250
#define HELLO_LIMIT 5 /* seconds in which who connects says what he is */

static struct helper *helper_of(struct daemon *daemon, enum helper_role role)
{
	return role == HELPER_WATCHER ? &daemon->watcher : &daemon->loader;
}

static struct event **event_of(struct daemon *daemon, enum helper_role role)
{
	return role == HELPER_WATCHER ? &daemon->on_watcher : &daemon->on_loader;
}

static void drop(struct daemon *daemon, enum helper_role role)
{
	struct event **event = event_of(daemon, role);

	if (*event)
		event_free(*event);
	*event = NULL;
	helper_stop(helper_of(daemon, role));
}

/* ---- what they say ---- */

static void is_nonsense(struct daemon *daemon, enum helper_role role, const char *what)
{
	log_error("the %s sent %s; ending, to be started again with the leases as they are",
		  helper_role_name(role), what);
	daemon_quit(daemon, EX_SOFTWARE);
}

static void has_ended(struct daemon *daemon, enum helper_role role)
{
	const struct timeval limit = { .tv_sec = HELPERS_LIMIT };

	if (daemon->helpers_fd < 0) {
		log_error(
			"the %s has ended; ending, to be started again with the leases as they are",
			helper_role_name(role));
		daemon_quit(daemon, EX_SOFTWARE);
		return;
	}
	drop(daemon, role);
	if (daemon->quitting)
		return;
	log_notice("the %s has ended; what it has told holds until the next one comes",
		   helper_role_name(role));
	evtimer_add(daemon->on_missing, &limit);
}

/* Of that size is a record; everything else ends the helper or the core. */
static bool is_record(struct daemon *daemon, enum helper_role role, ssize_t n, size_t size)
{
	if (n == (ssize_t)size)
		return true;
	if (!n || n == -ECONNRESET)
		has_ended(daemon, role);
	else
		is_nonsense(daemon, role, "something else than a record");
	return false;
}

static void on_watcher(evutil_socket_t fd, short what, void *userdata)
{
	struct daemon *daemon = userdata;
	struct watcher_record record;
	size_t n_fds;
	bool came;

	(void)what;
	for (int i = 0; i < RECORD_BURST; i++) {
		ssize_t n = passfd_receive(fd, &record, sizeof(record), NULL, 0, &n_fds);
		int r;

		if (n == -EAGAIN)
			break;
		if (!is_record(daemon, HELPER_WATCHER, n, sizeof(record)))
			return;
		if (!devices_believe(&record)) {
			is_nonsense(daemon, HELPER_WATCHER, "a record that makes no sense");
			return;
		}
		prepare_record(daemon, &record);
		vfs_record(daemon, &record);
		arrivals_record(daemon, &record);
		came = record.type == WATCHER_DEVICE &&
		       !devices_find(&daemon->devices, &record.address);
		r = devices_take(&daemon->devices, &record);
		if (came && !r)
			queue_look(daemon); /* perhaps it is what somebody waits for */
		if (r)
			log_error("a function cannot be listed: %s", strerror(-r));
	}
	daemon_serve_when_ready(daemon);
}

static void on_loader(evutil_socket_t fd, short what, void *userdata)
{
	struct daemon *daemon = userdata;
	struct loader_record record;
	struct policy policy;
	size_t n_fds;

	(void)what;
	for (int i = 0; i < RECORD_BURST; i++) {
		ssize_t n = passfd_receive(fd, &record, sizeof(record), NULL, 0, &n_fds);
		int r;

		if (n == -EAGAIN)
			return;
		if (!is_record(daemon, HELPER_LOADER, n, sizeof(record)))
			return;
		r = policy_take(&daemon->intake, &record, &policy);
		if (r < 0) {
			is_nonsense(daemon, HELPER_LOADER, "a record that makes no sense");
			return;
		}
		if (r)
			daemon_policy_arrived(daemon, r == 1 ? &policy : NULL);
	}
}

static void ask_to_load(struct daemon *daemon)
{
	const uint32_t packet = LOADER_LOAD;
	int r = passfd_send(daemon->loader.fd, &packet, sizeof(packet), NULL, 0);

	if (r) /* -EAGAIN: it has been asked more often than it could load; the last asking is still to come */
		log_warning("the loader cannot be asked to load: %s", strerror(-r));
}

/* Hears a helper, whose descriptor is there. */
static int listen_to(struct daemon *daemon, enum helper_role role)
{
	struct event **event = event_of(daemon, role);

	*event = event_new(daemon->base, helper_of(daemon, role)->fd, EV_READ | EV_PERSIST,
			   role == HELPER_WATCHER ? on_watcher : on_loader, daemon);
	if (!*event || event_add(*event, NULL))
		return -ENOMEM;
	if (role == HELPER_LOADER)
		ask_to_load(daemon);
	return 0;
}

/* ---- they come ---- */

static void newcomer_free(struct newcomer *newcomer)
{
	if (newcomer->event)
		event_free(newcomer->event);
	newcomer->event = NULL;
	newcomer->fd = fd_close(newcomer->fd);
}

/* It is what it says: the helper of that role, if there is none. */
static void take(struct daemon *daemon, enum helper_role role, int fd)
{
	struct helper *helper = helper_of(daemon, role);

	if (helper->fd >= 0) {
		log_warning("a second %s has come, and is turned away", helper_role_name(role));
		fd_close(fd);
		return;
	}
	helper->fd = fd;
	/* Half of what an earlier one sent is no beginning of what this one sends. */
	if (role == HELPER_LOADER)
		policy_intake_done(&daemon->intake);
	if (listen_to(daemon, role)) {
		log_error("the %s cannot be heard: no memory", helper_role_name(role));
		drop(daemon, role);
	}
	if (daemon->watcher.fd >= 0 && daemon->loader.fd >= 0)
		evtimer_del(daemon->on_missing);
}

static void on_hello(evutil_socket_t fd, short what, void *userdata)
{
	struct newcomer *newcomer = userdata;
	struct helper_hello hello;
	size_t n_fds;
	ssize_t n = what & EV_TIMEOUT ? -ETIMEDOUT
				      : passfd_receive(fd, &hello, sizeof(hello), NULL, 0, &n_fds);

	if (n == sizeof(hello) && helper_hello_valid(&hello))
		take(newcomer->daemon, (enum helper_role)hello.role, TAKE_FD(newcomer->fd));
	else if (n)
		log_warning("who has connected as a helper is turned away: %s",
			    what & EV_TIMEOUT ? "he has not said what he is"
					      : "he is none, or of another version");
	newcomer_free(newcomer);
}

/* Only the helpers' account and root can connect; root has no business there either. */
static bool is_helper(const struct daemon *daemon, int fd)
{
	struct ucred cred;
	socklen_t size = sizeof(cred);

	return !getsockopt(fd, SOL_SOCKET, SO_PEERCRED, &cred, &size) && size == sizeof(cred) &&
	       cred.uid == daemon->helpers_uid;
}

static void newcomer_new(struct daemon *daemon, int fd)
{
	const struct timeval limit = { .tv_sec = HELLO_LIMIT };
	struct newcomer *newcomer = NULL;

	for (size_t i = 0; i < NEWCOMERS_MAX; i++)
		if (!daemon->newcomers[i].event)
			newcomer = &daemon->newcomers[i];
	if (!newcomer || !is_helper(daemon, fd)) {
		log_warning("who has connected as a helper is turned away: %s",
			    newcomer ? "he is somebody else" : "there are others already");
		fd_close(fd);
		return;
	}
	newcomer->daemon = daemon;
	newcomer->fd = fd;
	newcomer->event = event_new(daemon->base, fd, EV_READ, on_hello, newcomer);
	if (!newcomer->event || event_add(newcomer->event, &limit)) {
		log_error("a helper cannot be heard: no memory");
		newcomer_free(newcomer);
	}
}

/*
 * A pause after each that comes, so that one who connects in a loop costs neither time nor many
 * lines in the journal.
 */
static void on_connect(evutil_socket_t listen_fd, short what, void *userdata)
{
	const struct timeval pause = { .tv_usec = PAUSE_MS * 1000 };
	struct daemon *daemon = userdata;

	(void)what;
	for (int i = 0; i < ACCEPT_BURST; i++) {
		int fd = accept4(listen_fd, NULL, NULL, SOCK_CLOEXEC | SOCK_NONBLOCK);

		if (fd < 0)
			break;
		newcomer_new(daemon, listener_out_of_the_way(fd));
	}
	event_del(daemon->on_helper);
	evtimer_add(daemon->on_helper_again, &pause);
}

static void on_connect_again(evutil_socket_t fd, short what, void *userdata)
{
	struct daemon *daemon = userdata;

	(void)fd;
	(void)what;
	event_add(daemon->on_helper, NULL);
}

bool helpers_tell_missing(struct daemon *daemon)
{
	bool missing = false;

	for (enum helper_role role = 0; role < HELPER_ROLES; role++) {
		if (helper_of(daemon, role)->fd >= 0)
			continue;
		log_error("no %s has come in %d s: see 'systemctl status gpubroker-%s'",
			  helper_role_name(role), HELPERS_LIMIT,
			  role == HELPER_WATCHER ? "watch" : "load");
		missing = true;
	}
	return missing;
}

static void on_missing(evutil_socket_t fd, short what, void *userdata)
{
	(void)fd;
	(void)what;
	helpers_tell_missing(userdata);
}

/* ---- start and end ---- */

int helpers_prepare(struct daemon *daemon, const struct loader_options *options)
{
	gid_t gid;
	int r = helper_account(HELPERS_ACCOUNT, &daemon->helpers_uid, &gid);

	if (r || !daemon->helpers_uid) {
		log_error("there is no account '" HELPERS_ACCOUNT
			  "' for the helpers: %s; 'systemd-sysusers' "
			  "makes it",
			  r ? strerror(-r) : "it is root's");
		return r ? r : -EINVAL;
	}
	if (daemon->helpers_fd >= 0)
		return 0;
	r = helper_start(&daemon->loader, HELPER_LOADER, daemon->helpers_uid, gid, options);
	if (!r)
		r = helper_start(&daemon->watcher, HELPER_WATCHER, daemon->helpers_uid, gid, NULL);
	if (r)
		log_error("a helper cannot be started: %s", strerror(-r));
	return r;
}

int helpers_listen(struct daemon *daemon)
{
	int r;

	for (size_t i = 0; i < NEWCOMERS_MAX; i++)
		daemon->newcomers[i].fd = -1;
	if (daemon->helpers_fd < 0) {
		r = listen_to(daemon, HELPER_WATCHER);
		return r ? r : listen_to(daemon, HELPER_LOADER);
	}
	daemon->on_missing = evtimer_new(daemon->base, on_missing, daemon);
	daemon->on_helper_again = evtimer_new(daemon->base, on_connect_again, daemon);
	daemon->on_helper = event_new(daemon->base, daemon->helpers_fd, EV_READ | EV_PERSIST,
				      on_connect, daemon);
	return daemon->on_missing && daemon->on_helper_again && daemon->on_helper &&
			       !event_add(daemon->on_helper, NULL)
		       ? 0
		       : -ENOMEM;
}

void helpers_reload(struct daemon *daemon)
{
	if (daemon->loader.fd >= 0)
		ask_to_load(daemon);
	else
		log_notice("the policy is loaded as soon as the loader comes");
}

void helpers_done(struct daemon *daemon)
{
	struct event *events[] = { daemon->on_missing, daemon->on_helper_again, daemon->on_helper };

	for (size_t i = 0; i < ARRAY_SIZE(events); i++)
		if (events[i])
			event_free(events[i]);
	for (size_t i = 0; i < NEWCOMERS_MAX; i++)
		if (daemon->newcomers[i].event)
			newcomer_free(&daemon->newcomers[i]);
	drop(daemon, HELPER_WATCHER);
	drop(daemon, HELPER_LOADER);
	daemon->helpers_fd = fd_close(daemon->helpers_fd);
}
