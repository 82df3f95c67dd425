/* SPDX-License-Identifier: MIT */
/*
 * The sockets of allotments: how root hands one over, what else may be sent in its place, whom the
 * broker takes for whom there, and what is left when an allotment ends. Processes take them, as in
 * the broker.
 */
#include "config.h"

#include "brokerd/peer/listener.h"
#include "brokerd/record/allotment-record.h"
#include "tests/unit/brokerd/allot-world.h"

/* ---- tests ---- */

static void test_give(void)
{
	struct message_socket m = {
		.type = MESSAGE_SOCKET, .uid = BOB, .label = "pod", .name = "a"
	};
	struct allotment *allotment;
	struct peer *peer;
	int fd = dial_as(BOB), other;

	need(!allot(BOB, "pod", 1) && !allot(BOB, "bobs", 3));
	tap_ok(ask_socket(fd, "pod", "a") == GPUBROKER_REFUSED_NOT_YOURS,
	       "who is not root gives an allotment no socket");
	hang_up(fd);
	fd = dial_as(0);
	tap_ok(ask_socket(fd, "none", "a") == GPUBROKER_REFUSED_FAILED, "nothing gets no socket");
	tap_ok(ask_socket(fd, "pod", "a") == -2, "root may send a socket");
	other = make_listener("a");
	tap_ok(!send_listener(fd, other, 1, NULL), "... a listening one, which is taken");
	close(other);
	allotment = allotments_find(&broker.allotments, "pod");
	tap_ok(!strcmp(allotment->socket, "a") && allotment->gid == 77 && allotment->n_gids == 1,
	       "... for the allotment");
	tap_ok(!ask_socket(fd, "pod", "a"), "it has that one already");
	tap_ok(ask_socket(fd, "pod", "b") == GPUBROKER_REFUSED_FAILED, "... and gets no other");
	tap_ok(ask_socket(fd, "bobs", "a") == GPUBROKER_REFUSED_FAILED,
	       "... and no other allotment gets that");
	hang_up(fd);
	fd = dial_as(0);
	m.name[0] = '/';
	say(fd, &m, sizeof(m));
	tap_ok(answer_to(fd, NULL) == -1, "a name with a slash ends root's connection");
	hang_up(fd);
	fd = dial_as(0);
	strcpy(m.name, "..");
	say(fd, &m, sizeof(m));
	tap_ok(answer_to(fd, NULL) == -1, "... and so do two dots");
	hang_up(fd);
	fd = come_to("a");
	peer = TAILQ_LAST(&broker.peers.list, peer_list);
	tap_ok(fd >= 0 && peer->claimant.uid == BOB && peer->claimant.gid == 77 &&
		       peer->claimant.pid == (uint32_t)getpid() && peer->counted_as == BOB,
	       "whoever connects there is bob, and counts as bob's");
	hang_up(fd);
}

/* The allotment "pod" of bob's is bus 1, "bobs" is bus 3, and a rule lets anybody have bus 2. */
static void test_is_alone(void)
{
	static const enum message_type roots[] = { MESSAGE_RESTORE, MESSAGE_PREPARE };
	struct message_restore restore = { .address.bus = 1 };
	struct message_allot m = { .type = MESSAGE_ALLOT, .label = "x", .n_selectors = 1 };
	struct message_retract gone = { .type = MESSAGE_RETRACT, .label = "pod" };
	struct message_vfs vfs = { .type = MESSAGE_VFS };
	struct message_policy policy = { .type = MESSAGE_POLICY, .flags = POLICY_RELOAD };
	struct message_release release = { .type = MESSAGE_RELEASE };
	struct message_refusal refusal;
	struct lease *bobs, *pods;
	int fd = come_to("a");

	tap_ok(!may_claim(fd, SELECT_ADDRESS, 1, NULL), "it may claim its device");
	tap_ok(!may_claim(fd, SELECT_ANY, 0, NULL), "... as any");
	tap_ok(may_claim(fd, SELECT_ADDRESS, 2, &refusal) == GPUBROKER_REFUSED_POLICY &&
		       refusal.detail == REFUSAL_AT_SOCKET && !strcmp(refusal.text, "pod"),
	       "not what another rule lets its user have");
	tap_ok(may_claim(fd, SELECT_ADDRESS, 3, &refusal) == GPUBROKER_REFUSED_POLICY &&
		       refusal.detail == REFUSAL_AT_SOCKET,
	       "... nor what is allotted to the same user under another label");
	rules[0].who = POLICY_WHO_NONE;
	rules[1].match.address.bus = 1;
	tap_ok(may_claim(fd, SELECT_ADDRESS, 1, NULL) == GPUBROKER_REFUSED_POLICY,
	       "without the rule for what is allotted no other one counts");
	rules[1].match.address.bus = 2;
	rules[0].who = POLICY_WHO_ALLOTTED;
	bobs = lease_new(&broker.leases.table, 0, 12);
	pods = lease_new(&broker.leases.table, 0, 99);
	need(bobs && pods);
	bobs->uid = pods->uid = BOB;
	strcpy(pods->label, "pod");
	tap_ok(count_listed(fd, MESSAGE_LIST, MESSAGE_DEVICE) == 1, "it sees its device alone");
	tap_ok(count_listed(fd, MESSAGE_LEASES, MESSAGE_LEASE) == 1, "... its lease");
	tap_ok(count_listed(fd, MESSAGE_ALLOTMENTS, MESSAGE_ALLOTMENT) == 1, "... itself");
	tap_ok(count_listed(fd, MESSAGE_QUEUE, MESSAGE_WAITING) == 0, "... no claim of others");
	tap_ok(count_listed(fd, MESSAGE_USAGE, MESSAGE_USED) == 0, "... and nothing of the past");
	release.lease = bobs->id;
	say(fd, &release, sizeof(release));
	tap_ok(answer_to(fd, NULL) == GPUBROKER_REFUSED_NOT_YOURS,
	       "it cannot release what its user has otherwise");
	release.flags = RELEASE_REVOKE;
	release.lease = pods->id;
	say(fd, &release, sizeof(release));
	tap_ok(answer_to(fd, NULL) == GPUBROKER_REFUSED_NOT_YOURS, "... nor revoke");
	lease_free(bobs);
	lease_free(pods);
	m.selectors[0].kind = SELECT_ANY;
	say(fd, &m, sizeof(m));
	tap_ok(answer_to(fd, &refusal) == GPUBROKER_REFUSED_NOT_YOURS &&
		       refusal.detail == REFUSAL_AT_SOCKET,
	       "it cannot allot, whoever it is");
	say(fd, &gone, sizeof(gone));
	tap_ok(answer_to(fd, NULL) == GPUBROKER_REFUSED_NOT_YOURS, "... nor retract itself");
	for (size_t i = 0; i < ARRAY_SIZE(roots); i++) {
		restore.type = roots[i];
		say(fd, &restore, sizeof(restore));
		tap_ok(answer_to(fd, NULL) == GPUBROKER_REFUSED_NOT_YOURS, "... nor %s",
		       i ? "prepare" : "restore");
	}
	say(fd, &vfs, sizeof(vfs));
	tap_ok(answer_to(fd, NULL) == GPUBROKER_REFUSED_NOT_YOURS,
	       "... nor change virtual functions");
	say(fd, &policy, sizeof(policy));
	tap_ok(answer_to(fd, NULL) == GPUBROKER_REFUSED_NOT_YOURS, "... nor load the policy");
	tap_ok(ask_socket(fd, "pod", "z") == GPUBROKER_REFUSED_NOT_YOURS, "... nor get a socket");
	hang_up(fd);
}

static double seconds_of(const struct timespec *begun)
{
	struct timespec now;

	clock_gettime(CLOCK_MONOTONIC, &now);
	return (double)(now.tv_sec - begun->tv_sec) + (double)(now.tv_nsec - begun->tv_nsec) / 1e9;
}

static bool all_gone(void)
{
	for (int i = 0; i < 30000 && broker.peers.n; i++) {
		turn(TURNS);
		poll(NULL, 0, 1);
	}
	return !broker.peers.n;
}

static int connected(int ends[2])
{
	need(!socketpair(AF_UNIX, SOCK_SEQPACKET | SOCK_CLOEXEC, 0, ends));
	return ends[0];
}

/* Connections inherit that, and each of their packets would look as if it had descriptors. */
static int with_credentials(void)
{
	const int on = 1;
	int fd = make_listener("creds");

	need(!setsockopt(fd, SOL_SOCKET, SO_PASSCRED, &on, sizeof(on)));
	return fd;
}

/* Whatever is sent in place of a listening socket, root has an answer, and the core does not wait. */
static void test_others(void)
{
	const struct message_plain m = { .type = MESSAGE_LISTENER },
				   other = { .type = MESSAGE_LIST };
	int fd = dial_as(0), ends[2], listener = make_listener("b");
	const struct {
		const char *what;
		int fd;
	} bad[] = {
		{ "a file", open("/dev/null", O_RDWR | O_CLOEXEC) },
		{ "a datagram socket", socket(AF_UNIX, SOCK_DGRAM | SOCK_CLOEXEC, 0) },
		{ "a stream", socket(AF_UNIX, SOCK_STREAM | SOCK_CLOEXEC, 0) },
		{ "one that does not listen", socket(AF_UNIX, SOCK_SEQPACKET | SOCK_CLOEXEC, 0) },
		{ "a connection", connected(ends) },
		{ "one whose connections would get credentials too", with_credentials() },
		{ "a socket that takes minutes to close", slow_is ? slow_open() : -1 },
	};
	struct message_refusal refusal;
	struct timespec begun;

	clock_gettime(CLOCK_MONOTONIC, &begun);
	for (size_t i = 0; i < ARRAY_SIZE(bad); i++) {
		if (bad[i].fd < 0)
			continue; /* no network here */
		need(ask_socket(fd, "bobs", "b") == -2);
		tap_ok(send_listener(fd, bad[i].fd, 1, &refusal) == GPUBROKER_REFUSED_FAILED &&
			       refusal.detail == REFUSAL_SOCKET,
		       "%s is no listening socket", bad[i].what);
	}
	need(ask_socket(fd, "bobs", "b") == -2);
	tap_ok(send_listener(fd, listener, 2, NULL) == GPUBROKER_REFUSED_FAILED, "nor are two");
	need(ask_socket(fd, "bobs", "b") == -2);
	tap_ok(send_listener(fd, listener, 253, NULL) == GPUBROKER_REFUSED_FAILED,
	       "... or as many as the kernel passes");
	need(ask_socket(fd, "bobs", "b") == -2);
	say(fd, &m, sizeof(m));
	tap_ok(answer_to(fd, NULL) == GPUBROKER_REFUSED_FAILED, "nor is none");
	tap_ok(seconds_of(&begun) < SLOW_SECONDS / 2, "none of that has kept the broker waiting");
	need(ask_socket(fd, "bobs", "b") == -2);
	say(fd, &other, sizeof(other));
	tap_ok(answer_to(fd, NULL) == -1, "another request instead ends the connection");
	hang_up(fd);
	fd = dial_as(0);
	need(ask_socket(fd, "bobs", "b") == -2);
	close(fd);
	tap_ok(all_gone(), "one that goes instead is forgotten");
	fd = dial_as(0);
	need(ask_socket(fd, "bobs", "b") == -2);
	need(!slow_send(fd, &m, sizeof(m), listener, 1));
	close(fd); /* before the taker has told */
	tap_ok(all_gone(), "... also if it has sent one and does not wait for the answer");
	close(listener);
	for (size_t i = 0; i < ARRAY_SIZE(bad) - 1; i++)
		close(bad[i].fd);
	close(ends[1]);
}

/* A daemon that starts: its tables are empty, and the records are those of the one before. */
static void start_again(void)
{
	allotments_done(&broker.allotments);
	need(!allot_recover(&broker.claims));
}

static void test_restart(void)
{
	struct allotment_socket *s = TAILQ_FIRST(&broker.peers.sockets.list);
	const struct sockaddr_un stray = address_of("stray");
	int fd, kept;

	need(s && !strcmp(s->name, "a"));
	kept = fcntl(s->fd, F_DUPFD_CLOEXEC, 3);
	TAILQ_REMOVE(&broker.peers.sockets.list, s, link);
	event_free(s->on_connect);
	close(s->fd);
	free(s);
	start_again();
	tap_ok(!strcmp(allotments_find(&broker.allotments, "pod")->socket, "a"),
	       "that it has a socket is on record");
	tap_ok(sockets_keep(&broker.peers.sockets, "allotment-a", kept) &&
		       sockets_keep(&broker.peers.sockets, "allotment-stray",
				    make_listener("stray")) &&
		       !sockets_keep(&broker.peers.sockets, "helpers", -1),
	       "those that the service manager has kept are known by their names");
	sockets_serve(&broker.peers);
	fd = come_to("a");
	tap_ok(fd >= 0 && !may_claim(fd, SELECT_ADDRESS, 1, NULL),
	       "after a restart whoever connects is the allotment still");
	hang_up(fd);
	tap_ok(access(stray.sun_path, F_OK), "one of no allotment is removed");
}

static void test_end(void)
{
	const struct sockaddr_un address = address_of("a");
	int fd = come_to("a"), idle;

	/* In the backlog, with something that takes minutes to close. */
	idle = socket(AF_UNIX, SOCK_SEQPACKET | SOCK_CLOEXEC | SOCK_NONBLOCK, 0);
	need(!connect(idle, (const struct sockaddr *)&address, sizeof(address)));
	if (slow_is)
		slow_send(idle, "x", 1, slow_open(), 1);
	need(!retract("pod"));
	tap_ok(access(address.sun_path, F_OK), "when it is retracted, its socket is removed");
	tap_ok(is_dropped(fd), "... and its connections end");
	tap_ok(come_to("a") < 0, "... and nobody can connect");
	close(fd);
	close(idle);
	tap_ok(allot(BOB, "pod", 1) == 0 && give("pod", "a"),
	       "another of that label gets one of that name again");
	fd = come_to("a");
	tap_ok(fd >= 0 && !may_claim(fd, SELECT_ADDRESS, 1, NULL), "... which serves");
	hang_up(fd);
	need(!allot(CAROL, "carols", 2));
	tap_ok(give("carols", "c"), "another user's gets its own");
	fd = come_to("c");
	tap_ok(TAILQ_LAST(&broker.peers.list, peer_list)->claimant.uid == CAROL,
	       "... where one is carol");
	hang_up(fd);
	need(!retract("pod") && !retract("bobs") && !retract("carols"));
	tap_ok(TAILQ_EMPTY(&broker.peers.sockets.list), "nothing is left");
}

static void test_roots(void)
{
	int fd = dial_as(0);

	need(!allot(0, "roots", 1));
	tap_ok(ask_socket(fd, "roots", "r") == GPUBROKER_REFUSED_FAILED,
	       "what is root's gets no socket: nobody becomes root by one");
	hang_up(fd);
	need(!retract("roots"));
}

int main(void)
{
	need(freopen("/dev/null", "w", stderr)); /* the log */
	allot_world_make();
	test_give();
	test_is_alone();
	test_others();
	test_restart();
	test_end();
	test_roots();
	broker_drop();
	return tap_done();
}
