/* SPDX-License-Identifier: MIT */
/*
 * Measures the broker as a client of it does, over libgpubroker: for tests/bench/run, in tests/vm's
 * emulated host. Prints numbers, of microseconds where nothing else is said.
 *
 *	measure claim UID DRIVER ADDRESS...  one claim of all, from the connect to the grant, and its
 *	                                     restore, from the close until each has DRIVER again and
 *	                                     no lease is on record
 *	measure rate UID CLIENTS SECONDS DEVICE
 *	                                     claims a second of CLIENTS that wait for what DEVICE
 *	                                     means; eight to a uid, from UID on
 *	measure command COMMAND...           a whole process
 *	measure daemon SOCKET ROUNDS COMMAND...
 *	                                     COMMAND is a daemon that listens at SOCKET: the time from
 *	                                     its start until it is ready, how many functions it lists,
 *	                                     and for each round a list, the longest that a client
 *	                                     waits for an answer while another lists, a reload of the
 *	                                     policy, and the longest wait during that
 *
 * As root, since it takes on users' ids. It must never end a process that is not its own.
 */
#include "client/gpubroker.h"
#include "tests/bench/clock.h"

#include <fcntl.h>
#include <grp.h>
#include <poll.h>
#include <signal.h>
#include <stdbool.h>
#include <sys/mman.h>
#include <sys/prctl.h>
#include <sys/resource.h>
#include <sys/socket.h>
#include <sys/un.h>
#include <sys/wait.h>

#define RECORDS "/run/gpubroker/leases"
#define CLIENTS_MAX 256
#define LIMIT_US 60000000

typedef unsigned long long ull;

static void __attribute__((noreturn)) fail(const char *what, const struct gpubroker *handle, int r)
{
	fprintf(stderr, "%s: %s\n", what, r < 0 ? strerror(-r) : gpubroker_reason(handle));
	exit(2);
}

static void become(unsigned long uid)
{
	if (setegid((gid_t)uid) || seteuid((uid_t)uid))
		die("seteuid");
}

static void become_root(void)
{
	if (seteuid(0) || setegid(0))
		die("seteuid");
}

static struct gpubroker *dial(const char *path)
{
	struct gpubroker *handle = NULL;
	int r = gpubroker_open(path, &handle);

	if (r)
		fail("gpubroker_open", handle, r);
	return handle;
}

/* ---- one claim ---- */

static bool has_driver(const char *address, const char *driver)
{
	char path[128], target[256];
	const char *name;
	ssize_t n;

	snprintf(path, sizeof(path), "/sys/bus/pci/devices/%s/driver", address);
	n = readlink(path, target, sizeof(target) - 1);
	if (n < 0)
		return false;
	target[n] = '\0';
	name = strrchr(target, '/');
	return name && !strcmp(name + 1, driver);
}

static void wait_for_restore(const struct gpubroker_claim *claim, size_t n, char **addresses,
			     int n_addresses, const char *driver, uint64_t start)
{
	char path[64];

	for (size_t i = 0; i < n; i++) {
		const struct gpubroker_grant *grant = gpubroker_claim_grant(claim, i);

		snprintf(path, sizeof(path), RECORDS "/%llu", (ull)grant->lease);
		while (!access(path, F_OK) && now_us() - start < LIMIT_US)
			pause_us(300);
	}
	for (int i = 0; i < n_addresses; i++)
		while (!has_driver(addresses[i], driver) && now_us() - start < LIMIT_US)
			pause_us(300);
}

/* `forced` claims ask nobody who has the devices open: what that look costs. */
static int measure_claim(bool forced, unsigned long uid, const char *driver, char **addresses,
			 int n)
{
	struct gpubroker_claim *claim = NULL;
	struct gpubroker *handle;
	uint64_t start, granted;
	size_t groups;
	int r;

	if (gpubroker_claim_new(&claim))
		die("claim");
	for (int i = 0; i < n; i++)
		if (gpubroker_claim_add(claim, addresses[i]))
			die(addresses[i]);
	gpubroker_claim_set_force(claim, forced);
	settle();
	become(uid);
	start = now_us();
	handle = dial(NULL);
	r = gpubroker_claim_run(handle, claim, NULL, NULL);
	granted = now_us() - start;
	if (r)
		fail("claim", handle, r);
	become_root();
	settle();
	groups = gpubroker_claim_groups(claim);
	start = now_us();
	gpubroker_claim_drop_groups(claim);
	wait_for_restore(claim, groups, addresses, n, driver, start);
	printf("%llu %llu\n", (ull)granted, (ull)(now_us() - start));
	gpubroker_claim_free(claim);
	gpubroker_close(handle);
	return 0;
}

/* ---- many claims ---- */

struct client {
	struct gpubroker *handle;
	struct gpubroker_claim *claim;
};

static void start_claim(struct client *client, const char *device)
{
	int r;

	gpubroker_claim_free(client->claim);
	if (gpubroker_claim_new(&client->claim) || gpubroker_claim_add(client->claim, device))
		die(device);
	gpubroker_claim_set_wait(client->claim, true);
	r = gpubroker_claim_start(client->handle, client->claim);
	if (r)
		fail("claim", client->handle, r);
}

static int measure_rate(unsigned long uid, size_t n, unsigned long seconds, const char *device)
{
	struct client clients[CLIENTS_MAX] = { 0 };
	struct pollfd polls[CLIENTS_MAX];
	uint64_t start, granted = 0;

	if (n > CLIENTS_MAX)
		return 2;
	for (size_t i = 0; i < n; i++) {
		become(uid + i / 8);
		clients[i].handle = dial(NULL);
		become_root();
		polls[i] = (struct pollfd){ gpubroker_fd(clients[i].handle), POLLIN, 0 };
	}
	start = now_us();
	for (size_t i = 0; i < n; i++)
		start_claim(&clients[i], device);
	while (now_us() - start < seconds * 1000000 && poll(polls, n, 1000) >= 0) {
		for (size_t i = 0; i < n; i++) {
			int r = polls[i].revents
					? gpubroker_claim_continue(clients[i].handle,
								   clients[i].claim, NULL, NULL)
					: -EAGAIN;

			if (r == -EAGAIN)
				continue;
			if (r)
				fail("claim", clients[i].handle, r);
			granted++;
			start_claim(&clients[i], device); /* the grant is closed before it */
		}
	}
	/* A thousandth of a claim a second, so that all figures are whole. */
	printf("%llu\n", (ull)(granted * 1000000000 / (now_us() - start)));
	for (size_t i = 0; i < n; i++) {
		gpubroker_claim_free(clients[i].claim);
		gpubroker_close(clients[i].handle);
	}
	return 0;
}

/* ---- a process ---- */

static int measure_command(char **command)
{
	uint64_t start;
	int status;
	pid_t pid;

	settle();
	start = now_us();
	pid = vfork();
	if (!pid) {
		int null = open("/dev/null", O_WRONLY);

		dup2(null, STDOUT_FILENO);
		execvp(command[0], command);
		_exit(127);
	}
	if (pid < 0 || waitpid(pid, &status, 0) != pid || status) {
		fprintf(stderr, "%s: status %d\n", command[0], status);
		return 2;
	}
	printf("%llu\n", (ull)(now_us() - start));
	return 0;
}

/* ---- a daemon of its own ---- */

static int count_device(void *userdata, const struct gpubroker_device *device)
{
	(void)device;
	++*(size_t *)userdata;
	return 0;
}

static size_t list_all(struct gpubroker *handle)
{
	size_t n = 0;
	int r = gpubroker_list(handle, count_device, &n);

	if (r)
		fail("list", handle, r);
	return n;
}

/* Shared with the two clients of the load. */
static struct {
	volatile bool stop;
	volatile uint64_t longest;
} * shared;

static pid_t start_client(const char *path, bool lists)
{
	struct gpubroker_policy policy;
	struct gpubroker *handle;
	pid_t pid = fork();

	if (pid)
		return pid;
	prctl(PR_SET_PDEATHSIG, SIGKILL);
	become(lists ? 1000 : 1001);
	handle = dial(path);
	while (!shared->stop) {
		uint64_t start = now_us();
		int r;

		if (lists) {
			list_all(handle);
			continue;
		}
		r = gpubroker_policy(handle, &policy);
		if (r)
			fail("policy", handle, r);
		if (now_us() - start > shared->longest)
			shared->longest = now_us() - start;
		pause_us(1000);
	}
	_exit(0);
}

static void measure_round(const char *path, struct gpubroker *handle)
{
	struct gpubroker_policy policy;
	uint64_t start = now_us(), listed, took;
	pid_t pids[2];
	int r;

	list_all(handle);
	listed = now_us() - start;
	shared->stop = false;
	for (int i = 0; i < 2; i++)
		pids[i] = start_client(path, i);
	pause_us(500000);
	shared->longest = 0;
	pause_us(1000000);
	printf("%llu %llu", (ull)listed, (ull)shared->longest);
	shared->longest = 0;
	start = now_us();
	r = gpubroker_policy_reload(handle, &policy);
	took = now_us() - start;
	if (r)
		fail("reload", handle, r);
	pause_us(20000); /* the client that waits may just be getting its answer */
	shared->stop = true;
	for (int i = 0; i < 2; i++)
		waitpid(pids[i], NULL, 0);
	printf(" %llu %llu\n", (ull)took, (ull)shared->longest);
}

/* Returns a socket as that of systemd, which the environment names. */
static int notify_socket(void)
{
	struct sockaddr_un address = { .sun_family = AF_UNIX };
	int fd = socket(AF_UNIX, SOCK_DGRAM | SOCK_CLOEXEC, 0);

	snprintf(address.sun_path, sizeof(address.sun_path), "/run/gpubroker-bench.%d", getpid());
	unlink(address.sun_path);
	if (fd < 0 || bind(fd, (struct sockaddr *)&address, sizeof(address)))
		die(address.sun_path);
	setenv("NOTIFY_SOCKET", address.sun_path, 1);
	return fd;
}

static int measure_daemon(const char *path, int rounds, char **command)
{
	int notify = notify_socket();
	uint64_t start = now_us(), ready;
	struct gpubroker *handle;
	char text[256];
	ssize_t n;
	pid_t pid = fork();

	if (!pid) {
		prctl(PR_SET_PDEATHSIG, SIGTERM);
		execv(command[0], command);
		_exit(127);
	}
	do {
		struct pollfd p = { notify, POLLIN, 0 };

		if (poll(&p, 1, LIMIT_US / 1000) != 1 || waitpid(pid, NULL, WNOHANG))
			return fprintf(stderr, "the daemon has not come up\n"), 2;
		n = recv(notify, text, sizeof(text) - 1, 0);
		text[n < 0 ? 0 : n] = '\0';
	} while (!strstr(text, "READY=1"));
	ready = now_us() - start;
	handle = dial(path);
	printf("%llu %zu\n", (ull)ready, list_all(handle));
	shared = mmap(NULL, sizeof(*shared), PROT_READ | PROT_WRITE, MAP_SHARED | MAP_ANONYMOUS, -1,
		      0);
	for (int i = 0; i < rounds; i++) {
		fflush(stdout);
		measure_round(path, handle);
	}
	gpubroker_close(handle);
	kill(pid, SIGTERM);
	waitpid(pid, NULL, 0);
	unlink(getenv("NOTIFY_SOCKET"));
	return 0;
}

static unsigned long number(const char *text)
{
	return strtoul(text, NULL, 10);
}

int main(int argc, char **argv)
{
	signal(SIGPIPE, SIG_IGN);
	if (argc > 4 && !strcmp(argv[1], "claim"))
		return measure_claim(false, number(argv[2]), argv[3], argv + 4, argc - 4);
	if (argc > 4 && !strcmp(argv[1], "forced"))
		return measure_claim(true, number(argv[2]), argv[3], argv + 4, argc - 4);
	if (argc == 6 && !strcmp(argv[1], "rate"))
		return measure_rate(number(argv[2]), number(argv[3]), number(argv[4]), argv[5]);
	if (argc > 2 && !strcmp(argv[1], "command"))
		return measure_command(argv + 2);
	if (argc > 4 && !strcmp(argv[1], "daemon"))
		return measure_daemon(argv[2], (int)number(argv[3]), argv + 4);
	fprintf(stderr, "usage: measure claim|forced|rate|command|daemon ...\n");
	return 2;
}
