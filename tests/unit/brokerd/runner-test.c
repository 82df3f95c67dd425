/* SPDX-License-Identifier: MIT */
/*
 * The runner of hooks, as a process, with hooks that misbehave and a core that lies: the test's. It
 * needs no root: hooks must be whoever's who runs it.
 */
#include "config.h"

#include "brokerd/helper/helper.h"
#include "brokerd/state/hooking.h"
#include "client/common/util.h"
#include "tests/scratch.h"
#include "tests/tap.h"

#include <poll.h>
#include <signal.h>
#include <sys/prctl.h>
#include <sys/socket.h>
#include <sys/un.h>
#include <sys/wait.h>
#include <time.h>

static int listener = -1, core = -1;
static pid_t runner;
static char hooks[80];

static uint64_t now_ms(void)
{
	struct timespec now;

	clock_gettime(CLOCK_MONOTONIC, &now);
	return (uint64_t)now.tv_sec * 1000 + (uint64_t)now.tv_nsec / 1000000;
}

static void write_hook(const char *name, const char *text, mode_t mode)
{
	char path[160], new[160];
	FILE *file;

	snprintf(path, sizeof(path), "%s/%s", hooks, name);
	snprintf(new, sizeof(new), "%s/.new", hooks);
	file = fopen(new, "w");
	need(file && fprintf(file, "#!/bin/sh\ncd %s\n%s\n", scratch_path, text) > 0);
	need(!fclose(file) && !chmod(new, mode) && !rename(new, path));
}

static void remove_hook(const char *name)
{
	char path[160];

	snprintf(path, sizeof(path), "%s/%s", hooks, name);
	need(!unlink(path));
}

static const char *content(const char *name)
{
	static char text[65536];
	char path[160];
	FILE *file;
	size_t n = 0;

	snprintf(path, sizeof(path), "%s/%s", scratch_path, name);
	file = fopen(path, "r");
	if (file) {
		n = fread(text, 1, sizeof(text) - 1, file);
		fclose(file);
	}
	text[n] = '\0';
	return text;
}

/* Returns true if the file has the text within half a minute. */
static bool has_soon(const char *name, const char *text)
{
	for (int i = 0; i < 3000; i++) {
		if (strstr(content(name), text))
			return true;
		poll(NULL, 0, 10);
	}
	printf("# %s: %s\n", name, content(name));
	return false;
}

/* Returns true if the process has ended within half a minute, or is a zombie of another's. */
static bool gone_soon(int pid)
{
	char path[64], state = 'X';

	for (int i = 0; i < 3000; i++) {
		FILE *file;

		snprintf(path, sizeof(path), "/proc/%d/stat", pid);
		file = fopen(path, "r");
		if (!file || fscanf(file, "%*d (%*[^)]) %c", &state) != 1 || state == 'Z')
			state = 'X';
		if (file)
			fclose(file);
		if (state == 'X')
			return true;
		poll(NULL, 0, 10);
		state = '?';
	}
	return false;
}

/* Reads a packet, for at most a minute. Returns its size, 0 at the end, or -1. */
static ssize_t hear(void *packet, size_t size)
{
	struct pollfd p = { .fd = core, .events = POLLIN };
	ssize_t n = poll(&p, 1, 60000) == 1 ? recv(core, packet, size, MSG_TRUNC) : -1;

	return n < 0 && errno == ECONNRESET ? 0 : n;
}

static bool hears(struct hook_answer *answer)
{
	return hear(answer, sizeof(*answer)) == sizeof(*answer) && hooking_believe(answer);
}

static int32_t count; /* of hooks, as the runner said last */

/* Reads the next answer, after any counts. */
static struct hook_answer hear_answer(void)
{
	struct hook_answer answer = { .result = HOOK_N_RESULTS };

	while (hears(&answer) && answer.result == HOOK_COUNT)
		count = (int32_t)answer.value;
	return answer;
}

/* Reads counts until there are so many hooks. */
static bool counts(int32_t n)
{
	struct hook_answer answer;

	while (count != n && hears(&answer) && answer.result == HOOK_COUNT)
		count = (int32_t)answer.value;
	return count == n;
}

static void start_runner(void)
{
	struct helper_hello hello;
	char socket_path[80];

	snprintf(socket_path, sizeof(socket_path), "%s/socket", scratch_path);
	runner = fork();
	need(runner >= 0);
	if (!runner) {
		prctl(PR_SET_PDEATHSIG, SIGKILL);
		need(freopen("/dev/null", "w", stdout));
		char log[96];

		snprintf(log, sizeof(log), "%s/log", scratch_path);
		need(freopen(log, "a", stderr));
		execl("brokerd/gpubroker-hooks", "gpubroker-hooks", "--socket", socket_path,
		      "--hooks", hooks, NULL);
		_exit(127);
	}
	core = accept4(listener, NULL, NULL, SOCK_CLOEXEC);
	need(core >= 0);
	need(hear(&hello, sizeof(hello)) == sizeof(hello) && hello.version == HELPER_VERSION &&
	     hello.role == HELPER_HOOKS && hello.record_size == sizeof(struct hook_answer));
	count = -1;
}

/* Returns the runner's exit status; 256: by a signal. */
static int end_of_runner(void)
{
	int status;

	need(waitpid(runner, &status, 0) == runner);
	core = fd_close(core);
	return WIFEXITED(status) ? WEXITSTATUS(status) : 256;
}

static void ask(uint64_t id, enum hook_event event, uint32_t group)
{
	const struct hook_question question = {
		.id = id,
		.lease = 7,
		.event = event,
		.group = group,
		.uid = 1000,
		.n = 2,
		.functions = { { .bus = 1 }, { .bus = 1, .function = 1 } },
	};

	need(send(core, &question, sizeof(question), MSG_NOSIGNAL) == sizeof(question));
}

static bool is_answer(const struct hook_answer *answer, uint64_t id, enum hook_result result,
		      const char *hook, uint32_t value)
{
	bool right = answer->id == id && answer->result == result && answer->value == value &&
		     !strcmp(answer->hook, hook);

	if (!right)
		printf("# %ju: %u, %u by %s\n", (uintmax_t)answer->id, answer->result,
		       answer->value, answer->hook);
	return right;
}

/* Asks, and returns true if that is the answer. */
static bool gives(enum hook_event event, enum hook_result result, const char *hook, uint32_t value)
{
	static uint64_t id = 100;
	struct hook_answer answer;

	ask(++id, event, 3);
	answer = hear_answer();
	return is_answer(&answer, id, result, hook, value);
}

/* ---- tests ---- */

static void test_runs(void)
{
	write_hook("README", "", 0644); /* so that it is never empty */
	write_hook("20-b", "echo b $1 >>order; echo said", 0755);
	write_hook("10-a", "echo a \"$@\" >>order; env >env; ls -l /proc/self/fd >fds; cat >in",
		   0755);
	start_runner();
	tap_ok(counts(2), "the runner says how many hooks there are");
	tap_ok(gives(HOOK_BIND, HOOK_DONE, "", 0), "it runs them");
	tap_ok(!strcmp(content("order"), "a bind 0000:01:00.0 0000:01:00.1\nb bind\n"),
	       "... in the order of their names, with the event and the functions");
	tap_ok(strstr(content("env"), "GPUBROKER_DEVICES=0000:01:00.0 0000:01:00.1\n") &&
		       strstr(content("env"), "GPUBROKER_GROUP=3\n") &&
		       strstr(content("env"), "GPUBROKER_EVENT=bind\n") &&
		       strstr(content("env"), "GPUBROKER_UID=1000\n") &&
		       strstr(content("env"), "GPUBROKER_LEASE=7\n") &&
		       strstr(content("env"), "PATH=") && !strstr(content("env"), "HOME=") &&
		       !strstr(content("env"), "SECRET="),
	       "... in a clean environment");
	tap_ok(!strstr(content("fds"), "socket") && !strstr(content("fds"), "signalfd") &&
		       !strstr(content("fds"), "inotify") && strstr(content("fds"), "/dev/null"),
	       "... and with no descriptor of its own");
	tap_ok(strstr(content("log"), "said"), "... and what they print is in its log");
	write_hook("10-a", "exit 3", 0755);
	write_hook("20-b", "echo b $1 >>again; kill -SEGV $$", 0755);
	tap_ok(gives(HOOK_BIND, HOOK_EXITED, "10-a", 3) && !*content("again"),
	       "the first that fails ends those of a bind");
	tap_ok(gives(HOOK_RESTORE, HOOK_EXITED, "10-a", 3) && *content("again"),
	       "... but those of a restore all run, and the first is named");
	remove_hook("10-a");
	tap_ok(gives(HOOK_BIND, HOOK_KILLED, "20-b", SIGSEGV), "one that a signal ends is named");
	write_hook("20-b", "exit 0", 0755);
	write_hook("05-no-interpreter", "", 0755);
	{
		char path[160];

		snprintf(path, sizeof(path), "%s/05-no-interpreter", hooks);
		FILE *file = fopen(path, "w");

		need(file && fputs("#!/nowhere\n", file) >= 0 && !fclose(file));
	}
	tap_ok(gives(HOOK_BIND, HOOK_NOT_EXECUTED, "05-no-interpreter", ENOENT),
	       "one that cannot be executed is named");
	remove_hook("05-no-interpreter");
}

static void test_misbehaves(void)
{
	uint64_t from = now_ms();

	write_hook("20-b", "sleep 3217 & echo $! >child; exit 0", 0755);
	tap_ok(gives(HOOK_BIND, HOOK_DONE, "", 0) && now_ms() - from < 20000,
	       "one that leaves a process with its output is not waited for");
	tap_ok(gone_soon(atoi(content("child"))), "... and the process is ended");
	write_hook("20-b", "kill -KILL $PPID; sleep 3217", 0755);
	tap_ok(gives(HOOK_BIND, HOOK_LOST, "", 0), "one that kills its parent fails");
	write_hook("20-b", "head -c 100000000 /dev/zero; head -c 1000000 /dev/zero >&2; exit 9",
		   0755);
	tap_ok(gives(HOOK_BIND, HOOK_EXITED, "20-b", 9),
	       "one that prints 100 MB is run to its end");
	need(!truncate(strcat(strcpy((char[96]){ 0 }, scratch_path), "/log"), 0));
	write_hook("20-b", "rm -f hooks/20-b h/hooks.d/20-b; exit 6", 0755);
	tap_ok(gives(HOOK_BIND, HOOK_EXITED, "20-b", 6),
	       "one that is removed while it runs is run");
	write_hook("20-b", "exit 0", 0755);
	write_hook("30-c", "rm h/hooks.d/40-d", 0755);
	write_hook("40-d", "exit 5", 0755);
	tap_ok(gives(HOOK_BIND, HOOK_NOT_EXECUTED, "40-d", ENOENT),
	       "one that is gone when its turn comes is a failure, not nothing");
	remove_hook("30-c");
}

static void test_side_by_side(void)
{
	struct hook_answer first, second, third;

	write_hook(
		"20-b",
		"echo $GPUBROKER_GROUP $1 >>turns; [ $GPUBROKER_GROUP != 4 ] || [ $1 = restore ] "
		"|| while [ ! -e go ]; do sleep 0.1; done",
		0755);
	ask(1, HOOK_BIND, 4);
	ask(2, HOOK_RESTORE, 4);
	ask(3, HOOK_BIND, 5);
	first = hear_answer();
	tap_ok(is_answer(&first, 3, HOOK_DONE, "", 0), "another group does not wait");
	scratch_write("go", "");
	second = hear_answer();
	third = hear_answer();
	tap_ok(is_answer(&second, 1, HOOK_DONE, "", 0) && is_answer(&third, 2, HOOK_DONE, "", 0) &&
		       strstr(strstr(content("turns"), "4 bind"), "4 restore"),
	       "... and the events of one come one after the other");
}

/* Another directory takes the place of that of the hooks. */
static void test_another_directory(void)
{
	char other[96], hook[128];

	snprintf(other, sizeof(other), "%s/h/other", scratch_path);
	need(!symlink(hooks, other) &&
	     !renameat2(AT_FDCWD, other, AT_FDCWD, hooks, RENAME_EXCHANGE));
	tap_ok(counts(0) && has_soon("log", "hooks.d: it is no directory"),
	       "a link to a directory has no hooks, and the runner stays");
	need(!renameat2(AT_FDCWD, other, AT_FDCWD, hooks, RENAME_EXCHANGE) && !unlink(other));
	tap_ok(counts(1), "... until there is a directory");
	need(!mkdir(other, 0755));
	snprintf(hook, sizeof(hook), "%s/keep", other);
	need(!mkdir(hook, 0755) && !renameat2(AT_FDCWD, other, AT_FDCWD, hooks, RENAME_EXCHANGE) &&
	     counts(0));
	write_hook("20-b", "exit 0", 0755);
	tap_ok(counts(1), "a new directory in its place is watched");
	need(!renameat2(AT_FDCWD, other, AT_FDCWD, hooks, RENAME_EXCHANGE) && counts(1));
}

static void test_files(void)
{
	char path[160];

	write_hook("20-b", "echo b >>ran", 0755);
	write_hook("30-shared", "echo shared >>ran", 0757);
	write_hook("31-group", "echo group >>ran", 0775);
	write_hook("32-plain", "echo plain >>ran", 0644);
	write_hook("33-dot.sh", "echo dot >>ran", 0755);
	write_hook("34-a-name-that-is-much-too-long-for-what-the-answer-has", "echo long >>ran",
		   0755);
	snprintf(path, sizeof(path), "%s/35-masked", hooks);
	need(!symlink("/dev/null", path));
	snprintf(path, sizeof(path), "%s/36-link", hooks);
	need(!symlink("20-b", path));
	snprintf(path, sizeof(path), "%s/37-directory", hooks);
	need(!mkdir(path, 0755));
	tap_ok(has_soon("log", "30-shared: others than root may write to it") &&
		       has_soon("log", "31-group: others than root may write to it") &&
		       has_soon("log", "32-plain: it is not executable") &&
		       has_soon("log", "33-dot.sh: a hook's name has only") &&
		       has_soon("log", "has: a hook's name has only") &&
		       has_soon("log", "36-link: it is a link") &&
		       has_soon("log", "37-directory: it is not a regular file"),
	       "a file that is no hook is named, with the reason");
	tap_ok(!strstr(content("log"), "35-masked"), "... but not a link to /dev/null");
	tap_ok(gives(HOOK_BIND, HOOK_DONE, "", 0) && !strcmp(content("ran"), "b\n"),
	       "... and none is run");
	need(!rmdir(path));
	remove_hook("30-shared");
	remove_hook("31-group");
	remove_hook("32-plain");
	remove_hook("33-dot.sh");
	remove_hook("34-a-name-that-is-much-too-long-for-what-the-answer-has");
	remove_hook("35-masked");
	remove_hook("36-link");
	need(!chmod(hooks, 0777));
	tap_ok(counts(0) && has_soon("log", "or to the directory above it, so no hook runs"),
	       "in a directory that anybody may write to, there is no hook");
	tap_ok(gives(HOOK_BIND, HOOK_DONE, "", 0) && !strcmp(content("ran"), "b\n"),
	       "... and none is run");
	need(!chmod(hooks, 0755));
	tap_ok(counts(1), "... until it is right");
	snprintf(path, sizeof(path), "%s/..", hooks);
	need(!chmod(path, 0757));
	tap_ok(gives(HOOK_BIND, HOOK_DONE, "", 0) && !strcmp(content("ran"), "b\n"),
	       "nor if anybody may rename it");
	need(!chmod(path, 0755));
	test_another_directory();
}

static void test_too_many(void)
{
	char name[32];

	need(!truncate(strcat(strcpy((char[96]){ 0 }, scratch_path), "/log"), 0));
	for (int i = 0; i < HOOKFILES_MAX + 3; i++) {
		snprintf(name, sizeof(name), "x-%03d", i);
		write_hook(name, "echo $0 >>many", 0755);
	}
	tap_ok(gives(HOOK_BIND, HOOK_DONE, "", 0) && strstr(content("many"), "x-062") &&
		       !strstr(content("many"), "x-063"),
	       "of too many hooks the first ones run");
	tap_ok(has_soon("log", "there are more than 64 hooks"), "... and it is said");
	for (int i = 0; i < HOOKFILES_MAX + 3; i++) {
		snprintf(name, sizeof(name), "x-%03d", i);
		remove_hook(name);
	}
}

static void test_ends(void)
{
	struct hook_answer answer;
	struct hook_question question = { .id = 1, .event = HOOK_BIND, .n = 1000 };
	unsigned n = 0;
	int child;

	remove_hook("20-b");
	tap_ok(counts(0), "without a hook it goes on while there is a file");
	remove_hook("README");
	while (hears(&answer) && answer.result == HOOK_COUNT)
		;
	tap_ok(end_of_runner() == 0, "without one it ends");

	write_hook("20-b", "echo $$ >child2; sleep 3217", 0755);
	start_runner();
	ask(1, HOOK_BIND, 3);
	need(has_soon("child2", "\n"));
	child = atoi(content("child2"));
	core = fd_close(core);
	tap_ok(end_of_runner() == 0, "it ends with the core");
	tap_ok(gone_soon(child), "... and so does the hook that runs");

	start_runner();
	kill(runner, SIGTERM);
	tap_ok(end_of_runner() == 0, "... and if it is stopped");

	start_runner();
	need(send(core, "x", 1, MSG_NOSIGNAL) == 1);
	tap_ok(end_of_runner() > 0, "it does not go on with a core that sends what is no question");
	start_runner();
	need(send(core, &question, sizeof(question), MSG_NOSIGNAL) == sizeof(question));
	tap_ok(end_of_runner() > 0, "... or one that nobody could answer");
	start_runner();
	for (n = 0; n < HOOKS_ASKED_MAX + 16; n++) {
		question = (struct hook_question){ .id = n + 1, .event = HOOK_BIND, .n = 1 };
		send(core, &question, sizeof(question), MSG_NOSIGNAL);
	}
	tap_ok(end_of_runner() > 0, "... or more of them than it may");
}

int main(void)
{
	struct sockaddr_un address = { .sun_family = AF_UNIX };

	signal(SIGPIPE, SIG_IGN);
	umask(022);
	setenv("SECRET", "x", 1);
	scratch_make();
	scratch_write("h/hooks.d/.keep", "");
	snprintf(hooks, sizeof(hooks), "%s/h/hooks.d", scratch_path);
	need(!chmod(hooks, 0755));
	snprintf(address.sun_path, sizeof(address.sun_path), "%s/socket", scratch_path);
	listener = socket(AF_UNIX, SOCK_SEQPACKET | SOCK_CLOEXEC, 0);
	need(listener >= 0 && !bind(listener, (struct sockaddr *)&address, sizeof(address)) &&
	     !listen(listener, 4));
	test_runs();
	test_misbehaves();
	test_side_by_side();
	test_files();
	test_too_many();
	test_ends();
	fd_close(listener);
	return tap_done();
}
