/* SPDX-License-Identifier: MIT */
/*
 * The core's side of its helpers, see core-side.h: accepts or starts them, reads from them, and
 * logs when one is missing. Under systemd they connect when they have started; the records of an
 * earlier helper stay valid until the next one sends its own. A core that was started by hand forks
 * them, and ends if one of them ends.
 *
 * It must never wait for a helper, keep more than a few connections that have not sent their
 * greeting, or go on with a helper that has sent an invalid record: then the core ends, to be
 * started again. Only the finder and the runner of hooks, which decide nothing, are dropped
 * instead, and may be missing.
 */
#include "config.h"

#include "brokerd/helper/core-side.h"
#include "brokerd/helper/start.h"
#include "brokerd/process/closing.h"
#include "brokerd/process/log.h"
#include "brokerd/process/worker.h"
#include "client/common/util.h"
#include "client/host/opened.h"
#include "client/wire/passfd.h"

#include <errno.h>
#include <event2/event.h>
#include <string.h>
#include <sys/socket.h>
#include <sysexits.h>

#define HELPERS_ACCOUNT "gpubroker"
#define RECORD_BURST 256 /* records of a helper that are read in a turn */
#define ANSWER_BURST 16	 /* answers of the finder */
#define ACCEPT_BURST 2	 /* connections that are accepted before a pause */
#define PAUSE_MS 250
#define HELLO_LIMIT 5 /* seconds within which a connection must send its greeting */

static struct helper *helper_of(struct helpers *helpers, enum helper_role role)
{
	return role == HELPER_WATCHER  ? &helpers->watcher
	       : role == HELPER_LOADER ? &helpers->loader
	       : role == HELPER_FINDER ? &helpers->finder
	       : role == HELPER_ENDER  ? &helpers->ender
				       : &helpers->hooks;
}

static struct event **event_of(struct helpers *helpers, enum helper_role role)
{
	return role == HELPER_WATCHER  ? &helpers->on_watcher
	       : role == HELPER_LOADER ? &helpers->on_loader
	       : role == HELPER_FINDER ? &helpers->on_finder
	       : role == HELPER_ENDER  ? &helpers->on_ender
				       : &helpers->on_hooks;
}

static void drop_helper(struct helpers *helpers, enum helper_role role)
{
	struct event **event = event_of(helpers, role);

	if (*event)
		event_free(*event);
	*event = NULL;
	closing_drop(helpers->closing, TAKE_FD(helper_of(helpers, role)->fd), CLOSING_NOBODY);
}

/* ---- records ---- */

/* Returns true if one that has gone is about to be started again. */
static bool expects_finder(const struct helpers *helpers)
{
	return helpers->fd >= 0 && !helpers->closed && helpers->finder_left &&
	       opened_now() < helpers->finder_left + FINDING_LIMIT_MS;
}

/* Drops the finder, without which claims go on. */
static void drop_finder(struct helpers *helpers)
{
	drop_helper(helpers, HELPER_FINDER);
	helpers->unanswered = 0;
	helpers->finder_left = opened_now();
	if (!expects_finder(helpers))
		helpers->ops->found(helpers->userdata, NULL);
}

/* Drops the ender, without which nothing is ended. */
static void drop_ender(struct helpers *helpers)
{
	drop_helper(helpers, HELPER_ENDER);
	helpers->ops->ended(helpers->userdata, NULL);
}

void helpers_drop_hooks(struct helpers *helpers)
{
	drop_helper(helpers, HELPER_HOOKS);
	helpers->ops->hooked(helpers->userdata, NULL);
}

/* Drops a helper that decides nothing. */
static void drop_optional(struct helpers *helpers, enum helper_role role)
{
	if (role == HELPER_FINDER)
		drop_finder(helpers);
	else if (role == HELPER_ENDER)
		drop_ender(helpers);
	else
		helpers_drop_hooks(helpers);
}

static void reject_nonsense(struct helpers *helpers, enum helper_role role, const char *what)
{
	if (role >= HELPER_FINDER) { /* it decides nothing, so the core need not start anew */
		log_error("the %s sent %s; its connection is closed", helper_role_name(role), what);
		drop_optional(helpers, role);
		return;
	}
	log_error("the %s sent %s; ending, to be started again with the leases as they are",
		  helper_role_name(role), what);
	helpers->ops->failed(helpers->userdata, EX_SOFTWARE);
}

static void take_end(struct helpers *helpers, enum helper_role role)
{
	const struct timeval limit = { .tv_sec = HELPERS_LIMIT };

	if (role >= HELPER_FINDER) {
		if (!helpers->closed)
			log_info("the %s has ended; the next one is asked again, if it comes",
				 helper_role_name(role));
		drop_optional(helpers, role);
		return;
	}
	if (helpers->fd < 0) {
		log_error(
			"the %s has ended; ending, to be started again with the leases as they are",
			helper_role_name(role));
		helpers->ops->failed(helpers->userdata, EX_SOFTWARE);
		return;
	}
	drop_helper(helpers, role);
	if (helpers->closed)
		return;
	log_notice("the %s has ended; its records stay valid until the next one connects",
		   helper_role_name(role));
	evtimer_add(helpers->on_missing, &limit);
}

/*
 * Returns true if a record of the right size was received. Anything else ends the helper or the
 * core.
 */
static bool is_record(struct helpers *helpers, enum helper_role role, ssize_t n, size_t size)
{
	if (n == (ssize_t)size)
		return true;
	if (!n || n == -ECONNRESET)
		take_end(helpers, role);
	else
		reject_nonsense(helpers, role, "a packet that is not a record");
	return false;
}

static void on_watcher(evutil_socket_t fd, short what, void *userdata)
{
	struct helpers *helpers = userdata;
	struct watcher_record record;

	(void)what;
	for (int i = 0; i < RECORD_BURST; i++) {
		ssize_t n = passfd_receive_plain(fd, &record, sizeof(record));

		if (n == -EAGAIN)
			break;
		if (!is_record(helpers, HELPER_WATCHER, n, sizeof(record)))
			return;
		if (!devices_believe(&record)) {
			reject_nonsense(helpers, HELPER_WATCHER, "an invalid record");
			return;
		}
		helpers->ops->device(helpers->userdata, &record);
	}
	helpers->ops->devices_read(helpers->userdata);
}

static void on_loader(evutil_socket_t fd, short what, void *userdata)
{
	struct helpers *helpers = userdata;
	struct loader_record record;
	struct policy_owners owners;
	struct policy policy;

	(void)what;
	for (int i = 0; i < RECORD_BURST; i++) {
		ssize_t n = passfd_receive_plain(fd, &record, sizeof(record));

		if (n == -EAGAIN)
			return;
		if (!is_record(helpers, HELPER_LOADER, n, sizeof(record)))
			return;
		switch (intake_take(&helpers->intake, &record, &policy, &owners)) {
		case INTAKE_MORE:
			break;
		case INTAKE_POLICY:
			helpers->loads_ended++;
			helpers->has_policy = true;
			helpers->ops->policy(helpers->userdata, &policy, record.counts[0],
					     record.counts[1]);
			break;
		case INTAKE_OWNERS:
			helpers->ops->owners(helpers->userdata, &owners);
			break;
		case INTAKE_MISTAKES:
			helpers->loads_ended++;
			helpers->ops->policy(helpers->userdata, NULL, record.counts[0], 0);
			break;
		case INTAKE_NONSENSE:
		case INTAKE_NO_MEMORY:
			reject_nonsense(helpers, HELPER_LOADER, "an invalid record");
			return;
		}
	}
}

static void on_finder(evutil_socket_t fd, short what, void *userdata)
{
	struct helpers *helpers = userdata;
	struct finder_answer answer;

	(void)what;
	for (int i = 0; i < ANSWER_BURST; i++) {
		ssize_t n = passfd_receive_plain(fd, &answer, sizeof(answer));

		if (n == -EAGAIN)
			return;
		if (!is_record(helpers, HELPER_FINDER, n, sizeof(answer)))
			return;
		if (!helpers->unanswered || !finding_believe(&answer)) {
			reject_nonsense(helpers, HELPER_FINDER, "an invalid answer");
			return;
		}
		helpers->unanswered--;
		helpers->ops->found(helpers->userdata, &answer);
	}
}

static void on_hooks(evutil_socket_t fd, short what, void *userdata)
{
	struct helpers *helpers = userdata;
	struct hook_answer answer;

	(void)what;
	for (int i = 0; i < ANSWER_BURST; i++) {
		ssize_t n = passfd_receive_plain(fd, &answer, sizeof(answer));

		if (n == -EAGAIN)
			return;
		if (!is_record(helpers, HELPER_HOOKS, n, sizeof(answer)))
			return;
		if (!hooking_believe(&answer) ||
		    !helpers->ops->hooked(helpers->userdata, &answer)) {
			reject_nonsense(helpers, HELPER_HOOKS, "an invalid answer");
			return;
		}
	}
}

int helpers_hook(struct helpers *helpers, const struct hook_question *question)
{
	return helpers->hooks.fd < 0
		       ? -ENOTCONN
		       : passfd_send(helpers->hooks.fd, question, sizeof(*question), NULL, 0);
}

static void on_ender(evutil_socket_t fd, short what, void *userdata)
{
	struct helpers *helpers = userdata;
	struct ender_answer answer;

	(void)what;
	for (int i = 0; i < ANSWER_BURST; i++) {
		ssize_t n = passfd_receive_plain(fd, &answer, sizeof(answer));

		if (n == -EAGAIN)
			return;
		if (!is_record(helpers, HELPER_ENDER, n, sizeof(answer)))
			return;
		if (!ender_believe(&answer)) {
			reject_nonsense(helpers, HELPER_ENDER, "an invalid answer");
			return;
		}
		helpers->ops->ended(helpers->userdata, &answer);
	}
}

int helpers_end(struct helpers *helpers, const struct ender_order *order)
{
	if (helpers->ender.fd < 0)
		return -ENOTCONN;
	return passfd_send(helpers->ender.fd, order, sizeof(*order), NULL, 0);
}

int helpers_find(struct helpers *helpers, const struct finder_question *question)
{
	int r = -ENOTCONN;

	if (helpers->finder.fd >= 0)
		r = passfd_send(helpers->finder.fd, question, sizeof(*question), NULL, 0);
	else if (expects_finder(helpers))
		return -ECONNRESET;
	else if (!helpers->missed_finder)
		log_warning("the finder is missing, so nobody looks who has a device open: see "
			    "'systemctl status gpubroker-find'");
	helpers->missed_finder = r == -ENOTCONN;
	if (r == -EAGAIN && !helpers->full_finder)
		log_warning("the finder does not read what it is asked; claims go on without it");
	helpers->full_finder = r == -EAGAIN;
	if (!r)
		helpers->unanswered++;
	return r == -EPIPE ? -ECONNRESET : r; /* its end is read next */
}

static void ask_to_load(struct helpers *helpers)
{
	const uint32_t packet = helpers->has_policy ? LOADER_LOAD : LOADER_LOAD_SAVED;
	int r = passfd_send(helpers->loader.fd, &packet, sizeof(packet), NULL, 0);

	if (!r)
		helpers->loads_asked++;
	else /* -EAGAIN: it has requests that it has not read yet, and reads the files for those */
		log_warning("the loader cannot be asked to load: %s", strerror(-r));
}

/* Begins to read from a helper that is connected. Returns 0, or -ENOMEM. */
static int start_reading(struct helpers *helpers, enum helper_role role)
{
	static const event_callback_fn callbacks[HELPER_ROLES] = { on_watcher, on_loader, on_finder,
								   on_ender, on_hooks };
	struct event **event = event_of(helpers, role);

	*event = event_new(helpers->base, helper_of(helpers, role)->fd, EV_READ | EV_PERSIST,
			   callbacks[role], helpers);
	if (!*event || event_add(*event, NULL))
		return -ENOMEM;
	if (role == HELPER_LOADER)
		ask_to_load(helpers);
	if (role == HELPER_FINDER)
		helpers->ops->finder_came(helpers->userdata);
	if (role == HELPER_HOOKS)
		helpers->ops->hooks_came(helpers->userdata);
	return 0;
}

/* ---- connections ---- */

static void newcomer_free(struct newcomer *newcomer)
{
	if (newcomer->event)
		event_free(newcomer->event);
	newcomer->event = NULL;
	closing_drop(newcomer->helpers->closing, TAKE_FD(newcomer->fd), CLOSING_NOBODY);
}

/* Makes a connection the helper of a role, if there is none yet. */
static void take_helper(struct helpers *helpers, enum helper_role role, int fd)
{
	struct helper *helper = helper_of(helpers, role);

	if (helper->fd >= 0) {
		log_warning("rejected a second %s on the helper socket", helper_role_name(role));
		closing_drop(helpers->closing, fd, CLOSING_NOBODY);
		return;
	}
	helper->fd = fd;
	/* The records of an earlier loader must not be mixed with this one's. */
	if (role == HELPER_LOADER) {
		intake_done(&helpers->intake);
		helpers->loads_ended = helpers->loads_asked; /* it was asked in vain */
	}
	if (start_reading(helpers, role)) {
		log_error("cannot read from the %s: no memory", helper_role_name(role));
		drop_helper(helpers, role);
	}
	if (helpers->watcher.fd >= 0 && helpers->loader.fd >= 0)
		evtimer_del(helpers->on_missing);
}

/* Returns the user who may be in that role. Only the runner of hooks is root's. */
static uid_t uid_of(const struct helpers *helpers, enum helper_role role)
{
	return role == HELPER_HOOKS ? helpers->hooks_uid : helpers->uid;
}

/* Returns why a greeting is not one of a helper; NULL: it is. */
static const char *hello_fault(const struct newcomer *newcomer, const struct helper_hello *hello,
			       ssize_t n)
{
	if (n == -ETIMEDOUT)
		return "no greeting in time";
	if (n != sizeof(*hello) || !helper_hello_valid(hello))
		return "not a helper, or of another version";
	return newcomer->uid == uid_of(newcomer->helpers, (enum helper_role)hello->role)
		       ? NULL
		       : "wrong uid";
}

static void on_hello(evutil_socket_t fd, short what, void *userdata)
{
	struct newcomer *newcomer = userdata;
	struct helper_hello hello;
	ssize_t n = what & EV_TIMEOUT ? -ETIMEDOUT
				      : passfd_receive_plain(fd, &hello, sizeof(hello));
	const char *fault = hello_fault(newcomer, &hello, n);

	if (!fault)
		take_helper(newcomer->helpers, (enum helper_role)hello.role, TAKE_FD(newcomer->fd));
	else if (n)
		log_warning("rejected a connection on the helper socket: %s", fault);
	newcomer_free(newcomer);
}

/* Returns true if the process runs as the helpers' account or as root: only they can connect. */
static bool is_helper(const struct helpers *helpers, int fd, uid_t *ret_uid)
{
	struct ucred cred;
	socklen_t size = sizeof(cred);

	if (getsockopt(fd, SOL_SOCKET, SO_PEERCRED, &cred, &size) || size != sizeof(cred))
		return false;
	*ret_uid = cred.uid;
	return cred.uid == helpers->uid || cred.uid == helpers->hooks_uid;
}

static void newcomer_new(struct helpers *helpers, int fd)
{
	const struct timeval limit = { .tv_sec = HELLO_LIMIT };
	struct newcomer *newcomer = NULL;
	uid_t uid = 0;

	for (size_t i = 0; i < NEWCOMERS_MAX; i++)
		if (!helpers->newcomers[i].event)
			newcomer = &helpers->newcomers[i];
	if (!newcomer || !is_helper(helpers, fd, &uid)) {
		log_warning("rejected a connection on the helper socket: %s",
			    newcomer ? "wrong uid" : "no free slot");
		closing_drop(helpers->closing, fd, CLOSING_NOBODY);
		return;
	}
	newcomer->helpers = helpers;
	newcomer->uid = uid;
	newcomer->fd = fd;
	newcomer->event = event_new(helpers->base, fd, EV_READ, on_hello, newcomer);
	if (!newcomer->event || event_add(newcomer->event, &limit)) {
		log_error("cannot read from a helper: no memory");
		newcomer_free(newcomer);
	}
}

/*
 * Accepts a few connections and then pauses, so that a process that connects in a loop costs
 * neither time nor many lines in the journal.
 */
static void on_helper_connect(evutil_socket_t listen_fd, short what, void *userdata)
{
	const struct timeval pause = { .tv_usec = PAUSE_MS * 1000 };
	struct helpers *helpers = userdata;

	(void)what;
	for (int i = 0; i < ACCEPT_BURST; i++) {
		int fd = accept4(listen_fd, NULL, NULL, SOCK_CLOEXEC | SOCK_NONBLOCK);

		if (fd < 0)
			break;
		newcomer_new(helpers, worker_move_high(fd));
	}
	event_del(helpers->on_helper);
	evtimer_add(helpers->on_helper_again, &pause);
}

static void on_connect_again(evutil_socket_t fd, short what, void *userdata)
{
	struct helpers *helpers = userdata;

	(void)fd;
	(void)what;
	event_add(helpers->on_helper, NULL);
}

bool helpers_log_missing(struct helpers *helpers)
{
	bool missing = false;

	for (enum helper_role role = 0; role < HELPER_FINDER; role++) { /* it may be missing */
		if (helper_of(helpers, role)->fd >= 0)
			continue;
		log_error("no %s has connected in %d s: see 'systemctl status gpubroker-%s'",
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
	helpers_log_missing(userdata);
}

/* ---- start and end ---- */

int helpers_prepare(struct helpers *helpers, const struct loader_options *options)
{
	gid_t gid;
	int r = helper_account(HELPERS_ACCOUNT, &helpers->uid, &gid);

	if (r || !helpers->uid) {
		log_error("there is no account '" HELPERS_ACCOUNT
			  "' for the helpers: %s; 'systemd-sysusers' "
			  "makes it",
			  r ? strerror(-r) : "it is root's");
		return r ? r : -EINVAL;
	}
	if (helpers->fd >= 0)
		return 0;
	r = helper_start(&helpers->loader, HELPER_LOADER, helpers->uid, gid, options);
	if (!r)
		r = helper_start(&helpers->watcher, HELPER_WATCHER, helpers->uid, gid, NULL);
	if (r)
		log_error("a helper cannot be started: %s", strerror(-r));
	else if (helper_start(&helpers->finder, HELPER_FINDER, helpers->uid, gid, NULL))
		log_warning("the finder cannot be started; claims go on without it");
	else if (helper_start(&helpers->ender, HELPER_ENDER, helpers->uid, gid, NULL))
		log_warning("the ender cannot be started; no holder is ended");
	return r;
}

int helpers_listen(struct helpers *helpers)
{
	int r;

	for (size_t i = 0; i < NEWCOMERS_MAX; i++)
		helpers->newcomers[i].fd = -1;
	if (helpers->fd < 0) {
		r = start_reading(helpers, HELPER_WATCHER);
		if (!r && helpers->finder.fd >= 0)
			r = start_reading(helpers, HELPER_FINDER);
		if (!r && helpers->ender.fd >= 0)
			r = start_reading(helpers, HELPER_ENDER);
		return r ? r : start_reading(helpers, HELPER_LOADER);
	}
	helpers->on_missing = evtimer_new(helpers->base, on_missing, helpers);
	helpers->on_helper_again = evtimer_new(helpers->base, on_connect_again, helpers);
	helpers->on_helper = event_new(helpers->base, helpers->fd, EV_READ | EV_PERSIST,
				       on_helper_connect, helpers);
	return helpers->on_missing && helpers->on_helper_again && helpers->on_helper &&
			       !event_add(helpers->on_helper, NULL)
		       ? 0
		       : -ENOMEM;
}

uint64_t helpers_reload(struct helpers *helpers)
{
	if (helpers->loader.fd < 0) {
		log_notice("the policy is loaded when the loader connects");
		return helpers->loads_asked + 1;
	}
	ask_to_load(helpers);
	return helpers->loads_asked;
}

void helpers_done(struct helpers *helpers)
{
	struct event **events[] = { &helpers->on_missing, &helpers->on_helper_again,
				    &helpers->on_helper };

	for (size_t i = 0; i < ARRAY_SIZE(events); i++)
		if (*events[i])
			event_free(TAKE_PTR(*events[i]));
	for (size_t i = 0; i < NEWCOMERS_MAX; i++)
		if (helpers->newcomers[i].event)
			newcomer_free(&helpers->newcomers[i]);
	drop_helper(helpers, HELPER_WATCHER);
	drop_helper(helpers, HELPER_LOADER);
	drop_helper(helpers, HELPER_FINDER);
	drop_helper(helpers, HELPER_HOOKS);
	drop_helper(helpers, HELPER_ENDER);
	helpers->fd = fd_close(helpers->fd);
}
