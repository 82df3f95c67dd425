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

/* Options of podman itself, which stand before its command, or a variable. */
static bool is_remote_podman(char *const *argv)
{
	static const char *const variables[] = { "CONTAINER_HOST", "CONTAINER_CONNECTION" };
	static const char *const options[] = { "--remote", "-r",     "--url", "--connection",
					       "-c",	   "--host", "-H",    "--context" };
	static const char *const no[] = { "=0", "=f", "=F", "=false", "=FALSE", "=False" };
	bool remote = false;

	for (size_t i = 0; i < ARRAY_SIZE(variables); i++)
		if (getenv(variables[i]))
			return true;
	for (argv++; *argv && **argv == '-'; argv++) {
		for (size_t i = 0; i < ARRAY_SIZE(options); i++) {
			const size_t n = strlen(options[i]);

			if (strncmp(*argv, options[i], n) || ((*argv)[n] && (*argv)[n] != '='))
				continue;
			remote = true;
			for (size_t k = 0; i < 2 && k < ARRAY_SIZE(no); k++)
				remote = remote && strcmp(*argv + n, no[k]) != 0;
		}
		/* The option that people give with a value of its own. */
		if (!strcmp(*argv, "--log-level") && argv[1])
			argv++;
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
			  "and such a program gets nothing that is lent; without them podman "
			  "starts it itself; nothing was claimed");
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
