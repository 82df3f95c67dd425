/* SPDX-License-Identifier: MIT */
/*
 * Attacks by way of allotments' sockets: a label that has become another user's while root hands a
 * socket over, sockets that somebody shuts down, crowds at one socket, places of other claims in
 * the queue, and a service manager that takes no messages.
 */
#include "config.h"

#include "tests/unit/brokerd/allot-world.h"

/* Connects and says nothing; does not wait for the broker. Returns -1 if there is no room. */
static int knock(const char *name)
{
	const struct sockaddr_un address = address_of(name);
	int fd = socket(AF_UNIX, SOCK_SEQPACKET | SOCK_CLOEXEC | SOCK_NONBLOCK, 0);

	if (connect(fd, (const struct sockaddr *)&address, sizeof(address))) {
		close(fd);
		return -1;
	}
	return fd;
}

static const struct allotment *pod(void)
{
	return allotments_find(&broker.allotments, "pod");
}

static bool has_file(const char *name)
{
	const struct sockaddr_un address = address_of(name);

	return !access(address.sun_path, F_OK);
}

/* Returns true if the core has nothing to do: it would find work in each turn if it spun. */
static bool is_at_rest(void)
{
	struct allotment_socket *s;

	turn(TURNS);
	TAILQ_FOREACH(s, &broker.peers.sockets.list, link) {
		struct pollfd ready = { .fd = s->fd, .events = POLLIN };

		if (s->on_connect && poll(&ready, 1, 0))
			return false;
	}
	return true;
}

/* ---- a label that is another user's by now ---- */

static void test_label_again(void)
{
	struct message_socket m = { .type = MESSAGE_SOCKET, .uid = BOB, .label = "pod" };
	struct message_refusal refusal;
	int fd, listener;

	need(!allot(BOB, "pod", 1));
	fd = dial_as(0);
	need(ask_socket(fd, "pod", "a") == -2);
	listener = make_listener("a"); /* which is bob's */
	need(!retract("pod") && !allot(CAROL, "pod", 2));
	tap_ok(send_listener(fd, listener, 1, &refusal) == GPUBROKER_REFUSED_FAILED &&
		       refusal.detail == REFUSAL_SOCKET && !pod()->socket[0],
	       "a socket that was made for bob does not become carol's with the label");
	strcpy(m.name, "a");
	say(fd, &m, sizeof(m));
	tap_ok(answer_to(fd, NULL) == GPUBROKER_REFUSED_FAILED,
	       "... nor is one asked for in bob's name");
	m.uid = UINT32_MAX;
	say(fd, &m, sizeof(m));
	tap_ok(answer_to(fd, NULL) == -1, "a uid that nobody can have ends root's connection");
	hang_up(fd);
	close(listener);
	need(!retract("pod"));
}

/* ---- sockets that somebody shuts down ---- */

static void test_shut(void)
{
	int fd = dial_as(0), listener, user;

	need(!allot(BOB, "pod", 1) && ask_socket(fd, "pod", "a") == -2);
	listener = make_listener("a");
	need(!send_listener(fd, listener, 1, NULL));
	user = come_to("a");
	need(user >= 0 && !shutdown(listener, SHUT_RDWR));
	turn(TURNS);
	tap_ok(is_at_rest() && !sockets_has(&broker.peers, "pod"),
	       "a socket that a process with a copy shuts down is served no longer, and keeps the "
	       "core from nothing");
	tap_ok(!has_file("a"), "... and has no file");
	tap_ok(!may_claim(user, SELECT_ADDRESS, 1, NULL), "... who had come before is served");
	need(ask_socket(fd, "pod", "a") == -2);
	close(listener);
	listener = make_listener("a");
	need(!shutdown(listener, SHUT_RDWR));
	send_listener(fd, listener, 1, NULL);
	turn(TURNS);
	tap_ok(is_at_rest() && !sockets_has(&broker.peers, "pod"), "nor is one that comes shut");
	close(listener);
	tap_ok(give("pod", "a"), "... and root can give it another");
	hang_up(user);
	hang_up(fd);
	user = come_to("a");
	tap_ok(user >= 0, "... which serves");
	hang_up(user);
	need(!retract("pod"));
}

/* ---- crowds ---- */

/* Takes a name's connections until there are no more. Returns how many were welcome. */
static unsigned crowd(const char *name, int *fds, unsigned n)
{
	const struct message_hello hello = { .type = MESSAGE_HELLO, .version = PROTOCOL_VERSION };
	union answer answer;
	unsigned welcome = 0;

	for (unsigned i = 0; i < n; i++) {
		fds[i] = knock(name);
		need(fds[i] >= 0);
		say(fds[i], &hello, sizeof(hello)); /* fails where it was turned away before */
		need(hear_soon(fds[i], &answer) > 0);
		welcome += answer.type == MESSAGE_WELCOME;
		if (answer.type == MESSAGE_REFUSAL)
			need(answer.refusal.reason == GPUBROKER_REFUSED_QUOTA);
	}
	return welcome;
}

static void hang_up_all(int *fds, unsigned n)
{
	while (n)
		hang_up(fds[--n]);
}

static void test_crowd(void)
{
	int fds[PEERS_PER_SOCKET + 4], others[4];
	const int slow = slow_is ? slow_open() : -1; /* never closed: that would take minutes */

	need(!allot(BOB, "pod", 1) && give("pod", "a") && !allot(BOB, "bobs", 3) &&
	     give("bobs", "b"));
	tap_ok(crowd("a", fds, ARRAY_SIZE(fds)) == PEERS_PER_SOCKET,
	       "at one socket there are %d connections and no more", PEERS_PER_SOCKET);
	tap_ok(crowd("b", others, ARRAY_SIZE(others)) == ARRAY_SIZE(others),
	       "... which takes none from another socket of the same user");
	hang_up_all(others, ARRAY_SIZE(others));
	hang_up_all(fds, ARRAY_SIZE(fds));
	tap_ok(!pod()->connections, "when they have gone, none is counted");
	need(crowd("a", fds, PEERS_PER_SOCKET) == PEERS_PER_SOCKET);
	for (unsigned i = 0; slow_is && i < PEERS_PER_SOCKET; i++) {
		slow_send(fds[i], "x", 1, slow, 1);
		close(fds[i]);
	}
	if (slow_is)
		turn(TURNS);
	tap_ok(!slow_is || pod()->connections == broker.closing.n,
	       "those that take long to close are counted until they are closed");
	if (!slow_is)
		hang_up_all(fds, PEERS_PER_SOCKET);
	tap_ok(all_closed() && !pod()->connections, "... and then not");
	/* Whose allotment has ended before its connections are closed. */
	need(crowd("a", fds, 3) == 3);
	for (unsigned i = 0; slow_is && i < 3; i++) {
		slow_send(fds[i], "x", 1, slow, 1);
	}
	need(!retract("pod") && !allot(BOB, "pod", 1) && give("pod", "a"));
	hang_up_all(fds, 3);
	tap_ok(all_closed() && !pod()->connections,
	       "those of an allotment that has ended are not taken from the next of that label");
	need(!retract("pod") && !retract("bobs"));
	tap_ok(counts_nobody(&broker.peers.users), "nobody is counted");
}

/* Others' claims wait for all that is accepted in a turn of the loop. */
static void test_burst(void)
{
	int fds[6];
	size_t before;

	need(!allot(BOB, "pod", 1) && give("pod", "a"));
	before = broker.peers.n;
	for (unsigned i = 0; i < ARRAY_SIZE(fds); i++)
		fds[i] = knock("a");
	event_base_loop(broker.base, EVLOOP_ONCE | EVLOOP_NONBLOCK);
	tap_ok(broker.peers.n - before <= 1, "a turn of the loop takes one connection of a socket");
	turn(TURNS);
	tap_ok(broker.peers.n - before == ARRAY_SIZE(fds), "... and the others later");
	hang_up_all(fds, ARRAY_SIZE(fds));
	need(!retract("pod"));
}

/* ---- the queue ---- */

static int wait_at(int fd, unsigned bus, uint64_t place)
{
	struct message_claim claim = claim_by(SELECT_ADDRESS);
	union answer answer = { 0 };

	claim.flags = CLAIM_WAIT;
	claim.place = place;
	claim.selectors[0].address.bus = (uint8_t)bus;
	say(fd, &claim, sizeof(claim));
	need(hear_soon(fd, &answer) > 0);
	return answer.type == MESSAGE_QUEUED ? 0 : (int)answer.refusal.reason;
}

static void test_waiting(void)
{
	int fds[WAITING_PER_SOCKET + 1], own = dial_as(BOB), waiting = 0, last = 0;
	struct lease *lease;

	need(!allot(BOB, "pod", 1) && give("pod", "a"));
	lease = lease_new(&broker.leases.table, 0, 11);
	need(lease);
	lease->uid = CAROL;
	for (unsigned i = 0; i < ARRAY_SIZE(fds); i++) {
		fds[i] = come_to("a");
		last = wait_at(fds[i], 1, 0);
		waiting += !last;
	}
	tap_ok(waiting == WAITING_PER_SOCKET && last == GPUBROKER_REFUSED_QUOTA,
	       "at one socket %d claims wait and no more", WAITING_PER_SOCKET);
	tap_ok(!wait_at(own, 1, 0), "... and their user's own wait beside them");
	hang_up(own);
	hang_up_all(fds, ARRAY_SIZE(fds));
	lease_free(lease);
	need(!retract("pod"));
}

/* Begins a claim that waits for the place of a daemon before. Returns since when it waits. */
static uint64_t since_of(const char *socket, uint64_t place, int *ret_fd)
{
	struct message_claim claim = claim_by(SELECT_ADDRESS);
	const struct waiting *waiting;

	claim.flags = CLAIM_WAIT;
	claim.place = place;
	claim.selectors[0].address.bus = 1;
	*ret_fd = come_to(socket);
	say(*ret_fd, &claim, sizeof(claim));
	turn(TURNS);
	waiting = TAILQ_LAST(&broker.peers.list, peer_list)->claimant.waiting;
	return waiting ? waiting->since : 0;
}

static void test_places(void)
{
	const uint64_t own = broker.leases.table.next_id + 10, pods = own + 1, kept = own + 2;
	struct queue_place place = { .id = own, .since = 77, .uid = BOB };
	int thief, rightful;

	need(!allot(BOB, "pod", 1) && give("pod", "a"));
	broker.leases.table.next_id = own + 20;
	need(!queue_keep(&broker.claims.queue, &place));
	place.id = kept;
	need(!queue_keep(&broker.claims.queue,
			 &place)); /* as long as there is one, nothing is tried */
	strcpy(place.through, "pod");
	place.id = pods;
	need(!queue_keep(&broker.claims.queue, &place));
	tap_ok(since_of("a", own, &thief) != 77,
	       "who waits at a socket does not get the place that its user had elsewhere");
	tap_ok(since_of("a", pods, &rightful) == 77, "... but the one that it had there");
	close(thief);
	close(rightful);
	turn(TURNS);
	queue_drop_kept(&broker.claims.queue, own);
	queue_drop_kept(&broker.claims.queue, kept);
	need(!retract("pod"));
}

/* ---- a service manager that takes no messages ---- */

static int manager[2];
static size_t n_stuffed;

/* As any user may. */
static void stuff(void)
{
	while (send(broker.peers.sockets.notify_fd, "x", 1, MSG_DONTWAIT) == 1)
		n_stuffed++;
}

/* Returns 'k' if it is to keep something, 'f' to forget, '-' for nothing within half a minute. */
static char told(void)
{
	char text[128];

	for (int i = 0; i < 30000; i++) {
		ssize_t n = recv(manager[1], text, sizeof(text) - 1, MSG_DONTWAIT);

		if (n == 1)
			continue; /* what others send */
		if (n > 0) {
			text[n] = '\0';
			return strstr(text, "FDSTORE=1") ? 'k' : 'f';
		}
		poll(NULL, 0, 1);
		turn(1);
	}
	return '-';
}

static void test_manager(void)
{
	need(!socketpair(AF_UNIX, SOCK_DGRAM | SOCK_CLOEXEC | SOCK_NONBLOCK, 0, manager));
	broker.peers.sockets.notify_fd = manager[0];
	need(!allot(BOB, "pod", 1) && give("pod", "a"));
	tap_ok(told() == 'k', "the service manager is to keep a socket");
	stuff();
	need(n_stuffed && !retract("pod") && !allot(BOB, "pod", 1) && give("pod", "a"));
	tap_ok(told() == 'f', "if it takes no message, it is told again to forget that one");
	tap_ok(told() == 'k', "... and after that to keep the next one of that name");
	stuff();
	need(!retract("pod"));
	for (unsigned i = 0; i < 270; i++)
		need(!allot(BOB, "pod", 1) && give("pod", "a") && !retract("pod"));
	tap_ok(broker.peers.sockets.n_ended <= ALLOTMENTS_MAX,
	       "what it is not told yet does not grow");
	tap_ok(told() == 'f', "... and is told when it listens again");
	broker.peers.sockets.notify_fd = -1;
	close(manager[0]);
	close(manager[1]);
}

int main(void)
{
	alarm(300);
	need(freopen("/dev/null", "w", stderr)); /* the log */
	allot_world_make();
	test_label_again();
	test_shut();
	test_crowd();
	test_burst();
	test_waiting();
	test_places();
	test_manager();
	broker_drop();
	return tap_done();
}
