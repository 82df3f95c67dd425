/* SPDX-License-Identifier: MIT */
/*
 * Finds the processes that have a variable in their environment, see marked.h. It serves the
 * supervisor of `gpubroker run` too: it must never allocate, nor look at processes for long.
 */
#include "config.h"

#include "client/host/marked.h"
#include "client/common/util.h"
#include "client/host/directory.h"
#include "client/host/opened.h"

#include <ctype.h>
#include <fcntl.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/stat.h>
#include <unistd.h>

#define LOOK_MS 200
#define MARK_MAX 48
#define VARIABLE_MAX 512 /* with the numbers of all leases of a command */

/* Returns true if a list of numbers, which ends within n bytes, has the number. */
static bool has_number(const char *list, size_t n, const char *number)
{
	const size_t len = strlen(number);
	size_t at = 0;

	while (at + len < n) {
		if (!memcmp(list + at, number, len) && (!list[at + len] || list[at + len] == ','))
			return true;
		while (at < n && isdigit((unsigned char)list[at]))
			at++;
		if (at++ >= n || list[at - 1] != ',')
			return false;
	}
	return false;
}

/*
 * Returns true if the environment has the mark. It is read in parts, of which each keeps the end of
 * the one before.
 */
static bool has_mark(int fd, const char *mark)
{
	const char *number = strchr(mark, '=') + 1;
	const size_t len = (size_t)(number - mark);
	char text[4096 + VARIABLE_MAX];
	size_t kept = 1; /* a variable begins behind a NUL, the first one too */
	ssize_t n;

	text[0] = '\0';
	while ((n = read(fd, text + kept, 4096)) > 0) {
		const size_t end = kept + (size_t)n;

		for (size_t at = 0; at + len + 1 < end; at++)
			if (!text[at] && !memcmp(text + at + 1, mark, len) &&
			    has_number(text + at + 1 + len, end - at - 1 - len, number))
				return true;
		kept = end < VARIABLE_MAX ? end : VARIABLE_MAX;
		memmove(text, text + end - kept, kept);
	}
	return false;
}

static void read_name(int proc, const char *pid, char name[MARKED_NAME])
{
	char path[32];
	cleanup_fd int fd = -1;
	ssize_t n;

	snprintf(path, sizeof(path), "%.10s/comm", pid);
	fd = openat(proc, path, O_RDONLY | O_CLOEXEC);
	n = fd < 0 ? 0 : read(fd, name, MARKED_NAME - 1);
	name[n < 0 ? 0 : n] = '\0';
	name[strcspn(name, "\n")] = '\0';
	for (char *c = name; *c; c++)
		if (!isascii(*c) || !isprint(*c))
			*c = '?';
}

size_t marked_find(const char *mark, uid_t uid, struct marked *list, size_t max)
{
	const uint64_t deadline = opened_now() + LOOK_MS;
	cleanup_fd int proc = open("/proc", OPENED_FLAGS);
	struct directory dir = DIRECTORY(proc);
	const char *pid;
	size_t found = 0;

	if (proc < 0 || strlen(mark) >= MARK_MAX || !strchr(mark, '='))
		return 0;
	while (opened_now() < deadline && (pid = directory_next(&dir))) {
		cleanup_fd int fd = -1;
		char path[32];
		struct stat st;

		if (*pid < '1' || *pid > '9' || fstatat(proc, pid, &st, 0) || st.st_uid != uid ||
		    strtoul(pid, NULL, 10) == (unsigned long)getpid())
			continue;
		snprintf(path, sizeof(path), "%.10s/environ", pid);
		fd = openat(proc, path, O_RDONLY | O_CLOEXEC);
		if (fd < 0 || !has_mark(fd, mark))
			continue;
		if (found < max) {
			list[found].pid = (uint32_t)strtoul(pid, NULL, 10);
			read_name(proc, pid, list[found].name);
		}
		found++;
	}
	return found;
}
