/* SPDX-License-Identifier: MIT */
/*
 * Descriptors that somebody sends to the core. It takes none, and it is never the process that
 * closes one: each test sends descriptors whose close takes half a minute, and nothing here takes a
 * second. (Where there is no network, they are descriptors that close at once.)
 */
#include "config.h"

#include "brokerd/peer/listener.h"
#include "tests/unit/brokerd/slow.h"
#include "tests/unit/brokerd/world.h"
#include "tests/tap.h"

#include <sys/resource.h>
#include <sys/un.h>
#include <sys/time.h>
#include <sys/wait.h>

#define SOON 60.0 /* seconds; far less than the close takes, on a busy machine too */

static int pair[2]; /* [0] is the core's */

static void open_pair(void)
{
	need(!socketpair(AF_UNIX, SOCK_SEQPACKET | SOCK_CLOEXEC | SOCK_NONBLOCK, 0, pair));
}

/* Sends a packet with the last copy of a descriptor that closes slowly. */
static void send_slow(int to, const void *packet, size_t size)
{
	int fd = slow_is ? slow_open() : open("/dev/null", O_RDONLY | O_CLOEXEC);

	need(fd >= 0 && !slow_send(to, packet, size, fd, 1));
	close(fd);
}

/* ---- client/wire/passfd.c ---- */

static void test_plain(void)
{
	char in[8] = "", out[16] = "packet";
	bool refused = true;
	size_t before;

	open_pair();
	before = open_descriptors();
	tap_ok(passfd_receive_plain(pair[0], in, sizeof(in)) == -EAGAIN, "no packet is no packet");
	need(send(pair[1], out, 7, 0) == 7 && send(pair[1], out, 8, 0) == 8);
	tap_ok(passfd_receive_plain(pair[0], in, sizeof(in)) == 7 && !memcmp(in, out, 7) &&
		       passfd_receive_plain(pair[0], in, sizeof(in)) == 8 &&
		       passfd_receive_plain(pair[0], in, sizeof(in)) == -EAGAIN,
	       "packets arrive, each once");
	need(!send(pair[1], out, 0, 0));
	tap_ok(passfd_receive_plain(pair[0], in, sizeof(in)) == 0,
	       "an empty packet is like the end");
	tap_ok(passfd_end(pair[0]), "... and may be closed");
	close(pair[0]);
	close(pair[1]);

	open_pair();
	need(send(pair[1], out, 9, 0) == 9);
	tap_ok(passfd_receive_plain(pair[0], in, sizeof(in)) == -EBADMSG,
	       "one too large is refused");
	close(pair[0]);
	close(pair[1]);

	for (size_t n = 1; n <= 253; n += n < 8 ? 1 : 49)
		for (size_t size = 0; size <= sizeof(out); size += 4) {
			open_pair();
			need(!slow_send(pair[1], out, size, pair[1], n));
			for (int i = 0; i < 3; i++) {
				ssize_t r = passfd_receive_plain(pair[0], in, sizeof(in));

				refused = refused && r == -EBADMSG;
			}
			refused = refused && !passfd_end(pair[0]) && open_descriptors() == before;
			close(pair[0]);
			close(pair[1]);
		}
	tap_ok(refused, "a packet with descriptors is refused, and stays where it is");
}

static void test_end(void)
{
	char byte = 'x', in[8];
	size_t before;
	bool all = true;
	int null = open("/dev/null", O_RDWR | O_CLOEXEC);

	tap_ok(passfd_end(-1) && passfd_end(null), "what is no socket may be closed");
	close(null);

	open_pair();
	need(send(pair[0], "good", 4, 0) == 4 && send(pair[1], "a", 1, 0) == 1);
	tap_ok(passfd_end(pair[0]), "one unread packet is looked through");
	tap_ok(send(pair[1], &byte, 1, MSG_NOSIGNAL) < 0 && errno == EPIPE,
	       "... nothing more can be sent");
	close(pair[0]);
	tap_ok(recv(pair[1], in, sizeof(in), 0) == 4 && recv(pair[1], in, sizeof(in), 0) == 0,
	       "... and the last answer can be read, without a reset");
	close(pair[1]);

	open_pair();
	close(pair[1]);
	tap_ok(passfd_end(pair[0]), "the other side may have gone");
	close(pair[0]);
	open_pair();
	need(send(pair[0], "unread", 6, 0) == 6);
	close(pair[1]);
	tap_ok(passfd_end(pair[0]), "... with a packet of ours unread");
	close(pair[0]);

	/* At the end recvmsg() returns 0 as well, so these hide what comes after them. */
	open_pair();
	before = open_descriptors();
	for (size_t empty = 0; empty < 4; empty++)
		for (size_t size = 0; size < 2; size++) {
			close(pair[0]);
			close(pair[1]);
			open_pair();
			for (size_t i = 0; i < empty; i++)
				need(!send(pair[1], &byte, 0, 0));
			need(!slow_send(pair[1], &byte, size, pair[1], 4));
			all = all && !passfd_end(pair[0]) && open_descriptors() == before;
		}
	tap_ok(all, "empty packets before one with descriptors do not hide it");
	close(pair[0]);
	close(pair[1]);

	open_pair();
	for (int i = 0; i < 40; i++)
		need(!send(pair[1], &byte, 0, 0));
	tap_ok(!passfd_end(pair[0]), "so many packets are not looked through");
	close(pair[0]);
	close(pair[1]);
}

/* ---- closing.c ---- */

static int late; /* milliseconds that the core takes until it goes on after a fork */

int __real_worker_fork(bool shared, int *ret_pidfd);
int __wrap_worker_fork(bool shared, int *ret_pidfd);
int __wrap_worker_fork(bool shared, int *ret_pidfd)
{
	int pid = __real_worker_fork(shared, ret_pidfd);

	if (pid > 0)
		poll(NULL, 0, late);
	return pid;
}

static unsigned n_closed;
static uint32_t last_closed;

static void on_closed(void *userdata, int64_t uid)
{
	(void)userdata;
	n_closed++;
	last_closed = (uint32_t)uid;
}

static bool parked_are_high(void)
{
	for (size_t i = 0; i < broker.closing.n; i++)
		if (broker.closing.parked[i].fd < WORK_DESCRIPTORS)
			return false;
	return true;
}

static void test_closing(void)
{
	void (*closed)(void *userdata, int64_t uid) = broker.closing.closed;
	size_t before = open_descriptors();
	double start;
	bool parked = true, apart = true;

	broker.closing.closed = on_closed;
	open_pair();
	tap_ok(closing_drop(&broker.closing, pair[0], 7) && !n_closed && !broker.closing.n,
	       "a connection that sent nothing is closed");
	close(pair[1]);
	open_pair();
	send_slow(pair[1], "x", 1);
	close(pair[1]);
	start = slow_now();
	tap_ok(!closing_drop(&broker.closing, pair[0], 7) && broker.closing.n == 1,
	       "one that sent a descriptor is parked");
	turn(TURNS);
	tap_ok(!n_closed, "... for a moment");
	tap_ok(all_closed() && n_closed == 1 && last_closed == 7,
	       "and then closed, by another process");
	tap_ok(slow_now() - start < SOON && open_descriptors() - before <= 1,
	       "which takes the core no time (%.3f s)", slow_now() - start);

	open_pair();
	send_slow(pair[1], "x", 1);
	close(pair[1]);
	late = 300;
	start = slow_now();
	closing_drop(&broker.closing, pair[0], CLOSING_NOBODY);
	tap_ok(all_closed(), "one after the other");
	tap_ok(slow_now() - start < SOON, "also if that process is faster than the core (%.3f s)",
	       slow_now() - start);
	late = 0;

	/* Many, in any order of their numbers. */
	n_closed = 0;
	start = slow_now();
	for (int i = 0; i < 200; i++) {
		open_pair();
		send_slow(pair[1], "x", (size_t)i % 2);
		if (i % 3 == 0)
			pair[0] = worker_move_high(pair[0]);
		parked = parked &&
			 !closing_drop(&broker.closing, pair[0], i % 2 ? 8 : CLOSING_NOBODY);
		close(pair[1]);
	}
	tap_ok(parked && broker.closing.n == 200 && broker.closing.n_uncounted == 100,
	       "200 are parked");
	for (size_t i = 1; i < broker.closing.n; i++)
		apart = apart && broker.closing.parked[i - 1].fd < broker.closing.parked[i].fd;
	tap_ok(apart, "... in the order of their numbers");
	tap_ok(parked_are_high(), "... which are none that workers copy");
	broker.workers.copying++;
	for (int i = 0; i < 200; i++) {
		poll(NULL, 0, 1);
		turn(1);
	}
	tap_ok(broker.closing.n == 200 && !broker.closing.n_closers,
	       "... as long as a worker may have copies of them");
	broker.workers.copying--;
	tap_ok(all_closed() && n_closed == 100 && last_closed == 8 && slow_now() - start < SOON,
	       "and closed, those that count for a user are reported (%.3f s)", slow_now() - start);
	tap_ok(open_descriptors() - before <= 1, "nothing is left");
	broker.closing.closed = closed;
}

/* While closers do not end, there are fewer and fewer. */
static void test_stuck(void)
{
	struct closing *closing = &broker.closing;
	struct timeval begun, due = { 0 }, now;

	open_pair();
	gettimeofday(&begun, NULL);
	closing->n_closers = 6;
	send_slow(pair[1], "x", 1);
	closing_drop(closing, pair[0], CLOSING_NOBODY);
	close(pair[1]);
	tap_ok(evtimer_pending(closing->on_due, NULL) && !closing_is_full(closing),
	       "while closers are stuck, the next one waits");
	evtimer_pending(closing->on_due, &due);
	for (int i = 0; i < 200; i++) {
		poll(NULL, 0, 1);
		turn(1);
	}
	gettimeofday(&now, NULL); /* on a busy machine the turns take longer than the pause */
	tap_ok(due.tv_sec - begun.tv_sec >= 3 && (closing->n == 1 || !timercmp(&now, &due, <)),
	       "... longer than usual");
	closing->n_closers = 0;
	closing->n_uncounted += CLOSING_SPARE;
	tap_ok(closing_is_full(closing), "with too many parked no connection is accepted");
	closing->n_uncounted -= CLOSING_SPARE;
	event_active(closing->on_due, EV_TIMEOUT, 1);
	tap_ok(all_closed(), "and then all go");
}

/* ---- peers ---- */

/* Returns true if the core has closed the connection, and took no time for it. */
static bool dropped_soon(int fd, double start)
{
	turn(TURNS);
	return is_dropped(fd) && slow_now() - start < SOON;
}

static void test_peers(void)
{
	const struct message_hello hello = { .type = MESSAGE_HELLO, .version = PROTOCOL_VERSION };
	const struct message_claim claim = claim_by(SELECT_ANY);
	const struct message_plain list = { .type = MESSAGE_LIST },
				   watch = { .type = MESSAGE_WATCH };
	const struct {
		const char *what;
		const void *packet;
		size_t size;
		bool greeted;
	} cases[] = {
		{ "a hello", &hello, sizeof(hello), false },
		{ "a byte before the hello", "x", 1, false },
		{ "an empty packet before the hello", "", 0, false },
		{ "a listing", &list, sizeof(list), true },
		{ "a claim", &claim, sizeof(claim), true },
		{ "a packet that is too large", &(char[3000]){ 0 }, 3000, true },
		{ "an empty packet", "", 0, true },
		{ "a request to watch", &watch, sizeof(watch), true },
	};

	for (size_t i = 0; i < ARRAY_SIZE(cases); i++) {
		int fd = cases[i].greeted ? dial_in(0) : dial(0);
		double start;

		send_slow(fd, cases[i].packet, cases[i].size);
		start = slow_now();
		tap_ok(dropped_soon(fd, start), "a descriptor with %s drops the peer",
		       cases[i].what);
		tap_ok(broker.peers.n == 1 && TAILQ_EMPTY(&broker.peers.list),
		       "... which counts until that is closed");
		close(fd);
		tap_ok(quiet() && slow_now() - start < SOON, "... and leaves nothing");
	}
}

static void test_hidden(void)
{
	const struct message_plain list = { .type = MESSAGE_LIST };
	double start = slow_now();
	union answer answer;
	int fd;

	/* Behind a request, an empty packet, or one that drops the peer anyhow. */
	fd = dial_in(0);
	say(fd, &list, sizeof(list));
	send_slow(fd, &list, sizeof(list));
	turn(TURNS);
	while (hear(fd, &answer) > 0)
		;
	close(fd);
	tap_ok(quiet(), "a descriptor behind a request");
	fd = dial_in(0);
	need(!send(fd, "", 0, 0) && !send(fd, "", 0, 0));
	send_slow(fd, "", 0);
	close(fd);
	tap_ok(quiet(), "... behind empty packets, from one who has gone");
	fd = dial_in(0);
	say(fd, "rubbish", 7);
	send_slow(fd, "x", 1);
	turn(TURNS);
	close(fd);
	tap_ok(quiet(), "... behind rubbish");
	/* The connection's own other end: then only the core keeps it. */
	fd = dial_in(0);
	send_slow(fd, "x", 1);
	need(!slow_send(fd, "x", 1, fd, 1));
	close(fd);
	tap_ok(quiet(), "... with the connection's own end");
	tap_ok(slow_now() - start < SOON, "none takes the core time (%.3f s)", slow_now() - start);
}

static void test_turned_away(void)
{
	int fds[PEERS_PER_UID];
	double start, longest = 0;

	for (size_t i = 0; i < ARRAY_SIZE(fds); i++)
		fds[i] = dial_in(0);
	for (int i = 0; i < 500; i++) {
		int ends[2];

		need(!socketpair(AF_UNIX, SOCK_SEQPACKET | SOCK_CLOEXEC, 0, ends));
		if (i % 50 == 0)
			send_slow(ends[1], "x", 1);
		else
			need(!slow_send(ends[1], "x", 1, ends[1], 1));
		start = slow_now();
		admit(&broker.peers, ends[0]);
		turn(1);
		longest = slow_now() - start > longest ? slow_now() - start : longest;
		close(ends[1]);
	}
	tap_ok(broker.peers.n == PEERS_PER_UID && longest < SOON,
	       "500 that are turned away with descriptors take %.4f s at most", longest);

	/* One who sends without end does not make the core read without end. */
	for (int i = 0; i < 3; i++) {
		int ends[2];
		pid_t child;

		need(!socketpair(AF_UNIX, SOCK_SEQPACKET | SOCK_CLOEXEC, 0, ends));
		child = fork();
		if (!child) {
			close(ends[0]);
			while (send(ends[1], "x", 1, MSG_NOSIGNAL) == 1)
				;
			_exit(errno != EPIPE);
		}
		poll(NULL, 0, 50);
		start = slow_now();
		admit(&broker.peers, ends[0]);
		longest = slow_now() - start;
		tap_ok(longest < SOON, "nor does one who sends and sends (%.4f s)", longest);
		close(ends[1]);
		/* It has copies of all these. */
		need(child > 0 && waitpid(child, NULL, 0) == child);
	}
	for (size_t i = 0; i < ARRAY_SIZE(fds); i++)
		close(fds[i]);
	tap_ok(quiet(), "and nothing is left");
}

/* ---- the listener, where the kernel can refuse descriptors ---- */

static void test_listener(void)
{
	struct sockaddr_un address = { .sun_family = AF_UNIX };
	int helpers = -1, zero = 0, fd, r;
	bool can, made = false;

	snprintf(address.sun_path, sizeof(address.sun_path), "%s/socket", scratch_path);
	broker.peers.listen_fd = listener_open(address.sun_path, NULL, NULL, &helpers, &made);
	need(broker.peers.listen_fd >= 0);
	can = !setsockopt(broker.peers.listen_fd, SOL_SOCKET, 83 /* SO_PASSRIGHTS */, &zero,
			  sizeof(zero));
	fd = socket(AF_UNIX, SOCK_SEQPACKET | SOCK_CLOEXEC | SOCK_NONBLOCK, 0);
	need(!connect(fd, (struct sockaddr *)&address, sizeof(address)));
	r = slow_send(fd, "x", 1, fd, 1);
	tap_ok(can ? r == EPERM : !r,
	       can ? "the kernel refuses a descriptor for the broker"
		   : "this kernel cannot refuse a descriptor for the broker");
	broker.peers.made_listener = made;
	listener_done(&broker.peers);
	tap_ok(made && is_dropped(fd),
	       "connections that nobody has accepted end with the listener");
	close(fd);
	unlink(address.sun_path);
}

/* ---- the daemon's end ---- */

static void test_stop(void)
{
	double start;
	int fds[3];

	for (size_t i = 0; i < ARRAY_SIZE(fds); i++)
		fds[i] = dial_in(0);
	for (size_t i = 0; i < ARRAY_SIZE(fds); i++)
		send_slow(fds[i], "x", 1);
	start = slow_now();
	core_close(&broker);
	tap_ok(broker.closing.n == 3 && TAILQ_EMPTY(&broker.peers.list) &&
		       slow_now() - start < SOON,
	       "a daemon that stops parks what it must not close");
	broker_drop();
	tap_ok(slow_now() - start < SOON, "... and gives it to a last closer (%.3f s)",
	       slow_now() - start);
	tap_ok(counts_nobody(&broker.peers.users), "... and frees what counted it");
	for (size_t i = 0; i < ARRAY_SIZE(fds); i++)
		close(fds[i]);

	broker_make();
	fds[0] = dial_in(0);
	send_slow(fds[0], "x", 1);
	close(fds[0]);
	start = slow_now();
	broker_drop(); /* as after core_ops.failed() */
	tap_ok(slow_now() - start < SOON, "so does one that fails (%.3f s)", slow_now() - start);
}

int main(void)
{
	alarm(300);
	need(freopen("/dev/null", "w", stderr)); /* the log */
	slow_start();
	if (!slow_is)
		printf("# no network: nothing here closes slowly\n");
	broker_make();
	test_plain();
	test_end();
	test_closing();
	test_stuck();
	test_peers();
	test_hidden();
	test_turned_away();
	test_listener();
	test_stop();
	return tap_done();
}
