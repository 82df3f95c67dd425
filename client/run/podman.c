/* SPDX-License-Identifier: MIT */
/*
 * Has podman start its pause process before anything is claimed, see podman.h.
 *
 * A rootless podman that finds no pause process starts one, which keeps its namespaces for all that
 * it runs later, and never ends. Started below `run`, it would be under the filter, and keep the
 * lease for good: no process leaves a filter. It would also lack all but one user, since newuidmap
 * gains no privilege there. So it is started outside, by the user's own podman and as the user.
 *
 * It must never print what that podman prints, nor fail: whatever is wrong, podman itself says
 * better when it is the command.
 */
#include "config.h"

#include "client/run/podman.h"
#include "client/command/cli.h"
#include "client/run/elsewhere.h"
#include "client/common/util.h"

#include <fcntl.h>
#include <poll.h>
#include <signal.h>
#include <spawn.h>
#include <stdbool.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/syscall.h>
#include <sys/wait.h>
#include <unistd.h>

#define LIMIT_MS 30000

/* Returns true if the user's pause process runs: GetRootlessPauseProcessPidPath() of podman. */
static bool has_pause(void)
{
	const char *runtime = getenv("XDG_RUNTIME_DIR");
	cleanup_file FILE *f = NULL;
	char path[4096], line[32];
	int n;

	if (runtime && *runtime)
		n = snprintf(path, sizeof(path), "%s/libpod/tmp/pause.pid", runtime);
	else
		n = snprintf(path, sizeof(path), "/run/user/%u/libpod/tmp/pause.pid", getuid());
	f = n < (int)sizeof(path) ? fopen(path, "re") : NULL;
	return f && fgets(line, sizeof(line), f) && atoi(line) > 1 && !kill(atoi(line), 0);
}

/* Waits for the process's end, and ends it if that takes too long. */
static void wait_limited(pid_t pid)
{
	cleanup_fd int fd = (int)syscall(SYS_pidfd_open, pid, 0);
	struct pollfd p = { .fd = fd, .events = POLLIN };

	if (fd >= 0 && poll(&p, 1, LIMIT_MS) != 1)
		kill(pid, SIGKILL);
	while (waitpid(pid, NULL, 0) < 0 && errno == EINTR)
		;
}

static void start_pause(char *podman)
{
	char *const argv[] = { podman, (char *)"unshare", (char *)"true", NULL };
	posix_spawn_file_actions_t actions;
	pid_t pid;

	if (posix_spawn_file_actions_init(&actions))
		return;
	for (int fd = STDIN_FILENO; fd <= STDERR_FILENO; fd++)
		posix_spawn_file_actions_addopen(&actions, fd, "/dev/null", O_RDWR, 0);
	if (!posix_spawnp(&pid, podman, &actions, NULL, argv, environ))
		wait_limited(pid);
	posix_spawn_file_actions_destroy(&actions);
}

void podman_prepare(char *const *argv)
{
	/* Root's podman has no pause process. */
	if (!elsewhere_is_podman(argv[0]) || !geteuid() || has_pause())
		return;
	start_pause(argv[0]);
	if (!has_pause())
		cli_error("'podman unshare true' did not start podman's pause process; if the "
			  "command starts it, the device stays lent until 'podman system migrate' "
			  "ends it");
}
