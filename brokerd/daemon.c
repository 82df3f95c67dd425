/* SPDX-License-Identifier: MIT */
/*
 * The core from start to end: opens what needs privilege, sees to its helpers, confines itself,
 * takes up old leases, and serves. Owns the order of these, which is the daemon's security: nothing
 * that a peer, a helper or a record says is read before confine_core().
 */
#include "config.h"

#include "brokerd/record/audit.h"
#include "brokerd/process/landlock.h"
#include "brokerd/lease/ending.h"
#include "brokerd/process/log.h"
#include "brokerd/lease/mdev.h"
#include "brokerd/process/notify.h"
#include "brokerd/prepare/prepare.h"
#include "brokerd/claim/queue.h"
#include "brokerd/prepare/sriov.h"
#include "client/wire/passfd.h"
#include "client/common/util.h"

#include <errno.h>
#include <fcntl.h>
#include <malloc.h>
#include <signal.h>
#include <string.h>
#include <sys/resource.h>
#include <sys/signalfd.h>
#include <sys/stat.h>
#include <sysexits.h>

#define QUIT_LIMIT 3	     /* seconds in which workers should be done when told to end */
#define DESCRIPTORS_KEPT 512 /* for workers, groups and files, beside the peers' */

static int notify_fd = -1;

/* ---- what helpers have told ---- */

void daemon_quit(struct daemon *daemon, int status)
{
	daemon->status = status;
	event_base_loopbreak(daemon->base);
}

static void start_serving(struct daemon *daemon)
{
	struct lease *lease;
	int r;

	if (daemon->serving || daemon->quitting)
		return;
	if (recover_damaged(daemon) || listener_start(daemon)) {
		daemon_quit(daemon, EX_OSERR);
		return;
	}
	daemon->serving = true;
	event_del(daemon->on_start_limit);
	log_notice("serving: %zu functions, %zu rules, %zu leases taken up", daemon->devices.n,
		   daemon->policy.n_rules, daemon->leases.n);
	r = notify_send(notify_fd, "READY=1");
	if (r) { /* nobody would ever know; started again, it may go better */
		log_error("cannot tell systemd that it is ready: %s; ending, to be started again",
			  strerror(-r));
		daemon_quit(daemon, EX_OSERR);
		return;
	}
	prepare_all(daemon);
	vfs_all(daemon);
	TAILQ_FOREACH(lease, &daemon->leases.list, link)
		if (lease->state == GPUBROKER_LEASE_LEASED)
			arrivals_look(daemon, lease);
}

void daemon_serve_when_ready(struct daemon *daemon)
{
	if (daemon->policy_known && daemon->devices.scanned)
		start_serving(daemon);
}

static bool grants_memlock(const struct policy *policy)
{
	for (size_t i = 0; i < policy->n_rules; i++)
		if (policy->rules[i].verb == POLICY_ALLOW && policy->rules[i].memlock)
			return true;
	return false;
}

static void quit_gently(struct daemon *daemon);

/*
 * CAP_SYS_RESOURCE is kept only while a rule needs it, and what was dropped cannot be had back:
 * where a new policy grants memlock and the old one did not, the daemon ends, to be started again
 * with it. Leases do not notice.
 */
static void fit_capability(struct daemon *daemon)
{
	bool needed = daemon->policy_good && grants_memlock(&daemon->policy);
	int r;

	if (needed && daemon->memlock_dropped) {
		if (notify_fd < 0) {
			log_warning(
				"the policy now grants memlock, for which the daemon must be started again");
			return;
		}
		log_notice(
			"the policy now grants memlock: starting again, with the capability that takes");
		quit_gently(daemon);
	} else if (!needed && !daemon->memlock_dropped) {
		r = confine_drop_sys_resource();
		if (r) { /* failing to confine is fatal */
			log_error("cannot drop CAP_SYS_RESOURCE: %s", strerror(-r));
			daemon_quit(daemon, EX_OSERR);
		}
		daemon->memlock_dropped = true;
	}
}

void daemon_policy_arrived(struct daemon *daemon, struct policy *policy)
{
	if (!policy && daemon->policy_good) {
		log_error("the policy in force stays");
		notify_send(notify_fd,
			    "STATUS=Serving; the policy on disk has mistakes and is not in force.");
		return;
	}
	if (policy) {
		if (daemon->policy_known)
			log_notice("the policy is loaded anew: %zu rules", policy->n_rules);
		policy_done(&daemon->policy);
		daemon->policy = *policy;
		notify_send(notify_fd, "STATUS=Serving.");
	} else {
		log_error("there is no valid policy: nothing is lent");
		notify_send(notify_fd, "STATUS=No valid policy: nothing is lent.");
	}
	daemon->policy_good = policy;
	daemon->policy_known = true;
	fit_capability(daemon);
	if (daemon->serving) {
		prepare_all(daemon);
		vfs_all(daemon);
	}
	queue_look(daemon); /* who waits may be allowed more now, or less */
	daemon_serve_when_ready(daemon);
}

static void on_inotify(evutil_socket_t fd, short what, void *userdata)
{
	(void)fd;
	(void)what;
	lending_watch(userdata);
}

static void on_queue(evutil_socket_t fd, short what, void *userdata)
{
	(void)fd;
	(void)what;
	queue_run(userdata);
}

static void on_start_limit(evutil_socket_t fd, short what, void *userdata)
{
	struct daemon *daemon = userdata;

	(void)fd;
	(void)what;
	if (!helpers_tell_missing(daemon))
		log_warning("the %s has not answered yet; serving without what it knows",
			    daemon->policy_known ? "watcher" : "loader");
	start_serving(daemon);
}

/* ---- the end ---- */

void daemon_quit_if_idle(struct daemon *daemon)
{
	if (daemon->quitting && TAILQ_EMPTY(&daemon->claims) && !lending_is_busy(daemon) &&
	    !prepare_is_busy(daemon) && !vfs_is_busy(daemon))
		event_base_loopbreak(daemon->base);
}

static void on_quit_limit(evutil_socket_t fd, short what, void *userdata)
{
	struct daemon *daemon = userdata;

	(void)fd;
	(void)what;
	log_warning(
		"a worker is still at it; ending without it, the next start takes its lease up");
	event_base_loopbreak(daemon->base);
}

/* No new peers, claims under way go back, leases stay with their holders. */
static void quit_gently(struct daemon *daemon)
{
	const struct timeval limit = { .tv_sec = QUIT_LIMIT };

	if (daemon->quitting)
		return;
	daemon->quitting = true;
	notify_send(notify_fd, "STOPPING=1");
	listener_stop(daemon);
	while (!TAILQ_EMPTY(&daemon->peers))
		peer_free(TAILQ_FIRST(&daemon->peers));
	evtimer_add(daemon->on_quit_limit, &limit);
	daemon_quit_if_idle(daemon);
}

/* SIGTERM, SIGINT: the end. SIGHUP: the loader reads the files again, and what it finds comes as at the start. */
static void on_signal(evutil_socket_t fd, short what, void *userdata)
{
	struct signalfd_siginfo signal;

	(void)what;
	while (read(fd, &signal, sizeof(signal)) == sizeof(signal)) {
		if (signal.ssi_signo == SIGHUP)
			helpers_reload(userdata);
		else
			quit_gently(userdata);
	}
}

/* ---- the start ---- */

static int open_state(const char *path)
{
	/* The parent is RuntimeDirectory=; for a daemon started by hand it is made here. */
	char parent[256];
	int fd;

	if (snprintf(parent, sizeof(parent), "%s", path) < (int)sizeof(parent) &&
	    strrchr(parent, '/') > parent) {
		*strrchr(parent, '/') = '\0';
		/* The socket is in it, too. */
		if (mkdir(parent, 0755) ? errno != EEXIST : chmod(parent, 0755))
			log_error("%s: %s", parent, strerror(errno));
	}
	if (mkdir(path, 0755) && errno != EEXIST)
		return -errno;
	fd = open(path, O_RDONLY | O_DIRECTORY | O_CLOEXEC);
	return fd < 0 ? -errno : fd;
}

/*
 * A peer takes a descriptor, and before 6.5 a second one (see peer.c). So the soft limit is raised
 * to what that needs, as far as it may be.
 */
static int check_descriptors(void)
{
	const rlim_t want = PEERS_MAX * 2 + DESCRIPTORS_KEPT;
	struct rlimit limit;

	if (getrlimit(RLIMIT_NOFILE, &limit))
		return -errno;
	if (limit.rlim_cur < want) {
		limit.rlim_cur = limit.rlim_max < want ? limit.rlim_max : want;
		if (setrlimit(RLIMIT_NOFILE, &limit))
			return -errno;
	}
	if (limit.rlim_cur < want)
		log_warning(
			"only %llu descriptors may be open, so many peers at once may be made to wait",
			(unsigned long long)limit.rlim_cur);
	return 0;
}

static struct event *add(struct event *event, const struct timeval *limit, bool *ok)
{
	if (!event || event_add(event, limit))
		*ok = false;
	return event;
}

static void on_watchdog(evutil_socket_t fd, short what, void *userdata)
{
	(void)fd;
	(void)what;
	(void)userdata;
	notify_send(notify_fd, "WATCHDOG=1");
}

/* Twice in the time in which systemd wants a sign of life, if it does. */
static int start_watchdog(struct daemon *daemon)
{
	const char *text = getenv("WATCHDOG_USEC"), *pid = getenv("WATCHDOG_PID");
	unsigned long long microseconds = text ? strtoull(text, NULL, 10) / 2 : 0;
	struct timeval interval;

	if (!microseconds || (pid && strtol(pid, NULL, 10) != (long)getpid()))
		return 0;
	interval = (struct timeval){
		.tv_sec = (time_t)(microseconds / 1000000),
		.tv_usec = (suseconds_t)(microseconds % 1000000),
	};
	daemon->on_watchdog = event_new(daemon->base, -1, EV_PERSIST, on_watchdog, daemon);
	return daemon->on_watchdog && !event_add(daemon->on_watchdog, &interval) ? 0 : -ENOMEM;
}

static int start_events(struct daemon *daemon)
{
	const struct timeval limit = { .tv_sec = HELPERS_LIMIT };
	bool ok = true;
	int r;

	daemon->on_inotify = add(event_new(daemon->base, daemon->kernel.inotify,
					   EV_READ | EV_PERSIST, on_inotify, daemon),
				 NULL, &ok);
	daemon->on_signal = add(event_new(daemon->base, daemon->signal_fd, EV_READ | EV_PERSIST,
					  on_signal, daemon),
				NULL, &ok);
	daemon->on_start_limit =
		add(evtimer_new(daemon->base, on_start_limit, daemon), &limit, &ok);
	daemon->on_quit_limit = evtimer_new(daemon->base, on_quit_limit, daemon);
	daemon->on_queue = evtimer_new(daemon->base, on_queue, daemon);
	/* Behind the peers that have gone: who waits no longer is not to be given anything. */
	if (!ok || !daemon->on_quit_limit || !daemon->on_queue ||
	    event_priority_set(daemon->on_queue, PRIORITY_PEERS))
		return -ENOMEM;
	r = helpers_listen(daemon);
	return r ? r : start_watchdog(daemon);
}

/* As a descriptor, since a handler would need a row to return. */
static int take_signals(void)
{
	sigset_t signals;
	int fd;

	signal(SIGPIPE, SIG_IGN);
	signal(SIGCHLD, SIG_IGN); /* nobody waits for a worker: its pidfd says that it has ended */
	sigemptyset(&signals);
	sigaddset(&signals, SIGTERM);
	sigaddset(&signals, SIGINT);
	sigaddset(&signals, SIGHUP);
	if (sigprocmask(SIG_BLOCK, &signals, NULL))
		return -errno;
	fd = signalfd(-1, &signals, SFD_CLOEXEC | SFD_NONBLOCK);
	return fd < 0 ? -errno : fd;
}

/* Everything that needs privilege or makes a descriptor that confinement would refuse. */
static int prepare(struct daemon *daemon, const struct daemon_options *options)
{
	int r;

	/*
	 * All memory is the heap's, by one call: rows of their own for great blocks would buy
	 * nothing.
	 */
	mallopt(M_MMAP_MAX, 0);
	umask(077); /* records are nobody else's; what others need says so itself */
	daemon->signal_fd = take_signals();
	if (daemon->signal_fd < 0)
		return daemon->signal_fd;
	r = check_descriptors();
	if (r)
		return r;
	daemon->listen_fd = listener_open(options->socket, &daemon->helpers_fd);
	if (daemon->listen_fd < 0)
		return daemon->listen_fd;
	daemon->state_dir = open_state(options->state);
	if (daemon->state_dir < 0) {
		log_error("%s: cannot keep lease records there: %s", options->state,
			  strerror(-daemon->state_dir));
		return daemon->state_dir;
	}
	notify_fd = notify_open();
	r = kernel_init(&daemon->kernel);
	if (r) {
		log_error("cannot open /sys and /dev: %s", strerror(-r));
		return r;
	}
	r = mdev_init(daemon);
	if (r) {
		log_error("the kernel has no random numbers: %s", strerror(-r));
		return r;
	}
	r = confine_filter_new(&daemon->worker_filter);
	return r ? r : helpers_prepare(daemon, &options->policy);
}

/*
 * What has come of our own, of a worker that has finished, say, goes before what peers ask for, and
 * the loop looks for it after so many of them. Not after fewer: who may do no more in this turn is
 * still ready, and each look lists all of those again; of 10,000 connections that end at once most
 * are such.
 */
#define PEERS_BURST 1024

struct event_base *daemon_loop_new(void)
{
	struct event_config *config = event_config_new();
	struct event_base *base = NULL;

	if (config &&
	    !event_config_set_max_dispatch_interval(config, NULL, PEERS_BURST, PRIORITY_PEERS))
		base = event_base_new_with_config(config);
	if (config)
		event_config_free(config);
	if (base && event_base_priority_init(base, PRIORITY_PEERS + 1)) {
		event_base_free(base);
		return NULL;
	}
	return base;
}

static int start(struct daemon *daemon, const struct daemon_options *options)
{
	const int landlock = landlock_version();
	int r = prepare(daemon, options);

	if (r)
		return r;
	daemon->base = daemon_loop_new();
	if (!daemon->base)
		return -ENOMEM;
	r = start_events(daemon);
	if (r)
		return r;
	/* Kept until the policy says whether it is needed: see daemon_policy_arrived(). */
	r = confine_core(true, daemon->kernel.cdevs, daemon->state_dir);
	if (r) {
		log_error("cannot be confined: %s", strerror(-r));
		return r;
	}
	if (landlock)
		log_info("confined: seccomp, Landlock version %d", landlock);
	else
		log_notice("confined: seccomp; this kernel has no Landlock, or it is not enabled");
	log_info(
		daemon->kernel.cdevs
			? "this kernel has iommufd: claims may be lent by devices' own nodes too"
			: "this kernel has no iommufd, or not yet: claims are lent by IOMMU groups");
	r = recover_leases(daemon);
	return r ? r : vfs_recover(daemon);
}

static void free_event(struct event *event)
{
	if (event)
		event_free(event);
}

static void stop(struct daemon *daemon)
{
	listener_stop(daemon);
	helpers_done(daemon);
	free_event(daemon->on_inotify);
	free_event(daemon->on_signal);
	free_event(daemon->on_start_limit);
	free_event(daemon->on_quit_limit);
	free_event(daemon->on_queue);
	free_event(daemon->on_watchdog);
	free_event(daemon->on_turn_end);
	prepare_done(daemon);
	vfs_done(daemon);
	audit_done(daemon);
	policy_done(&daemon->policy);
	policy_intake_done(&daemon->intake);
	devices_done(&daemon->devices);
	kernel_done(&daemon->kernel);
	confine_filter_free(daemon->worker_filter);
	fd_close(daemon->state_dir);
	fd_close(daemon->listen_fd);
	fd_close(daemon->signal_fd);
	notify_fd = fd_close(notify_fd);
}

int daemon_run(const struct daemon_options *options)
{
	struct daemon daemon = {
		.kernel = KERNEL_NONE,
		.watcher = HELPER_NONE,
		.loader = HELPER_NONE,
		.helpers_fd = -1,
		.state_dir = -1,
		.listen_fd = -1,
		.signal_fd = -1,
	};
	int r;

	leases_init(&daemon.leases);
	TAILQ_INIT(&daemon.claims);
	TAILQ_INIT(&daemon.waiting);
	TAILQ_INIT(&daemon.peers);
	r = start(&daemon, options);
	if (r)
		daemon.status = EX_OSERR;
	else if (event_base_dispatch(daemon.base) < 0)
		daemon.status = EX_SOFTWARE;
	/* Leases, workers and claims are not undone: they are the records', for the next start. */
	stop(&daemon);
	return daemon.status;
}
