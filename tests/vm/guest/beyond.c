/* SPDX-License-Identifier: MIT */
/*
 * beyond [VERB ARGUMENT]...: tries each, and says "VERB ARGUMENT: " and "done", or why not. For what a confined
 * process must not be able to do; run unconfined, it shows that it is the confinement that says no.
 */
#include <arpa/inet.h>
#include <errno.h>
#include <fcntl.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/mount.h>
#include <sys/ptrace.h>
#include <sys/socket.h>
#include <sys/syscall.h>
#include <sys/wait.h>
#include <unistd.h>

/* Only the opening: nothing is read or written. */
static int open_as(const char *path, int flags)
{
	int fd = open(path, flags | O_CLOEXEC | O_NOCTTY, 0600);

	if (fd < 0)
		return errno;
	close(fd);
	return 0;
}

static int execute(const char *path)
{
	int ends[2], error = 0;
	pid_t pid;

	if (pipe2(ends, O_CLOEXEC))
		return errno;
	pid = fork();
	if (!pid) {
		execl(path, path, "-c", ":", NULL);
		error = errno;
		_exit(write(ends[1], &error, sizeof(error)) != sizeof(error));
	}
	close(ends[1]);
	if (read(ends[0], &error, sizeof(error)) < 0)
		error = errno;
	close(ends[0]);
	waitpid(pid, NULL, 0);
	return error;
}

/* Nobody listens there: where the network may be used, that is the answer. */
static int reach(const char *address)
{
	struct sockaddr_in to = { .sin_family = AF_INET, .sin_port = htons(9) };
	int fd = socket(AF_INET, SOCK_STREAM | SOCK_CLOEXEC, 0), error;

	if (fd < 0)
		return errno;
	inet_pton(AF_INET, address, &to.sin_addr);
	error = connect(fd, (struct sockaddr *)&to, sizeof(to)) ? errno : 0;
	close(fd);
	return error == ECONNREFUSED || error == ENETUNREACH ? 0 : error;
}

static int load(const char *path)
{
	int fd = open(path, O_RDONLY | O_CLOEXEC), error;

	if (fd < 0)
		return errno;
	/* An empty file: where modules may be loaded, that one is none. */
	error = syscall(SYS_finit_module, fd, "", 0) ? errno : 0;
	close(fd);
	return error == ENOEXEC || error == EINVAL ? 0 : error;
}

static int trace(const char *number)
{
	pid_t pid = atoi(number);

	if (ptrace(PTRACE_SEIZE, pid, 0, 0))
		return errno;
	return 0; /* the tracee is let go at our exit */
}

static int attempt(const char *verb, const char *argument)
{
	if (!strcmp(verb, "read"))
		return open_as(argument, O_RDONLY);
	if (!strcmp(verb, "write"))
		return open_as(argument, O_WRONLY);
	if (!strcmp(verb, "open"))
		return open_as(argument, O_RDWR);
	if (!strcmp(verb, "create"))
		return open_as(argument, O_WRONLY | O_CREAT);
	if (!strcmp(verb, "execute"))
		return execute(argument);
	if (!strcmp(verb, "reach"))
		return reach(argument);
	if (!strcmp(verb, "load"))
		return load(argument);
	if (!strcmp(verb, "trace"))
		return trace(argument);
	if (!strcmp(verb, "mount"))
		return mount("none", argument, "tmpfs", 0, NULL) ? errno : 0;
	return ENOSYS;
}

int main(int argc, char **argv)
{
	for (int i = 1; i + 1 < argc; i += 2) {
		int error = attempt(argv[i], argv[i + 1]);

		printf("%s %s: %s\n", argv[i], argv[i + 1], error ? strerror(error) : "done");
	}
	return 0;
}
