/* SPDX-License-Identifier: MIT */
/*
 * The loop of the runner, see runner.h: takes questions, starts a process for each event, as many
 * at a time as there are slots, and answers when that process has ended. The events of one group
 * come one after the other.
 *
 * It is root with all rights, because its children are: so it takes nothing from the core but
 * records of one exact size with numbers in them, and nothing from anybody else. It must never keep
 * more questions than the core may ask, nor wait for a hook.
 */
#include "config.h"

#include "brokerd/hooks/runner.h"
#include "brokerd/helper/helper.h"
#include "brokerd/hooks/cgroup.h"
#include "brokerd/hooks/event.h"
#include "brokerd/process/log.h"
#include "client/common/util.h"
#include "client/host/hookfiles.h"
#include "client/wire/passfd.h"

#include <errno.h>
#include <poll.h>
#include <signal.h>
#include <stdio.h>
#include <string.h>
#include <sys/inotify.h>
#include <sys/mman.h>
#include <sys/prctl.h>
#include <sys/signalfd.h>
#include <sys/socket.h>
#include <sys/un.h>
#include <sys/wait.h>
#include <sysexits.h>

#define SLOTS 8 /* events at work at a time */

struct slot {
	pid_t pid; /* the process of the event; 0: the slot is free */
	int cgroup;
	struct hook_question question;
	struct event_shared *shared;
};

struct runner {
	const char *directory;
	int core, signals, changes, cgroup;
	struct slot slots[SLOTS];
	size_t n; /* questions that wait for a slot, in their order */
	struct hook_question waiting[HOOKS_ASKED_MAX];
	struct hookfiles files;
	bool empty;	   /* the directory has no file */
	uint64_t reported; /* of the files that are no hooks, see read_hooks() */
};

static struct runner runner = { .core = -1, .signals = -1, .changes = -1, .cgroup = -1 };

/* ---- events at work ---- */

static bool runner_is_busy(const struct runner *r)
{
	for (size_t i = 0; i < SLOTS; i++)
		if (r->slots[i].pid)
			return true;
	return r->n;
}

static bool group_is_busy(const struct runner *r, uint32_t group)
{
	for (size_t i = 0; i < SLOTS; i++)
		if (r->slots[i].pid && r->slots[i].question.group == group)
			return true;
	return false;
}

static void __attribute__((noreturn)) run_slot(const struct runner *r, const struct slot *slot)
{
	sigset_t none;

	prctl(PR_SET_NAME, "hooks-event");
	prctl(PR_SET_PDEATHSIG, SIGKILL);
	sigemptyset(&none);
	sigprocmask(SIG_SETMASK, &none, NULL);
	event_run(&slot->question, r->directory, geteuid(), slot->cgroup, slot->shared);
	_exit(0);
}

/* Ends what an event has left: nothing, unless its process was ended. */
static void slot_clear(const struct slot *slot)
{
	const pid_t hook = slot->shared->hook;

	if (hook > 0)
		kill(-hook, SIGKILL);
	cgroup_kill(slot->cgroup);
	slot->shared->hook = 0;
}

static int runner_answer(const struct runner *r, const struct hook_answer *answer)
{
	return helper_send(r->core, answer, sizeof(*answer));
}

/* Starts an event in a free slot. Returns 0, or -errno of the core's socket. */
static int slot_start(struct runner *r, struct slot *slot, const struct hook_question *question)
{
	const struct hook_answer lost = { .id = question->id, .result = HOOK_LOST };

	slot->question = *question;
	slot->shared->hook = 0;
	slot->pid = fork();
	if (!slot->pid)
		run_slot(r, slot);
	if (slot->pid > 0)
		return 0;
	slot->pid = 0;
	log_error("no process for hooks: %s", strerror(errno));
	return runner_answer(r, &lost);
}

static struct slot *free_slot(struct runner *r)
{
	for (size_t i = 0; i < SLOTS; i++)
		if (!r->slots[i].pid)
			return &r->slots[i];
	return NULL;
}

/* Starts what waits and whose group has no event at work. */
static int start_waiting(struct runner *r)
{
	struct slot *slot;
	size_t i = 0;
	int result = 0;

	while (!result && i < r->n && (slot = free_slot(r))) {
		const struct hook_question question = r->waiting[i];

		if (group_is_busy(r, question.group)) {
			i++;
			continue;
		}
		r->n--;
		memmove(&r->waiting[i], &r->waiting[i + 1], (r->n - i) * sizeof(question));
		result = slot_start(r, slot, &question);
	}
	return result;
}

/* An event's process has ended. */
static int slot_ended(struct runner *r, struct slot *slot, int status)
{
	struct hook_answer answer = slot->shared->answer;

	slot_clear(slot);
	slot->pid = 0;
	if (!WIFEXITED(status) || WEXITSTATUS(status) || answer.id != slot->question.id)
		answer = (struct hook_answer){ .id = slot->question.id, .result = HOOK_LOST };
	return runner_answer(r, &answer);
}

static int reap(struct runner *r)
{
	int status, result = 0;
	pid_t pid;

	while (!result && (pid = waitpid(-1, &status, WNOHANG)) > 0)
		for (size_t i = 0; i < SLOTS; i++)
			if (r->slots[i].pid == pid)
				result = slot_ended(r, &r->slots[i], status);
	return result ? result : start_waiting(r);
}

/* ---- the directory ---- */

/* Adds a file that is no hook to a sum over all of them (FNV-1a). */
static void sum_file(void *userdata, const char *name, const char *why)
{
	uint64_t *sum = userdata;

	for (const char *p = name; *p; p++)
		*sum = (*sum ^ (unsigned char)*p) * UINT64_C(0x100000001b3);
	for (const char *p = why; *p; p++)
		*sum = (*sum ^ (unsigned char)*p) * UINT64_C(0x100000001b3);
}

static void report_file(void *userdata, const char *name, const char *why)
{
	const struct runner *r = userdata;

	log_warning("%s%s%s: %s", r->directory, *name ? "/" : "", name, why);
}

/*
 * Watches the directory; anew each time, since another one may have come to its place. So the one
 * above is watched too, whose mode matters as well.
 */
static void watch_hooks(const struct runner *r)
{
	const uint32_t changes = IN_CREATE | IN_DELETE | IN_MOVED_FROM | IN_MOVED_TO | IN_ATTRIB |
				 IN_CLOSE_WRITE | IN_MOVE_SELF | IN_ONLYDIR;
	char above[512];

	inotify_add_watch(r->changes, r->directory, changes | IN_DONT_FOLLOW);
	if (snprintf(above, sizeof(above), "%s", r->directory) < (int)sizeof(above) &&
	    strrchr(above, '/') > above) {
		*strrchr(above, '/') = '\0';
		inotify_add_watch(r->changes, above, changes);
	}
}

/* Reads which hooks there are, and tells the core. Returns 0, or -errno of its socket. */
static int read_hooks(struct runner *r)
{
	struct hook_answer count = { .result = HOOK_COUNT };

	uint64_t sum = 1;

	watch_hooks(r);
	hookfiles_read(r->directory, geteuid(), &r->files, sum_file, &sum);
	/* They are named again only if that has changed: an editor changes files many times. */
	if (sum != r->reported)
		hookfiles_read(r->directory, geteuid(), &r->files, report_file, r);
	r->reported = sum;
	r->empty = r->files.empty;
	count.value = (uint32_t)r->files.n;
	return runner_answer(r, &count);
}

/* Reads events until there are none: what matters is that something has changed. */
static int take_changes(struct runner *r)
{
	char events[4096];

	while (read(r->changes, events, sizeof(events)) > 0)
		;
	return read_hooks(r);
}

/* ---- the core ---- */

/* Reads the questions that wait. Returns 0, or -errno. */
static int read_questions(struct runner *r)
{
	struct hook_question question;

	for (;;) {
		ssize_t size = passfd_receive_plain(r->core, &question, sizeof(question));

		if (size == -EAGAIN)
			return start_waiting(r);
		if (!size || size == -ECONNRESET)
			return -EPIPE; /* the core has ended */
		if (size != sizeof(question) || !hooking_question_valid(&question) ||
		    r->n == HOOKS_ASKED_MAX) {
			log_error("the core has sent what is no question; ending");
			return -EBADMSG;
		}
		r->waiting[r->n++] = question;
	}
}

static int connect_core(const char *path)
{
	const struct helper_hello hello = {
		.version = HELPER_VERSION,
		.role = HELPER_HOOKS,
		.record_size = sizeof(struct hook_answer),
	};
	struct sockaddr_un address = { .sun_family = AF_UNIX };
	cleanup_fd int fd = socket(AF_UNIX, SOCK_SEQPACKET | SOCK_CLOEXEC, 0);
	int r;

	if (strlen(path) >= sizeof(address.sun_path))
		return -ENAMETOOLONG;
	strcpy(address.sun_path, path);
	if (fd < 0 || connect(fd, (struct sockaddr *)&address, sizeof(address)))
		return -errno;
	r = helper_send(fd, &hello, sizeof(hello));
	return r ? r : TAKE_FD(fd);
}

/* ---- the loop ---- */

static int take_runner_signals(void)
{
	sigset_t signals;

	signal(SIGPIPE, SIG_IGN);
	sigemptyset(&signals);
	sigaddset(&signals, SIGCHLD);
	sigaddset(&signals, SIGTERM);
	sigaddset(&signals, SIGINT);
	if (sigprocmask(SIG_BLOCK, &signals, NULL))
		return -errno;
	return signalfd(-1, &signals, SFD_CLOEXEC | SFD_NONBLOCK);
}

/* Returns 0, or -EINTR if the runner is to end. */
static int read_signals(struct runner *r)
{
	struct signalfd_siginfo signal;
	bool ends = false;

	while (read(r->signals, &signal, sizeof(signal)) == sizeof(signal))
		ends = ends || signal.ssi_signo != SIGCHLD;
	return ends ? -EINTR : reap(r);
}

static int start_runner(struct runner *r, const struct runner_options *options)
{
	struct event_shared *shared = mmap(NULL, SLOTS * sizeof(*shared), PROT_READ | PROT_WRITE,
					   MAP_SHARED | MAP_ANONYMOUS, -1, 0);

	if (shared == MAP_FAILED)
		return -errno;
	r->directory = options->directory;
	r->cgroup = cgroup_open_own();
	for (unsigned i = 0; i < SLOTS; i++) {
		r->slots[i].shared = &shared[i];
		r->slots[i].cgroup = cgroup_open_event(r->cgroup, i);
	}
	r->signals = take_runner_signals();
	if (r->signals < 0)
		return -errno;
	r->changes = inotify_init1(IN_CLOEXEC | IN_NONBLOCK);
	if (r->changes < 0)
		return -errno;
	r->core = connect_core(options->socket);
	return r->core < 0 ? r->core : read_hooks(r);
}

static int runner_loop(struct runner *r)
{
	struct pollfd fds[] = {
		{ .fd = r->core, .events = POLLIN },
		{ .fd = r->signals, .events = POLLIN },
		{ .fd = r->changes, .events = POLLIN },
	};
	int result = 0;

	while (!result && (!r->empty || runner_is_busy(r))) {
		if (poll(fds, ARRAY_SIZE(fds), -1) < 0 && errno != EINTR)
			return -errno;
		if (fds[2].revents)
			result = take_changes(r);
		if (!result && fds[1].revents)
			result = read_signals(r);
		if (!result && fds[0].revents)
			result = read_questions(r);
	}
	return result;
}

int runner_run(const struct runner_options *options)
{
	struct runner *r = &runner;
	int result = start_runner(r, options);

	if (result)
		log_error("the runner of hooks cannot start: %s: %s", options->socket,
			  strerror(-result));
	else
		result = runner_loop(r);
	/* systemd ends what is left of the unit. Outside of one, nobody else would. */
	for (size_t i = 0; i < SLOTS; i++) {
		if (!r->slots[i].pid)
			continue;
		kill(r->slots[i].pid, SIGKILL);
		slot_clear(&r->slots[i]);
	}
	return !result || result == -EPIPE || result == -EINTR ? 0 : EX_SOFTWARE;
}
