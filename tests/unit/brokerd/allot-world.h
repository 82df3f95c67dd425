/* SPDX-License-Identifier: MIT */
/*
 * Allotments and their sockets in the world of the daemon's tests: root's requests, and whoever
 * connects. A process receives what root sends, as in the broker.
 */
#pragma once

#include "brokerd/claim/allot.h"
#include "tests/unit/brokerd/slow.h"
#include "tests/unit/brokerd/world.h"
#include "tests/tap.h"

#include <sys/stat.h>
#include <sys/un.h>
#include <time.h>

#define BOB 4242
#define CAROL 4243

static struct policy_rule rules[2]; /* allotted; any, for bus 2 */

/* Waits for an answer, which a process may have to find first. */
static inline ssize_t hear_soon(int fd, union answer *answer)
{
	ssize_t n = -1;

	for (int i = 0; i < 30000 && n < 0; i++) {
		turn(TURNS);
		n = hear(fd, answer);
		if (n < 0)
			poll(NULL, 0, 1);
	}
	return n;
}

/* Returns 0 for an end, -2 for ready, -1: dropped, or the reason of the refusal. */
static inline int answer_to(int fd, struct message_refusal *ret_refusal)
{
	union answer answer = { 0 };

	if (hear_soon(fd, &answer) <= 0)
		return -1;
	if (ret_refusal)
		*ret_refusal = answer.refusal;
	return answer.type == MESSAGE_END     ? 0
	       : answer.type == MESSAGE_READY ? -2
					      : (int)answer.refusal.reason;
}

static inline int dial_as(uint32_t uid)
{
	int fd = dial_in(0);

	last_is_user(uid);
	return fd;
}

static inline int allot(uint32_t uid, const char *label, unsigned bus)
{
	struct message_allot m = { .type = MESSAGE_ALLOT, .uid = uid, .gid = uid, .n_selectors = 1 };
	int fd = dial_as(0), r;

	snprintf(m.label, sizeof(m.label), "%s", label);
	m.selectors[0].kind = SELECT_ADDRESS;
	m.selectors[0].address.bus = (uint8_t)bus;
	say(fd, &m, sizeof(m));
	r = answer_to(fd, NULL);
	hang_up(fd);
	return r;
}

static inline int retract(const char *label)
{
	struct message_retract m = { .type = MESSAGE_RETRACT };
	int fd = dial_as(0), r;

	snprintf(m.label, sizeof(m.label), "%s", label);
	say(fd, &m, sizeof(m));
	r = answer_to(fd, NULL);
	hang_up(fd);
	return r;
}

/* Asks on a connection for a socket of an allotment. */
static inline int ask_socket(int fd, const char *label, const char *name)
{
	const struct allotment *now = allotments_find(&broker.allotments, label);
	struct message_socket m = {
		.type = MESSAGE_SOCKET,
		.uid = now ? now->uid : BOB,
		.gid = 77,
		.n_gids = 1,
		.gids = { 78 },
	};

	snprintf(m.label, sizeof(m.label), "%s", label);
	snprintf(m.name, sizeof(m.name), "%s", name);
	say(fd, &m, sizeof(m));
	return answer_to(fd, NULL);
}

static inline int send_listener(int fd, int sent, size_t n, struct message_refusal *ret_refusal)
{
	const struct message_plain m = { .type = MESSAGE_LISTENER };

	need(!slow_send(fd, &m, sizeof(m), sent, n));
	return answer_to(fd, ret_refusal);
}

static inline struct sockaddr_un address_of(const char *name)
{
	struct sockaddr_un address = { .sun_family = AF_UNIX };

	snprintf(address.sun_path, sizeof(address.sun_path), "%.60s/%s", broker.peers.sockets.path,
		 name);
	return address;
}

static inline int make_listener(const char *name)
{
	const struct sockaddr_un address = address_of(name);
	int fd = socket(AF_UNIX, SOCK_SEQPACKET | SOCK_CLOEXEC, 0);

	unlink(address.sun_path);
	need(fd >= 0 && !bind(fd, (const struct sockaddr *)&address, sizeof(address)) &&
	     !listen(fd, 8));
	return fd;
}

/* Gives an allotment a socket, as root. */
static inline bool give(const char *label, const char *name)
{
	int fd = dial_as(0), listener, r = ask_socket(fd, label, name);

	if (r == -2) {
		listener = make_listener(name);
		r = send_listener(fd, listener, 1, NULL);
		close(listener);
	}
	hang_up(fd);
	return !r;
}

/* Connects as whoever comes. Returns -1 if nobody listens. */
static inline int come_to(const char *name)
{
	const struct message_hello hello = { .type = MESSAGE_HELLO, .version = PROTOCOL_VERSION };
	const struct sockaddr_un address = address_of(name);
	int fd = socket(AF_UNIX, SOCK_SEQPACKET | SOCK_CLOEXEC | SOCK_NONBLOCK, 0);
	union answer answer;

	if (connect(fd, (const struct sockaddr *)&address, sizeof(address))) {
		close(fd);
		return -1;
	}
	say(fd, &hello, sizeof(hello));
	need(hear_soon(fd, &answer) == sizeof(hello) && answer.type == MESSAGE_WELCOME);
	return fd;
}

static inline int may_claim(int fd, enum selector_kind kind, unsigned bus,
			    struct message_refusal *ret_refusal)
{
	struct message_claim claim = claim_by(kind);

	claim.flags = CLAIM_ASK;
	claim.selectors[0].address.bus = (uint8_t)bus;
	say(fd, &claim, sizeof(claim));
	return answer_to(fd, ret_refusal);
}

/* Counts the answers to a listing; those of the type are `n`. */
static inline unsigned count_listed(int fd, enum message_type request, enum message_type type)
{
	union answer answer = { 0 };
	unsigned n = 0;

	say_plain(fd, request);
	while (hear_soon(fd, &answer) > 0 && answer.type == type)
		n++;
	need(answer.type == MESSAGE_END);
	return n;
}

/* Functions of buses 1 to 3 in groups 11 to 13, records, and a directory for sockets. */
static inline void allot_world_make(void)
{
	char path[128], address[24];

	slow_start();
	broker_make();
	for (unsigned bus = 1; bus <= 3; bus++) {
		snprintf(address, sizeof(address), "0000:%02x:00.0", bus);
		add_function(address, "0x030000\n", 10 + (int)bus);
		add_device((uint8_t)bus, 0, 0x030000, 10 + bus);
	}
	scratch_write("state/none", "");
	snprintf(path, sizeof(path), "%s/state", scratch_path);
	broker.store.directory = open(path, O_RDONLY | O_DIRECTORY | O_CLOEXEC);
	need(broker.store.directory >= 0);
	snprintf(path, sizeof(path), "%s/socket", scratch_path);
	need(!sockets_open(&broker.peers.sockets, path));
	broker_allow_all(&rules[0]);
	rules[1] = rules[0];
	rules[0].who = POLICY_WHO_ALLOTTED;
	rules[1].match.attributes |= POLICY_ADDRESS;
	rules[1].match.address.bus = 2;
	broker.policy.policy.n_rules = 2;
}
