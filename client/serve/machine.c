/* SPDX-License-Identifier: MIT */
/*
 * Machines and their claims, see machine.h. A claim's steps are a file of the runtime directory,
 * which `gpubroker run --progress=json,3` writes, and closes before it becomes the machine: so they
 * are there for a service that was started anew, and nothing that a machine or its guest writes is
 * taken for one. A lock on a file beside it says that the machine runs, where no systemd does.
 *
 * It must never execute anything but this program, with a file of the machines' directory as
 * COMMAND, and systemd's tools.
 */
#include "config.h"

#include "client/serve/machine.h"
#include "client/command/cli.h"
#include "client/command/json-out.h"
#include "client/common/util.h"

#include <dirent.h>
#include <errno.h>
#include <fcntl.h>
#include <signal.h>
#include <string.h>
#include <sys/file.h>
#include <sys/stat.h>
#include <sys/wait.h>
#include <time.h>
#include <unistd.h>

#define STEP_MAX 65536 /* bytes of a step; a longer line is none */
#define STEPS_KEPT 256 /* of a claim, for its list: one that waits long has a step for each place */
#define FOLLOW_MS 100
#define FOLLOW_LOOKS 20 /* so many times that, until it is looked whether the machine runs */
#define LOCK_TRIES 50
#define LOCK_MS 10

/* The descriptors that a started process has, beside its output. */
#define STEPS_FD 3
#define LOCK_FD 4

#define UNIT "gpubroker-machine-%s"

/* ---- where they are ---- */

static void steps_path(const struct spawn_setup *setup, const char *name, char out[512])
{
	snprintf(out, 512, "%.400s/claims/%.40s", setup->directory, name);
}

/* The file of the lock; it has the number of a process that no manager knows. */
static void lock_path(const struct spawn_setup *setup, const char *name, char out[520])
{
	snprintf(out, 520, "%.400s/claims/%.40s.lock", setup->directory, name);
}

static void machines_directory(char out[512])
{
	const char *config = getenv("XDG_CONFIG_HOME"), *home = getenv("HOME");

	if (config && *config == '/')
		snprintf(out, 512, "%.400s/gpubroker/machines", config);
	else
		snprintf(out, 512, "%.400s/.config/gpubroker/machines", home ? home : "");
}

static bool has_manager(void)
{
	const char *runtime = getenv("XDG_RUNTIME_DIR");
	char path[512];

	snprintf(path, sizeof(path), "%.400s/systemd/private", runtime ? runtime : "");
	return runtime && !access(path, F_OK);
}

/* ---- whether one runs ---- */

/* Executes a tool of systemd, whose output nobody reads. Returns its status. */
static int run_tool(const char *const *argv)
{
	int status = 0, fd;
	pid_t pid = fork();

	if (!pid) {
		fd = open("/dev/null", O_WRONLY | O_CLOEXEC);
		if (fd >= 0)
			dup2(fd, 1);
		execvp(argv[0], (char *const *)argv);
		_exit(EXIT_NOT_FOUND);
	}
	if (pid < 0 || waitpid(pid, &status, 0) != pid)
		return EXIT_SOFTWARE;
	return WIFEXITED(status) ? WEXITSTATUS(status) : EXIT_SOFTWARE;
}

static bool unit_runs(const char *name)
{
	char unit[80];

	snprintf(unit, sizeof(unit), UNIT ".service", name);
	return has_manager() && !run_tool((const char *const[]){ "systemctl", "--user", "--quiet",
								 "is-active", unit, NULL });
}

/* Returns true if a machine has the lock, or is just being started. */
static bool is_locked(const char *path)
{
	cleanup_fd int fd = open(path, O_RDONLY | O_CLOEXEC | O_NOFOLLOW | O_NONBLOCK);

	return fd >= 0 && flock(fd, LOCK_SH | LOCK_NB) && errno == EWOULDBLOCK;
}

static bool machine_runs(const struct spawn_setup *setup, const char *name)
{
	char path[520];

	lock_path(setup, name, path);
	return is_locked(path) || unit_runs(name);
}

/* ---- reading the steps ---- */

static const char *step_name(struct json_object *step)
{
	struct json_object *event;

	return step && json_object_object_get_ex(step, "event", &event)
		       ? json_object_get_string(event)
		       : "starting";
}

static bool is_granted(struct json_object *step)
{
	return !strcmp(step_name(step), "granted");
}

static bool is_last(struct json_object *step)
{
	return is_granted(step) || !strcmp(step_name(step), "refused");
}

static struct json_object *parse_step(const char *line)
{
	struct json_object *event, *step = *line == '{' ? json_tokener_parse(line) : NULL;

	if (step && json_object_is_type(step, json_type_object) &&
	    json_object_object_get_ex(step, "event", &event))
		return step;
	json_object_put(step);
	return NULL;
}

/*
 * Reads the next step of a claim's file, which is the caller's, and moves *at behind it. Returns
 * NULL if there is none yet.
 */
static struct json_object *read_step(int fd, off_t *at)
{
	cleanup_free char *line = malloc(STEP_MAX + 1);
	struct json_object *step = NULL;
	ssize_t n;

	while (!step && line && (n = pread(fd, line, STEP_MAX, *at)) > 0) {
		const char *end = memchr(line, '\n', (size_t)n);

		if (!end && n < STEP_MAX)
			break; /* half a line: the rest comes */
		n = end ? end - line : n;
		line[n] = '\0';
		*at += n + (end != NULL);
		step = parse_step(line);
	}
	return step;
}

/*
 * Returns what a claim has come to, with its latest steps. The machine that got the grant is gone
 * in the end, and nothing of that is among the steps.
 */
static struct json_object *claim_object(const struct spawn_setup *setup, const char *name, int fd)
{
	struct json_object *o = json_object_new_object(), *steps = json_object_new_array();
	struct json_object *step = NULL, *next;
	const char *state;
	off_t at = 0;

	while (!is_last(step) && (next = read_step(fd, &at)) != NULL) {
		if (json_object_array_length(steps) == STEPS_KEPT)
			json_object_array_del_idx(steps, 0, 1);
		json_object_array_add(steps, next);
		step = next;
	}
	state = is_granted(step) && !machine_runs(setup, name) ? "ended" : step_name(step);
	json_object_object_add(o, "name", json_object_new_string(name));
	json_object_object_add(o, "state", json_object_new_string(state));
	json_object_object_add(o, "steps", steps);
	return o;
}

int machine_list(const struct spawn_setup *setup)
{
	struct json_object *array = json_object_new_array();
	char path[512];
	DIR *dir;
	struct dirent *entry;

	snprintf(path, sizeof(path), "%.400s/claims", setup->directory);
	dir = opendir(path);
	while (dir && (entry = readdir(dir)) != NULL) {
		cleanup_fd int fd =
			strchr(entry->d_name, '.')
				? -1
				: openat(dirfd(dir), entry->d_name,
					 O_RDONLY | O_CLOEXEC | O_NOFOLLOW | O_NONBLOCK);

		if (fd >= 0)
			json_object_array_add(array, claim_object(setup, entry->d_name, fd));
	}
	if (dir)
		closedir(dir);
	json_out_print(array);
	return cli_finish_output();
}

/*
 * Prints the steps behind *at, of a file that may have been begun anew. Returns true if the claim's
 * last one was among them.
 */
static bool tell_steps(int fd, off_t *at)
{
	struct json_object *step;
	struct stat st;
	bool over = false;

	if (!fstat(fd, &st) && st.st_size < *at)
		*at = 0;
	while (!over && (step = read_step(fd, at)) != NULL) {
		over = is_last(step);
		json_out_line(step);
	}
	return over;
}

static int fail_follow(const char *name, bool is_gone)
{
	if (is_gone)
		cli_error("the claim '%s' was taken away", name);
	else
		cli_error("the machine '%s' ended before its claim did; 'journalctl --user -u " UNIT
			  "' may show why",
			  name, name);
	return EXIT_NO_DEVICE;
}

int machine_follow(const struct spawn_setup *setup, const struct spawn_order *order)
{
	const struct timespec pause = { .tv_nsec = FOLLOW_MS * 1000000L };
	cleanup_fd int fd = -1;
	off_t at = 0;
	char path[512];

	steps_path(setup, order->name, path);
	fd = open(path, O_RDONLY | O_CLOEXEC | O_NOFOLLOW | O_NONBLOCK);
	if (fd < 0) {
		cli_error("there is no claim '%s'", order->name);
		return EXIT_NO_DEVICE;
	}
	for (unsigned i = 0;; i++) {
		/* First this: its last step may come meanwhile. */
		const bool runs = i % FOLLOW_LOOKS || machine_runs(setup, order->name);
		const bool over = tell_steps(fd, &at);
		struct stat st;

		if (cli_finish_output() || over)
			return 0;
		if (!runs || fstat(fd, &st) || !st.st_nlink)
			return fail_follow(order->name, runs);
		nanosleep(&pause, NULL);
	}
}

/* ---- starting and ending ---- */

/* Adds the command that claims and becomes the machine. */
static size_t add_claim(const struct spawn_setup *setup, const struct spawn_order *order,
			const char *command, const char *machine, const char **argv, size_t n)
{
	static char wait[40];

	argv[n++] = command;
	if (setup->socket) {
		argv[n++] = "--socket";
		argv[n++] = setup->socket;
	}
	argv[n++] = "run";
	argv[n++] = "--progress=json,3";
	argv[n++] = "--gpu";
	argv[n++] = order->device;
	if (order->profile[0]) {
		argv[n++] = "--profile";
		argv[n++] = order->profile;
	}
	if (order->wait[0]) {
		snprintf(wait, sizeof(wait), "--wait=%s", order->wait);
		argv[n++] = wait;
	}
	if (order->qemu)
		argv[n++] = "--qemu";
	argv[n++] = "--";
	argv[n++] = machine;
	argv[n] = NULL;
	return n;
}

/* The machine's output goes into the journal; the shell only opens the file of the steps. */
static int start_by_manager(const struct spawn_setup *setup, const struct spawn_order *order,
			    const char *command, const char *machine, const char *steps)
{
	char unit[80];
	const char *argv[40] = {
		"systemd-run", "--user", "--quiet", "--collect", "--property=Type=exec",
		unit,	       "--",	 "/bin/sh", "-c",	 "exec 3>>\"$0\"; exec \"$@\"",
		steps,
	};

	snprintf(unit, sizeof(unit), "--unit=" UNIT, order->name);
	add_claim(setup, order, command, machine, argv, 11);
	return run_tool(argv);
}

/* Puts the steps and the lock where the process that is executed has them, and has no others. */
static bool place_descriptors(int steps, int lock)
{
	const int high_steps = fcntl(steps, F_DUPFD_CLOEXEC, LOCK_FD + 1);
	const int high_lock = fcntl(lock, F_DUPFD_CLOEXEC, LOCK_FD + 1);

	return high_steps >= 0 && high_lock >= 0 && dup2(0, 1) >= 0 && dup2(0, 2) >= 0 &&
	       dup2(high_steps, STEPS_FD) >= 0 && dup2(high_lock, LOCK_FD) >= 0;
}

/* Without a manager: a process of its own, which has the lock, and whose output nobody reads. */
static int start_alone(const struct spawn_setup *setup, const struct spawn_order *order,
		       const char *command, const char *machine, const char *steps, int lock)
{
	const char *argv[24];
	char path[520], text[24];
	pid_t pid = fork();
	int fd;

	if (pid < 0)
		return EXIT_SOFTWARE;
	if (!pid) {
		setsid();
		fd = open(steps, O_WRONLY | O_APPEND | O_CLOEXEC | O_NOFOLLOW);
		if (fd < 0 || !place_descriptors(fd, lock))
			_exit(EXIT_SOFTWARE);
		add_claim(setup, order, command, machine, argv, 0);
		execv(command, (char *const *)argv);
		_exit(EXIT_NOT_FOUND);
	}
	lock_path(setup, order->name, path);
	fd = open(path, O_WRONLY | O_TRUNC | O_CLOEXEC | O_NOFOLLOW);
	snprintf(text, sizeof(text), "%d\n", (int)pid);
	if (fd >= 0 && write(fd, text, strlen(text)) < 0)
		text[0] = '\0';
	fd_close(fd);
	return 0;
}

/*
 * Takes the lock. A process that only looks whether it is there has it for a moment, so this tries
 * again.
 */
static bool take_lock(int fd)
{
	const struct timespec pause = { .tv_nsec = LOCK_MS * 1000000L };

	for (int i = 0; flock(fd, LOCK_EX | LOCK_NB); i++) {
		if (i == LOCK_TRIES)
			return false;
		nanosleep(&pause, NULL);
	}
	return true;
}

/*
 * Locks the machine, and empties the file for its steps. Returns the lock, or -1 after a message.
 */
static int begin_steps(const struct spawn_setup *setup, const char *name, char path[512])
{
	const int flags = O_CREAT | O_CLOEXEC | O_NOFOLLOW | O_NONBLOCK;
	cleanup_fd int lock = -1, steps = -1;
	char beside[520];

	snprintf(path, 512, "%.400s/claims", setup->directory);
	mkdir(path, 0700);
	steps_path(setup, name, path);
	lock_path(setup, name, beside);
	lock = open(beside, O_RDONLY | flags, 0600);
	if (lock >= 0 && (!take_lock(lock) || unit_runs(name))) {
		cli_error("the machine '%s' runs already; end it first", name);
		return -1;
	}
	steps = lock < 0 ? -1 : open(path, O_WRONLY | O_TRUNC | flags, 0600);
	if (steps < 0) {
		cli_error("cannot write %s: %s", path, strerror(errno));
		return -1;
	}
	return TAKE_FD(lock);
}

static int print_started(const char *name)
{
	struct json_object *o = json_object_new_object();

	json_object_object_add(o, "name", json_object_new_string(name));
	json_object_object_add(o, "state", json_object_new_string("starting"));
	json_out_print(o);
	return cli_finish_output();
}

int machine_start(const struct spawn_setup *setup, const struct spawn_order *order,
		  const char *command)
{
	char directory[512], machine[600], steps[512];
	cleanup_fd int fd = -1;
	struct stat st;
	int r;

	machines_directory(directory);
	snprintf(machine, sizeof(machine), "%s/%.40s", directory, order->name);
	if (stat(machine, &st) || !S_ISREG(st.st_mode) || access(machine, X_OK)) {
		cli_error("there is no machine '%s': make %s, a script that starts it", order->name,
			  machine);
		return EXIT_NO_NAME;
	}
	fd = begin_steps(setup, order->name, steps);
	if (fd < 0)
		return EXIT_BUSY;
	r = has_manager() ? start_by_manager(setup, order, command, machine, steps)
			  : start_alone(setup, order, command, machine, steps, fd);
	if (r) {
		cli_error("the machine '%s' cannot be started, or runs already; 'journalctl --user "
			  "-u " UNIT "' may show why",
			  order->name, order->name);
		return EXIT_BUSY;
	}
	return print_started(order->name);
}

int machine_stop(const struct spawn_setup *setup, const struct spawn_order *order)
{
	char steps[512], path[520], unit[80], text[24] = "";
	cleanup_fd int fd = -1;
	ssize_t n;

	steps_path(setup, order->name, steps);
	if (access(steps, F_OK)) {
		cli_error("there is no claim '%s'", order->name);
		return EXIT_NO_DEVICE;
	}
	snprintf(unit, sizeof(unit), UNIT ".service", order->name);
	if (has_manager())
		run_tool((const char *const[]){ "systemctl", "--user", "--quiet", "stop", unit,
						NULL });
	lock_path(setup, order->name, path);
	fd = open(path, O_RDONLY | O_CLOEXEC | O_NOFOLLOW | O_NONBLOCK);
	n = fd >= 0 && is_locked(path) ? read(fd, text, sizeof(text) - 1) : 0;
	if (n > 0 && atoi(text) > 1) {
		kill(-atoi(text), SIGTERM);
		kill(atoi(text), SIGTERM);
	}
	unlink(path);
	unlink(steps);
	json_out_print(json_object_new_object());
	return cli_finish_output();
}
