/* SPDX-License-Identifier: MIT */
/*
 * Admission of connections to a full house: root has places of its own, a client that says nothing
 * goes in time, and the connection that was idle for longest makes room, of the user who has most.
 */
#include "config.h"

#include "brokerd/state/users.h"
#include "tests/unit/brokerd/world.h"
#include "tests/tap.h"

#define FULL (PEERS_MAX - PEERS_KEPT) /* for all but root */

/* ---- users.c ---- */

static bool may_go;

static bool all_may_go(const struct users_member *member)
{
	(void)member;
	return may_go;
}

static const struct users_member *stays;

static bool but_one(const struct users_member *member)
{
	return member != stays;
}

static void test_idlest(void)
{
	static struct users_member members[400];
	struct users counts = { 0 };
	size_t n = 0;
	bool in_order = true;

	may_go = true;
	tap_ok(!users_idlest(&counts, 1, all_may_go), "where nobody is, nobody goes");
	for (uint32_t uid = 1; uid <= 3; uid++)
		for (size_t i = 0; i < uid * 10; i++) {
			need(!users_take(&counts, uid, 100));
			users_add(&counts, uid, &members[n++]);
		}
	tap_ok(users_idlest(&counts, 4, all_may_go) == &members[30],
	       "the first connection of the user who has most");
	users_touch(&members[30]);
	tap_ok(users_idlest(&counts, 4, all_may_go) == &members[31],
	       "... unless it was used since");
	stays = &members[31];
	tap_ok(users_idlest(&counts, 4, but_one) == &members[32], "... or must stay");
	tap_ok(!users_idlest(&counts, 3, all_may_go), "it does not go in favour of its own user");
	may_go = false;
	tap_ok(!users_idlest(&counts, 4, all_may_go), "and none goes that must stay");
	may_go = true;
	for (size_t i = 31; i < 42; i++) {
		in_order = in_order && users_idlest(&counts, 1, all_may_go) == &members[i];
		users_remove(&counts, &members[i]);
		users_give(&counts, 3);
	}
	tap_ok(in_order, "they go one after the other");
	tap_ok(users_idlest(&counts, 1, all_may_go) == &members[10], "until another user has most");
	for (size_t i = 10; i < 19; i++) {
		users_remove(&counts, &members[i]);
		users_give(&counts, 2);
	}
	for (size_t i = 42; i < 50; i++) {
		users_remove(&counts, &members[i]);
		users_give(&counts, 3);
	}
	tap_ok(!users_idlest(&counts, 1, all_may_go) && users_idlest(&counts, 4, all_may_go),
	       "users who have as many, or one more, keep what they have");
	for (uint32_t uid = 1; uid <= 3; uid++)
		for (size_t i = 0; i < 60; i++)
			if (members[i].entry &&
			    ((i < 10 && uid == 1) || (i >= 10 && i < 30 && uid == 2) ||
			     (i >= 30 && uid == 3))) {
				users_remove(&counts, &members[i]);
				users_give(&counts, uid);
			}
	tap_ok(counts_nobody(&counts), "when all have gone nothing is left");
	for (size_t i = 0; i <= USERS_RANKS; i++)
		need(LIST_EMPTY(&counts.ranks[i]));
}

/* ---- a full house ---- */

/* Makes a connection as another user, where we are root; else as ourselves, and it is moved. */
static int dial_as(uint32_t uid)
{
	int fd;

	if (getuid()) {
		fd = dial_in(0);
		last_is_user(uid);
		return fd;
	}
	need(!seteuid(uid));
	fd = dial(0);
	need(!seteuid(0));
	return fd;
}

static bool greeted_as(uint32_t uid, int *ret_fd)
{
	*ret_fd = dial_as(uid);
	return welcome(*ret_fd);
}

/* Counts so many connections that are not there. */
static void pretend(size_t n)
{
	broker.peers.n += n;
}

static bool is_refused(int fd, const char *text)
{
	union answer answer;
	const struct message_hello hello = { .type = MESSAGE_HELLO, .version = PROTOCOL_VERSION };

	say(fd, &hello, sizeof(hello));
	turn(TURNS);
	return hear(fd, &answer) == sizeof(answer.refusal) && answer.type == MESSAGE_REFUSAL &&
	       answer.refusal.reason == GPUBROKER_REFUSED_QUOTA &&
	       strstr(answer.refusal.text, text) && is_dropped(fd);
}

/* Returns true if the connection was closed in favour of another, with a reason. */
static bool has_gone(int fd)
{
	union answer answer;

	return hear(fd, &answer) == sizeof(answer.refusal) && answer.type == MESSAGE_REFUSAL &&
	       strstr(answer.refusal.text, "needed a place") && is_dropped(fd);
}

static void test_full(void)
{
	int many[10], fd, root = -1;
	size_t n;

	for (size_t i = 0; i < ARRAY_SIZE(many); i++)
		need(greeted_as(1000, &many[i]));
	n = FULL - broker.peers.n;
	pretend(n);
	fd = dial_as(1000);
	tap_ok(is_refused(fd, "as many connections as it can serve"),
	       "in a full house the user who has most has no more");
	close(fd);

	say_plain(many[0], MESSAGE_LEASES); /* this one is used, so it is not the idlest */
	turn(TURNS);
	tap_ok(hears(many[0], MESSAGE_END, sizeof(struct message_plain)),
	       "it goes on being served");
	tap_ok(greeted_as(1001, &fd) && broker.peers.n == FULL, "another user has a place");
	tap_ok(has_gone(many[1]),
	       "... of the connection that was idle for longest, which is told so");
	close(many[1]);
	close(fd);
	turn(TURNS);
	pretend(1);
	n++;

	/* Whatever is under way stays. */
	say_plain(many[2], MESSAGE_WATCH);
	turn(TURNS);
	tap_ok(greeted_as(1001, &fd) && has_gone(many[3]) && !is_dropped(many[2]),
	       "one that was idle for longer goes before one that has begun to watch");
	close(many[3]);
	close(fd);
	turn(TURNS);
	pretend(1);
	n++;

	if (!getuid()) {
		root = dial_as(0);
		tap_ok(welcome(root) && broker.peers.n == FULL + 1 && !is_dropped(many[4]),
		       "root has a place of its own, and nobody goes for that");
		close(root);
		turn(TURNS);
		pretend(PEERS_KEPT);
		root = dial_as(0);
		tap_ok(welcome(root) && broker.peers.n == PEERS_MAX && has_gone(many[4]),
		       "... and when those are taken too, one goes");
		close(root);
		turn(TURNS);
		broker.peers.n -= PEERS_KEPT;
	}
	broker.peers.n -= n;
	for (size_t i = 0; i < ARRAY_SIZE(many); i++)
		if (i != 1 && i != 3)
			close(many[i]);
	tap_ok(quiet(), "and nothing is left");
}

/* A connection with a claim, or whose claim waits, stays. */
static void test_busy(void)
{
	struct peer *peer;
	int fds[3], fd;
	size_t n;

	for (size_t i = 0; i < ARRAY_SIZE(fds); i++)
		need(greeted_as(1000, &fds[i]));
	n = FULL - broker.peers.n;
	pretend(n);
	peer = TAILQ_FIRST(&broker.peers.list);
	peer->claimant.claim = (struct claim *)(void *)&broker;
	peer = TAILQ_NEXT(peer, link);
	peer->claimant.waiting = (struct waiting *)(void *)&broker;
	tap_ok(greeted_as(1001, &fd) && has_gone(fds[2]) && !is_dropped(fds[0]) &&
		       !is_dropped(fds[1]),
	       "one with a claim under way and one that waits stay, a younger one goes");
	close(fd);
	turn(TURNS);
	pretend(1);
	fd = dial_as(1001);
	tap_ok(is_refused(fd, "as many"), "if all must stay, the newcomer goes");
	close(fd);
	TAILQ_FOREACH(peer, &broker.peers.list, link) {
		peer->claimant.claim = NULL;
		peer->claimant.waiting = NULL;
	}
	broker.peers.n -= n + 1;
	for (size_t i = 0; i < ARRAY_SIZE(fds); i++)
		close(fds[i]);
	tap_ok(quiet(), "and nothing is left");
}

/* ---- the hello ---- */

/* Lets the time of all who have said nothing go by. */
static void let_pass(uint64_t ms)
{
	struct peer *peer;

	TAILQ_FOREACH(peer, &broker.peers.strangers, stranger)
		peer->since -= ms;
	event_active(broker.peers.on_no_hello, EV_TIMEOUT, 1);
	turn(TURNS);
}

static void test_hello(void)
{
	int silent = dial(0), greeted = dial_in(0), late[120], n = 0;
	struct timeval at, now;

	tap_ok(evtimer_pending(broker.peers.on_no_hello, &at),
	       "a connection has time for its hello");
	event_base_gettimeofday_cached(broker.base, &now);
	tap_ok((at.tv_sec - now.tv_sec) * 1000 <= PEERS_HELLO_MS + 1000, "... no more than %d ms",
	       PEERS_HELLO_MS);
	let_pass(PEERS_HELLO_MS - 1000);
	tap_ok(!is_dropped(silent), "it stays for that long");
	let_pass(2000);
	tap_ok(is_dropped(silent) && !is_dropped(greeted) && broker.peers.n == 1,
	       "and then goes; one that has said hello stays, however idle");
	close(silent);
	for (size_t i = 0; i < ARRAY_SIZE(late); i++)
		late[i] = dial(0);
	let_pass(PEERS_HELLO_MS);
	for (size_t i = 0; i < ARRAY_SIZE(late); i++)
		n += is_dropped(late[i]);
	tap_ok(n == (int)ARRAY_SIZE(late), "many go, in some turns (%d)", n);
	for (size_t i = 0; i < ARRAY_SIZE(late); i++)
		close(late[i]);
	tap_ok(welcome(greeted) == false && TAILQ_EMPTY(&broker.peers.strangers),
	       "a second hello is none");
	close(greeted);
	tap_ok(quiet() && !evtimer_pending(broker.peers.on_no_hello, NULL),
	       "and nothing is left, nor waits");
}

int main(void)
{
	alarm(300);
	need(freopen("/dev/null", "w", stderr)); /* the log */
	broker_make();
	test_idlest();
	test_hello();
	test_full();
	test_busy();
	broker_drop();
	return tap_done();
}
