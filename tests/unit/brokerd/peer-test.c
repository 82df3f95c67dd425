/* SPDX-License-Identifier: MIT */
/*
 * The wire, seen from the outside: real sockets, a real loop, and a daemon made by hand with a
 * device table, a policy and a few files in the shape of sysfs, on which claims are refused. The
 * emulated host (tests/vm) shows that claims bind.
 *
 * Nothing here waits: whatever a peer does, the daemon has dealt with it a few turns of the loop
 * later.
 */
#include "config.h"

#include "brokerd/state/refuse.h"
#include "brokerd/state/users.h"
#include "brokerd/state/verdict.h"
#include "tests/unit/brokerd/world.h"
#include "tests/tap.h"

#include <malloc.h>

#define DEVICES 500

/* ---- connecting ---- */

static void test_hello(void)
{
	const struct message_hello old = { .type = MESSAGE_HELLO, .version = PROTOCOL_VERSION + 1 };
	const struct message_hello hello = { .type = MESSAGE_HELLO, .version = PROTOCOL_VERSION };
	union answer answer;
	int fd = dial(0);

	tap_ok(welcome(fd) && broker.peers.n == 1, "a peer is welcome");
	tap_ok(TAILQ_FIRST(&broker.peers.list)->claimant.uid == getuid() &&
		       TAILQ_FIRST(&broker.peers.list)->claimant.pid == (uint32_t)getpid(),
	       "and known by what the kernel says");
	say(fd, &hello, sizeof(hello));
	turn(TURNS);
	tap_ok(is_dropped(fd), "a second hello drops it");
	close(fd);
	tap_ok(quiet(), "and leaves nothing");

	fd = dial(0);
	say(fd, &old, sizeof(old));
	turn(TURNS);
	tap_ok(hear(fd, &answer) == sizeof(answer.refusal) && answer.type == MESSAGE_REFUSAL &&
		       answer.refusal.reason == GPUBROKER_REFUSED_VERSION && is_dropped(fd),
	       "another version is told so and dropped");
	close(fd);

	for (uint32_t type = MESSAGE_LIST; type <= MESSAGE_CLAIM; type++) {
		fd = dial(0);
		say_plain(fd, (enum message_type)type);
		turn(TURNS);
		tap_ok(is_dropped(fd), "request %u before the hello drops the peer",
		       (unsigned)type);
		close(fd);
	}

	fd = dial(0);
	say(fd, &hello, sizeof(hello));
	say_plain(fd, MESSAGE_LEASES);
	turn(TURNS);
	tap_ok(hears(fd, MESSAGE_WELCOME, sizeof(hello)) &&
		       hears(fd, MESSAGE_END, sizeof(struct message_plain)),
	       "a request right behind the hello is answered");
	close(fd);
	fd = dial(0);
	close(fd);
	tap_ok(quiet(), "one who hangs up at once leaves nothing");
	admit(&broker.peers, -1);
	tap_ok(quiet(), "no connection is no peer");
	admit(&broker.peers, open("/dev/null", O_RDWR | O_CLOEXEC));
	tap_ok(quiet(), "what is no socket is closed");
}

/* Stands in for a kernel before 6.5, which has no SO_PEERPIDFD. */
static bool knows_no_process(void)
{
	int ends[2], pidfd = -1;
	socklen_t size = sizeof(pidfd);
	bool no;

	need(!socketpair(AF_UNIX, SOCK_SEQPACKET | SOCK_CLOEXEC, 0, ends));
	no = getsockopt(ends[0], SOL_SOCKET, 77, &pidfd, &size) && errno == ENOPROTOOPT;
	fd_close(pidfd);
	close(ends[0]);
	close(ends[1]);
	return no;
}

static void test_users(void)
{
	struct users counts = { 0 };
	bool all = true;

	/* All these uids fall into four buckets. */
	for (uint32_t uid = 0; uid < 4000; uid++)
		for (unsigned i = 0; i < 3; i++)
			all = all && !users_take(&counts, uid * 64, 3);
	tap_ok(all, "each of 4,000 users has as many connections as it may");
	for (uint32_t uid = 0; uid < 4000; uid++)
		all = all && users_take(&counts, uid * 64, 3) == -EDQUOT;
	tap_ok(all, "and not one more");
	users_give(&counts, 64);
	tap_ok(users_take(&counts, 64, 2) == -EDQUOT && !users_take(&counts, 64, 3) &&
		       users_take(&counts, 64, 3) == -EDQUOT &&
		       users_take(&counts, 128, 3) == -EDQUOT,
	       "one that goes makes room for its user's, and nobody else's");
	tap_ok(users_spend(&counts, 64, 1, USERS_BUDGET - 1) &&
		       users_spend(&counts, 64, 1, USERS_BUDGET - 1) &&
		       !users_spend(&counts, 64, 1, 1) && users_spend(&counts, 128, 1, 1),
	       "who has had its share of a turn is held back, others are not");
	tap_ok(users_spend(&counts, 64, 2, 1), "until the next turn");
	users_owe(&counts, 64, 3, 10 * USERS_BUDGET);
	tap_ok(!users_spend(&counts, 64, 3, 0) && !users_spend(&counts, 64, 12, 0) &&
		       users_spend(&counts, 64, 14, 0),
	       "who has cost more than a turn's share is held back for as many turns");
	users_owe(&counts, 64, 20, UINT64_MAX);
	tap_ok(!users_spend(&counts, 64, 20 + USERS_DEBT - 1, 0) &&
		       users_spend(&counts, 64, 20 + USERS_DEBT, 0),
	       "but not for ever");
	users_give(&counts, 63);
	tap_ok(!users_take(&counts, 63, 1) && users_take(&counts, 63, 1) == -EDQUOT,
	       "who has none cannot have less");
	users_give(&counts, 63);
	for (uint32_t uid = 0; uid < 4000; uid++)
		for (unsigned i = 0; i < 3; i++)
			users_give(&counts, uid * 64);
	tap_ok(counts_nobody(&counts), "when all have gone nothing is left");
}

/* A user whose last connection closes, and who connects again. */
static bool spends_anew(struct users *counts, uint32_t uid, uint64_t turn)
{
	bool spends;

	need(!users_take(counts, uid, 1));
	spends = users_spend(counts, uid, turn, 0);
	users_give(counts, uid);
	return spends;
}

static void owe_and_go(struct users *counts, uint32_t uid, uint64_t turn, uint64_t cost)
{
	need(!users_take(counts, uid, 1));
	users_owe(counts, uid, turn, cost);
	users_give(counts, uid);
}

static void test_debts(void)
{
	struct users counts = { 0 };
	bool all = true;

	owe_and_go(&counts, 1000, 5, 10 * USERS_BUDGET);
	tap_ok(!spends_anew(&counts, 1000, 5) && !spends_anew(&counts, 1000, 14) &&
		       spends_anew(&counts, 1001, 5) && spends_anew(&counts, 1000, 15),
	       "who hangs up and connects anew has the same debt, for as many turns");
	/* Many users with small debts, which are of later turns too. */
	owe_and_go(&counts, 1000, 20, UINT64_MAX);
	for (uint32_t uid = 2000; uid < 6000; uid++)
		owe_and_go(&counts, uid, 20 + uid % 3, 2 * USERS_BUDGET);
	tap_ok(!spends_anew(&counts, 1000, 20 + USERS_DEBT - 1),
	       "... also if so many others have one that the smallest are forgotten");
	for (uint32_t uid = 2000; uid < 6000; uid++)
		all = all && spends_anew(&counts, uid, 20 + USERS_DEBT);
	tap_ok(all && spends_anew(&counts, 1000, 20 + USERS_DEBT) && counts_nobody(&counts),
	       "... and not for ever");
}

static void test_quota(void)
{
	int fds[PEERS_PER_UID], fd;
	bool all = true;
	const struct message_hello hello = { .type = MESSAGE_HELLO, .version = PROTOCOL_VERSION };
	union answer answer;
	int ends[2];

	for (size_t i = 0; i < ARRAY_SIZE(fds); i++) {
		fds[i] = dial(0);
		all = all && welcome(fds[i]);
	}
	tap_ok(all && broker.peers.n == PEERS_PER_UID, "%d connections of one user are served",
	       PEERS_PER_UID);
	tap_ok(open_descriptors() - fds_at_start <=
		       (size_t)PEERS_PER_UID * (knows_no_process() ? 3 : 2),
	       "and cost a descriptor each, two where the kernel would forget their process");
	fd = dial(0);
	tap_ok(hear(fd, &answer) == sizeof(answer.refusal) && answer.type == MESSAGE_REFUSAL &&
		       answer.refusal.reason == GPUBROKER_REFUSED_QUOTA &&
		       strstr(answer.refusal.text, "128") && is_dropped(fd),
	       "the next one is told why it is not");
	close(fd);

	need(!socketpair(AF_UNIX, SOCK_SEQPACKET | SOCK_CLOEXEC | SOCK_NONBLOCK, 0, ends));
	say(ends[1], &hello, sizeof(hello));
	admit(&broker.peers, ends[0]);
	tap_ok(hear(ends[1], &answer) == sizeof(answer.refusal) &&
		       answer.refusal.reason == GPUBROKER_REFUSED_QUOTA,
	       "also where it has said its hello before it was accepted");
	close(ends[1]);

	for (int i = 0; i < 1000; i++)
		close(dial(0));
	tap_ok(broker.peers.n == PEERS_PER_UID && welcome(fds[0]) == false,
	       "a thousand more change nothing");
	hang_up(fds[1]);
	fd = dial(0);
	tap_ok(welcome(fd), "when one goes, another has its place");
	close(fd);
	for (size_t i = 0; i < ARRAY_SIZE(fds); i++)
		if (i != 1)
			close(fds[i]);
	tap_ok(quiet(), "and when all go, nothing is left");
}

/* ---- packets that are no request ---- */

/* Makes a packet that is right but for its size, so that the daemon can drop it only for that. */
static void make_packet(char packet[PROTOCOL_MESSAGE_MAX * 2], uint32_t type)
{
	const struct message_hello hello = { .type = MESSAGE_HELLO, .version = PROTOCOL_VERSION };
	const struct message_claim claim = claim_by(SELECT_ANY);
	const struct message_migration migration = { .type = MESSAGE_MIGRATION,
						     .migration = GPUBROKER_MIGRATION_NO };

	memset(packet, 0, PROTOCOL_MESSAGE_MAX * 2);
	memcpy(packet, &type, sizeof(type));
	if (type == MESSAGE_HELLO)
		memcpy(packet, &hello, sizeof(hello));
	else if (type == MESSAGE_CLAIM)
		memcpy(packet, &claim, sizeof(claim));
	else if (type == MESSAGE_MIGRATION)
		memcpy(packet, &migration, sizeof(migration));
}

static void test_sizes(void)
{
	static const uint32_t types[] = {
		0,
		MESSAGE_HELLO,
		MESSAGE_LIST,
		MESSAGE_LEASES,
		MESSAGE_CLAIM,
		MESSAGE_RELEASE,
		MESSAGE_RESTORE,
		MESSAGE_WATCH,
		MESSAGE_VFS,
		MESSAGE_MIGRATION,
		MESSAGE_QUEUE,
		MESSAGE_POLICY,
		MESSAGE_USAGE,
		MESSAGE_COUNTERS,
		MESSAGE_PREPARE,
		MESSAGE_PREPARE + 1,
		MESSAGE_WELCOME,
		MESSAGE_DEVICE,
		MESSAGE_LEASE,
		MESSAGE_END,
		MESSAGE_STEP,
		MESSAGE_GRANT,
		MESSAGE_REFUSAL,
		UINT32_MAX,
	};
	char packet[PROTOCOL_MESSAGE_MAX * 2];

	for (size_t i = 0; i < ARRAY_SIZE(types); i++) {
		unsigned wrong = 0, taken = 0;
		size_t where = 0;

		make_packet(packet, types[i]);
		for (size_t size = 0; size <= PROTOCOL_MESSAGE_MAX + 100; size++) {
			for (int greeted = 0; greeted < 2; greeted++) {
				size_t right = SIZE_MAX;
				bool dropped;
				int fd = greeted ? dial_in(0) : dial(0);

				if (types[i] == MESSAGE_HELLO)
					right = greeted ? SIZE_MAX : sizeof(struct message_hello);
				else if (greeted &&
					 (types[i] == MESSAGE_LIST || types[i] == MESSAGE_LEASES ||
					  types[i] == MESSAGE_QUEUE || types[i] == MESSAGE_USAGE ||
					  types[i] == MESSAGE_COUNTERS))
					right = sizeof(struct message_plain);
				else if (greeted && types[i] == MESSAGE_CLAIM)
					right = sizeof(struct message_claim);
				else if (greeted && types[i] == MESSAGE_RELEASE)
					right = sizeof(struct message_release);
				else if (greeted && (types[i] == MESSAGE_RESTORE ||
						     types[i] == MESSAGE_PREPARE))
					right = sizeof(struct message_restore);
				else if (greeted && types[i] == MESSAGE_WATCH)
					right = sizeof(struct message_plain);
				else if (greeted && types[i] == MESSAGE_VFS)
					right = sizeof(struct message_vfs);
				else if (greeted && types[i] == MESSAGE_MIGRATION)
					right = sizeof(struct message_migration);
				else if (greeted && types[i] == MESSAGE_POLICY)
					right = sizeof(struct message_policy);
				say(fd, packet, size);
				turn(2);
				dropped = !broker.peers.n;
				taken += !dropped;
				if (dropped != (size != right)) {
					wrong++;
					where = size;
				}
				hang_up(fd);
			}
		}
		tap_ok(!wrong &&
			       taken == (types[i] >= MESSAGE_HELLO && types[i] <= MESSAGE_PREPARE),
		       "type %u: every size but the right one drops the peer (%u wrong, last %zu)",
		       (unsigned)types[i], wrong, where);
	}
	tap_ok(quiet(), "and leaves nothing");
}

static void spoil_flags(struct message_claim *c)
{
	c->flags = CLAIM_ASK << 1;
}
static void spoil_all_flags(struct message_claim *c)
{
	c->flags = UINT32_MAX;
}
static void spoil_reserved(struct message_claim *c)
{
	c->reserved = 1;
}
static void spoil_none(struct message_claim *c)
{
	c->n_selectors = 0;
}
static void spoil_many(struct message_claim *c)
{
	c->n_selectors = PROTOCOL_SELECTORS_MAX + 1;
}
static void spoil_count(struct message_claim *c)
{
	c->n_selectors = UINT32_MAX;
}
static void spoil_kind_0(struct message_claim *c)
{
	c->selectors[0].kind = 0;
}
static void spoil_kind(struct message_claim *c)
{
	c->selectors[0].kind = SELECT_ANY + 1;
}
static void spoil_second(struct message_claim *c)
{
	c->n_selectors = 2;
}
static void spoil_device(struct message_claim *c)
{
	c->selectors[0].address.device = 32;
}
static void spoil_function(struct message_claim *c)
{
	c->selectors[0].address.function = 8;
}
static void spoil_address(struct message_claim *c)
{
	c->selectors[0].address.reserved = 1;
}
static void spoil_profile_end(struct message_claim *c)
{
	memset(c->selectors[0].profile, 'p', sizeof(c->selectors[0].profile));
}
static void spoil_profile_path(struct message_claim *c)
{
	strcpy(c->selectors[0].profile, "a/b");
}
static void spoil_profile_dots(struct message_claim *c)
{
	strcpy(c->selectors[0].profile, "..");
}
static void spoil_profile_line(struct message_claim *c)
{
	strcpy(c->selectors[0].profile, "a\nb");
}
static void spoil_profile_group(struct message_claim *c)
{
	c->selectors[0].kind = SELECT_GROUP;
	strcpy(c->selectors[0].profile, "mtty-1");
}
static void spoil_name(struct message_claim *c)
{
	memset(c->selectors[0].name, 'A', PROTOCOL_NAME_MAX);
}

static void test_bad_claims(void)
{
	static const struct {
		const char *what;
		void (*spoil)(struct message_claim *claim);
	} cases[] = {
		{ "an unknown flag", spoil_flags },
		{ "all flags", spoil_all_flags },
		{ "a reserved field that is not 0", spoil_reserved },
		{ "no selector", spoil_none },
		{ "a selector too many", spoil_many },
		{ "a count that is a lie", spoil_count },
		{ "selector kind 0", spoil_kind_0 },
		{ "a selector kind that is none", spoil_kind },
		{ "a second selector that is empty", spoil_second },
		{ "device 32", spoil_device },
		{ "function 8", spoil_function },
		{ "a reserved byte in an address", spoil_address },
		{ "a name without end", spoil_name },
		{ "a profile without end", spoil_profile_end },
		{ "a profile with a slash", spoil_profile_path },
		{ "a profile that leads out of a directory", spoil_profile_dots },
		{ "a profile of two lines", spoil_profile_line },
		{ "a profile of a group", spoil_profile_group },
	};
	const struct message_plain reserved = { .type = MESSAGE_LIST, .reserved = 1 };
	int fd;

	for (size_t i = 0; i < ARRAY_SIZE(cases); i++) {
		struct message_claim claim = claim_by(SELECT_NAME);

		fd = dial_in(0);
		cases[i].spoil(&claim);
		say(fd, &claim, sizeof(claim));
		turn(TURNS);
		tap_ok(is_dropped(fd), "a claim with %s drops the peer", cases[i].what);
		close(fd);
	}
	fd = dial_in(0);
	say(fd, &reserved, sizeof(reserved));
	turn(TURNS);
	tap_ok(is_dropped(fd), "a listing with a reserved field that is not 0 does too");
	close(fd);
	tap_ok(quiet(), "and nothing is left");
}

static void say_with_fds(int fd, const void *packet, size_t size, size_t n_fds)
{
	union {
		struct cmsghdr header;
		char space[CMSG_SPACE(sizeof(int) * 253)];
	} control = { 0 };
	struct iovec iov = { .iov_base = (void *)packet, .iov_len = size };
	struct msghdr message = {
		.msg_iov = &iov,
		.msg_iovlen = 1,
		.msg_control = &control,
		.msg_controllen = CMSG_SPACE(sizeof(int) * n_fds),
	};

	control.header.cmsg_level = SOL_SOCKET;
	control.header.cmsg_type = SCM_RIGHTS;
	control.header.cmsg_len = CMSG_LEN(sizeof(int) * n_fds);
	for (size_t i = 0; i < n_fds; i++)
		memcpy(CMSG_DATA(&control.header) + i * sizeof(int), &broker.kernel.sys,
		       sizeof(int));
	need(sendmsg(fd, &message, MSG_NOSIGNAL) == (ssize_t)size);
}

static void test_descriptors(void)
{
	static const size_t counts[] = { 1, 2, 16, 17, 18, 19, 64, 253 };
	const struct message_plain list = { .type = MESSAGE_LEASES };
	char large[2000] = "";

	for (size_t i = 0; i < ARRAY_SIZE(counts); i++) {
		static const size_t sizes[] = { 0, sizeof(list), sizeof(large) };
		bool dropped = true;

		for (size_t k = 0; k < ARRAY_SIZE(sizes); k++) {
			int fd = dial_in(0);

			say_with_fds(fd, sizes[k] == sizeof(list) ? (const void *)&list : large,
				     sizes[k], counts[i]);
			turn(TURNS);
			dropped = dropped && is_dropped(fd);
			close(fd);
		}
		tap_ok(dropped, "%zu descriptors that nobody asked for drop the peer", counts[i]);
		if (!tap_ok(quiet(), "and are closed (%zd left open)",
			    (ssize_t)(open_descriptors() - fds_at_start)))
			fds_at_start = open_descriptors(); /* reports a leak only once */
	}
}

/* ---- listings ---- */

static void fill_devices(size_t n)
{
	devices_done(&broker.devices);
	for (size_t i = 0; i < n; i++) {
		struct watcher_record record = {
			.type = WATCHER_DEVICE,
			.address = { 0, (uint8_t)(i >> 3), (uint8_t)(i & 7), 0, 0 },
			.vendor = 0x1234,
			.device = (uint16_t)i,
			.class_code = 0x030000,
			.group = (uint32_t)i,
			.driver = "bochs-drm",
			.model = "a model",
		};

		need(!devices_take(&broker.devices, &record));
	}
}

/*
 * Reads the packets of a listing of devices that have arrived, and returns their number. Sets
 * *ordered to false if a device does not come after the one before, *ended to true at the end.
 */
static size_t read_listing(int fd, size_t at_most, struct pci_address *last, bool *ordered,
			   bool *ended)
{
	union answer answer;
	size_t n = 0;

	while (n < at_most) {
		ssize_t size = hear(fd, &answer);

		if (size < 0)
			break;
		if (size == sizeof(answer.end) && answer.type == MESSAGE_END) {
			*ended = true;
			break;
		}
		if (size != sizeof(answer.device) || answer.type != MESSAGE_DEVICE ||
		    (last->reserved && pci_address_compare(last, &answer.device.address) >= 0)) {
			*ordered = false;
			break;
		}
		*last = answer.device.address;
		last->reserved = 1; /* marks that `last` is set */
		n++;
	}
	return n;
}

static void test_listing(void)
{
	static const int rooms[] = { 0, 1, 4096, 65536 };

	fill_devices(DEVICES);
	for (size_t i = 0; i < ARRAY_SIZE(rooms); i++) {
		struct pci_address last = { 0 };
		bool ordered = true, ended = false;
		size_t n = 0;
		int fd = dial_in(rooms[i]);

		say_plain(fd, MESSAGE_LIST);
		for (int k = 0; k < 4 * DEVICES && !ended; k++) {
			turn(1);
			n += read_listing(fd, 1, &last, &ordered, &ended);
		}
		tap_ok(n == DEVICES && ordered && ended,
		       "a buffer of %d, one message read a turn: the listing is whole and in order (%zu)",
		       rooms[i], n);
		say_plain(fd, MESSAGE_LEASES);
		turn(TURNS);
		tap_ok(hears(fd, MESSAGE_END, sizeof(struct message_plain)),
		       "and the next request is answered");
		close(fd);
		tap_ok(quiet(), "and nothing is left");
	}
}

static void test_listing_changes(void)
{
	struct watcher_record record = { .type = WATCHER_DEVICE, .group = UINT32_MAX };
	struct pci_address last = { 0 };
	bool ordered = true, ended = false;
	size_t n = 0;
	int fd = dial_in(1);

	fill_devices(DEVICES);
	say_plain(fd, MESSAGE_LIST);
	for (uint32_t k = 0; k < 10 * DEVICES && !ended; k++) {
		turn(1);
		n += read_listing(fd, 1, &last, &ordered, &ended);
		/* One device comes and one goes, below and above the place of the listing. */
		record.address = (struct pci_address){ 0, (uint8_t)(k % 60), 31, 0, 0 };
		record.type = k & 1 ? WATCHER_DEVICE : WATCHER_GONE;
		devices_take(&broker.devices, &record);
	}
	tap_ok(ordered && ended && n >= DEVICES,
	       "a listing goes on in order while devices come and go (%zu)", n);
	hang_up(fd);

	fill_devices(0);
	record.type = WATCHER_DEVICE;
	record.address = (struct pci_address){ UINT32_MAX, 255, 31, 7, 0 };
	devices_take(&broker.devices, &record);
	record.address = (struct pci_address){ 0, 255, 31, 7, 0 };
	devices_take(&broker.devices, &record);
	fd = dial_in(0);
	say_plain(fd, MESSAGE_LIST);
	turn(TURNS);
	last = (struct pci_address){ 0 };
	ordered = true;
	ended = false;
	n = read_listing(fd, 100, &last, &ordered, &ended);
	tap_ok(n == 2 && ordered && ended,
	       "after the last address that there can be, a listing ends");
	hang_up(fd);

	fill_devices(0);
	fd = dial_in(0);
	say_plain(fd, MESSAGE_LIST);
	turn(TURNS);
	tap_ok(hears(fd, MESSAGE_END, sizeof(struct message_plain)), "of no device, just the end");
	hang_up(fd);
	tap_ok(quiet(), "and nothing is left");
}

static void test_leases(void)
{
	struct lease *lease = NULL;
	union answer answer;
	uint64_t last = 0;
	bool whole = true;
	size_t n = 0;
	int fd = dial_in(1);

	for (uint32_t i = 0; i < 100; i++) {
		lease = lease_new(&broker.leases.table, 0, 1000 + i);
		need(lease);
		lease->n_functions = PROTOCOL_FUNCTIONS_MAX;
		lease->uid = i;
		memset(lease->reason, 'r', sizeof(lease->reason)); /* without a NUL */
	}
	say_plain(fd, MESSAGE_LEASES);
	for (int k = 0; k < 1000; k++) {
		ssize_t size;

		turn(1);
		size = hear(fd, &answer);
		if (size == sizeof(answer.end))
			break;
		if (size < 0)
			continue;
		whole = whole && size == sizeof(answer.lease) && answer.type == MESSAGE_LEASE &&
			answer.lease.id > last && answer.lease.uid == n &&
			answer.lease.n_functions == PROTOCOL_FUNCTIONS_MAX;
		last = answer.lease.id;
		n++;
	}
	tap_ok(whole && n == 100 && answer.type == MESSAGE_END,
	       "leases are listed whole and in order, slowly (%zu)", n);
	hang_up(fd);
	while (!TAILQ_EMPTY(&broker.leases.table.list))
		lease_free(TAILQ_FIRST(&broker.leases.table.list));

	/* A lease has the largest number that is possible. */
	need(lease_new(&broker.leases.table, UINT64_MAX - 1, 1));
	fd = dial_in(0);
	say_plain(fd, MESSAGE_LEASES);
	turn(TURNS);
	tap_ok(hears(fd, MESSAGE_LEASE, sizeof(answer.lease)) &&
		       hears(fd, MESSAGE_END, sizeof(answer.end)),
	       "after the largest number a listing ends");
	hang_up(fd);
	lease_free(TAILQ_FIRST(&broker.leases.table.list));
	lease_table_init(&broker.leases.table, broker.leases.table.events, &broker);
	tap_ok(quiet(), "and nothing is left");
}

static void test_busy(void)
{
	const struct message_claim claim = claim_by(SELECT_ANY);
	int fd;

	fill_devices(DEVICES);
	for (uint32_t type = MESSAGE_HELLO; type <= MESSAGE_CLAIM; type++) {
		union answer answer;
		ssize_t n;

		fd = dial_in(1);
		say_plain(fd, MESSAGE_LIST);
		turn(TURNS);
		need(TAILQ_FIRST(&broker.peers.list)->busy == PEER_LISTING);
		if (type == MESSAGE_CLAIM)
			say(fd, &claim, sizeof(claim));
		else
			say_plain(fd, (enum message_type)type);
		turn(TURNS);
		while ((n = hear(fd, &answer)) > 0)
			;
		tap_ok(!n && !broker.peers.n,
		       "request %u while another is being answered drops the peer", (unsigned)type);
		close(fd);
	}
	tap_ok(quiet(), "and nothing is left");
}

static void test_never_reads(void)
{
	int silent[8], fd;
	struct pci_address at[ARRAY_SIZE(silent)];
	const struct peer *peer;
	bool stays = true;
	size_t before, i = 0;

	fill_devices(DEVICES);
	for (i = 0; i < ARRAY_SIZE(silent); i++) {
		silent[i] = dial_in(1);
		say_plain(silent[i], MESSAGE_LIST);
	}
	turn(TURNS);
	i = 0;
	TAILQ_FOREACH(peer, &broker.peers.list, link)
		at[i++] = peer->next_device;
	before = mallinfo2().uordblks;
	turn(1000);
	i = 0;
	TAILQ_FOREACH(peer, &broker.peers.list, link)
		stays = stays && peer->busy == PEER_LISTING &&
			!pci_address_compare(&peer->next_device, &at[i++]);
	tap_ok(stays && broker.peers.n == ARRAY_SIZE(silent), "who never reads stays where it is");
	tap_ok(mallinfo2().uordblks <= before, "and takes no memory");
	fd = dial_in(0);
	say_plain(fd, MESSAGE_LEASES);
	turn(TURNS);
	tap_ok(hears(fd, MESSAGE_END, sizeof(struct message_plain)), "while others are served");
	close(fd);
	for (i = 0; i < ARRAY_SIZE(silent); i++)
		close(silent[i]);
	tap_ok(quiet(), "and when it goes, nothing is left");

	/*
	 * A peer asks again and again and reads nothing: it fills the socket with answers, then
	 * with requests, and no more.
	 */
	fd = dial_in(0);
	before = 0;
	for (i = 0; i < 100000; i++) {
		const struct message_claim claim = claim_by(SELECT_NAME);

		if (!say(fd, &claim, sizeof(claim)))
			break;
		turn(1);
	}
	tap_ok(i < 100000, "who asks without reading is stopped or dropped (after %zu)", i);
	close(fd);
	tap_ok(quiet(), "and nothing is left");
}

/* A user with many connections gets no larger share of a turn than a user with one. */
static void test_share(void)
{
	const struct message_plain list = { .type = MESSAGE_LIST };
	int fds[32];
	size_t most = 0, ends = 0;
	union answer answer;

	fill_devices(DEVICES);
	for (size_t i = 0; i < ARRAY_SIZE(fds); i++)
		fds[i] = dial_in(0);
	for (size_t i = 0; i < ARRAY_SIZE(fds); i++)
		say(fds[i], &list, sizeof(list));
	for (int turns = 0; turns < 20000 && ends < ARRAY_SIZE(fds); turns++) {
		size_t n = 0;

		/*
		 * Makes one turn: without ONCE the loop goes on for as long as any event is active.
		 */
		event_base_loop(broker.base, EVLOOP_ONCE | EVLOOP_NONBLOCK);
		for (size_t i = 0; i < ARRAY_SIZE(fds); i++)
			while (hear(fds[i], &answer) > 0) {
				n++;
				ends += answer.type == MESSAGE_END;
			}
		most = n > most ? n : most;
	}
	tap_ok(most > 0 && most <= 64, "32 listings of one user: %zu messages in a turn at most",
	       most);
	tap_ok(ends == ARRAY_SIZE(fds), "and all of them come to their end");
	for (size_t i = 0; i < ARRAY_SIZE(fds); i++)
		close(fds[i]);
	for (int turns = 0; broker.peers.n && turns < 1000; turns++)
		turn(1);
	tap_ok(quiet(), "and nothing is left");
}

static char order[4096];
static int report[2];

static void on_peers_event(evutil_socket_t fd, short what, void *name)
{
	(void)fd;
	(void)what;
	strncat(order, name, sizeof(order) - strlen(order) - 1);
	if (!strcmp(name, "a"))
		need(write(report[1], "", 1) == 1);
}

static void on_our_event(evutil_socket_t fd, short what, void *userdata)
{
	(void)fd;
	(void)what;
	(void)userdata;
	strcat(order, "!");
}

/* In the daemon's loop, the daemon's own events come between those of two peers. */
static void test_loop(void)
{
	struct event_base *base = loop_new();
	char names[2048][2]; /* more than the loop handles in one go */
	struct event *peers[ARRAY_SIZE(names)], *ours;
	const char *at;

	need(base && !pipe2(report, O_CLOEXEC));
	ours = event_new(base, report[0], EV_READ, on_our_event, NULL);
	need(ours && !event_add(ours, NULL));
	for (size_t i = 0; i < ARRAY_SIZE(peers); i++) {
		strcpy(names[i], i ? "b" : "a");
		peers[i] = event_new(base, -1, 0, on_peers_event, names[i]);
		need(peers[i] && !event_priority_set(peers[i], PRIORITY_PEERS));
		event_active(peers[i], EV_TIMEOUT, 1);
	}
	event_base_loop(base, EVLOOP_NONBLOCK);
	at = strchr(order, '!');
	tap_ok(at && at[1] && strlen(order) == ARRAY_SIZE(names) + 1,
	       "what comes of a worker while many peers ask is done before all of them were heard");
	for (size_t i = 0; i < ARRAY_SIZE(peers); i++)
		event_free(peers[i]);
	event_free(ours);
	event_base_free(base);
	close(report[0]);
	close(report[1]);
}

static void test_gone(void)
{
	int fd;

	fill_devices(DEVICES);
	for (int turns = 0; turns < 4; turns++) {
		fd = dial_in(1);
		say_plain(fd, MESSAGE_LIST);
		turn(turns);
		close(fd);
		tap_ok(quiet(), "gone %d turns into a listing: nothing is left", turns);
	}
	fd = dial_in(1);
	say_plain(fd, MESSAGE_LIST);
	turn(2);
	shutdown(fd, SHUT_WR);
	turn(TURNS);
	tap_ok(!broker.peers.n, "one who says that it will ask no more is let go too");
	close(fd);
	tap_ok(quiet(), "and nothing is left");
}

/*
 * The next connection, in the same turn of the loop, gets the descriptor number of the one before.
 */
static void test_number_again(void)
{
	const struct message_refusal refusal = refusal_make(GPUBROKER_REFUSED_QUOTA);
	int gone = dial_in(0), ends[2], number;
	struct peer *peer = TAILQ_FIRST(&broker.peers.list);

	number = peer->fd;
	close(gone);
	/*
	 * As at the end of a claim: the daemon finds the peer gone and frees it in the next turn.
	 */
	peer_refuse(peer, &refusal);
	need(!socketpair(AF_UNIX, SOCK_SEQPACKET | SOCK_CLOEXEC | SOCK_NONBLOCK, 0, ends));
	if (ends[0] != number && ends[1] != number)
		printf("# the number %d was not used again, but %d and %d\n", number, ends[0],
		       ends[1]);
	if (ends[1] == number) {
		int swap = ends[0];

		ends[0] = ends[1];
		ends[1] = swap;
	}
	admit(&broker.peers, ends[0]);
	tap_ok(welcome(ends[1]),
	       "who connects while another is being let go is heard, also on its descriptor's number");
	close(ends[1]);
	while (!TAILQ_EMPTY(&broker.peers.list) && !quiet())
		peer_free(TAILQ_FIRST(&broker.peers.list));
	tap_ok(quiet(), "and nothing is left");
}

/* ---- claims that are refused ---- */

/*
 * Anybody may claim 0000:01:00.0 by the name "lab", the audio function of 0000:05:00, and every
 * function of bus 3, 6 and 7.
 */
static struct policy_name names[] = { { "lab" }, { "none" } };
static struct policy_file files[] = { { "/etc/gpubroker/policy.d/10-lab.policy" } };
static struct policy_rule rules[7];

static void make_policy(void)
{
	static const struct {
		uint32_t verb, name;
		uint8_t bus, function;
	} wanted[ARRAY_SIZE(rules)] = {
		{ POLICY_DEVICE, 0, 1, 0 },
		{ POLICY_DEVICE, 1, 99, 0 },
		{ POLICY_ALLOW, 0, 1, 0 },
		{ POLICY_ALLOW, POLICY_NO_NAME, 3, 0 },
		{ POLICY_ALLOW, POLICY_NO_NAME, 5, 1 },
		{ POLICY_ALLOW, POLICY_NO_NAME, 6, 0 },
		{ POLICY_ALLOW, POLICY_NO_NAME, 7, 0 },
	};

	for (size_t i = 0; i < ARRAY_SIZE(rules); i++) {
		rules[i] = (struct policy_rule){
			.verb = wanted[i].verb,
			.who = wanted[i].verb == POLICY_ALLOW ? POLICY_WHO_ANY : POLICY_WHO_NONE,
			.name = wanted[i].name,
			.match = {
				.attributes = POLICY_ADDRESS,
				.address = { .bus = wanted[i].bus, .function = wanted[i].function },
				POLICY_MATCH_NO_TEXTS,
			},
			.vfio_driver = POLICY_NO_TEXT,
			.line = (uint32_t)i + 1,
			.column = 1,
		};
		need(policy_rule_valid(&rules[i], ARRAY_SIZE(names), ARRAY_SIZE(files), NULL, 0));
	}
	broker.policy.policy = (struct policy){
		.rules = rules,
		.n_rules = ARRAY_SIZE(rules),
		.names = names,
		.n_names = ARRAY_SIZE(names),
		.files = files,
		.n_files = ARRAY_SIZE(files),
	};
}

static void make_host(void)
{
	/* "lab", and a companion in another slot that no rule allows */
	add_function("0000:01:00.0", "0x030000\n", 11);
	add_function("0000:02:00.0", "0x040300\n", 11);
	add_function("0000:03:00.0", "0x030000\n", -1);
	add_function("0000:04:00.0", "0x030000\n", 14); /* no rule allows it */
	/* A rule allows only the second function of this slot. */
	add_function("0000:05:00.0", "0x030000\n", 15);
	add_function("0000:05:00.1", "0x040300\n", 15);
	add_function("0000:06:00.0", "0x030000\n", 16); /* allowed, and lent to somebody else */
	add_function("0000:07:00.0", "0x060400\n", 17); /* a bridge */
	scratch_write("sys/kernel/iommu_groups/18/devices/.none", "");
	devices_done(&broker.devices);
	add_device(1, 0, 0x030000, 11);
	add_device(2, 0, 0x040300, 11);
	add_device(3, 0, 0x030000, UINT32_MAX);
	add_device(4, 0, 0x030000, 14);
	add_device(5, 0, 0x030000, 15);
	add_device(5, 1, 0x040300, 15);
	add_device(6, 0, 0x030000, 16);
}

static struct message_refusal refused(const struct message_claim *claim)
{
	union answer answer = { 0 };
	int fd = dial_in(0);

	say(fd, claim, sizeof(*claim));
	turn(TURNS);
	if (hear(fd, &answer) != sizeof(answer.refusal) || answer.type != MESSAGE_REFUSAL)
		answer.refusal.reason = 0;
	say_plain(fd, MESSAGE_LEASES);
	turn(TURNS);
	if (answer.refusal.reason && broker.peers.n != 1)
		answer.refusal.reason = 0; /* a refused peer may ask again */
	hang_up(fd);
	return answer.refusal;
}

static struct message_refusal refused_address(uint8_t bus, uint8_t function)
{
	struct message_claim claim = claim_by(SELECT_ADDRESS);

	claim.selectors[0].address.bus = bus;
	claim.selectors[0].address.function = function;
	return refused(&claim);
}

static struct message_refusal refused_name(const char *text)
{
	struct message_claim claim = claim_by(SELECT_NAME);

	strcpy(claim.selectors[0].name, text);
	return refused(&claim);
}

static struct message_refusal refused_group(uint32_t group)
{
	struct message_claim claim = claim_by(SELECT_GROUP);

	claim.selectors[0].group = group;
	return refused(&claim);
}

static void test_no_policy(void)
{
	struct message_refusal r;

	broker.policy.good = false;
	r = refused_address(1, 0);
	tap_ok(r.reason == GPUBROKER_REFUSED_NOT_READY && r.has_address,
	       "without a valid policy nothing is lent");
	broker.policy.good = true;
	r = refused_address(4, 0);
	tap_ok(r.reason == GPUBROKER_REFUSED_POLICY, "with an empty one nothing is allowed");
	r = refused_name("lab");
	tap_ok(r.reason == GPUBROKER_REFUSED_NO_NAME && !strcmp(r.name, "lab"),
	       "and no name is known");
}

static void test_claims(void)
{
	struct message_claim claim = claim_by(SELECT_ADDRESS);
	struct message_refusal r;
	struct lease *lease;

	r = refused_name("nope");
	tap_ok(r.reason == GPUBROKER_REFUSED_NO_NAME && !strcmp(r.name, "nope"),
	       "a name that the policy lacks");
	r = refused_name("none");
	tap_ok(r.reason == GPUBROKER_REFUSED_NO_DEVICE && !strcmp(r.name, "none"),
	       "a name that no device has");
	r = refused_address(9, 0);
	tap_ok(r.reason == GPUBROKER_REFUSED_NO_DEVICE && r.has_address && r.address.bus == 9,
	       "an address where nothing is");
	r = refused_group(99);
	tap_ok(r.reason == GPUBROKER_REFUSED_NO_DEVICE && r.group == 99,
	       "a group that there is not");
	r = refused_group(UINT32_MAX);
	tap_ok(r.reason == GPUBROKER_REFUSED_NO_DEVICE, "the number that means no group");
	r = refused_group(18);
	tap_ok(r.reason == GPUBROKER_REFUSED_NOT_VIABLE && r.group == 18,
	       "a group with nothing in it");
	r = refused_address(3, 0);
	tap_ok(r.reason == GPUBROKER_REFUSED_NO_GROUP && r.address.bus == 3,
	       "a function without a group");
	r = refused_address(4, 0);
	tap_ok(r.reason == GPUBROKER_REFUSED_POLICY && r.address.bus == 4 && !r.has_other,
	       "a function that no rule allows");
	r = refused_address(7, 0);
	tap_ok(r.reason == GPUBROKER_REFUSED_NOT_VIABLE, "a bridge");
	r = refused_address(1, 0);
	tap_ok(r.reason == GPUBROKER_REFUSED_POLICY && r.address.bus == 1 && r.has_other &&
		       r.other.bus == 2,
	       "by address, a companion that no rule allows is named");
	r = refused_name("lab");
	tap_ok(r.reason == GPUBROKER_REFUSED_POLICY && r.has_other && r.other.bus == 2,
	       "by name, a companion that no rule allows is named too");
	claim.n_selectors = 2;
	claim.selectors[0].address.bus = 9;
	claim.selectors[1] = (struct selector){ .kind = SELECT_GROUP, .group = 99 };
	r = refused(&claim);
	tap_ok(r.reason == GPUBROKER_REFUSED_NO_DEVICE && r.address.bus == 9,
	       "of several, the first that fails is named");

	lease = lease_new(&broker.leases.table, 0, 16);
	need(lease);
	lease->uid = 4242;
	lease->pid = 4711;
	lease->state = GPUBROKER_LEASE_LEASED;
	r = refused_address(6, 0);
	tap_ok(r.reason == GPUBROKER_REFUSED_BUSY && r.holder_uid == 4242 && r.holder_pid == 4711 &&
		       r.lease == lease->id,
	       "one that is lent, with its holder");
	lease->state = GPUBROKER_LEASE_RESTORING;
	r = refused_address(6, 0);
	tap_ok(r.reason == GPUBROKER_REFUSED_BUSY && r.detail == REFUSAL_RELEASING,
	       "one on its way back is told apart");
	lease->state = GPUBROKER_LEASE_STUCK;
	memset(lease->reason, 's', sizeof(lease->reason));
	r = refused_address(6, 0);
	tap_ok(r.reason == GPUBROKER_REFUSED_STUCK && !r.text[sizeof(r.text) - 1],
	       "one that is stuck, with the reason");
	claim = claim_by(SELECT_ANY);
	lease->state = GPUBROKER_LEASE_LEASED;
	r = refused(&claim);
	tap_ok(r.reason == GPUBROKER_REFUSED_BUSY && r.address.bus == 6,
	       "of any, the one that is only lent is named, not one that is not allowed");
	lease->group = 99;
	lease->uid = getuid();
	strcpy(lease->terms.rule, "/etc/gpubroker/policy.d/10-lab.policy:6");
	rules[5].limit = 1;
	r = refused_address(6, 0);
	tap_ok(r.reason == GPUBROKER_REFUSED_LIMIT && r.limit == 1 &&
		       !strcmp(r.rule, lease->terms.rule),
	       "a rule whose limit is used up, with the limit and the rule");
	lease->uid = getuid() + 1;
	lease->group = 16;
	tap_ok(refused_address(6, 0).reason == GPUBROKER_REFUSED_BUSY,
	       "but not by what others have");
	rules[5].limit = 0;
	lease->uid = 4242;
	lease->group = 14;
	r = refused_address(4, 0);
	tap_ok(r.reason == GPUBROKER_REFUSED_POLICY && !r.holder_uid && !r.holder_pid && !r.lease,
	       "who may not have it is not told who has");
	lease->group = 15;
	r = refused_address(5, 1);
	tap_ok(r.reason == GPUBROKER_REFUSED_BUSY,
	       "a second function that a rule allows, lent to somebody");
	r = refused_group(15);
	tap_ok(r.reason == GPUBROKER_REFUSED_BUSY && r.lease == lease->id,
	       "by group, the function that a rule allows decides what is said (reason %u)",
	       (unsigned)r.reason);
	lease_free(lease);

	tap_ok(!broker.leases.table.n && quiet(),
	       "no refused claim leaves a lease or a descriptor");
}

/* Dry runs, and claims of an address through a name that may not cover it. */
static void test_ask(void)
{
	struct message_claim claim = claim_by(SELECT_ADDRESS);
	union answer answer;
	int fd = dial_in(0);

	claim.flags = CLAIM_ASK;
	claim.selectors[0].address.bus = 6;
	say(fd, &claim, sizeof(claim));
	turn(TURNS);
	tap_ok(hear(fd, &answer) == sizeof(answer.end) && answer.type == MESSAGE_END &&
		       !broker.leases.table.n && TAILQ_EMPTY(&broker.claims.list),
	       "who only asks is told that it would be begun, and it is not");
	claim.flags = CLAIM_ASK | CLAIM_WAIT;
	claim.selectors[0].address.bus = 4;
	say(fd, &claim, sizeof(claim));
	turn(TURNS);
	tap_ok(hear(fd, &answer) == sizeof(answer.refusal) && answer.type == MESSAGE_REFUSAL &&
		       answer.refusal.reason == GPUBROKER_REFUSED_POLICY &&
		       TAILQ_EMPTY(&broker.claims.queue.list),
	       "... or why not, and never waits");
	hang_up(fd);

	claim.selectors[0].address.bus = 6;
	strcpy(claim.selectors[0].name, "nope");
	answer.refusal = refused(&claim);
	tap_ok(answer.refusal.reason == GPUBROKER_REFUSED_NO_NAME && !answer.refusal.has_address &&
		       !strcmp(answer.refusal.name, "nope"),
	       "an address by a name that the policy lacks");
	strcpy(claim.selectors[0].name, "none");
	tap_ok(refused(&claim).reason == GPUBROKER_REFUSED_NO_DEVICE,
	       "... or by one that does not mean it");
	strcpy(claim.selectors[0].name, "lab");
	claim.selectors[0].address.bus = 1;
	tap_ok(refused(&claim).reason == GPUBROKER_REFUSED_POLICY,
	       "by one that does it is as without");
}

static void test_list_allowed(void)
{
	union answer answer;
	unsigned allowed = 0, n = 0;
	int fd = dial_in(0);

	say_plain(fd, MESSAGE_LIST);
	turn(TURNS);
	for (; hear(fd, &answer) == sizeof(answer.device); n++)
		if (answer.device.allowed)
			allowed |= 1U << answer.device.address.bus * 2
				      << answer.device.address.function;
	/*
	 * 03:00.0, 05:00.1 with its slot, and 06:00.0; not 01:00.0, whose companion is not allowed
	 */
	tap_ok(n == 7 && allowed == ((1U << 6) | (1U << 11) | (1U << 12)),
	       "a listing says of each device whether a claim would be allowed");
	hang_up(fd);
}

int main(void)
{
	alarm(300);
	need(freopen("/dev/null", "w", stderr)); /* the log */
	broker_make();

	test_hello();
	test_users();
	test_debts();
	test_quota();
	test_bad_claims();
	test_descriptors();
	test_listing();
	test_listing_changes();
	test_leases();
	test_busy();
	test_never_reads();
	test_share();
	test_loop();
	test_gone();
	test_number_again();
	fill_devices(0);
	test_sizes();
	make_host();
	test_no_policy();
	make_policy();
	test_claims();
	test_ask();
	test_list_allowed();

	broker_drop();
	return tap_done();
}
