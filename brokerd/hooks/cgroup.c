/* SPDX-License-Identifier: MIT */
/*
 * Control groups of hooks, see cgroup.h; by cgroups(7), version 2. It must never touch a control
 * group but the unit's own, which systemd leaves to the runner by Delegate=.
 */
#include "config.h"

#include "brokerd/hooks/cgroup.h"
#include "client/common/util.h"

#include <fcntl.h>
#include <stdio.h>
#include <string.h>
#include <sys/stat.h>

#define UNIT "/gpubroker-hooks.service"

static void cgroup_write(int cgroup, const char *file, const char *text)
{
	cleanup_fd int fd = -1;
	ssize_t ignored;

	if (cgroup < 0)
		return;
	fd = openat(cgroup, file, O_WRONLY | O_CLOEXEC);
	if (fd < 0)
		return;
	ignored = write(fd, text, strlen(text));
	(void)ignored;
}

int cgroup_open_own(void)
{
	cleanup_file FILE *file = fopen("/proc/self/cgroup", "re");
	char line[512], path[600];

	while (file && fgets(line, sizeof(line), file)) {
		const size_t n = strcspn(line, "\n");

		line[n] = '\0';
		if (strncmp(line, "0::/", 4) != 0 || n < sizeof(UNIT) + 3 ||
		    strcmp(line + n - (sizeof(UNIT) - 1), UNIT) != 0)
			continue;
		snprintf(path, sizeof(path), "/sys/fs/cgroup%s", line + 3);
		return open(path, O_RDONLY | O_DIRECTORY | O_CLOEXEC);
	}
	return -1;
}

int cgroup_open_event(int own, unsigned slot)
{
	char name[24];

	if (own < 0)
		return -1;
	snprintf(name, sizeof(name), "event-%u", slot);
	if (mkdirat(own, name, 0755) && errno != EEXIST)
		return -1;
	return openat(own, name, O_RDONLY | O_DIRECTORY | O_CLOEXEC);
}

void cgroup_enter(int cgroup)
{
	cgroup_write(cgroup, "cgroup.procs", "0");
}

void cgroup_kill(int cgroup)
{
	cgroup_write(cgroup, "cgroup.kill", "1");
}
