/* SPDX-License-Identifier: MIT */
/*
 * Knows the commands that ask a daemon to start a program, see elsewhere.h. A program that the
 * daemon starts is not below `run`: it inherits no filter, and its opens get nothing that is lent,
 * so the device would be claimed for nothing.
 *
 * It goes by names and must never execute anything, or take a command for one of these that is not.
 */
#include "config.h"

#include "client/run/elsewhere.h"
#include "client/command/cli.h"
#include "client/common/util.h"

#include <fcntl.h>
#include <limits.h>
#include <stdbool.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

static const struct daemon_client {
	const char *name;
	const char *unless; /* with this option it starts the program itself, or NULL */
	const char *starter;
	const char *instead;
} clients[] = {
	{ "docker", NULL, "its daemon", "'podman run' with the same arguments starts it itself" },
	{ "nerdctl", NULL, "containerd", "'podman run' with the same arguments starts it itself" },
	{ "podman-remote", NULL, "a service", "'podman run' starts it itself" },
	{ "systemd-run", "--scope", "systemd", "with --scope it starts it itself" },
	{ "virsh", NULL, "libvirt", "gpubroker(7) has what a domain of libvirt needs" },
};

static const char *program_of(const char *command)
{
	const char *slash = strrchr(command, '/');

	return slash ? slash + 1 : command;
}

/* Returns true if the file exists and begins as a script does. */
static bool begins_as_script(const char *path)
{
	cleanup_fd int fd = open(path, O_RDONLY | O_CLOEXEC | O_NONBLOCK);
	char start[2];

	return fd >= 0 && read(fd, start, sizeof(start)) == sizeof(start) &&
	       !memcmp(start, "#!", sizeof(start));
}

/* As execvp() finds it: the first executable of that name. False: there is none. */
static bool find_program(const char *command, char out[PATH_MAX])
{
	const char *path = getenv("PATH");

	if (strchr(command, '/'))
		return snprintf(out, PATH_MAX, "%s", command) < PATH_MAX;
	for (const char *p = path ? path : "/bin:/usr/bin", *end;; p = end + 1) {
		end = strchrnul(p, ':');
		if (snprintf(out, PATH_MAX, "%.*s%s%s", (int)(end - p), p, end > p ? "/" : "",
			     command) < PATH_MAX &&
		    !access(out, X_OK))
			return true;
		if (!*end)
			return false;
	}
}

static bool is_script(const char *command)
{
	char path[PATH_MAX];

	return find_program(command, path) && begins_as_script(path);
}

/* A `docker` that is a link to podman. */
static bool leads_to_podman(const char *command)
{
	char path[PATH_MAX];
	cleanup_free char *real = find_program(command, path) ? realpath(path, NULL) : NULL;

	return real && !strcmp(program_of(real), "podman");
}

static bool has_option(char *const *argv, const char *option)
{
	/* Options have values of their own, and may be cut: "--unit vm --sc". */
	for (argv++; *argv && strcmp(*argv, "--"); argv++)
		if (strlen(*argv) >= strlen("--x") && !strncmp(*argv, option, strlen(*argv)))
			return true;
	return false;
}

/* As podman reads the value of an option that is true or false; others are its to refuse. */
static bool is_true(const char *value)
{
	static const char *const no[] = { "0", "f", "F", "false", "FALSE", "False" };

	for (size_t i = 0; i < ARRAY_SIZE(no); i++)
		if (!strcmp(value, no[i]))
			return false;
	return true;
}

/* Returns what follows the long option in the argument: "", or "=VALUE". NULL: it is another. */
static const char *after_option(const char *argument, const char *option)
{
	const size_t n = strlen(option);

	return !strncmp(argument, option, n) && (!argument[n] || argument[n] == '=') ? argument + n
										     : NULL;
}

/* An option of podman's own, or several short ones, may choose a service. */
enum podman_option { PODMAN_OTHER, PODMAN_SERVICE, PODMAN_REMOTE, PODMAN_LOCAL };

static enum podman_option podman_option_of(const char *argument)
{
	static const char *const places[] = { "--url", "--connection", "--host", "--context" };
	const char *value = after_option(argument, "--remote");

	for (size_t i = 0; i < ARRAY_SIZE(places); i++)
		if (after_option(argument, places[i]))
			return PODMAN_SERVICE;
	if (argument[1] != '-' && (argument[1] == 'c' || argument[1] == 'H'))
		return PODMAN_SERVICE;
	if (argument[1] == 'r')
		value = argument + 2;
	if (!value)
		return PODMAN_OTHER;
	return *value != '=' || is_true(value + 1) ? PODMAN_REMOTE : PODMAN_LOCAL;
}

/*
 * Decides by podman's own options, which stand before its command, and two variables, as podman
 * does before it knows its options: of each other one it takes the next argument for the value,
 * unless that is an option too.
 */
static bool is_remote_podman(char *const *argv)
{
	bool remote = getenv("CONTAINER_HOST") || getenv("CONTAINER_CONNECTION");

	for (argv++; *argv && (*argv)[0] == '-' && (*argv)[1] && strcmp(*argv, "--"); argv++) {
		switch (podman_option_of(*argv)) {
		case PODMAN_SERVICE:
			return true;
		case PODMAN_REMOTE:
			remote = true;
			break;
		case PODMAN_LOCAL:
			remote = false;
			break;
		case PODMAN_OTHER:
			if (!strchr(*argv, '=') && argv[1] && *argv[1] != '-')
				argv++;
			break;
		}
	}
	return remote;
}

bool elsewhere_is_podman(const char *command)
{
	const char *name = program_of(command);

	return !strcmp(name, "podman") ||
	       (!strcmp(name, "docker") && (is_script(command) || leads_to_podman(command)));
}

int elsewhere_check(char *const *argv)
{
	const char *name = program_of(argv[0]);

	if (!strcmp(name, "podman") && is_remote_podman(argv)) {
		cli_error("podman has a service start the program, by --remote or CONTAINER_HOST, "
			  "and such a program gets nothing that is lent; without them, or with "
			  "--remote=false alone, podman starts it itself; nothing was claimed");
		return EXIT_BAD_USAGE;
	}
	for (size_t i = 0; i < ARRAY_SIZE(clients); i++) {
		const struct daemon_client *client = &clients[i];

		if (strcmp(name, client->name) || is_script(argv[0]) || leads_to_podman(argv[0]) ||
		    (client->unless && has_option(argv, client->unless)))
			continue;
		cli_error("%s has %s start the program, and such a program gets nothing that is "
			  "lent, since it is no child of gpubroker; %s; nothing was claimed",
			  name, client->starter, client->instead);
		return EXIT_BAD_USAGE;
	}
	return 0;
}
