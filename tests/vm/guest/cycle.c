/* SPDX-License-Identifier: MIT */
/*
 * Load for the broker, over libgpubroker like any client, and clients of the kind that nobody wants.
 *
 *	cycle run [OPTION...] USER... -- ADDRESS...  claims and closes, in a process for each USER named
 *	    -n CYCLES   grants in all, after which it ends (default 1000)
 *	    -s SECONDS  ends then, however many there were
 *	    -o          each process has its share of the functions for itself, and waits for one that is on its
 *	                way back; otherwise all choose at random among all, and a busy one is counted
 *	    -c          connects for each cycle, as `gpubroker run` does, and counts that as part of it
 *	    -t MS       pause after each cycle
 *	    -k MS       kills one of its processes at random this often, and starts another in its place
 *	    -K MS       kills the daemon this often, but not before it has granted something: on a busy machine
 *	                its start takes longer
 *	    -p SECONDS  says how far it is, on stderr, this often (default 10)
 *	    -r SEED
 *	cycle hold COUNT FIRST-UID LAST-UID          COUNT connections of each uid, idle, until SIGTERM
 *	cycle misbehave USER SECONDS [ADDRESS]       what no client should do, all at once
 *
 * As root, since it takes on others' ids. It judges nothing: it prints counts, and a case says what is right.
 * Only a run that makes no progress for a minute fails by itself. It must never end a process that is not its
 * own, but for the daemon where it is told to.
 */
#include "client/gpubroker.h"
#include "client/wire/protocol.h"

#include <dirent.h>
#include <errno.h>
#include <fcntl.h>
#include <getopt.h>
#include <grp.h>
#include <poll.h>
#include <pwd.h>
#include <signal.h>
#include <stdatomic.h>
#include <stdbool.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/mman.h>
#include <sys/prctl.h>
#include <sys/resource.h>
#include <sys/socket.h>
#include <sys/un.h>
#include <sys/wait.h>
#include <time.h>
#include <unistd.h>

#define PROCESSES_MAX 256
#define STALL_SECONDS 60

/* All processes write to this; a killed process cannot damage it. */
struct shared {
	atomic_ulong granted, busy, refused, faults, unreachable;
	atomic_ulong connects, rubbish, claims, held, listings; /* misbehave */
	atomic_bool stop;
	char refusal[1024]; /* the latest sentence that was not "busy" */
	atomic_int fault;   /* the latest errno */
	uint32_t latency[]; /* microseconds, of the first `granted` */
};

struct options {
	unsigned long cycles, seconds, pause, kill_peers, kill_daemon, progress, seed;
	int own, connect;
};

static struct shared *shared;
static struct options options = { .cycles = 1000, .progress = 10, .seed = 1 };
static char **users, **functions;
static unsigned n_users, n_functions;
static uint64_t start;

static void die(const char *what)
{
	perror(what);
	exit(2);
}

static uint64_t now(void) /* microseconds */
{
	struct timespec t;

	clock_gettime(CLOCK_MONOTONIC, &t);
	return (uint64_t)t.tv_sec * 1000000 + (uint64_t)t.tv_nsec / 1000;
}

static void pause_ms(unsigned long ms)
{
	poll(NULL, 0, (int)ms);
}

static uint32_t random_below(uint64_t *state, uint32_t n)
{
	*state = *state * 6364136223846793005U + 1442695040888963407U;
	return (uint32_t)(*state >> 33) % n;
}

/* A name or a number that no account has. */
static void become(const char *user)
{
	const struct passwd *entry = getpwnam(user);
	uid_t uid = entry ? entry->pw_uid : (uid_t)strtoul(user, NULL, 10);
	gid_t gid = entry ? entry->pw_gid : uid;

	if (!uid || (entry ? initgroups(user, gid) : setgroups(0, NULL)) ||
	    setresgid(gid, gid, gid) || setresuid(uid, uid, uid))
		die(user);
}

static void share(size_t n)
{
	shared = mmap(NULL, sizeof(*shared) + n * sizeof(uint32_t), PROT_READ | PROT_WRITE,
		      MAP_SHARED | MAP_ANONYMOUS, -1, 0);
	if (shared == MAP_FAILED)
		die("mmap");
}

/* Without the limit that a login would have: what the broker bears is asked here, not the client. */
static void many_descriptors(void)
{
	struct rlimit limit = { 65536, 65536 };

	if (setrlimit(RLIMIT_NOFILE, &limit) &&
	    (getrlimit(RLIMIT_NOFILE, &limit) ||
	     setrlimit(RLIMIT_NOFILE, &(struct rlimit){ limit.rlim_max, limit.rlim_max })))
		die("setrlimit");
}

/* ---- run ---- */

static void refused(struct gpubroker *handle)
{
	atomic_fetch_add(&shared->refused, 1);
	snprintf(shared->refusal, sizeof(shared->refusal), "%s", gpubroker_reason(handle));
}

/* One claim of a function, from the request (or `before`) to the close. False: the connection is of no more use. */
static bool claim_once(struct gpubroker *handle, const char *function, uint64_t before,
		       bool *ret_busy)
{
	struct gpubroker_claim *claim = NULL;
	unsigned long i;
	uint64_t took;
	int r;

	*ret_busy = false;
	if (gpubroker_claim_new(&claim) || gpubroker_claim_add(claim, function))
		die(function);
	if (!before)
		before = now();
	r = gpubroker_claim_run(handle, claim, NULL, NULL);
	took = now() - before;
	if (!r) {
		i = atomic_fetch_add(&shared->granted, 1);
		if (i < options.cycles)
			shared->latency[i] = took > UINT32_MAX ? UINT32_MAX : (uint32_t)took;
	} else if (r == GPUBROKER_REFUSED_BUSY) {
		atomic_fetch_add(&shared->busy, 1);
		*ret_busy = true;
	} else if (r > 0) {
		refused(handle);
	} else {
		atomic_fetch_add(&shared->faults, 1);
		atomic_store(&shared->fault, -r);
	}
	gpubroker_claim_free(claim); /* closes the group: the lease's end */
	return r >= 0;
}

static struct gpubroker *connect_once(void)
{
	struct gpubroker *handle = NULL;
	int r = gpubroker_open(NULL, &handle);

	if (!r)
		return handle;
	if (r > 0) {
		refused(handle);
	} else {
		atomic_fetch_add(&shared->unreachable, 1);
		atomic_store(&shared->fault, -r);
	}
	gpubroker_close(handle);
	pause_ms(20);
	return NULL;
}

/* The process of users[index]. */
static void __attribute__((noreturn)) work(unsigned index, uint64_t seed)
{
	struct gpubroker *handle = NULL;
	uint32_t next = 0;

	prctl(PR_SET_PDEATHSIG, SIGKILL);
	become(users[index]);
	while (atomic_load(&shared->granted) < options.cycles && !atomic_load(&shared->stop)) {
		unsigned share = n_functions / n_users;
		uint64_t before = options.connect ? now() : 0;
		bool busy;

		if (!handle && !(handle = connect_once()))
			continue;
		if (!claim_once(handle,
				functions[options.own ? index * share + next % share
						      : random_below(&seed, n_functions)],
				before, &busy) ||
		    options.connect || !random_below(&seed, 16))
			handle = gpubroker_close(handle);
		if (!busy)
			next++;
		if (busy && options.own)
			pause_ms(2);
		else if (options.pause && !busy)
			pause_ms(options.pause);
	}
	_exit(0);
}

static pid_t start_worker(unsigned index, uint64_t seed)
{
	pid_t pid = fork();

	if (pid < 0)
		die("fork");
	if (!pid)
		work(index, seed * 7919 + index);
	return pid;
}

/* The core: of that name, and systemd's child. Its workers have the name too. */
static pid_t daemon_pid(void)
{
	DIR *dir = opendir("/proc");
	struct dirent *entry;
	pid_t found = 0;

	while (dir && !found && (entry = readdir(dir))) {
		char path[300], comm[64] = "";
		int parent = 0;
		FILE *file;

		snprintf(path, sizeof(path), "/proc/%s/stat", entry->d_name);
		file = entry->d_name[0] >= '0' && entry->d_name[0] <= '9' ? fopen(path, "re")
									  : NULL;
		if (file && fscanf(file, "%*d (%63[^)]) %*c %d", comm, &parent) == 2 &&
		    parent == 1 && !strcmp(comm, "gpubrokerd"))
			found = (pid_t)strtol(entry->d_name, NULL, 10);
		if (file)
			fclose(file);
	}
	if (dir)
		closedir(dir);
	return found;
}

static int by_size(const void *a, const void *b)
{
	uint32_t x = *(const uint32_t *)a, y = *(const uint32_t *)b;

	return x < y ? -1 : x > y;
}

static void print_latency(void)
{
	unsigned long n = atomic_load(&shared->granted);
	const uint32_t *l = shared->latency;

	if (n > options.cycles)
		n = options.cycles;
	if (!n)
		return;
	qsort(shared->latency, n, sizeof(*l), by_size);
	printf("latency_us min=%u median=%u p90=%u p99=%u max=%u\n", l[0], l[n / 2], l[n * 9 / 10],
	       l[n * 99 / 100], l[n - 1]);
}

static void print_counts(FILE *out, unsigned long killed, unsigned long daemon_killed)
{
	double seconds = (double)(now() - start) / 1e6;
	unsigned long granted = atomic_load(&shared->granted);

	fprintf(out,
		"granted=%lu busy=%lu refused=%lu faults=%lu unreachable=%lu killed=%lu daemon_killed=%lu seconds=%.1f rate=%.1f\n",
		granted, atomic_load(&shared->busy), atomic_load(&shared->refused),
		atomic_load(&shared->faults), atomic_load(&shared->unreachable), killed,
		daemon_killed, seconds, (double)granted / seconds);
	fflush(out);
}

static bool due(uint64_t *next, unsigned long ms)
{
	if (!ms || now() < *next)
		return false;
	*next = now() + ms * 1000;
	return true;
}

/* Waits for a process of ours; false: it had to be killed. */
static bool ends(pid_t pid)
{
	uint64_t limit = now() + STALL_SECONDS * 1000000U;

	while (!waitpid(pid, NULL, WNOHANG)) {
		if (now() > limit) {
			kill(pid, SIGKILL);
			waitpid(pid, NULL, 0);
			return false;
		}
		pause_ms(5);
	}
	return true;
}

static int run(void)
{
	uint64_t peers_at = now() + options.kill_peers * 1000,
		 daemon_at = now() + options.kill_daemon * 1000;
	uint64_t progress_at = now() + options.progress * 1000000, moved_at = now(),
		 state = options.seed;
	unsigned long moved = 0, killed = 0, daemon_killed = 0, moved_at_kill = 0;
	pid_t pids[PROCESSES_MAX];
	bool stalled = false;

	start = now();
	for (unsigned i = 0; i < n_users; i++)
		pids[i] = start_worker(i, options.seed);
	while (atomic_load(&shared->granted) < options.cycles &&
	       (!options.seconds || now() - start < options.seconds * 1000000)) {
		pause_ms(5);
		if (moved != atomic_load(&shared->granted)) {
			moved = atomic_load(&shared->granted);
			moved_at = now();
		}
		stalled = now() - moved_at > STALL_SECONDS * 1000000U;
		if (stalled)
			break;
		if (due(&peers_at, options.kill_peers)) {
			unsigned i = random_below(&state, n_users);

			kill(pids[i], SIGKILL);
			waitpid(pids[i], NULL, 0);
			killed++;
			pids[i] = start_worker(i, options.seed + killed);
		}
		if (due(&daemon_at, options.kill_daemon)) {
			pid_t pid = moved != moved_at_kill ? daemon_pid() : 0;

			if (pid) {
				daemon_killed += !kill(pid, SIGKILL);
				moved_at_kill = moved;
			} else { /* not back yet, or has not served */
				daemon_at = now() + 100000;
			}
		}
		if (due(&progress_at, options.progress * 1000))
			print_counts(stderr, killed, daemon_killed);
	}
	atomic_store(&shared->stop, true); /* each finishes the claim that it is at */
	for (unsigned i = 0; i < n_users; i++)
		stalled = !ends(pids[i]) || stalled;
	print_counts(stdout, killed, daemon_killed);
	print_latency();
	if (atomic_load(&shared->fault))
		printf("fault: %s\n", strerror(atomic_load(&shared->fault)));
	if (shared->refusal[0])
		printf("refusal: %s\n", shared->refusal);
	if (stalled)
		printf("stalled: nothing was granted or finished for %d seconds\n", STALL_SECONDS);
	return stalled;
}

static int main_run(int argc, char **argv)
{
	int c, split;

	while ((c = getopt(argc, argv, "+n:s:oct:k:K:p:r:")) != -1) {
		unsigned long value = optarg ? strtoul(optarg, NULL, 10) : 0;

		switch (c) {
		case 'n':
			options.cycles = value;
			break;
		case 's':
			options.seconds = value;
			break;
		case 'o':
			options.own = 1;
			break;
		case 'c':
			options.connect = 1;
			break;
		case 't':
			options.pause = value;
			break;
		case 'k':
			options.kill_peers = value;
			break;
		case 'K':
			options.kill_daemon = value;
			break;
		case 'p':
			options.progress = value;
			break;
		case 'r':
			options.seed = value;
			break;
		default:
			return 2;
		}
	}
	for (split = optind; split < argc && strcmp(argv[split], "--") != 0; split++)
		;
	users = argv + optind;
	n_users = (unsigned)(split - optind);
	functions = argv + split + 1;
	n_functions = split < argc ? (unsigned)(argc - split - 1) : 0;
	if (!n_users || n_users > PROCESSES_MAX || !n_functions ||
	    (options.own && n_functions < n_users)) {
		fprintf(stderr, "usage: cycle run [OPTION...] USER... -- ADDRESS...\n");
		return 2;
	}
	share(options.cycles);
	return run();
}

/* ---- hold ---- */

static volatile sig_atomic_t ended;

static void on_term(int signal)
{
	(void)signal;
	ended = 1;
}

/* One process can be many users, one after the other: who a peer is is settled when it connects. */
static int main_hold(unsigned long count, unsigned long first, unsigned long last)
{
	struct sigaction action = { .sa_handler = on_term };
	size_t n = count * (last - first + 1), held = 0, refusals = 0, alive = 0;
	struct gpubroker **handles = calloc(n, sizeof(struct gpubroker *)), *handle;
	char refusal[1024] = "";
	sigset_t term, before;

	many_descriptors();
	sigemptyset(&term);
	sigaddset(&term, SIGTERM);
	sigprocmask(SIG_BLOCK, &term, &before);
	sigaction(SIGTERM, &action, NULL);
	if (!handles || setgroups(0, NULL))
		die("hold");
	for (unsigned long uid = first; uid <= last; uid++) {
		if (setegid((gid_t)uid) || seteuid((uid_t)uid))
			die("seteuid");
		for (unsigned long i = 0; i < count; i++) {
			int r;

			handle = NULL;
			r = gpubroker_open(NULL, &handle);
			if (!r) {
				handles[held++] = handle;
				continue;
			}
			if (r < 0) {
				errno = -r;
				die("gpubroker_open");
			}
			refusals++;
			snprintf(refusal, sizeof(refusal), "%s", gpubroker_reason(handle));
			gpubroker_close(handle);
		}
		if (seteuid(0) || setegid(0))
			die("seteuid");
	}
	printf("held %zu refused %zu\n%s%sready\n", held, refusals, refusal,
	       refusal[0] ? "\n" : "");
	fflush(stdout);
	while (!ended)
		sigsuspend(&before);
	for (size_t i = 0; i < held; i++) {
		struct pollfd p = { .fd = gpubroker_fd(handles[i]), .events = POLLIN };

		alive += poll(&p, 1, 0) ==
			 0; /* neither an end nor anything that we did not ask for */
	}
	printf("alive %zu\n", alive);
	return 0;
}

/* ---- misbehave ---- */

static int dial(void)
{
	struct sockaddr_un address = { .sun_family = AF_UNIX, .sun_path = PROTOCOL_SOCKET };
	int fd = socket(AF_UNIX, SOCK_SEQPACKET | SOCK_CLOEXEC, 0);

	if (fd < 0)
		die("socket");
	if (connect(fd, (struct sockaddr *)&address, sizeof(address))) {
		close(fd);
		pause_ms(1);
		return -1;
	}
	return fd;
}

static bool say(int fd, const void *packet, size_t size)
{
	return send(fd, packet, size, MSG_DONTWAIT | MSG_NOSIGNAL) == (ssize_t)size;
}

static bool greet(int fd)
{
	const struct message_hello hello = { .type = MESSAGE_HELLO, .version = PROTOCOL_VERSION };
	struct message_hello welcome;

	return say(fd, &hello, sizeof(hello)) &&
	       recv(fd, &welcome, sizeof(welcome), 0) == sizeof(welcome) &&
	       welcome.type == MESSAGE_WELCOME;
}

static void connect_and_go(const char *function)
{
	(void)function;
	for (;;) {
		int fd = dial();

		if (fd >= 0) {
			close(fd);
			atomic_fetch_add(&shared->connects, 1);
		}
	}
}

static void send_rubbish(const char *function)
{
	uint64_t state = 42;
	uint32_t packet[512];

	(void)function;
	for (;;) {
		int fd = dial();

		if (fd < 0)
			continue;
		if (random_below(&state, 2))
			greet(fd);
		for (size_t i = 0; i < sizeof(packet) / sizeof(*packet); i++)
			packet[i] = random_below(&state, UINT32_MAX);
		packet[0] = random_below(&state, 12);
		if (say(fd, packet, 1 + random_below(&state, sizeof(packet) - 1)))
			atomic_fetch_add(&shared->rubbish, 1);
		close(fd);
	}
}

/* Claims without ever looking at what is answered, and goes. */
static void claim_deaf(const char *function)
{
	for (;;) {
		struct gpubroker_claim *claim = NULL;
		struct gpubroker *handle = NULL;

		if (gpubroker_claim_new(&claim) || gpubroker_claim_add(claim, function))
			die(function);
		if (!gpubroker_open(NULL, &handle) && !gpubroker_claim_start(handle, claim)) {
			atomic_fetch_add(&shared->claims, 1);
			pause_ms(100); /* a grant has come by then, and lies unread */
		}
		gpubroker_claim_free(claim);
		gpubroker_close(handle);
	}
}

/* Has as many connections as it may, each with a listing that nobody reads, and asks for more. */
static void hoard(const char *function)
{
	const struct message_plain list = { .type = MESSAGE_LIST };
	int fds[1024];
	size_t n = 0;

	(void)function;
	for (;;) {
		int fd = n < 1024 ? dial() : -1;

		if (fd >= 0 && greet(fd)) {
			say(fd, &list, sizeof(list));
			fds[n++] = fd;
			atomic_store(&shared->held, n);
			continue;
		}
		if (fd >= 0)
			close(fd);
		pause_ms(10);
		if (n)
			close(fds[--n]);
	}
}

/* Asks for one listing after the other on several connections, and reads them all. */
static void list_and_list(const char *function)
{
	const struct message_plain list = { .type = MESSAGE_LIST };
	struct pollfd polls[32];
	char answer[PROTOCOL_MESSAGE_MAX];
	size_t n = 0;

	(void)function;
	while (n < 32) {
		int fd = dial();

		if (fd >= 0 && greet(fd) && say(fd, &list, sizeof(list)))
			polls[n++] = (struct pollfd){ .fd = fd, .events = POLLIN };
		else if (fd >= 0 && (close(fd), n >= 8))
			break;
	}
	while (poll(polls, n, -1) > 0)
		for (size_t i = 0; i < n; i++)
			while (polls[i].revents & POLLIN &&
			       recv(polls[i].fd, answer, sizeof(answer), MSG_DONTWAIT) > 0)
				if (*(uint32_t *)answer == MESSAGE_END &&
				    say(polls[i].fd, &list, sizeof(list)))
					atomic_fetch_add(&shared->listings, 1);
}

static int main_misbehave(const char *user, unsigned long seconds, const char *function)
{
	static void (*const ways[])(const char *function) = { list_and_list, connect_and_go,
							      send_rubbish, claim_deaf, hoard };
	pid_t pids[sizeof(ways) / sizeof(*ways)];
	struct sigaction action = { .sa_handler = on_term };

	share(0);
	many_descriptors();
	for (size_t i = 0; i < sizeof(ways) / sizeof(*ways); i++) {
		pids[i] = fork();
		if (pids[i] < 0)
			die("fork");
		if (!pids[i]) {
			prctl(PR_SET_PDEATHSIG, SIGKILL);
			become(user);
			if (i)
				pause_ms(200); /* the others leave no connection over */
			ways[i](function);
			_exit(1);
		}
	}
	sigaction(SIGTERM, &action, NULL);
	for (start = now(); !ended && now() - start < seconds * 1000000;)
		pause_ms(50);
	for (size_t i = 0; i < sizeof(ways) / sizeof(*ways); i++) {
		kill(pids[i], SIGKILL);
		waitpid(pids[i], NULL, 0);
	}
	printf("connects=%lu rubbish=%lu claims=%lu held=%lu listings=%lu\n",
	       atomic_load(&shared->connects), atomic_load(&shared->rubbish),
	       atomic_load(&shared->claims), atomic_load(&shared->held),
	       atomic_load(&shared->listings));
	return 0;
}

int main(int argc, char **argv)
{
	signal(SIGPIPE, SIG_IGN);
	if (argc > 2 && !strcmp(argv[1], "run"))
		return main_run(argc - 1, argv + 1);
	if (argc == 5 && !strcmp(argv[1], "hold"))
		return main_hold(strtoul(argv[2], NULL, 10), strtoul(argv[3], NULL, 10),
				 strtoul(argv[4], NULL, 10));
	if ((argc == 4 || argc == 5) && !strcmp(argv[1], "misbehave"))
		return main_misbehave(argv[2], strtoul(argv[3], NULL, 10),
				      argc == 5 ? argv[4] : "ff:1f.7");
	fprintf(stderr, "usage: cycle run|hold|misbehave ...\n");
	return 2;
}
