/* SPDX-License-Identifier: MIT */
/*
 * The world of all daemon tests: `broker`, a core connected by core_init(), with real sockets and a
 * real loop, a device table, and a few files in the shape of sysfs below the scratch directory.
 * Nothing here waits: whatever a peer does, the core has dealt with it a few turns of the loop
 * later.
 */
#pragma once

#include "brokerd/core.h"
#include "brokerd/serve.h"
#include "brokerd/peer/admit.h"
#include "brokerd/process/loop.h"
#include "client/library/answer.h"
#include "client/wire/passfd.h"
#include "client/common/util.h"
#include "tests/scratch.h"

#include <event2/event.h>

#include <poll.h>
#include <stdint.h>
#include <sys/socket.h>

#define TURNS 12 /* more than any single answer needs */

static struct core broker;
static int broker_status;     /* the argument of core_ops.failed(), else 0 */
static unsigned broker_idle;  /* calls of core_ops.idle() */
static unsigned broker_stale; /* calls of core_ops.stale() */
static bool broker_kept;      /* the last argument of core_ops.policy() */
static size_t fds_at_start;   /* while nobody is connected */

static inline void turn(int n)
{
	while (n--)
		event_base_loop(broker.base, EVLOOP_NONBLOCK);
}

/*
 * Makes a connection and returns the client's end, which never blocks. `room` is the daemon's send
 * buffer, 0 the default.
 */
static inline int dial(int room)
{
	int ends[2];

	need(!socketpair(AF_UNIX, SOCK_SEQPACKET | SOCK_CLOEXEC | SOCK_NONBLOCK, 0, ends));
	if (room)
		need(!setsockopt(ends[0], SOL_SOCKET, SO_SNDBUF, &room, sizeof(room)));
	admit(&broker.peers, ends[0]);
	return ends[1];
}

static inline bool say(int fd, const void *packet, size_t size)
{
	return send(fd, packet, size, MSG_NOSIGNAL) == (ssize_t)size;
}

static inline void say_plain(int fd, enum message_type type)
{
	const struct message_plain plain = { .type = type };

	say(fd, &plain, sizeof(plain));
}

/*
 * Returns the size of the next answer, even if it is larger than any, 0 at the end, or -1 if there
 * is none yet. Looks past a reset, as the library does.
 */
static inline ssize_t hear(int fd, union answer *answer)
{
	ssize_t n = recv(fd, answer, sizeof(*answer), MSG_TRUNC);

	if (n < 0 && errno == ECONNRESET)
		n = recv(fd, answer, sizeof(*answer), MSG_TRUNC);
	return n;
}

static inline bool hears(int fd, uint32_t type, size_t size)
{
	union answer answer;

	return hear(fd, &answer) == (ssize_t)size && answer.type == type;
}

static inline bool is_dropped(int fd)
{
	union answer answer;

	return hear(fd, &answer) == 0;
}

static inline bool welcome(int fd)
{
	const struct message_hello hello = { .type = MESSAGE_HELLO, .version = PROTOCOL_VERSION };

	say(fd, &hello, sizeof(hello));
	turn(TURNS);
	return hears(fd, MESSAGE_WELCOME, sizeof(hello));
}

static inline int dial_in(int room)
{
	int fd = dial(room);

	need(welcome(fd));
	return fd;
}

static inline void hang_up(int fd)
{
	close(fd);
	turn(TURNS);
}

/* Returns true if no user's connection is counted. */
static inline bool counts_nobody(const struct users *counts)
{
	for (size_t i = 0; i < USERS_BUCKETS; i++)
		if (counts->buckets[i])
			return false;
	return true;
}

/*
 * Waits until no connection is parked and no closer is left, for at most half a minute. Returns true
 * if so.
 */
static inline bool all_closed(void)
{
	for (int n = 0; n < 30000 && (broker.closing.n || broker.closing.n_closers); n++) {
		poll(NULL, 0, 1);
		turn(TURNS);
	}
	return !broker.closing.n && !broker.closing.n_closers;
}

/* Returns true if nobody is connected and all descriptors but those of the start are closed. */
static inline bool quiet(void)
{
	turn(TURNS);
	all_closed();
	return !broker.peers.n && TAILQ_EMPTY(&broker.peers.list) &&
	       TAILQ_EMPTY(&broker.claims.list) && counts_nobody(&broker.peers.users) &&
	       open_descriptors() == fds_at_start;
}

static inline struct message_claim claim_by(enum selector_kind kind)
{
	return (struct message_claim){
		.type = MESSAGE_CLAIM,
		.n_selectors = 1,
		.selectors = { { .kind = kind } },
	};
}

static inline void add_function(const char *address, const char *class_code, int group)
{
	const struct {
		const char *name, *text;
	} attributes[] = {
		{ "vendor", "0x1234\n" },
		{ "device", "0x1111\n" },
		{ "subsystem_vendor", "0x1af4\n" },
		{ "subsystem_device", "0x1100\n" },
		{ "class", class_code },
		{ "driver_override", "(null)\n" },
	};
	char path[128], text[32];

	for (size_t i = 0; i < ARRAY_SIZE(attributes); i++) {
		snprintf(path, sizeof(path), "sys/bus/pci/devices/%s/%s", address,
			 attributes[i].name);
		scratch_write(path, attributes[i].text);
	}
	if (group < 0)
		return;
	snprintf(path, sizeof(path), "sys/kernel/iommu_groups/%d/devices/%s", group, address);
	scratch_write(path, "");
	snprintf(path, sizeof(path), "%s/sys/bus/pci/devices/%s/iommu_group", scratch_path,
		 address);
	snprintf(text, sizeof(text), "../groups/%d", group);
	need(!symlink(text, path));
}

static inline void add_device(uint8_t bus, uint8_t function, uint32_t class_code, uint32_t group)
{
	const struct watcher_record record = {
		.type = WATCHER_DEVICE,
		.address = { .bus = bus, .function = function },
		.vendor = 0x1234,
		.device = 0x1111,
		.class_code = class_code,
		.group = group,
	};

	need(!devices_take(&broker.devices, &record));
}

static inline bool broker_on_serving(void *userdata)
{
	(void)userdata;
	return true;
}

static inline void broker_on_policy(void *userdata, bool kept)
{
	(void)userdata;
	broker_kept = kept;
}

static inline void broker_on_idle(void *userdata)
{
	(void)userdata;
	broker_idle++;
}

static inline void broker_on_stale(void *userdata)
{
	(void)userdata;
	broker_stale++;
}

static inline void broker_on_failed(void *userdata, int status)
{
	(void)userdata;
	broker_status = status;
}

/* Makes an empty broker and its loop. */
static inline void broker_make(void)
{
	char sys[80];

	static const struct core_ops ops = {
		.serving = broker_on_serving,
		.policy = broker_on_policy,
		.idle = broker_on_idle,
		.stale = broker_on_stale,
		.failed = broker_on_failed,
	};

	broker = (struct core)CORE_INIT;
	broker.ops = &ops;
	/* Not loop_new(): nobody could count the end of its turns. */
	broker.base = event_base_new();
	need(broker.base && !event_base_priority_init(broker.base, PRIORITY_PEERS + 1));
	snprintf(sys, sizeof(sys), "%s/sys", scratch_make());
	scratch_write("sys/bus/none", "");
	broker.kernel.sys = open(sys, O_PATH | O_DIRECTORY | O_CLOEXEC);
	need(broker.kernel.sys >= 0);
	need(!core_init(&broker));
	fds_at_start = open_descriptors();
}

/* Lets anybody claim the devices that have add_function()'s vendor. */
static inline void broker_allow_all(struct policy_rule *rule)
{
	static struct policy_file file = { "/etc/gpubroker/policy.d/10-all.policy" };

	*rule = (struct policy_rule){
		.verb = POLICY_ALLOW,
		.who = POLICY_WHO_ANY,
		.name = POLICY_NO_NAME,
		.match = {
			.attributes = POLICY_VENDOR,
			.vendor = 0x1234,
			POLICY_MATCH_NO_TEXTS,
		},
		.vfio_driver = POLICY_NO_TEXT,
		.line = 1,
		.column = 1,
	};
	need(policy_rule_valid(rule, 0, 1, NULL, 0));
	broker.policy.policy =
		(struct policy){ .rules = rule, .n_rules = 1, .files = &file, .n_files = 1 };
	broker.policy.good = true;
}

/* Gives the latest connection to another user, and counts it as that user's. */
static inline void last_is_user(uint32_t uid)
{
	struct peer *peer = TAILQ_LAST(&broker.peers.list, peer_list);

	need(!users_take(&broker.peers.users, uid, PEERS_PER_UID));
	users_remove(&broker.peers.users, &peer->member);
	users_give(&broker.peers.users, peer->counted_as);
	peer->claimant.uid = peer->sriov.uid = peer->order.uid = peer->counted_as = uid;
	users_add(&broker.peers.users, uid, &peer->member);
}

static inline void broker_drop(void)
{
	/* The test owns the policy; it is not on the heap. */
	broker.policy.policy = (struct policy){ 0 };
	core_done(&broker);
	event_base_free(broker.base);
}
