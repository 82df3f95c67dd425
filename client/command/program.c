/* SPDX-License-Identifier: MIT */
/*
 * The program that a process runs, see program.h. It only informs, and believes nothing: a process
 * chooses its name and its arguments itself.
 */
#include "config.h"

#include "client/command/program.h"
#include "client/common/util.h"

#include <fcntl.h>
#include <inttypes.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/stat.h>
#include <time.h>
#include <unistd.h>

#define ARGUMENTS_READ 16384 /* of a command line */

/* Reads a file of /proc/PID, with a NUL behind it. Returns its length, 0: it cannot be read. */
static size_t read_proc(uint32_t pid, const char *name, char *out, size_t size)
{
	cleanup_fd int fd = -1;
	char path[64];
	size_t used = 0;
	ssize_t n = 0;

	snprintf(path, sizeof(path), "/proc/%" PRIu32 "/%s", pid, name);
	fd = open(path, O_RDONLY | O_CLOEXEC);
	while (fd >= 0 && used < size - 1 && (n = read(fd, out + used, size - 1 - used)) > 0)
		used += (size_t)n;
	out[used] = '\0';
	return used;
}

/* When the process began, seconds since the epoch; 0: not known. */
static uint64_t began_at(uint32_t pid)
{
	const long ticks = sysconf(_SC_CLK_TCK);
	char text[1024], *field;
	struct timespec now, up;

	if (!read_proc(pid, "stat", text, sizeof(text)) || ticks <= 0)
		return 0;
	/* Its name, which may have blanks and parentheses, is the second of the fields. */
	field = strrchr(text, ')');
	for (int i = 2; field && i < 22; i++)
		field = strchr(field + 1, ' ');
	if (!field || clock_gettime(CLOCK_REALTIME, &now) || clock_gettime(CLOCK_BOOTTIME, &up))
		return 0;
	return (uint64_t)(now.tv_sec - up.tv_sec) + strtoull(field, NULL, 10) / (uint64_t)ticks;
}

/* Finds the argument of QEMU's -name, as "ml-train" or "guest=ml-train,debug-threads=on". */
static const char *find_vm_name(const char *arguments, size_t size)
{
	const char *at = arguments, *end = arguments + size;

	for (; at < end; at += strlen(at) + 1) {
		if (strcmp(at, "-name") && strcmp(at, "--name"))
			continue;
		at += strlen(at) + 1;
		if (at >= end)
			return NULL;
		return strncmp(at, "guest=", 6) ? at : at + 6;
	}
	return NULL;
}

/*
 * The command that this `gpubroker run` waits for: the first child of its own only child, the
 * supervisor. 0: it is none that waits.
 */
static uint32_t waited_for(uint32_t pid)
{
	char name[48], list[32];

	for (int i = 0; i < 2; i++) {
		snprintf(name, sizeof(name), "task/%" PRIu32 "/children", pid);
		read_proc(pid, name, list, sizeof(list));
		pid = (uint32_t)strtoul(list, NULL, 10);
		if (!pid)
			return 0;
	}
	return pid;
}

#define SLACK 2 /* seconds by which two clocks' seconds may differ */

bool program_text(uint32_t pid, uint32_t uid, uint64_t since, char out[PROGRAM_TEXT])
{
	const uint64_t began = began_at(pid);
	cleanup_free char *arguments = NULL;
	char path[64], comm[32];
	const char *vm = NULL;
	struct stat st;
	size_t n;

	snprintf(path, sizeof(path), "/proc/%" PRIu32, pid);
	if (stat(path, &st) || st.st_uid != (uid_t)uid || !began || began > since + SLACK)
		return false;
	if (!read_proc(pid, "comm", comm, sizeof(comm)))
		return false;
	comm[strcspn(comm, "\n")] = '\0';
	if (!strcmp(comm, "gpubroker")) {
		const uint32_t command = waited_for(pid);

		if (command && read_proc(command, "comm", comm, sizeof(comm))) {
			comm[strcspn(comm, "\n")] = '\0';
			pid = command;
		} else {
			snprintf(comm, sizeof(comm), "gpubroker");
		}
	}
	arguments = strncmp(comm, "qemu", 4) && strcmp(comm, "kvm") ? NULL : malloc(ARGUMENTS_READ);
	n = arguments ? read_proc(pid, "cmdline", arguments, ARGUMENTS_READ) : 0;
	vm = n ? find_vm_name(arguments, n) : NULL;
	if (vm)
		snprintf(out, PROGRAM_TEXT, "%s \"%.*s\"", comm,
			 (int)(strcspn(vm, ",") > 48 ? 48 : strcspn(vm, ",")), vm);
	else
		snprintf(out, PROGRAM_TEXT, "%s", comm);
	return true;
}
