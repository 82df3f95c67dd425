/* SPDX-License-Identifier: MIT */
/*
 * A user's subordinate uids are that user to the core: for rules, limits, connections, waiting
 * claims and the journal. Also when the ranges change while connections and leases are there.
 */
#include "config.h"

#include "brokerd/lease/bringup.h"
#include "brokerd/state/users.h"
#include "tests/tap.h"
#include "tests/unit/brokerd/last-log.h"
#include "tests/unit/brokerd/world.h"

#define ALICE 1000
#define MALLORY 1001 /* denied */
#define BOB 1002     /* has no subordinate uids */
#define ALICES 100000
#define MALLORYS 165536

static void set_owners(bool some)
{
	static const struct policy_range ranges[] = { { ALICES, 65536, ALICE },
						      { MALLORYS, 65536, MALLORY } };
	struct policy_owners owners = { 0 };

	if (some) {
		owners.ranges = malloc(sizeof(ranges));
		need(owners.ranges);
		memcpy(owners.ranges, ranges, sizeof(ranges));
		owners.n_ranges = ARRAY_SIZE(ranges);
	}
	/* As if the loader had sent them. */
	broker.helpers.ops->owners(broker.helpers.userdata, &owners);
}

/* Anybody may have one device, but for mallory. */
static void make_policy(void)
{
	struct policy *policy = &broker.policy.policy;

	policy->rules = calloc(2, sizeof(*policy->rules));
	policy->files = calloc(1, sizeof(*policy->files));
	need(policy->rules && policy->files);
	strcpy(policy->files[0].path, "/etc/gpubroker/policy.d/10-all.policy");
	policy->rules[0] = (struct policy_rule){ .verb = POLICY_ALLOW,
						 .who = POLICY_WHO_ANY,
						 .name = POLICY_NO_NAME,
						 .match = { POLICY_MATCH_NO_TEXTS },
						 .vfio_driver = POLICY_NO_TEXT,
						 .limit = 1,
						 .line = 1,
						 .column = 1 };
	policy->rules[1] = policy->rules[0];
	policy->rules[1].verb = POLICY_DENY;
	policy->rules[1].who = POLICY_WHO_USER;
	policy->rules[1].id = MALLORY;
	policy->rules[1].limit = 0;
	policy->n_rules = 2;
	policy->n_files = 1;
	need(!policy_index_build(policy));
	broker.policy.good = true;
}

static void lend(uint8_t bus, uint32_t uid)
{
	struct lease *lease = lease_new(&broker.leases.table, 0, bus);

	need(lease);
	lease->uid = uid;
	lease->asked = (struct pci_address){ .bus = bus };
	strcpy(lease->terms.rule, "/etc/gpubroker/policy.d/10-all.policy:1");
	lease_transition(lease, LEASE_BOUND);
	lease_transition(lease, LEASE_SENT);
	lease_set_kind(lease);
}

static void take_back(void)
{
	while (!TAILQ_EMPTY(&broker.leases.table.list))
		lease_free(TAILQ_FIRST(&broker.leases.table.list));
}

static struct message_claim claim_at(uint8_t bus, uint32_t flags)
{
	struct message_claim claim = claim_by(SELECT_ADDRESS);

	claim.selectors[0].address.bus = bus;
	claim.flags = flags;
	return claim;
}

/* Asks as a user whether a claim would be granted. Returns 0, or the reason. */
static int check_as(uint32_t uid, uint8_t bus)
{
	const struct message_claim claim = claim_at(bus, CLAIM_ASK);
	union answer answer;
	int fd = dial_in(0), r;

	last_is_user(uid);
	say(fd, &claim, sizeof(claim));
	turn(TURNS);
	need(hear(fd, &answer) > 0);
	r = answer.type == MESSAGE_END ? 0 : (int)answer.refusal.reason;
	hang_up(fd);
	return r;
}

static void test_rules(void)
{
	set_owners(true);
	tap_ok(check_as(MALLORY, 1) == GPUBROKER_REFUSED_POLICY &&
		       check_as(MALLORYS + 7, 1) == GPUBROKER_REFUSED_POLICY &&
		       check_as(MALLORYS + 65535, 1) == GPUBROKER_REFUSED_POLICY,
	       "a denied user is denied as every subordinate uid");
	tap_ok(!check_as(BOB, 1) && !check_as(ALICES + 7, 1) && !check_as(MALLORYS + 65536, 1),
	       "others are not");
	lend(2, ALICES + 5);
	tap_ok(check_as(ALICE, 1) == GPUBROKER_REFUSED_LIMIT &&
		       check_as(ALICES + 6, 1) == GPUBROKER_REFUSED_LIMIT && !check_as(BOB, 1),
	       "a lease by one uid counts for the limit of all of the user's");
	set_owners(false);
	tap_ok(!check_as(ALICE, 1) && !check_as(MALLORYS + 7, 1) &&
		       check_as(ALICES + 5, 1) == GPUBROKER_REFUSED_LIMIT &&
		       check_as(MALLORY, 1) == GPUBROKER_REFUSED_POLICY,
	       "without ranges each uid is a user, and the lease its uid's");
	set_owners(true);
	tap_ok(check_as(ALICE, 1) == GPUBROKER_REFUSED_LIMIT &&
		       check_as(MALLORYS + 7, 1) == GPUBROKER_REFUSED_POLICY,
	       "and when the ranges are back, they count again");
	take_back();
	tap_ok(quiet(), "nothing is left");
}

/* Returns true if the user can have no connection more, but somebody else can. */
static bool is_full(uint32_t uid)
{
	struct users *users = &broker.peers.users;
	const bool full = users_take(users, uid, PEERS_PER_UID) == -EDQUOT;

	if (!full)
		users_give(users, uid);
	return full;
}

static void test_connections(void)
{
	int fds[PEERS_PER_UID];

	set_owners(false);
	for (uint32_t i = 0; i < PEERS_PER_UID; i++) {
		fds[i] = dial_in(0);
		last_is_user(ALICES + i);
	}
	tap_ok(!is_full(ALICE) && !is_full(ALICES), "uids without a range are users");
	set_owners(true);
	tap_ok(is_full(ALICE) && !is_full(BOB) && !is_full(MALLORY),
	       "when they get one, their connections are their owner's");
	hang_up(fds[0]);
	tap_ok(!is_full(ALICE), "one that goes makes room");
	set_owners(false);
	tap_ok(!is_full(ALICE) && !is_full(ALICES + 1), "and without the range they are their own");
	for (uint32_t i = 1; i < PEERS_PER_UID; i++)
		close(fds[i]);
	tap_ok(quiet(), "when all go, nothing is left");
}

static void test_waiting(void)
{
	const struct message_claim claim = claim_at(1, CLAIM_WAIT);
	int fds[WAITING_PER_UID + 2];
	union answer answer;

	set_owners(true);
	broker.policy.policy.rules[0].limit = 0; /* a claim that waits counts too */
	lend(1, BOB);
	for (uint32_t i = 0; i < ARRAY_SIZE(fds); i++) {
		fds[i] = dial_in(0);
		last_is_user(i <= WAITING_PER_UID ? ALICES + i : BOB + 1);
		say(fds[i], &claim, sizeof(claim));
		turn(TURNS);
	}
	tap_ok(hears(fds[0], MESSAGE_QUEUED, sizeof(answer.queued)) &&
		       hears(fds[WAITING_PER_UID - 1], MESSAGE_QUEUED, sizeof(answer.queued)),
	       "a user's uids wait");
	tap_ok(hear(fds[WAITING_PER_UID], &answer) == sizeof(answer.refusal) &&
		       answer.refusal.reason == GPUBROKER_REFUSED_QUOTA,
	       "but not with more claims than one user may have");
	tap_ok(hears(fds[WAITING_PER_UID + 1], MESSAGE_QUEUED, sizeof(answer.queued)),
	       "and others wait too");
	for (size_t i = 0; i < ARRAY_SIZE(fds); i++)
		close(fds[i]);
	turn(TURNS);
	broker.policy.policy.rules[0].limit = 1;
	take_back();
	tap_ok(quiet(), "nothing is left");
}

/* Has a user wait for the device of a bus. */
static int wait_as(uint32_t uid, uint8_t bus)
{
	const struct message_claim claim = claim_at(bus, CLAIM_WAIT);
	union answer answer;
	int fd = dial_in(0);

	last_is_user(uid);
	say(fd, &claim, sizeof(claim));
	turn(TURNS);
	need(hear(fd, &answer) > 0 && answer.type == MESSAGE_QUEUED);
	return fd;
}

/* Asks as a user to end a waiting claim. Returns 0, or the reason. */
static int end_as(uint32_t uid, uint64_t id)
{
	const struct message_release request = { .type = MESSAGE_RELEASE, .lease = id };
	union answer answer;
	int fd = dial_in(0), r;

	last_is_user(uid);
	say(fd, &request, sizeof(request));
	turn(TURNS);
	need(hear(fd, &answer) > 0);
	r = answer.type == MESSAGE_END ? 0 : (int)answer.refusal.reason;
	hang_up(fd);
	return r;
}

/* The claims that wait by any of a user's uids count for its limit. */
static void test_kept(void)
{
	const struct waiting_list *list = &broker.claims.queue.list;
	struct policy_rule *rule = &broker.policy.policy.rules[0];
	int fd;

	set_owners(true);
	lend(1, BOB);
	fd = wait_as(ALICES + 1, 1);
	tap_ok(check_as(ALICES + 2, 2) == GPUBROKER_REFUSED_LIMIT &&
		       check_as(ALICE, 2) == GPUBROKER_REFUSED_LIMIT && !check_as(BOB + 1, 2),
	       "what a uid's waiting claim keeps counts for the limit of all of the user's");
	set_owners(false);
	tap_ok(!check_as(ALICES + 2, 2) && check_as(ALICES + 1, 2) == GPUBROKER_REFUSED_LIMIT,
	       "and without ranges for its own");
	hang_up(fd);
	take_back();
	rule->limit = 0;
	set_owners(true);
	lend(1, ALICE);
	fd = wait_as(ALICES + 1, 1);
	tap_ok(TAILQ_FIRST(list)->own, "a claim that waits for its user's other uid keeps nothing");
	set_owners(false);
	turn(TURNS);
	tap_ok(!TAILQ_FIRST(list)->own, "... but does when that is another user");
	set_owners(true);
	turn(TURNS);
	tap_ok(TAILQ_FIRST(list)->own, "... and no more when it is the user's again");
	tap_ok(end_as(MALLORYS, TAILQ_FIRST(list)->id) == GPUBROKER_REFUSED_NOT_YOURS &&
		       end_as(ALICES + 65536, TAILQ_FIRST(list)->id) == GPUBROKER_REFUSED_NOT_YOURS,
	       "nobody else ends it");
	tap_ok(!end_as(ALICES + 2, TAILQ_FIRST(list)->id) && TAILQ_EMPTY(list),
	       "but its user does, by another uid");
	hang_up(fd);
	rule->limit = 1;
	take_back();
	tap_ok(quiet(), "nothing is left");
}

static bool any_may_go(const struct users_member *member)
{
	return member;
}

/* Sends a descriptor that nobody takes. */
static void send_descriptor(int fd)
{
	const struct message_plain plain = { .type = MESSAGE_LEASES };

	need(!passfd_send(fd, &plain, sizeof(plain), &broker.kernel.sys, 1));
}

/* The connection that makes room is the user's who has most, whichever uids that user has. */
static void test_room(void)
{
	struct users *users = &broker.peers.users;
	struct users_member *idlest;
	struct peer *peer;
	int fds[4], bobs[2];

	set_owners(true);
	for (uint32_t i = 0; i < ARRAY_SIZE(bobs); i++) {
		bobs[i] = dial_in(0);
		last_is_user(BOB);
	}
	for (uint32_t i = 0; i < ARRAY_SIZE(fds); i++) {
		fds[i] = dial_in(0);
		last_is_user(ALICES + i);
	}
	idlest = users_idlest(users, BOB + 1, any_may_go);
	tap_ok(idlest == &TAILQ_FIRST(&broker.peers.list)->member,
	       "of users with one connection none goes, but of one with two");
	peers_count_again(&broker.peers);
	peer = TAILQ_NEXT(TAILQ_NEXT(TAILQ_FIRST(&broker.peers.list), link), link);
	tap_ok(users_idlest(users, BOB, any_may_go) == &peer->member &&
		       !users_idlest(users, peers_owner(&broker.peers, ALICES + 9), any_may_go),
	       "four of one user's uids are four connections of the user");
	/* One is parked: it stays counted for whoever had it, though its uid changes hands. */
	send_descriptor(fds[0]);
	peer_doom(peer);
	need(peer->parked && broker.closing.n == 1);
	set_owners(false);
	tap_ok(peer->counted_as == ALICE && !peer->member.entry,
	       "one that is parked is counted as when it was dropped");
	turn(TURNS);
	tap_ok(all_closed(), "and goes in time");
	/* One that is only doomed is moved, and makes room for nobody. */
	peer = TAILQ_LAST(&broker.peers.list, peer_list);
	set_owners(true);
	peer_doom(peer);
	need(!peer->parked);
	set_owners(false);
	tap_ok(peer->counted_as == ALICES + 3 && !peer->member.entry,
	       "one that is being dropped is counted anew, and makes room for nobody");
	for (size_t i = 0; i < ARRAY_SIZE(fds); i++)
		close(fds[i]);
	for (size_t i = 0; i < ARRAY_SIZE(bobs); i++)
		close(bobs[i]);
	tap_ok(quiet(), "when all go, nothing is left");
}

static void test_journal(void)
{
	const struct audit_line line = { .outcome = "refused", .by = AUDIT_NOBODY };
	uint32_t suppressed = 0;

	set_owners(true);
	memset(broker.audit.users, 0, sizeof(broker.audit.users));
	for (uint32_t i = 0; i < AUDIT_BURST + 10; i++)
		audit_asked(&broker.audit, ALICES + i, &line);
	for (size_t i = 0; i < AUDIT_USERS; i++)
		if (broker.audit.users[i].uid == ALICE)
			suppressed += broker.audit.users[i].suppressed;
	tap_ok(suppressed == 10, "lines that a user causes are counted for all uids together");
}

/* ---- how much is done in a turn ---- */

/* Returns how many answers of a kind come in one pass of the loop. */
static unsigned answers_a_turn(const int *fds, size_t n, uint32_t type)
{
	unsigned answers = 0;
	union answer answer;

	event_base_loop(broker.base, EVLOOP_ONCE | EVLOOP_NONBLOCK);
	for (size_t i = 0; i < n; i++)
		while (hear(fds[i], &answer) > 0)
			answers += answer.type == type;
	return answers;
}

static void test_turn(void)
{
	const struct message_claim claim = claim_at(1, CLAIM_ASK);
	int alices[8], bobs;
	unsigned most = 1, all = 1;
	union answer answer;

	set_owners(true);
	for (uint32_t i = 0; i < ARRAY_SIZE(alices); i++) {
		alices[i] = dial_in(0);
		last_is_user(ALICES + i);
	}
	bobs = dial_in(0);
	last_is_user(BOB);
	peers_count_again(&broker.peers); /* as they would have been when they connected */
	for (uint32_t i = 0; i < ARRAY_SIZE(alices); i++)
		say(alices[i], &claim, sizeof(claim));
	answers_a_turn(alices, ARRAY_SIZE(alices), MESSAGE_END);
	say(bobs, &claim, sizeof(claim));
	event_base_loop(broker.base, EVLOOP_ONCE | EVLOOP_NONBLOCK);
	tap_ok(hear(bobs, &answer) > 0 && answer.type == MESSAGE_END,
	       "a user's uids all ask, and another is answered in the next turn");
	for (size_t i = 0; i < ARRAY_SIZE(alices); i++) /* answered in bob's turn */
		all += hear(alices[i], &answer) > 0;
	for (int i = 0; i < 200; i++) {
		unsigned n = answers_a_turn(alices, ARRAY_SIZE(alices), MESSAGE_END);

		all += n;
		most = n > most ? n : most;
	}
	tap_ok(most == 1 && all == ARRAY_SIZE(alices),
	       "the others are answered one in a turn, and all in the end");
	for (uint32_t i = 0; i < ARRAY_SIZE(alices); i++)
		close(alices[i]);
	close(bobs);
	tap_ok(quiet(), "nothing is left");
}

int main(void)
{
	broker_make();
	for (uint8_t bus = 1; bus <= 2; bus++) {
		char address[32];

		snprintf(address, sizeof(address), "0000:%02x:00.0", bus);
		add_function(address, "0x030000\n", bus);
		add_device(bus, 0, 0x030000, bus);
	}
	make_policy();
	test_rules();
	test_connections();
	test_waiting();
	test_kept();
	test_room();
	test_journal();
	test_turn();
	core_done(&broker);
	event_base_free(broker.base);
	return tap_done();
}
