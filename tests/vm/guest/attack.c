/* SPDX-License-Identifier: MIT */
/*
 * Users who want the broker to wait, and one who notices whether it does.
 *
 *	attack WAY USER SECONDS [SOCKET]    attacks for so long in that way, and prints how often
 *	attack measure USER SECONDS [SOCKET] [PAUSE-MS]
 *	                                    lists devices and leases, each time by a new connection, and prints
 *	                                    how many times, and the median and the longest time
 *
 * The ways:
 *	kinds    connections, each with one packet that has a descriptor whose close takes an hour: with each kind
 *	         of packet, before and after the hello
 *	hidden   the same behind empty packets and behind requests, from one who has gone by then
 *	own      the same, with the connection's own other end
 *	away     128 connections, and then as many more as the broker turns away, each with such a descriptor
 *	flood    128 connections, and then ones that send for as long as the kernel takes anything
 *	silent   connections that never say hello
 *
 * As root, since it takes on others' ids. It judges nothing: it prints counts, and a case says what is right.
 */
#include "client/wire/protocol.h"

#include <arpa/inet.h>
#include <errno.h>
#include <fcntl.h>
#include <grp.h>
#include <netinet/in.h>
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

#define PROCESSES 3 /* that attack at once */
#define HELD 128    /* connections of a user */
#define SLOW_KEPT 256

static struct {
	atomic_ulong times, not_sent;
} * shared;
static const char *socket_path = PROTOCOL_SOCKET;
static const struct message_hello hello = { .type = MESSAGE_HELLO, .version = PROTOCOL_VERSION };

static void die(const char *what)
{
	perror(what);
	exit(2);
}

static double now(void)
{
	struct timespec t;

	clock_gettime(CLOCK_MONOTONIC, &t);
	return (double)t.tv_sec + (double)t.tv_nsec / 1e9;
}

/* A name or a number that no account has. */
static void become(const char *user)
{
	const struct passwd *entry = getpwnam(user);
	uid_t uid = entry ? entry->pw_uid : (uid_t)strtoul(user, NULL, 10);
	gid_t gid = entry ? entry->pw_gid : uid;

	if ((entry ? initgroups(user, gid) : setgroups(0, NULL)) || setresgid(gid, gid, gid) ||
	    setresuid(uid, uid, uid))
		die(user);
}

/* ---- descriptors ---- */

static int slow_listener = -1;

static void slow_start(void)
{
	const struct sockaddr_in address = { .sin_family = AF_INET,
					     .sin_addr.s_addr = htonl(INADDR_LOOPBACK) };

	slow_listener = socket(AF_INET, SOCK_STREAM, 0);
	if (slow_listener < 0 ||
	    bind(slow_listener, (const struct sockaddr *)&address, sizeof(address)) ||
	    listen(slow_listener, SLOW_KEPT))
		die("TCP");
}

/* A TCP socket with unsent data that lingers for an hour, unless its process ends. */
static int slow_open(void)
{
	static const struct linger linger = { .l_onoff = 1, .l_linger = 3600 };
	static int kept[SLOW_KEPT]; /* the other ends: without them it would not linger */
	static size_t n_kept;
	static char data[65536];
	const int small = 4096;
	struct sockaddr_in address;
	socklen_t size = sizeof(address);
	int fd = socket(AF_INET, SOCK_STREAM, 0);

	if (fd < 0 || setsockopt(fd, SOL_SOCKET, SO_SNDBUF, &small, sizeof(small)) ||
	    getsockname(slow_listener, (struct sockaddr *)&address, &size) ||
	    connect(fd, (struct sockaddr *)&address, sizeof(address)))
		die("TCP");
	if (n_kept >= SLOW_KEPT)
		close(kept[n_kept % SLOW_KEPT]);
	kept[n_kept++ % SLOW_KEPT] = accept(slow_listener, NULL, NULL);
	while (send(fd, data, sizeof(data), MSG_DONTWAIT) > 0)
		;
	if (setsockopt(fd, SOL_SOCKET, SO_LINGER, &linger, sizeof(linger)))
		die("SO_LINGER");
	return fd;
}

static bool send_fd(int to, const void *packet, size_t size, int fd)
{
	union {
		struct cmsghdr header;
		char space[CMSG_SPACE(sizeof(int))];
	} control = { 0 };
	struct iovec iov = { .iov_base = (void *)packet, .iov_len = size };
	struct msghdr message = {
		.msg_iov = &iov,
		.msg_iovlen = 1,
		.msg_control = &control,
		.msg_controllen = sizeof(control),
	};

	control.header.cmsg_level = SOL_SOCKET;
	control.header.cmsg_type = SCM_RIGHTS;
	control.header.cmsg_len = CMSG_LEN(sizeof(int));
	memcpy(CMSG_DATA(&control.header), &fd, sizeof(int));
	if (sendmsg(to, &message, MSG_DONTWAIT | MSG_NOSIGNAL) >= 0)
		return true;
	/* EPERM: the kernel lets nobody send one (Linux 6.16 and later). */
	atomic_fetch_add(&shared->not_sent, 1);
	return false;
}

/* Sends the last copy of a descriptor that closes slowly. */
static void send_slow(int to, const void *packet, size_t size)
{
	static const struct linger none = { 0 };
	int fd = slow_open();

	/* If it was not sent, it must not be ourselves who wait. */
	if (!send_fd(to, packet, size, fd))
		setsockopt(fd, SOL_SOCKET, SO_LINGER, &none, sizeof(none));
	close(fd);
}

/* ---- connections ---- */

static int dial(void)
{
	struct sockaddr_un address = { .sun_family = AF_UNIX };
	int fd = socket(AF_UNIX, SOCK_SEQPACKET, 0);

	strncpy(address.sun_path, socket_path, sizeof(address.sun_path) - 1);
	if (fd < 0 || connect(fd, (struct sockaddr *)&address, sizeof(address)))
		die("connect");
	return fd;
}

static bool greet(int fd)
{
	struct message_hello welcome;

	return send(fd, &hello, sizeof(hello), MSG_NOSIGNAL) == sizeof(hello) &&
	       recv(fd, &welcome, sizeof(welcome), 0) == sizeof(welcome) &&
	       welcome.type == MESSAGE_WELCOME;
}

/* ---- the ways ---- */

static void attack_kinds(void)
{
	static const uint32_t types[] = { MESSAGE_HELLO,   MESSAGE_LIST,  MESSAGE_LEASES,
					  MESSAGE_CLAIM,   MESSAGE_WATCH, MESSAGE_RELEASE,
					  MESSAGE_RESTORE, MESSAGE_VFS,	  0 };
	static const size_t sizes[] = { 0, 1, 8, sizeof(struct message_claim), 4000 };
	static char packet[4000];

	for (unsigned i = 0;; i++) {
		int fd = dial();

		memcpy(packet, &types[i % 9], sizeof(types[0]));
		if (i & 1)
			greet(fd);
		send_slow(fd, packet, sizes[i / 9 % 5]);
		close(fd);
		atomic_fetch_add(&shared->times, 1);
	}
}

static void attack_hidden(void)
{
	const struct message_plain list = { .type = MESSAGE_LIST };

	for (unsigned i = 0;; i++) {
		int fd = dial();

		if (i & 1)
			greet(fd);
		for (unsigned k = 0; k < i % 20; k++)
			send(fd, &list, i & 2 ? sizeof(list) : 0, MSG_DONTWAIT | MSG_NOSIGNAL);
		send_slow(fd, "", i & 4 ? 1 : 0);
		close(fd);
		atomic_fetch_add(&shared->times, 1);
	}
}

static void attack_own(void)
{
	for (unsigned i = 0;; i++) {
		int fd = dial();

		if (i & 1)
			greet(fd);
		send_slow(fd, "x", 1);
		send_fd(fd, "x", 1, fd);
		close(fd);
		atomic_fetch_add(&shared->times, 1);
	}
}

static void hold_all(void)
{
	for (int i = 0; i < HELD + 8; i++)
		greet(dial());
}

static void attack_away(void)
{
	hold_all();
	for (;;) {
		int fd = dial();

		send_slow(fd, &hello, sizeof(hello));
		close(fd);
		atomic_fetch_add(&shared->times, 1);
	}
}

static void attack_flood(void)
{
	hold_all();
	for (;;) {
		int fd = dial();

		while (send(fd, "x", 1, MSG_NOSIGNAL) == 1)
			;
		close(fd);
		atomic_fetch_add(&shared->times, 1);
	}
}

static void attack_silent(void)
{
	int fds[HELD];

	for (size_t i = 0;; i++) {
		if (i >= HELD)
			close(fds[i % HELD]);
		fds[i % HELD] = dial();
		atomic_fetch_add(&shared->times, 1);
	}
}

static const struct {
	const char *name;
	void (*attack)(void);
} ways[] = {
	{ "kinds", attack_kinds }, { "hidden", attack_hidden }, { "own", attack_own },
	{ "away", attack_away },   { "flood", attack_flood },	{ "silent", attack_silent },
};

#define TRIES 20
#define MORE_SECONDS 90

static void attack_for(void (*attack)(void), const char *user, unsigned seconds)
{
	pid_t children[PROCESSES];

	for (int i = 0; i < PROCESSES; i++) {
		children[i] = fork();
		if (!children[i]) {
			prctl(PR_SET_PDEATHSIG, SIGKILL);
			become(user);
			slow_start();
			attack();
		}
	}
	sleep(seconds);
	/* On a busy host some have not come to their first try: two of them make 128 connections first. */
	for (int i = 0; i < MORE_SECONDS && atomic_load(&shared->times) < TRIES; i++)
		sleep(1);
	for (int i = 0; i < PROCESSES; i++) {
		kill(children[i], SIGKILL);
		waitpid(children[i], NULL, 0);
	}
	printf("times=%lu not_sent=%lu\n", atomic_load(&shared->times),
	       atomic_load(&shared->not_sent));
}

/* ---- another user ---- */

static int ascending(const void *a, const void *b)
{
	return (*(const double *)a > *(const double *)b) -
	       (*(const double *)a < *(const double *)b);
}

static bool ask(int fd, uint32_t type)
{
	const struct message_plain request = { .type = type };
	char answer[PROTOCOL_MESSAGE_MAX];
	uint32_t kind;
	ssize_t n;

	if (send(fd, &request, sizeof(request), MSG_NOSIGNAL) != sizeof(request))
		return false;
	do {
		n = recv(fd, answer, sizeof(answer), 0);
		memcpy(&kind, answer, sizeof(kind));
	} while (n > 0 && kind != MESSAGE_END);
	return n > 0;
}

static void measure(const char *user, double seconds, int pause)
{
	static double times[1000000];
	size_t n = 0, failed = 0;
	const double end = now() + seconds;

	become(user);
	while (now() < end && n < sizeof(times) / sizeof(*times)) {
		double start = now();
		int fd = dial();

		if (!greet(fd) || !ask(fd, MESSAGE_LIST) || !ask(fd, MESSAGE_LEASES))
			failed++;
		times[n++] = (now() - start) * 1000;
		close(fd);
		poll(NULL, 0, pause);
	}
	qsort(times, n, sizeof(*times), ascending);
	printf("n=%zu failed=%zu median=%.2f p99=%.2f longest=%.2f ms\n", n, failed, times[n / 2],
	       times[n * 99 / 100], n ? times[n - 1] : 0.0);
}

int main(int argc, char **argv)
{
	struct rlimit limit;

	if (argc < 4 || argc > 6) {
		fprintf(stderr, "usage: attack WAY|measure USER SECONDS [SOCKET [PAUSE-MS]]\n");
		return 64;
	}
	if (argc > 4)
		socket_path = argv[4];
	shared = mmap(NULL, sizeof(*shared), PROT_READ | PROT_WRITE, MAP_SHARED | MAP_ANONYMOUS, -1,
		      0);
	if (shared == MAP_FAILED || getrlimit(RLIMIT_NOFILE, &limit))
		die("start");
	limit.rlim_cur = limit.rlim_max;
	setrlimit(RLIMIT_NOFILE, &limit);
	if (!strcmp(argv[1], "measure")) {
		measure(argv[2], strtod(argv[3], NULL), argc > 5 ? atoi(argv[5]) : 1);
		return 0;
	}
	for (size_t i = 0; i < sizeof(ways) / sizeof(*ways); i++)
		if (!strcmp(argv[1], ways[i].name)) {
			attack_for(ways[i].attack, argv[2], (unsigned)atoi(argv[3]));
			return 0;
		}
	return 64;
}
