/* SPDX-License-Identifier: MIT */
/* Processes that are found by a variable in their environment. */
#include "config.h"

#include "client/common/util.h"
#include "client/host/marked.h"
#include "tests/scratch.h"
#include "tests/tap.h"
/* The search gives up after a time that a busy machine may take for it. */
#include "tests/unit/brokerd/skip-clock.h"

#include <signal.h>
#include <sys/wait.h>

/* Starts a process with a variable, perhaps behind a large one, in a session of its own. */
static pid_t start(const char *value, bool large)
{
	static char name[] = "/bin/sleep", seconds[] = "100";
	char *program[] = { name, seconds, NULL };
	static char big[20000];
	int ends[2];
	pid_t pid;
	char byte;

	memset(big, 'x', sizeof(big) - 1);
	need(!pipe2(ends, O_CLOEXEC));
	pid = fork();
	need(pid >= 0);
	if (!pid) {
		setsid();
		clearenv();
		if (large)
			setenv("A", big, 1);
		setenv("GPUBROKER_LEASE", value, 1);
		setenv("B", "GPUBROKER_LEASE=99", 1);
		execv(program[0], program);
		_exit(1);
	}
	close(ends[1]);
	(void)!read(ends[0], &byte, 1); /* the exec has closed it */
	close(ends[0]);
	return pid;
}

static void end(pid_t pid)
{
	kill(pid, SIGKILL);
	waitpid(pid, NULL, 0);
}

/* Numbers of this process alone: the same test may run twice at a time. */
static char first[24], second[24], both[48], mark[48], other_mark[48], beginning[48];

static void make_numbers(void)
{
	const unsigned long long number = 4000000000ULL + 2ULL * (unsigned)getpid();

	snprintf(first, sizeof(first), "%llu", number);
	snprintf(second, sizeof(second), "%llu", number + 1);
	snprintf(both, sizeof(both), "%s,%s", first, second);
	snprintf(mark, sizeof(mark), "GPUBROKER_LEASE=%s", first);
	snprintf(other_mark, sizeof(other_mark), "GPUBROKER_LEASE=%s", second);
	snprintf(beginning, sizeof(beginning), "GPUBROKER_LEASE=%llu", number / 10);
}

int main(void)
{
	struct marked list[2] = { 0 };
	pid_t one, two;

	make_numbers();
	one = start(first, false);
	tap_ok(marked_find(mark, getuid(), list, 2) == 1 && list[0].pid == (uint32_t)one &&
		       !strcmp(list[0].name, "sleep"),
	       "a process is found by its variable, with its name");
	two = start(both, true);
	tap_ok(marked_find(mark, getuid(), list, 2) == 2,
	       "one with more behind a comma, and a large environment");
	tap_ok(marked_find(other_mark, getuid(), list, 2) == 1 && list[0].pid == (uint32_t)two,
	       "each number of a list is found");
	tap_ok(!marked_find(mark, getuid() + 1, list, 2), "another user's process proves nothing");
	tap_ok(marked_find(mark, getuid(), list, 1) == 2,
	       "more than there is room for are counted");
	tap_ok(!marked_find(beginning, getuid(), list, 2), "not by the beginning of a number");
	tap_ok(!marked_find("GPUBROKER_LEASE=99", getuid(), list, 2),
	       "not by another variable's value");
	end(one);
	end(two);
	tap_ok(!marked_find(mark, getuid(), list, 2), "none when they have ended");
	return tap_done();
}
