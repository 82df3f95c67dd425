/* SPDX-License-Identifier: MIT */
/*
 * Executes orders, see spawn.h. Each in a process of its own, under a small one that waits for it,
 * writes its exit status into a pipe, and ends it when nobody reads that pipe any more.
 *
 * It must never execute a path or an option that came over the socket, and never believe that the
 * process which sends has checked an order.
 */
#include "config.h"

#include "client/serve/spawn.h"
#include "client/command/cli.h"
#include "client/command/refused.h"
#include "client/common/address.h"
#include "client/common/util.h"
#include "client/serve/machine.h"
#include "client/wire/passfd.h"

#include <errno.h>
#include <fcntl.h>
#include <poll.h>
#include <signal.h>
#include <string.h>
#include <sys/socket.h>
#include <sys/syscall.h>
#include <sys/wait.h>
#include <unistd.h>

#define ARGUMENTS 20

static char command[4096]; /* this program */

/* ---- the form of an order ---- */

static bool consists_of(const char *text, size_t size, const char *letters)
{
	const size_t n = strnlen(text, size);

	return n && n < size && strspn(text, letters) == n && text[0] != '-' && text[0] != '.';
}

#define WORD "ABCDEFGHIJKLMNOPQRSTUVWXYZabcdefghijklmnopqrstuvwxyz0123456789_-"

static bool is_number(const char *text)
{
	return strspn(text, "0123456789") == strlen(text) && strlen(text) < 20;
}

static bool has_address(const struct spawn_order *o)
{
	struct pci_address address;

	return consists_of(o->device, sizeof(o->device), "0123456789abcdefABCDEF:.") &&
	       !pci_address_parse(o->device, &address);
}

static bool has_profile(const struct spawn_order *o)
{
	return !o->profile[0] || consists_of(o->profile, sizeof(o->profile), WORD ".+ ");
}

bool spawn_order_valid(const struct spawn_order *o)
{
	const bool has_device = consists_of(o->device, sizeof(o->device), WORD ".:");
	const bool has_name = consists_of(o->name, sizeof(o->name), WORD);

	if (o->qemu > 1 || o->reserved)
		return false;
	switch ((enum spawn_verb)o->verb) {
	case SPAWN_LIST:
	case SPAWN_LEASES:
	case SPAWN_QUEUE:
	case SPAWN_PROFILES:
	case SPAWN_DOCTOR:
	case SPAWN_USAGE:
	case SPAWN_CLAIMS:
	case SPAWN_WATCH:
		return true;
	case SPAWN_RELEASE:
		return has_device && is_number(o->device);
	case SPAWN_PREPARE:
	case SPAWN_RESTORE:
		return has_address(o);
	case SPAWN_ATTACH:
	case SPAWN_DETACH:
		return has_device && has_name && has_profile(o);
	case SPAWN_START:
		return has_device && has_name && has_profile(o) &&
		       (!o->wait[0] || consists_of(o->wait, sizeof(o->wait), "0123456789dhms"));
	case SPAWN_STOP:
	case SPAWN_STEPS:
		return has_name;
	}
	return false;
}

/* ---- executing one ---- */

/* The arguments of a command that is executed as it is. NULL: it is none of these. */
static const char *const *words_of(uint32_t verb)
{
	static const char *const words[][5] = {
		[SPAWN_LIST] = { "list", "--all", "--json" },
		[SPAWN_LEASES] = { "leases", "--json" },
		[SPAWN_QUEUE] = { "leases", "--waiting", "--json" },
		[SPAWN_PROFILES] = { "profiles", "--json" },
		[SPAWN_DOCTOR] = { "doctor", "--json" },
		[SPAWN_USAGE] = { "usage", "--json" },
		[SPAWN_WATCH] = { "watch", "--json" },
		[SPAWN_RELEASE] = { "release", "--json" },
		[SPAWN_PREPARE] = { "prepare", "--json" },
		[SPAWN_RESTORE] = { "restore", "--json" },
		[SPAWN_ATTACH] = { "attach", "--json", "--qmp" },
		[SPAWN_DETACH] = { "detach", "--json", "--qmp" },
	};

	return verb < ARRAY_SIZE(words) && words[verb][0] ? words[verb] : NULL;
}

static void execute(const struct spawn_setup *setup, const struct spawn_order *order)
{
	const char *const *words = words_of(order->verb);
	const char *argv[ARGUMENTS] = { "gpubroker" };
	char qmp[256];
	size_t n = 1;

	if (setup->socket) {
		argv[n++] = "--socket";
		argv[n++] = setup->socket;
	}
	for (size_t i = 0; words[i]; i++)
		argv[n++] = words[i];
	if (order->verb == SPAWN_ATTACH || order->verb == SPAWN_DETACH) {
		snprintf(qmp, sizeof(qmp), "%.190s/%.40s.qmp", setup->directory, order->name);
		argv[n++] = qmp;
	}
	if (order->profile[0]) {
		argv[n++] = "--profile";
		argv[n++] = order->profile;
	}
	if (order->device[0])
		argv[n++] = order->device;
	execv(command, (char *const *)argv);
}

/* Becomes the order, with the pipes in place. */
__attribute__((noreturn)) static void become(const struct spawn_setup *setup,
					     const struct spawn_order *order, int out, int err)
{
	int null = open("/dev/null", O_RDWR | O_CLOEXEC), status;

	setpgid(0, 0);
	/* The command and a machine would ignore as well what the spawner ignores. */
	signal(SIGPIPE, SIG_DFL);
	signal(SIGINT, SIG_DFL);
	signal(SIGTERM, SIG_DFL);
	if (null < 0 || dup2(null, 0) < 0 || dup2(out, 1) < 0 || dup2(err, 2) < 0)
		_exit(EXIT_SOFTWARE);
	if (words_of(order->verb)) {
		execute(setup, order);
		cli_error("cannot execute %s: %s", command, strerror(errno));
		_exit(EXIT_CANNOT_EXEC);
	}
	refused_begin_json();
	switch ((enum spawn_verb)order->verb) {
	case SPAWN_CLAIMS:
		status = machine_list(setup);
		break;
	case SPAWN_START:
		status = machine_start(setup, order, command);
		break;
	case SPAWN_STOP:
		status = machine_stop(setup, order);
		break;
	default:
		status = machine_follow(setup, order);
		break;
	}
	fflush(stdout);
	_exit(refused_end(status));
}

/* Waits for the order, or until nobody reads its status any more. */
__attribute__((noreturn)) static void attend(const struct spawn_setup *setup,
					     const struct spawn_order *order, const int pipes[6])
{
	struct pollfd p[2] = { { .fd = pipes[5] }, { .events = POLLIN } };
	int status = 0, code;
	pid_t child;

	signal(SIGCHLD, SIG_DFL);
	child = fork();
	if (!child)
		become(setup, order, pipes[1], pipes[3]);
	close(pipes[1]);
	close(pipes[3]);
	if (child < 0)
		_exit(1);
	p[1].fd = (int)syscall(SYS_pidfd_open, child, 0);
	while (p[1].fd >= 0 && (poll(p, 2, -1) < 0 || !p[1].revents)) {
		if (p[0].revents) { /* its reader is gone */
			kill(-child, SIGTERM);
			kill(child, SIGTERM);
			break;
		}
	}
	waitpid(child, &status, 0);
	code = WIFEXITED(status) ? WEXITSTATUS(status) : EXIT_SOFTWARE;
	if (write(pipes[5], &code, sizeof(code)) != sizeof(code))
		_exit(1);
	_exit(0);
}

static bool make_pipes(int pipes[6])
{
	for (int i = 0; i < 3; i++) {
		if (!pipe2(pipes + 2 * i, O_CLOEXEC))
			continue;
		while (i--) {
			close(pipes[2 * i]);
			close(pipes[2 * i + 1]);
		}
		return false;
	}
	return true;
}

static void take_order(const struct spawn_setup *setup, int socket, const struct spawn_order *order)
{
	struct spawn_answer answer = { .id = order->id };
	int pipes[6], fds[3];
	pid_t pid;

	if (!spawn_order_valid(order))
		answer.error = EINVAL;
	else if (!make_pipes(pipes))
		answer.error = errno;
	if (answer.error) {
		passfd_send(socket, &answer, sizeof(answer), NULL, 0);
		return;
	}
	pid = fork();
	if (!pid) {
		close(socket);
		for (int i = 0; i < 3; i++)
			close(pipes[2 * i]);
		attend(setup, order, pipes);
	}
	if (pid < 0)
		answer.error = errno;
	for (int i = 0; i < 3; i++) {
		fds[i] = pipes[2 * i];
		close(pipes[2 * i + 1]);
	}
	passfd_send(socket, &answer, sizeof(answer), fds, answer.error ? 0 : 3);
	for (int i = 0; i < 3; i++)
		close(fds[i]);
}

__attribute__((noreturn)) static void run_spawner(const struct spawn_setup *setup, int socket)
{
	struct pollfd p = { .fd = socket, .events = POLLIN };
	struct spawn_order order;

	signal(SIGCHLD, SIG_IGN);
	signal(SIGINT, SIG_IGN);
	signal(SIGTERM, SIG_IGN); /* it ends with the other process */
	for (unsigned i = 0; i < setup->n_listeners; i++)
		close(setup->listeners[i]);
	for (;;) {
		ssize_t n = passfd_receive_plain(socket, &order, sizeof(order));

		if (n == (ssize_t)sizeof(order))
			take_order(setup, socket, &order);
		else if (n != -EAGAIN)
			break;
		else
			poll(&p, 1, -1);
	}
	if (setup->unlink)
		unlink(setup->unlink);
	_exit(0);
}

int spawn_begin(const struct spawn_setup *setup, int *ret_socket)
{
	ssize_t n = readlink("/proc/self/exe", command, sizeof(command) - 1);
	int ends[2];
	pid_t pid;

	if (n < 0 || socketpair(AF_UNIX, SOCK_SEQPACKET | SOCK_CLOEXEC | SOCK_NONBLOCK, 0, ends))
		return -errno;
	command[n] = '\0';
	pid = fork();
	if (!pid) {
		close(ends[0]);
		run_spawner(setup, ends[1]);
	}
	close(ends[1]);
	if (pid < 0) {
		close(ends[0]);
		return -EAGAIN;
	}
	*ret_socket = ends[0];
	return 0;
}
