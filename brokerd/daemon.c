/* SPDX-License-Identifier: MIT */
/*
 * The daemon from start to end: opens the files that need privilege, gets its helpers, confines
 * itself, takes up old leases, and serves. The order of these steps is the daemon's security:
 * nothing from a peer, a helper or a record is read before confine_core().
 */
#include "config.h"

#include "brokerd/daemon.h"
#include "brokerd/core.h"
#include "brokerd/serve.h"
#include "brokerd/claim/summary.h"
#include "brokerd/lease/mdev.h"
#include "brokerd/peer/listener.h"
#include "brokerd/process/confine.h"
#include "brokerd/process/landlock.h"
#include "brokerd/process/log.h"
#include "brokerd/process/loop.h"
#include "brokerd/process/notify.h"
#include "client/common/util.h"
#include "client/host/hookfiles.h"

#include <errno.h>
#include <event2/event.h>
#include <fcntl.h>
#include <malloc.h>
#include <signal.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/file.h>
#include <sys/resource.h>
#include <sys/signalfd.h>
#include <sys/stat.h>
#include <sysexits.h>
#include <time.h>
#include <unistd.h>

#define QUIT_LIMIT 3		    /* seconds that a daemon that is ending waits for workers */
#define STATE_WAIT (QUIT_LIMIT + 2) /* seconds that a start waits for the state directory */
#define DESCRIPTORS_KEPT 768	    /* for workers, groups, files and sockets of allotments */

/* The process: only what its start and its end need. */
struct process {
	struct core core;
	int notify_fd, signal_fd;
	struct event *on_signal, *on_watchdog, *on_start_limit, *on_quit_limit, *on_status;
	char status_text[sizeof("STATUS=") + SUMMARY_TEXT]; /* as systemd has it */
	bool memlock_dropped;				    /* CAP_SYS_RESOURCE is gone for good */
	bool quitting;
	int status;
};

/* ---- the end ---- */

static void quit_now(struct process *process, int status)
{
	process->status = status;
	event_base_loopbreak(process->core.base);
}

static void quit_if_idle(struct process *process)
{
	if (process->quitting && !process->core.workers.busy)
		event_base_loopbreak(process->core.base);
}

static void on_quit_limit(evutil_socket_t fd, short what, void *userdata)
{
	struct process *process = userdata;

	(void)fd;
	(void)what;
	log_warning("a worker is still running; exiting anyway, its lease will be recovered at the "
		    "next start");
	event_base_loopbreak(process->core.base);
}

static void quit_gently(struct process *process)
{
	const struct timeval limit = { .tv_sec = QUIT_LIMIT };

	if (process->quitting)
		return;
	process->quitting = true;
	notify_send(process->notify_fd, "STOPPING=1");
	core_close(&process->core);
	evtimer_add(process->on_quit_limit, &limit);
	quit_if_idle(process);
}

/* ---- reports of the core ---- */

/*
 * VFIO's nodes are newer than this process: the kernel has made /dev/vfio or /dev/iommu anew, and
 * Landlock and the unit's mounts show only the old one; or VFIO was not loaded at the start.
 * systemd starts the daemon again, for the new ones. Leases are not affected.
 */
static void on_stale(void *userdata)
{
	struct process *process = userdata;

	if (process->notify_fd < 0) {
		log_error("VFIO's nodes in /dev were made anew since the start: restart the "
			  "daemon, which cannot open them");
		return;
	}
	log_notice("VFIO's nodes in /dev are newer than this start: restarting, to be able to open "
		   "them");
	quit_gently(process);
}

static bool on_serving(void *userdata)
{
	struct process *process = userdata;
	int r = notify_send(process->notify_fd, "READY=1");

	event_del(process->on_start_limit);
	if (!r)
		return true;
	/* systemd would wait for ever; a restart may help */
	log_error("cannot notify systemd of the start: %s; ending, to be started again",
		  strerror(-r));
	quit_now(process, EX_OSERR);
	return false;
}

static bool grants_memlock(const struct policy *policy)
{
	for (size_t i = 0; i < policy->n_rules; i++)
		if (policy->rules[i].verb == POLICY_ALLOW && policy->rules[i].memlock)
			return true;
	return false;
}

/*
 * CAP_SYS_RESOURCE is kept only while a rule needs it, and cannot be regained once dropped. If a
 * new policy grants memlock and the old one did not, the daemon ends, and systemd starts it again
 * with the capability. Leases are not affected.
 */
static void fit_capability(struct process *process)
{
	const struct policy_state *policy = &process->core.policy;
	bool needed = policy->good && grants_memlock(&policy->policy);
	int r;

	if (needed && process->memlock_dropped && process->notify_fd < 0) {
		log_warning(
			"the policy grants memlock: restart the daemon to regain the capability");
	} else if (needed && process->memlock_dropped) {
		log_notice("the policy now grants memlock: restarting, to regain the capability");
		quit_gently(process);
	} else if (!needed && !process->memlock_dropped) {
		r = confine_drop_sys_resource();
		if (r) { /* failing to confine is fatal */
			log_error("cannot drop CAP_SYS_RESOURCE: %s", strerror(-r));
			quit_now(process, EX_OSERR);
		}
		process->memlock_dropped = true;
	}
}

static void on_status(evutil_socket_t fd, short what, void *userdata)
{
	struct process *process = userdata;
	char text[sizeof("STATUS=") + SUMMARY_TEXT] = "STATUS=";

	(void)fd;
	(void)what;
	summary_format(&process->core.claims, text + strlen(text));
	if (strcmp(text, process->status_text) != 0)
		notify_send(process->notify_fd, text);
	memcpy(process->status_text, text, sizeof(text));
}

/* Tells systemd soon: a claim changes much in a moment. */
static void on_changed(void *userdata)
{
	static const struct timeval soon = { .tv_usec = 300000 };
	struct process *process = userdata;

	if (process->notify_fd >= 0 && process->on_status && !process->quitting &&
	    !evtimer_pending(process->on_status, NULL))
		evtimer_add(process->on_status, &soon);
}

static void on_core_policy(void *userdata, bool kept)
{
	struct process *process = userdata;

	on_changed(process);
	if (!kept)
		fit_capability(process);
}

static void on_core_idle(void *userdata)
{
	quit_if_idle(userdata);
}

static void on_failed(void *userdata, int status)
{
	quit_now(userdata, status);
}

static const struct core_ops core_ops = {
	.serving = on_serving,
	.policy = on_core_policy,
	.changed = on_changed,
	.idle = on_core_idle,
	.stale = on_stale,
	.failed = on_failed,
};

/* ---- signals and time ---- */

static void on_start_limit(evutil_socket_t fd, short what, void *userdata)
{
	struct process *process = userdata;

	(void)fd;
	(void)what;
	if (!helpers_log_missing(&process->core.helpers))
		log_warning("the %s has not answered yet; serving without its records",
			    process->core.policy.known ? "watcher" : "loader");
	core_serve(&process->core);
}

/* SIGTERM and SIGINT end the daemon. SIGHUP makes the loader read the policy files again. */
static void on_signal(evutil_socket_t fd, short what, void *userdata)
{
	struct process *process = userdata;
	struct signalfd_siginfo signal;

	(void)what;
	while (read(fd, &signal, sizeof(signal)) == sizeof(signal)) {
		if (signal.ssi_signo == SIGHUP)
			helpers_reload(&process->core.helpers);
		else
			quit_gently(process);
	}
}

static void on_watchdog(evutil_socket_t fd, short what, void *userdata)
{
	const struct process *process = userdata;

	(void)fd;
	(void)what;
	notify_send(process->notify_fd, "WATCHDOG=1");
}

/*
 * Starts the timer for systemd's watchdog, if the unit has one: two messages in each watchdog
 * period.
 */
static int start_watchdog(struct process *process)
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
	process->on_watchdog = event_new(process->core.base, -1, EV_PERSIST, on_watchdog, process);
	return process->on_watchdog && !event_add(process->on_watchdog, &interval) ? 0 : -ENOMEM;
}

static int start_events(struct process *process)
{
	const struct timeval limit = { .tv_sec = HELPERS_LIMIT };
	struct event_base *base = process->core.base;

	process->on_signal =
		event_new(base, process->signal_fd, EV_READ | EV_PERSIST, on_signal, process);
	process->on_start_limit = evtimer_new(base, on_start_limit, process);
	process->on_quit_limit = evtimer_new(base, on_quit_limit, process);
	process->on_status = evtimer_new(base, on_status, process);
	if (!process->on_signal || event_add(process->on_signal, NULL) ||
	    !process->on_start_limit || evtimer_add(process->on_start_limit, &limit) ||
	    !process->on_quit_limit || !process->on_status)
		return -ENOMEM;
	return start_watchdog(process);
}

/* ---- the start ---- */

/*
 * Locks the state directory for as long as this process lives. A worker closes its copies of our
 * descriptors, so one that hangs does not keep the lock. An earlier daemon that is still ending is
 * waited for. Returns 0, or -errno; -EBUSY has been logged.
 */
static int lock_state(int fd, const char *path)
{
	const struct timespec pause = { .tv_nsec = 50000000 };

	/*
	 * A user who could open the directory could lock it too, and keep the daemon from it. In a
	 * read-only file system nothing can be recorded, so nothing is lent, but leases go on.
	 */
	if (fchmod(fd, 0700) && errno != EROFS)
		return -errno;
	for (int i = 0; flock(fd, LOCK_EX | LOCK_NB); i++) {
		if (errno != EWOULDBLOCK)
			return -errno;
		if (i == STATE_WAIT * 20) {
			log_error("%s: another gpubrokerd has this state directory, and two would "
				  "overwrite each other's lease records; end that one ('fuser -v "
				  "%s' names it), or give this one another by --state",
				  path, path);
			return -EBUSY;
		}
		nanosleep(&pause, NULL);
	}
	return 0;
}

static int open_state(const char *path)
{
	/* The parent is RuntimeDirectory=; a daemon that was started by hand makes it here. */
	char parent[256];
	int fd;

	if (snprintf(parent, sizeof(parent), "%s", path) < (int)sizeof(parent) &&
	    strrchr(parent, '/') > parent) {
		*strrchr(parent, '/') = '\0';
		/* It also contains the socket, so all users must be able to enter it. */
		if (mkdir(parent, 0755) ? errno != EEXIST : chmod(parent, 0755))
			log_error("%s: %s", parent, strerror(errno));
	}
	if (mkdir(path, 0755) && errno != EEXIST)
		return -errno;
	fd = open(path, O_RDONLY | O_DIRECTORY | O_CLOEXEC);
	return fd < 0 ? -errno : fd;
}

/*
 * Opens the state directory, and locks it. Returns a descriptor, or -errno, which has been logged.
 */
static int take_state(const char *path)
{
	cleanup_fd int fd = open_state(path);
	int r = fd < 0 ? fd : lock_state(fd, path);

	if (r && r != -EBUSY)
		log_error("%s: cannot keep lease records there: %s", path, strerror(-r));
	return r ? r : TAKE_FD(fd);
}

/*
 * Raises the soft limit of descriptors as far as needed and as the hard limit allows. A peer takes
 * one descriptor, and before Linux 6.5 a second one (see peer.c). Connections that were turned away
 * may have to be kept for a moment (see closing.h).
 */
static int check_descriptors(void)
{
	const rlim_t want = PEERS_MAX * 2 + CLOSING_SPARE + DESCRIPTORS_KEPT;
	struct rlimit limit;

	if (getrlimit(RLIMIT_NOFILE, &limit))
		return -errno;
	if (limit.rlim_cur < want) {
		limit.rlim_cur = limit.rlim_max < want ? limit.rlim_max : want;
		if (setrlimit(RLIMIT_NOFILE, &limit))
			return -errno;
	}
	if (limit.rlim_cur < want)
		log_warning("only %llu descriptors may be open, so with many peers some must wait",
			    (unsigned long long)limit.rlim_cur);
	return 0;
}

/*
 * Makes a signalfd, since a signal handler needs rt_sigreturn(), for which the filter has no row.
 */
static int take_signals(void)
{
	sigset_t signals;
	int fd;

	signal(SIGPIPE, SIG_IGN);
	signal(SIGCHLD, SIG_IGN); /* workers are not reaped: a pidfd reports their end */
	sigemptyset(&signals);
	sigaddset(&signals, SIGTERM);
	sigaddset(&signals, SIGINT);
	sigaddset(&signals, SIGHUP);
	if (sigprocmask(SIG_BLOCK, &signals, NULL))
		return -errno;
	fd = signalfd(-1, &signals, SFD_CLOEXEC | SFD_NONBLOCK);
	return fd < 0 ? -errno : fd;
}

/* Reads what outlives a reboot; the directory NULL: the records' one. */
static void open_history(struct core *core, const char *path)
{
	int directory = core->store.directory;

	if (path)
		directory = core->history = numbers_directory(path);
	usage_open(&core->usage, directory);
	numbers_open(&core->numbers, directory, core->usage.highest);
}

/*
 * Looks whether there are hooks, since afterwards only their runner knows, and it connects later. A
 * daemon that is started by hand has no runner, and runs no hooks.
 */
static void look_for_hooks(struct core *core)
{
	static struct hookfiles files;

	if (core->helpers.fd < 0)
		return;
	hookfiles_read(GPUBROKER_HOOKS_DIR, 0, &files, NULL, NULL);
	core->leases.hooks.expected = files.n;
}

/* Opens everything that needs privilege, or that confinement would not allow. */
static int open_privileged(struct process *process, const struct daemon_options *options)
{
	struct core *core = &process->core;
	int r;

	/*
	 * All memory comes from the heap, by brk(): separate mappings of large blocks would need
	 * rows of their own.
	 */
	mallopt(M_MMAP_MAX, 0);
	umask(077); /* records are private; files for others get their mode explicitly */
	log_open_journal();
	tzset(); /* reads the time zone, whose file cannot be opened later */
	process->signal_fd = take_signals();
	if (process->signal_fd < 0)
		return process->signal_fd;
	r = check_descriptors();
	if (r)
		return r;
	/* Before the socket, which a second daemon would take from the first. */
	core->store.directory = take_state(options->state);
	if (core->store.directory < 0)
		return core->store.directory;
	open_history(core, options->history);
	TAILQ_INIT(&core->peers.sockets.list);
	core->peers.listen_fd = listener_open(options->socket, sockets_keep, &core->peers.sockets,
					      &core->helpers.fd, &core->peers.made_listener);
	if (core->peers.listen_fd < 0)
		return core->peers.listen_fd;
	process->notify_fd = core->peers.sockets.notify_fd = notify_open();
	r = sockets_open(&core->peers.sockets, options->socket);
	if (r) /* everything else can do without */
		log_error("%s: cannot be opened, so no allotment gets a socket: %s",
			  core->peers.sockets.path, strerror(-r));
	r = kernel_init(&core->kernel);
	if (r) {
		log_error("cannot open /sys and /dev: %s", strerror(-r));
		return r;
	}
	core->kernel.late = process->notify_fd >= 0 && !kernel_vfio_is_loaded(&core->kernel);
	r = mdev_seed(&core->leases);
	if (r) {
		log_error("the kernel has no random numbers: %s", strerror(-r));
		return r;
	}
	look_for_hooks(core);
	r = filter_new(CONFINE_WORKER, &core->worker_filter);
	return r ? r : helpers_prepare(&core->helpers, &options->policy);
}

static int confine(const struct core *core)
{
	const int landlock = landlock_version();
	/*
	 * CAP_SYS_RESOURCE is kept until the policy shows whether it is needed: see
	 * fit_capability().
	 */
	int r = confine_core(true, core->kernel.cdevs, core->store.directory, core->history,
			     core->peers.sockets.directory);

	if (r) {
		log_error("cannot be confined: %s", strerror(-r));
		return r;
	}
	if (landlock)
		log_info("confined: seccomp, Landlock version %d", landlock);
	else
		log_notice("confined: seccomp; this kernel has no Landlock, or it is not enabled");
	if (core->kernel.cdevs)
		log_info("this kernel has iommufd: claims may be lent by devices' own nodes too");
	else
		log_info("no iommufd in this kernel, or not loaded: only IOMMU groups are lent");
	return 0;
}

static int start(struct process *process, const struct daemon_options *options)
{
	struct core *core = &process->core;
	int r = open_privileged(process, options);

	if (r)
		return r;
	core->base = loop_new();
	if (!core->base)
		return -ENOMEM;
	r = core_init(core);
	if (!r)
		r = start_events(process);
	if (!r)
		r = core_start(core);
	if (!r)
		r = confine(core);
	return r ? r : core_recover(core);
}

static void free_event(struct event *event)
{
	if (event)
		event_free(event);
}

static void stop(struct process *process)
{
	core_done(&process->core);
	free_event(process->on_signal);
	free_event(process->on_start_limit);
	free_event(process->on_quit_limit);
	free_event(process->on_watchdog);
	free_event(process->on_status);
	fd_close(process->signal_fd);
	fd_close(process->notify_fd);
}

int daemon_run(const struct daemon_options *options)
{
	struct process process = {
		.core = CORE_INIT,
		.notify_fd = -1,
		.signal_fd = -1,
	};
	int r;

	process.core.ops = &core_ops;
	process.core.userdata = &process;
	r = start(&process, options);
	if (r)
		process.status = EX_OSERR;
	else if (event_base_dispatch(process.core.base) < 0)
		process.status = EX_SOFTWARE;
	/*
	 * Leases, workers and claims are not undone: the next start takes them up from the records.
	 */
	stop(&process);
	return process.status;
}
