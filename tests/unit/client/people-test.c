/* SPDX-License-Identifier: MIT */
/* Times, programs and sentences as people read them. */
#include "config.h"

#include "client/command/moments.h"
#include "client/command/program.h"
#include "client/run/farewell.h"
#include "tests/tap.h"

#include <poll.h>
#include <signal.h>
#include <stdlib.h>
#include <string.h>
#include <sys/prctl.h>
#include <sys/wait.h>
#include <time.h>
#include <unistd.h>

static const struct {
	uint64_t seconds;
	const char *span, *length;
} times[] = {
	{ 0, "0s", "0s" },	     { 59, "59s", "59s" },	    { 60, "1m", "1m" },
	{ 3599, "59m", "59m" },	     { 3600, "1h", "1h 0m" },	    { 7800, "2h", "2h 10m" },
	{ 86399, "23h", "23h 59m" }, { 86400, "24h", "1d 0h" },	    { 172799, "47h", "1d 23h" },
	{ 172800, "2d", "2d 0h" },   { 1000000, "11d", "11d 13h" },
};

static void test_times(void)
{
	char text[MOMENT_TEXT];

	for (size_t i = 0; i < sizeof(times) / sizeof(times[0]); i++) {
		moment_span(times[i].seconds, text);
		tap_ok(!strcmp(text, times[i].span), "the largest unit: %s", times[i].span);
		moment_length(times[i].seconds, text);
		tap_ok(!strcmp(text, times[i].length), "... and the next: %s", times[i].length);
	}
	moment_length(UINT64_MAX, text);
	tap_ok(strlen(text) < sizeof(text), "the longest time fits");
	moment_ago((uint64_t)time(NULL) + 100, text);
	tap_ok(!strcmp(text, "0s"), "the future is not long ago");
}

/* A process that is called `name`, or runs with arguments like a QEMU's. */
static pid_t start(const char *name, const char *const argv[])
{
	pid_t pid = fork();

	if (pid)
		return pid;
	if (argv)
		execv("/proc/self/exe", (char *const *)(uintptr_t)argv);
	prctl(PR_SET_NAME, name);
	for (;;)
		pause();
}

static void stop(pid_t pid)
{
	kill(pid, SIGKILL);
	waitpid(pid, NULL, 0);
}

/* Waits until a process is called so. Its name is set by itself. */
static bool is_called(pid_t pid, uint64_t since, const char *name)
{
	char text[PROGRAM_TEXT] = "";

	for (int i = 0; i < 1000 && strcmp(text, name); i++) {
		poll(NULL, 0, 10);
		if (!program_text((uint32_t)pid, getuid(), since, text))
			return false;
	}
	return !strcmp(text, name);
}

static void test_programs(void)
{
	const char *const vm[] = { "qemu", "-m", "1G", "-name", "guest=ml train,debug-threads=on",
				   NULL };
	const char *const bare[] = { "qemu", "-name", NULL };
	const uint64_t now = (uint64_t)time(NULL);
	char text[PROGRAM_TEXT];
	pid_t pid = start("a) b (c", NULL);

	tap_ok(is_called(pid, now + 5, "a) b (c"), "a program is named, whatever its name");
	tap_ok(!program_text((uint32_t)pid, getuid() + 1, now + 5, text), "another user's is not");
	tap_ok(!program_text((uint32_t)pid, getuid(), now - 3600, text),
	       "one that began after the lease is another");
	stop(pid);
	tap_ok(!program_text((uint32_t)pid, getuid(), now + 5, text), "nor one that has ended");
	pid = start(NULL, vm);
	tap_ok(is_called(pid, now + 5, "qemu-of-test \"ml train\""),
	       "a QEMU has the name of its VM");
	stop(pid);
	pid = start(NULL, bare);
	tap_ok(is_called(pid, now + 5, "qemu-of-test"), "... unless the name is missing");
	stop(pid);
}

static void test_farewell(void)
{
	struct lent lent[] = {
		{ .file = { .what = "0000:01:00.0 (IOMMU group 14)", .lease = 1 } },
		{ .file = { .what = "0001:02:00.0 (IOMMU group 15)", .lease = 2 } },
	};
	struct supervisor s = { .lent = lent, .n_lent = 1 };
	char text[FAREWELL_TEXT];

	farewell_text(&s, 7800, false, text);
	tap_ok(!strcmp(text, "gpubroker: 01:00.0 goes back to the host. You had it for 2h 10m.\n"),
	       "one device goes back: %s", text);
	s.n_lent = 2;
	farewell_text(&s, -1, false, text);
	tap_ok(!strcmp(text, "gpubroker: 01:00.0 and 1 more go back to the host. You had them for "
			     "0s.\n"),
	       "two do, and a clock that was set back is no time: %s", text);
	farewell_text(&s, 5, true, text);
	tap_ok(!strcmp(text, "gpubroker: the command has ended after 5s, but not all that it "
			     "started, so 01:00.0 and 1 more stay lent; see 'gpubroker leases'.\n"),
	       "something goes on: %s", text);
	s.n_lent = 0;
	farewell_text(&s, 0, true, text);
	tap_ok(strchr(text, '\n') == text + strlen(text) - 1, "without a device it is a line, too");
}

int main(int argc, char **argv)
{
	/* As the QEMU of test_programs(). */
	if (argc > 1 && !strcmp(argv[0], "qemu")) {
		prctl(PR_SET_NAME, "qemu-of-test");
		for (;;)
			pause();
	}
	test_times();
	test_programs();
	test_farewell();
	return tap_done();
}
