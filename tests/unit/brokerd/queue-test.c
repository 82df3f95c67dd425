/* SPDX-License-Identifier: MIT */
/*
 * The queue: which claims wait, what for and in which place, and what the broker sends to each. The
 * test lends the groups by hand, to holders that do not exist. A claim whose turn has come reads
 * the override of its function; that is a FIFO here, so the claim stands still until the test lets
 * it go on, and then fails because there is no state directory.
 */
#include "config.h"

#include "brokerd/claim/claim.h"
#include "brokerd/claim/select.h"
#include "brokerd/lease/bringup.h"
#include "brokerd/state/verdict.h"
#include "brokerd/prepare/prepare.h"
#include "tests/unit/brokerd/real-worker.h"
#include "tests/unit/brokerd/world.h"
#include "tests/tap.h"

#include <malloc.h>
#include <poll.h>

#define GROUPS 70
#define FIRST_GROUP 100

static struct policy_rule rule;
static int overrides[GROUPS]; /* the FIFOs, open */

static void make_host(void)
{
	char address[24], path[128];

	for (size_t i = 0; i < GROUPS; i++) {
		snprintf(address, sizeof(address), "0000:%02x:00.0", (unsigned)(uint8_t)i);
		add_function(address, "0x030000\n", FIRST_GROUP + (int)i);
		add_device((uint8_t)i, 0, 0x030000, FIRST_GROUP + (uint32_t)i);
		snprintf(path, sizeof(path), "%s/sys/bus/pci/devices/%s/driver_override",
			 scratch_path, address);
		need(!unlink(path) && !mkfifo(path, 0600));
		overrides[i] = open(path, O_RDWR | O_CLOEXEC | O_NONBLOCK);
		need(overrides[i] >= 0);
	}
}

/* Lends the i-th group to a user 5000 + i. */
static struct lease *lend(size_t i, uint64_t ends)
{
	struct lease *lease = lease_new(&broker.leases.table, 0, FIRST_GROUP + (uint32_t)i);

	need(lease);
	lease_set_kind(lease);
	lease->state = GPUBROKER_LEASE_LEASED;
	lease->uid = 5000 + (uint32_t)i;
	lease->pid = 6000 + (uint32_t)i;
	lease->asked.bus = (uint8_t)i;
	lease->ends = ends;
	return lease;
}

static void let_go(size_t i)
{
	lease_free(lease_find_group(&broker.leases.table, FIRST_GROUP + (uint32_t)i));
	queue_mark_all(&broker.claims.queue);
}

static void let_go_all(void)
{
	while (!TAILQ_EMPTY(&broker.leases.table.list))
		lease_free(TAILQ_FIRST(&broker.leases.table.list));
}

static struct message_claim claim_of_bus(size_t bus)
{
	struct message_claim claim = claim_by(SELECT_ADDRESS);

	claim.flags = CLAIM_WAIT;
	claim.selectors[0].address.bus = (uint8_t)bus;
	return claim;
}

static struct message_claim claim_of_any(void)
{
	struct message_claim claim = claim_by(SELECT_ANY);

	claim.flags = CLAIM_WAIT;
	return claim;
}

static struct message_claim claim_of_two(size_t a, size_t b)
{
	struct message_claim claim = claim_of_bus(a);

	claim.n_selectors = 2;
	claim.selectors[1] = claim.selectors[0];
	claim.selectors[1].address.bus = (uint8_t)b;
	return claim;
}

static int join(const struct message_claim *claim)
{
	int fd = dial_in(0);

	say(fd, claim, sizeof(*claim));
	turn(TURNS);
	return fd;
}

/*
 * Returns the last message of the queue that the peer got, and their number; the place is 0 if
 * there was none.
 */
static struct message_queued told(int fd, unsigned *ret_n)
{
	struct message_queued last = { 0 };
	union answer answer;
	unsigned n = 0;

	while (hear(fd, &answer) == sizeof(answer.queued) && answer.type == MESSAGE_QUEUED) {
		last = answer.queued;
		n++;
	}
	if (ret_n)
		*ret_n = n;
	return last;
}

static uint32_t place(int fd)
{
	return told(fd, NULL).place;
}

static bool hears_nothing(int fd)
{
	union answer answer;

	return hear(fd, &answer) == -1;
}

/* Looks past what the peer is told about its place. */
static uint32_t refusal_of(int fd)
{
	union answer answer;
	ssize_t n;

	do
		n = hear(fd, &answer);
	while (n > 0 && answer.type == MESSAGE_QUEUED);
	return n == sizeof(answer.refusal) && answer.type == MESSAGE_REFUSAL ? answer.refusal.reason
									     : 0;
}

/* Lets the claim that reads the i-th group's override go on until it fails. */
static void let_fail(size_t i)
{
	const struct lease *lease =
		lease_find_group(&broker.leases.table, FIRST_GROUP + (uint32_t)i);
	uint64_t id = lease ? lease->id : 0;

	need(write(overrides[i], "(null)\n", 7) == 7);
	for (int n = 0; id && n < 30000; n++) {
		turn(1);
		lease = lease_find_from(&broker.leases.table, id);
		if (!lease || lease->id != id || !lease->work)
			break;
		poll(NULL, 0, 1);
	}
	turn(TURNS);
}

static bool nobody(void)
{
	return TAILQ_EMPTY(&broker.claims.queue.list) && quiet();
}

/* ---- order and places ---- */

static void test_order(void)
{
	const struct message_claim claim = claim_of_bus(0);
	struct message_claim no_wait = claim_of_bus(0);
	struct message_queued q;
	union answer answer;
	int a, b, c, d;
	unsigned n;

	lend(0, 0);
	a = join(&claim);
	q = told(a, &n);
	tap_ok(n == 1 && q.place == 1 &&
		       q.lease == lease_find_group(&broker.leases.table, 100)->id &&
		       q.holder_uid == 5000 && q.holder_pid == 6000 && !q.address.bus && !q.ends,
	       "who waits is told its place, and who has it");
	b = join(&claim);
	c = join(&claim);
	tap_ok(place(b) == 2 && place(c) == 3, "who comes later stands behind");
	tap_ok(hears_nothing(a), "and those before are not told again");
	tap_ok(peer_is_busy(TAILQ_FIRST(&broker.peers.list)) &&
		       TAILQ_FIRST(&broker.peers.list)->claimant.waiting &&
		       !TAILQ_FIRST(&broker.peers.list)->claimant.claim,
	       "who waits is no claim under way");

	no_wait.flags = 0;
	d = join(&no_wait);
	tap_ok(hear(d, &answer) == sizeof(answer.refusal) &&
		       answer.refusal.reason == GPUBROKER_REFUSED_BUSY && !answer.refusal.detail,
	       "who would not wait is refused: it is lent");
	let_go(0);
	say(d, &no_wait, sizeof(no_wait));
	event_del(broker.claims.queue.wake); /* its turn must not come yet */
	turn(TURNS);
	tap_ok(hear(d, &answer) == sizeof(answer.refusal) &&
		       answer.refusal.reason == GPUBROKER_REFUSED_BUSY &&
		       answer.refusal.detail == REFUSAL_RESERVED &&
		       answer.refusal.address.bus == 0 && !answer.refusal.lease,
	       "nobody overtakes who waits: free, it is promised");
	hang_up(d);

	hang_up(b);
	tap_ok(broker.leases.table.n == 1 && lease_find_group(&broker.leases.table, 100) &&
		       TAILQ_FIRST(&broker.peers.list)->claimant.claim,
	       "its turn come, the first has its claim");
	q = told(c, NULL);
	tap_ok(broker.leases.table.n == 1 &&
		       TAILQ_FIRST(&broker.claims.queue.list) ==
			       TAILQ_LAST(&broker.peers.list, peer_list)->claimant.waiting,
	       "and the next still waits");
	tap_ok(q.place == 1 && q.lease == lease_find_group(&broker.leases.table, 100)->id &&
		       q.holder_uid == getuid() && q.holder_pid == (uint32_t)getpid(),
	       "told that it is first now, and who has it");
	let_fail(0);
	tap_ok(refusal_of(a) == GPUBROKER_REFUSED_FAILED, "a claim that fails is told so");
	tap_ok(TAILQ_EMPTY(&broker.claims.queue.list) &&
		       TAILQ_LAST(&broker.peers.list, peer_list)->claimant.claim,
	       "and then it is the next one's turn");
	let_fail(0);
	tap_ok(refusal_of(c) == GPUBROKER_REFUSED_FAILED && !broker.leases.table.n,
	       "whose end is its own");
	say_plain(a, MESSAGE_LEASES);
	turn(TURNS);
	tap_ok(hears(a, MESSAGE_END, sizeof(answer.end)),
	       "who has waited may ask for something else");
	close(a);
	close(c);
	tap_ok(nobody(), "and nothing is left");
}

static void test_places(void)
{
	struct message_claim claims[] = { claim_of_bus(0), claim_of_bus(1), claim_of_two(0, 2),
					  claim_of_any(),  claim_of_bus(3), claim_of_bus(1) };
	static const uint32_t want[] = { 1, 1, 2, 4, 2, 3 }, after[] = { 1, 0, 0, 3, 0, 2 };
	uint32_t got[ARRAY_SIZE(claims)];
	int fds[ARRAY_SIZE(claims)];
	bool good = true;

	for (size_t i = 0; i < 4; i++)
		lend(i, 0);
	/* A claim of "any" counts devices that it could get: here the first four. */
	broker.devices.n = 4;
	for (size_t i = 0; i < ARRAY_SIZE(claims); i++) {
		fds[i] = join(&claims[i]);
		got[i] = place(fds[i]);
		good = good && got[i] == want[i];
	}
	tap_ok(good, "a place is counted among those who want the same (%u %u %u %u %u %u)", got[0],
	       got[1], got[2], got[3], got[4], got[5]);
	hang_up(fds[1]);
	good = true;
	for (size_t i = 0; i < ARRAY_SIZE(claims); i++) {
		got[i] = i == 1 ? after[i] : place(fds[i]);
		good = good && (i == 0 ? !got[i] : got[i] == after[i]);
	}
	tap_ok(good, "one goes: those behind it are told anew, and nobody else (%u %u %u %u %u)",
	       got[0], got[2], got[3], got[4], got[5]);
	broker.devices.n = GROUPS;
	for (size_t i = 0; i < ARRAY_SIZE(claims); i++)
		if (i != 1)
			close(fds[i]);
	turn(TURNS);
	let_go_all();
	tap_ok(nobody(), "and nothing is left");
}

static void test_ends(void)
{
	const struct message_claim any = claim_of_any(), one = claim_of_bus(1);
	uint64_t ends[5];
	int fds[5];

	lend(0, 3000);
	lend(1, 1000);
	lend(2, 0);
	lend(3, 2000);
	broker.devices.n = 4;
	for (size_t i = 0; i < 4; i++) {
		fds[i] = join(&any);
		ends[i] = told(fds[i], NULL).ends;
	}
	fds[4] = join(&one);
	ends[4] = told(fds[4], NULL).ends;
	tap_ok(ends[0] == 1000, "the first has its turn with the first end (%d)", (int)ends[0]);
	tap_ok(ends[1] == 2000 && ends[2] == 3000, "the second with the second (%d, %d)",
	       (int)ends[1], (int)ends[2]);
	tap_ok(!ends[3], "past the last end nobody knows");
	tap_ok(!ends[4], "nor behind four where one ends");
	hang_up(fds[0]);
	tap_ok(told(fds[1], NULL).ends == 1000 && told(fds[3], NULL).ends == 3000,
	       "one goes, and all are told the end before");
	lease_find_group(&broker.leases.table, 101)->ends = 500;
	queue_mark_all(&broker.claims.queue);
	turn(TURNS);
	tap_ok(told(fds[1], NULL).ends == 500,
	       "an end that is set is told when the queue is looked at");
	broker.devices.n = GROUPS;
	for (size_t i = 1; i < 5; i++)
		close(fds[i]);
	turn(TURNS);
	let_go_all();
	tap_ok(nobody(), "and nothing is left");
}

static bool holds(const struct waiting *before, uint32_t group)
{
	static struct group_view view;

	view.group = group;
	view.n_functions = 1;
	view.functions[0].address = (struct pci_address){ .bus = (uint8_t)(group - FIRST_GROUP) };
	return queue_reserves(&broker.claims.queue, before, &view);
}

static void test_holds(void)
{
	const struct message_claim first = claim_of_two(0, 1), second = claim_of_two(1, 2);
	const struct waiting *a, *b;
	struct message_claim late = claim_of_bus(0);
	union answer answer;
	int fds[2], fd;

	tap_ok(!holds(NULL, 100), "where nobody waits nothing is held");
	for (size_t i = 0; i < 3; i++)
		lend(i, 0);
	fds[0] = join(&first);
	fds[1] = join(&second);
	a = TAILQ_FIRST(&broker.claims.queue.list);
	b = TAILQ_NEXT(a, link);
	tap_ok(holds(NULL, 100) && holds(NULL, 101) && holds(NULL, 102) && !holds(NULL, 103),
	       "from who comes now, all that is waited for is held, and no more");
	tap_ok(!holds(a, 100) && !holds(a, 101) && !holds(a, 102),
	       "from the first who waits, nothing is");
	tap_ok(holds(b, 100) && holds(b, 101) && !holds(b, 102),
	       "from the second, what the first wants, and not what it wants itself");

	let_go(0);
	turn(TURNS);
	tap_ok(broker.leases.table.n == 2 && !TAILQ_EMPTY(&broker.claims.queue.list) &&
		       a == TAILQ_FIRST(&broker.claims.queue.list),
	       "who wants two does not begin with one");
	late.flags = 0;
	fd = join(&late);
	tap_ok(hear(fd, &answer) == sizeof(answer.refusal) &&
		       answer.refusal.detail == REFUSAL_RESERVED,
	       "the one that is free is kept for it meanwhile");
	close(fd);
	let_go(2);
	let_go(1);
	turn(TURNS);
	tap_ok(broker.leases.table.n == 2 && lease_find_group(&broker.leases.table, 100) &&
		       lease_find_group(&broker.leases.table, 101) &&
		       !lease_find_group(&broker.leases.table, 102),
	       "when both are free it has both, and the second waits for what is one of them");
	for (size_t i = 0; i < 2; i++)
		close(fds[i]);
	turn(TURNS);
	let_fail(0);
	let_fail(1);
	tap_ok(!broker.leases.table.n && nobody(), "both gone, nothing is left");
}

/* ---- refusals without waiting ---- */

static void test_no_use(void)
{
	struct message_claim claim = claim_of_two(0, 1);
	struct lease *lease = lend(0, 0);
	int fd;

	claim.selectors[1].address.bus = 200;
	fd = join(&claim);
	tap_ok(refusal_of(fd) == GPUBROKER_REFUSED_NO_DEVICE &&
		       TAILQ_EMPTY(&broker.claims.queue.list),
	       "what there is not is said at once, also beside what is only lent");
	hang_up(fd);
	claim = claim_of_bus(0);
	lease->state = GPUBROKER_LEASE_STUCK;
	fd = join(&claim);
	tap_ok(refusal_of(fd) == GPUBROKER_REFUSED_STUCK && TAILQ_EMPTY(&broker.claims.queue.list),
	       "what is stuck is not waited for");
	hang_up(fd);
	lease->state = GPUBROKER_LEASE_ASKED;
	fd = join(&claim);
	tap_ok(!TAILQ_EMPTY(&broker.claims.queue.list),
	       "what its holder was asked for is waited for");
	hang_up(fd);
	lease->state = GPUBROKER_LEASE_RESTORING;
	fd = join(&claim);
	tap_ok(place(fd) == 1, "what is on its way back is");
	rule.match.vendor = 1;
	queue_mark_all(&broker.claims.queue);
	turn(TURNS);
	tap_ok(refusal_of(fd) == GPUBROKER_REFUSED_POLICY && TAILQ_EMPTY(&broker.claims.queue.list),
	       "a policy that forbids it ends the wait");
	say_plain(fd, MESSAGE_LEASES);
	turn(TURNS);
	tap_ok(!is_dropped(fd), "and not the connection");
	hang_up(fd);
	fd = join(&claim);
	tap_ok(refusal_of(fd) == GPUBROKER_REFUSED_POLICY && TAILQ_EMPTY(&broker.claims.queue.list),
	       "what is forbidden is not waited for");
	hang_up(fd);
	rule.match.vendor = 0x1234;

	fd = join(&claim);
	broker.claims.closed = true;
	let_go(0);
	turn(TURNS);
	tap_ok(place(fd) == 1 && hears_nothing(fd) && !TAILQ_EMPTY(&broker.claims.queue.list) &&
		       !broker.leases.table.n,
	       "a broker that ends begins no claim");
	broker.claims.closed = false;
	close(fd);
	turn(TURNS);
	tap_ok(nobody(), "and nothing is left");
}

/*
 * A group in preparation has no lease. The preparation stands still at drivers_probe, a FIFO that
 * is full, and then fails, since no driver here binds the function.
 */
static void test_prepared(void)
{
	static struct policy_rule rules[2];
	const struct message_claim claim = claim_of_bus(0);
	const struct policy before = broker.policy.policy;
	char path[128], block[4096] = "";
	struct pollfd written = { .fd = overrides[0], .events = POLLIN };
	const struct message_restore restore = { .type = MESSAGE_RESTORE };
	struct message_queued q;
	union answer answer;
	int probe, fd, root;

	rules[0] = rules[1] = rule;
	rules[1].verb = POLICY_PREPARE;
	rules[1].who = POLICY_WHO_NONE;
	need(policy_rule_valid(&rules[1], 0, 1, NULL, 0));
	broker.policy.policy.rules = rules;
	broker.policy.policy.n_rules = 2;
	scratch_write("sys/bus/pci/drivers/vfio-pci/bind", "");
	snprintf(path, sizeof(path), "%s/sys/bus/pci/drivers_probe", scratch_path);
	need(!mkfifo(path, 0600));
	probe = open(path, O_RDWR | O_CLOEXEC | O_NONBLOCK);
	need(probe >= 0);
	while (write(probe, block, sizeof(block)) > 0)
		;
	for (size_t i = 1; i < GROUPS; i++)
		lend(i, 0); /* so that only the first group is prepared */
	broker.prepare.open = true;
	prepare_look_at_all(&broker.prepare);
	for (int n = 0; n < 30000 && !holds_find_group(&broker.holds, FIRST_GROUP); n++) {
		turn(1);
		poll(NULL, 0, 1);
	}
	fd = join(&claim);
	q = told(fd, NULL);
	tap_ok(q.place == 1 && !q.lease,
	       "what is being prepared is waited for, and no lease is in the way");
	root = dial_in(0);
	last_is_user(0);
	say(root, &restore, sizeof(restore));
	turn(TURNS);
	tap_ok(hear(root, &answer) == sizeof(answer.refusal) &&
		       answer.refusal.reason == GPUBROKER_REFUSED_BUSY &&
		       answer.refusal.detail == REFUSAL_PREPARING,
	       "and is not given back meanwhile: root is told to try again");
	close(root);
	turn(TURNS);
	/* Reads what the preparation wrote first, so that the claim's worker does not find it. */
	poll(&written, 1, 5000);
	need(read(overrides[0], block, sizeof(block)) > 0);
	while (read(probe, block, sizeof(block)) > 0)
		;
	for (int n = 0; n < 30000 && holds_find_group(&broker.holds, FIRST_GROUP); n++) {
		turn(1);
		poll(NULL, 0, 1);
	}
	turn(TURNS);
	tap_ok(TAILQ_EMPTY(&broker.claims.queue.list) &&
		       lease_find_group(&broker.leases.table, FIRST_GROUP),
	       "when that is over, it is the turn of who waits");
	close(fd);
	turn(TURNS);
	if (lease_find_group(&broker.leases.table, FIRST_GROUP))
		let_fail(0);
	broker.prepare.open = false;
	broker.policy.policy = before;
	close(probe);
	unlink(path);
	let_go_all();
	tap_ok(nobody(), "and nothing is left");
}

/* ---- too many claims ---- */

static void test_many_groups(void)
{
	const struct message_claim any = claim_of_any();
	struct message_queued q;
	int a, b;

	for (size_t i = 0; i < GROUPS; i++)
		lend(i, 10000 - i);
	a = join(&any);
	b = join(&any);
	q = told(a, NULL);
	tap_ok(TAILQ_FIRST(&broker.claims.queue.list)->n_wanted == GROUPS && q.place == 1 &&
		       q.ends == 10000 - (GROUPS - 1),
	       "of %d groups that it may have each is kept (%zu, %d)", GROUPS,
	       TAILQ_FIRST(&broker.claims.queue.list)->n_wanted, (int)q.ends);
	tap_ok(place(b) == 2, "and the next stands behind");
	let_go(GROUPS - 1);
	turn(TURNS);
	tap_ok(TAILQ_FIRST(&broker.peers.list)->claimant.claim &&
		       lease_find_group(&broker.leases.table, 100 + GROUPS - 1),
	       "one that is free past them is the first one's all the same");
	tap_ok(place(b) == 1, "and the second comes nearer");
	close(a);
	close(b);
	turn(TURNS);
	let_fail(GROUPS - 1);
	let_go_all();
	tap_ok(nobody(), "and nothing is left");
}

/* A new device goes to the claims that wait and may want it, before any later claim. */
static void test_plugged(void)
{
	const struct message_claim any = claim_of_any(), first = claim_of_bus(0);
	struct message_claim late = claim_of_bus(GROUPS - 1);
	union answer answer;
	int a, b, c;

	for (size_t i = 0; i < GROUPS - 1; i++)
		lend(i, 0);
	broker.devices.n = GROUPS - 1;
	a = join(&first);
	b = join(&any);
	c = dial_in(0);
	tap_ok(!holds(NULL, FIRST_GROUP + GROUPS - 1), "what is not there is held for nobody");
	broker.devices.n = GROUPS;
	queue_mark_all(&broker.claims.queue);
	event_del(broker.claims.queue.wake); /* its turn must not come yet */
	tap_ok(holds(NULL, FIRST_GROUP + GROUPS - 1),
	       "what comes is held for who waits for any, before it was looked at");
	tap_ok(!holds(TAILQ_FIRST(&broker.claims.queue.list), FIRST_GROUP + GROUPS - 1) &&
		       !holds(TAILQ_NEXT(TAILQ_FIRST(&broker.claims.queue.list), link),
			      FIRST_GROUP + GROUPS - 1),
	       "and not for who waits for another one");
	late.flags = 0;
	say(c, &late, sizeof(late));
	turn(TURNS);
	tap_ok(hear(c, &answer) == sizeof(answer.refusal) &&
		       answer.refusal.reason == GPUBROKER_REFUSED_BUSY &&
		       answer.refusal.detail == REFUSAL_RESERVED,
	       "who comes for it in that turn is told that others were first");
	queue_mark_all(&broker.claims.queue);
	turn(TURNS);
	tap_ok(lease_find_group(&broker.leases.table, FIRST_GROUP + GROUPS - 1),
	       "and it goes to who waited");
	close(a);
	close(b);
	close(c);
	turn(TURNS);
	let_fail(GROUPS - 1);
	let_go_all();
	tap_ok(nobody(), "and nothing is left");
}

static void test_never_reads(void)
{
	const struct message_claim claim = claim_of_bus(0);
	struct lease *lease = lend(0, 1);
	size_t before, changes = 3000;
	int silent = dial_in(1), fd;
	struct message_queued q;
	unsigned n;

	say(silent, &claim, sizeof(claim));
	turn(TURNS);
	before = mallinfo2().uordblks;
	for (size_t i = 0; i < changes; i++) {
		if (i == 100) /* malloc() keeps some of what the first ones took */
			before = mallinfo2().uordblks;
		lease->ends++;
		queue_mark_all(&broker.claims.queue);
		turn(1);
	}
	tap_ok(!TAILQ_EMPTY(&broker.claims.queue.list) && broker.peers.n == 1 &&
		       !TAILQ_FIRST(&broker.peers.list)->on_writable,
	       "who never reads its places waits on");
	tap_ok(mallinfo2().uordblks <= before, "and takes no memory");
	q = told(silent, &n);
	tap_ok(n && n < 100 && q.place == 1 && q.ends < lease->ends,
	       "what was told before it did not read is there (%u)", n);
	queue_mark_all(&broker.claims.queue);
	turn(TURNS);
	tap_ok(told(silent, &n).ends == lease->ends && n == 1,
	       "and the next time it is told how it is, once");
	fd = join(&claim);
	tap_ok(place(fd) == 2, "others are served");
	close(fd);
	hang_up(silent);
	let_go_all();
	tap_ok(nobody(), "and nothing is left");
}

static void test_many(void)
{
	const struct message_claim claim = claim_of_bus(0);
	int fds[WAITING_PER_UID], fd;
	union answer answer;
	bool in_order = true, nearer = true;

	lend(0, 0);
	for (size_t i = 0; i < ARRAY_SIZE(fds); i++) {
		fds[i] = join(&claim);
		in_order = in_order && place(fds[i]) == i + 1;
	}
	tap_ok(in_order, "%d wait in order", WAITING_PER_UID);
	fd = join(&claim);
	tap_ok(hear(fd, &answer) == (ssize_t)sizeof(answer.refusal) &&
		       answer.type == MESSAGE_REFUSAL &&
		       answer.refusal.reason == GPUBROKER_REFUSED_QUOTA,
	       "one more of the same user is refused, and told that it is too many");
	hang_up(fd);
	hang_up(fds[0]);
	for (size_t i = 1; i < ARRAY_SIZE(fds); i++) {
		unsigned n;

		nearer = nearer && told(fds[i], &n).place == i && n == 1;
	}
	tap_ok(nearer, "one goes, and each of the others is told once");
	for (size_t i = ARRAY_SIZE(fds) - 1; i >= WAITING_PER_UID / 2; i--)
		close(fds[i]);
	turn(TURNS);
	nearer = true;
	for (size_t i = 1; i < WAITING_PER_UID / 2; i++)
		nearer = nearer && hears_nothing(fds[i]);
	tap_ok(nearer && broker.peers.n == WAITING_PER_UID / 2 - 1,
	       "those behind go, and nobody is told anything");
	for (size_t i = 1; i < WAITING_PER_UID / 2; i++)
		close(fds[i]);
	turn(TURNS);
	let_go_all();
	tap_ok(nobody(), "all go, and nothing is left");
}

/* ---- requests of peers that wait ---- */

static void test_another_request(void)
{
	static const uint32_t plain[] = { MESSAGE_LIST, MESSAGE_LEASES, MESSAGE_WATCH };
	const struct message_claim claim = claim_of_bus(0);
	const struct message_release release = { .type = MESSAGE_RELEASE, .lease = 1 };
	int other, fd;

	lend(0, 0);
	other = join(&claim);
	place(other);
	for (size_t i = 0; i < ARRAY_SIZE(plain) + 2; i++) {
		uint32_t type = i < ARRAY_SIZE(plain)	 ? plain[i]
				: i == ARRAY_SIZE(plain) ? (uint32_t)MESSAGE_CLAIM
							 : (uint32_t)MESSAGE_RELEASE;

		fd = join(&claim);
		place(fd);
		if (i < ARRAY_SIZE(plain))
			say_plain(fd, (enum message_type)type);
		else if (type == MESSAGE_CLAIM)
			say(fd, &claim, sizeof(claim));
		else
			say(fd, &release, sizeof(release));
		turn(TURNS);
		tap_ok(is_dropped(fd) && broker.peers.n == 1 &&
			       !TAILQ_NEXT(TAILQ_FIRST(&broker.claims.queue.list), link),
		       "request %u of one who waits drops it, and its place", (unsigned)type);
		close(fd);
	}
	tap_ok(broker.leases.table.n == 1 && hears_nothing(other),
	       "who else waits hears nothing of it");
	fd = join(&claim);
	close(other);
	close(fd);
	let_go(0); /* in the turn in which the daemon finds them gone */
	turn(TURNS);
	if (broker.leases.table.n)
		let_fail(0);
	tap_ok(!broker.leases.table.n && nobody(),
	       "it comes free in the turn in which all go: nothing is left");
}

/* ---- what one user may keep from others ---- */

#define BOB 7000
#define RULE "/etc/gpubroker/policy.d/10-all.policy:1"

static int join_as(uint32_t uid, const struct message_claim *claim)
{
	int fd = dial_in(0);

	last_is_user(uid);
	say(fd, claim, sizeof(*claim));
	turn(TURNS);
	return fd;
}

/* A rule's limit counts what waiting claims keep as if that was leased. */
static void test_limit(void)
{
	const struct message_claim two = claim_of_two(0, 1), next = claim_of_two(0, 2);
	const struct message_claim one = claim_of_bus(0);
	struct message_claim free_one = claim_of_bus(3);
	int a, b, c, d;

	lend(0, 0);
	rule.limit = 3;
	free_one.flags = 0;
	a = join(&two);
	b = join(&next);
	tap_ok(place(a) == 1 && refusal_of(b) == GPUBROKER_REFUSED_LIMIT && !holds(NULL, 102),
	       "limit 3: claims of two and two devices do not wait at once");
	hang_up(b);
	b = join(&one);
	tap_ok(place(b) == 2, "... of two and one do");
	c = join(&free_one);
	tap_ok(refusal_of(c) == GPUBROKER_REFUSED_LIMIT,
	       "... and what they keep counts for a claim that need not wait");
	d = join_as(BOB, &free_one);
	tap_ok(lease_find_group(&broker.leases.table, 103), "... but not for another user's");
	close(d);
	turn(TURNS);
	let_fail(3);
	hang_up(b);
	say(c, &free_one, sizeof(free_one));
	turn(TURNS);
	tap_ok(lease_find_group(&broker.leases.table, 103),
	       "one waits no longer, and its user may have as many more");
	close(c);
	turn(TURNS);
	let_fail(3);
	queue_mark_all(&broker.claims.queue);
	turn(TURNS);
	tap_ok(!TAILQ_EMPTY(&broker.claims.queue.list) && hears_nothing(a),
	       "a waiting claim that is tried again does not count against itself");
	rule.limit = 0;
	close(a);
	turn(TURNS);
	let_go_all();
	tap_ok(nobody(), "and nothing is left");
}

/* The review: `limit 3`, one lease, 16 of 16 devices kept from everybody. */
static void test_hoard(void)
{
	struct lease *own = lend(0, 0);
	int fds[14], fd;
	bool wait = true;

	own->uid = getuid();
	strcpy(own->terms.rule, RULE);
	rule.limit = 3;
	for (size_t i = 0; i < ARRAY_SIZE(fds); i++) {
		const struct message_claim claim = claim_of_two(0, i + 1);

		fds[i] = join(&claim);
		wait = wait && place(fds[i]) == i + 1 &&
		       !holds(NULL, FIRST_GROUP + 1 + (uint32_t)i);
	}
	tap_ok(wait && !holds(NULL, FIRST_GROUP),
	       "claims that wait for a lease of their own user wait, and keep nothing");
	for (size_t i = 0; i < ARRAY_SIZE(fds); i++) {
		struct message_claim claim = claim_of_bus(i + 1);

		claim.flags = 0;
		fd = join_as(BOB, &claim);
		wait = wait &&
		       lease_find_group(&broker.leases.table, FIRST_GROUP + 1 + (uint32_t)i);
		close(fd);
		turn(TURNS);
		let_fail(i + 1);
	}
	tap_ok(wait, "... and each of the others can have each device");
	queue_mark_all(&broker.claims.queue);
	event_del(broker.claims.queue.wake);
	tap_ok(!holds(NULL, FIRST_GROUP) && !holds(NULL, FIRST_GROUP + 1),
	       "... even before they are tried again");
	own->uid = 5000; /* now another user has it */
	queue_mark_all(&broker.claims.queue);
	turn(4 * TURNS); /* to try a claim again costs more than its user's share of a turn */
	tap_ok(holds(NULL, FIRST_GROUP + 1) && refusal_of(fds[1]) == GPUBROKER_REFUSED_LIMIT &&
		       !holds(NULL, FIRST_GROUP + 2),
	       "once others are in the way they keep devices, and are more than the limit");
	rule.limit = 0;
	for (size_t i = 0; i < ARRAY_SIZE(fds); i++)
		close(fds[i]);
	turn(TURNS);
	let_go_all();
	tap_ok(nobody(), "and nothing is left");
}

static void test_own_and_others(void)
{
	const struct message_claim any = claim_of_any(), two = claim_of_two(0, 1);
	const struct message_claim one = claim_of_bus(1), kept = claim_of_two(5, 1);
	struct lease *leases[3];
	int a, b;

	broker.devices.n = 3;
	for (size_t i = 0; i < 3; i++) {
		leases[i] = lend(i, 0);
		leases[i]->uid = i < 2 ? getuid() : 5000;
	}
	a = join(&any);
	tap_ok(place(a) == 1 && holds(NULL, 102),
	       "a claim of any waits for others if one of them has one that it may get");
	hang_up(a);
	leases[2]->uid = getuid();
	a = join(&any);
	tap_ok(place(a) == 1 && !holds(NULL, 100) && !holds(NULL, 102),
	       "... and for its own user if that user has all");
	hang_up(a);
	broker.devices.n = GROUPS;
	lease_free(leases[1]);
	lease_free(leases[2]);
	lend(5, 0);
	b = join_as(BOB, &kept);
	broker.devices.n = 2;
	a = join(&any);
	tap_ok(place(a) == 2 && holds(NULL, 100),
	       "... and for others if one of them keeps a device that it may get");
	broker.devices.n = GROUPS;
	close(b);
	hang_up(a);
	if (lease_find_group(&broker.leases.table, 101))
		let_fail(1);
	let_go(5);
	leases[0]->uid = 5000;
	a = join(&two);
	b = join_as(BOB, &one);
	tap_ok(place(b) == 2 && holds(NULL, 101), "a free device is kept for who waits");
	leases[0]->uid = getuid();
	queue_mark(&broker.claims.queue, 100);
	turn(TURNS);
	tap_ok(lease_find_group(&broker.leases.table, 101) &&
		       lease_find_group(&broker.leases.table, 101)->uid == BOB,
	       "... and goes to the next as soon as it is kept no longer");
	close(a);
	close(b);
	turn(TURNS);
	let_fail(1);
	let_go_all();
	tap_ok(nobody(), "and nothing is left");
}

/* A claim that came while a marked one kept everything that it may mean is tried again after it. */
static void test_marked(void)
{
	static struct policy_rule rules[2];
	const struct message_claim any = claim_of_any(), second = claim_of_bus(1);
	const struct policy before = broker.policy.policy;
	int a, b;

	rules[0] = rules[1] = rule;
	rules[0].match.attributes |= POLICY_IOMMU_GROUP;
	rules[0].match.iommu_group = FIRST_GROUP;
	rules[1].who = POLICY_WHO_USER;
	rules[1].id = BOB;
	broker.policy.policy.rules = rules;
	broker.policy.policy.n_rules = 2;
	lend(0, 0);
	a = join(&any);
	need(place(a) == 1);
	b = dial_in(0);
	last_is_user(BOB);
	queue_mark_all(&broker.claims.queue);
	event_del(broker.claims.queue.wake); /* its turn must not come yet */
	say(b, &second, sizeof(second));
	turn(TURNS);
	tap_ok(place(b) == 1 && !lease_find_group(&broker.leases.table, 101),
	       "a free device is kept for a marked claim that may mean it");
	queue_wake(&broker.claims.queue);
	turn(TURNS);
	tap_ok(lease_find_group(&broker.leases.table, 101),
	       "... and goes to the next as soon as that one was tried");
	close(a);
	close(b);
	turn(TURNS);
	let_fail(1);
	broker.policy.policy = before;
	let_go_all();
	tap_ok(nobody(), "and nothing is left");
}

/* ---- what others see of the queue, and can end ---- */

/* Sends a request to end a claim or lease, and returns the refusal's reason; 0: it is begun. */
static uint32_t end_as(uint32_t uid, uint64_t id, uint32_t flags, uint64_t after)
{
	const struct message_release release = {
		.type = MESSAGE_RELEASE, .lease = id, .flags = flags, .after = after
	};
	uint32_t reason = UINT32_MAX;
	union answer answer;
	int fd = dial_in(0);

	last_is_user(uid);
	say(fd, &release, sizeof(release));
	turn(TURNS);
	if (hear(fd, &answer) > 0)
		reason = answer.type == MESSAGE_END ? 0 : answer.refusal.reason;
	hang_up(fd);
	return reason;
}

static void test_shown(void)
{
	const struct message_claim claim = claim_of_two(0, 1), any = claim_of_any();
	struct lease *lease = lend(0, 0);
	union answer answer;
	int watcher = dial_in(0), lister, a, b;
	uint64_t id;

	broker.devices.n = 1;
	say_plain(watcher, MESSAGE_WATCH);
	a = join_as(BOB, &claim);
	b = join(&any);
	id = told(a, NULL).id;
	tap_ok(hear(watcher, &answer) == sizeof(answer.event) &&
		       answer.event.event == GPUBROKER_EVENT_WAITING && answer.event.lease == id &&
		       answer.event.uid == BOB && answer.event.place == 1 &&
		       answer.event.n_selectors == 2 && answer.event.has_address &&
		       answer.event.first.kind == SELECT_ADDRESS,
	       "who watches learns who waits, for what, and where in the queue");
	tap_ok(hear(watcher, &answer) == sizeof(answer.event) && answer.event.place == 2 &&
		       answer.event.first.kind == SELECT_ANY && answer.event.uid == getuid() &&
		       answer.event.lease > id && !answer.event.has_address,
	       "... each of them");
	lister = dial_in(0);
	say_plain(lister, MESSAGE_QUEUE);
	turn(TURNS);
	tap_ok(hear(lister, &answer) == sizeof(answer.waiting) && answer.type == MESSAGE_WAITING &&
		       answer.waiting.id == id && answer.waiting.place == 1 &&
		       answer.waiting.uid == BOB && answer.waiting.lease == lease->id &&
		       answer.waiting.holder_uid == 5000 && answer.waiting.keeps &&
		       answer.waiting.n_selectors == 2 &&
		       answer.waiting.selectors[1].address.bus == 1 && answer.waiting.since,
	       "who lists the queue, too, in its order");
	tap_ok(hear(lister, &answer) == sizeof(answer.waiting) && answer.waiting.place == 2 &&
		       answer.waiting.selectors[0].kind == SELECT_ANY &&
		       hears(lister, MESSAGE_END, sizeof(answer.end)),
	       "... to its end");
	hang_up(b);
	tap_ok(hear(watcher, &answer) == sizeof(answer.event) &&
		       answer.event.event == GPUBROKER_EVENT_WAITED &&
		       answer.event.uid == getuid() && hears_nothing(watcher),
	       "... and that a claim waits no longer");
	hang_up(a);
	close(watcher);
	close(lister);
	broker.devices.n = GROUPS;
	let_go_all();
	tap_ok(nobody(), "and nothing is left");
}

static void test_ended(void)
{
	const struct message_claim claim = claim_of_bus(0);
	union answer answer;
	uint64_t ids[3];
	int fds[3];

	lend(0, 0);
	for (size_t i = 0; i < ARRAY_SIZE(fds); i++) {
		fds[i] = i ? join(&claim) : join_as(BOB, &claim);
		ids[i] = told(fds[i], NULL).id;
		need(ids[i] && (!i || ids[i] > ids[i - 1]));
	}
	tap_ok(end_as(1000, ids[0], 0, 0) == GPUBROKER_REFUSED_NOT_YOURS &&
		       end_as(BOB, ids[0], RELEASE_REVOKE, 0) == GPUBROKER_REFUSED_NOT_YOURS &&
		       end_as(BOB, ids[2] + 1, 0, 0) == GPUBROKER_REFUSED_NO_LEASE &&
		       hears_nothing(fds[0]),
	       "no other user ends a claim that waits");
	tap_ok(!end_as(0, ids[0], RELEASE_REVOKE, 60) &&
		       hear(fds[0], &answer) == sizeof(answer.refusal) &&
		       answer.refusal.reason == GPUBROKER_REFUSED_BUSY &&
		       answer.refusal.detail == REFUSAL_ENDED && answer.refusal.holder_uid == 0 &&
		       answer.refusal.lease == ids[0],
	       "root does, at once, and the claimant learns of it");
	tap_ok(place(fds[1]) == 1 && place(fds[2]) == 2, "... and those behind come nearer");
	say_plain(fds[0], MESSAGE_LEASES);
	turn(TURNS);
	tap_ok(hears(fds[0], MESSAGE_LEASE, sizeof(answer.lease)),
	       "... and its connection goes on");
	tap_ok(!end_as(getuid(), ids[2], 0, 0) && hear(fds[2], &answer) == sizeof(answer.refusal) &&
		       answer.refusal.detail == REFUSAL_ENDED &&
		       answer.refusal.holder_uid == getuid(),
	       "its own user does so, too");
	tap_ok(end_as(0, ids[2], RELEASE_REVOKE, 0) == GPUBROKER_REFUSED_NO_LEASE,
	       "... and only once");
	lend(1, 0);
	tap_ok(!lease_find_id(&broker.leases.table, ids[0]) &&
		       !lease_find_id(&broker.leases.table, ids[1]) &&
		       !lease_find_id(&broker.leases.table, ids[2]) &&
		       lease_find_group(&broker.leases.table, 101)->id > ids[2],
	       "no lease has the number of a claim");
	for (size_t i = 0; i < ARRAY_SIZE(fds); i++)
		close(fds[i]);
	turn(TURNS);
	let_go_all();
	tap_ok(nobody(), "and nothing is left");
}

/* The limit of locked memory is that of the devices that the claim gets. */
static void test_memlock(void)
{
	static struct policy_rule rules[2];
	const struct policy before = broker.policy.policy;
	struct message_claim any = claim_of_any();
	const struct claim *claim;
	int fd;

	rules[0] = rules[1] = rule;
	rules[0].match.attributes |= POLICY_IOMMU_GROUP;
	rules[0].match.iommu_group = FIRST_GROUP;
	rules[0].memlock = 64ULL << 30;
	rules[1].memlock = 1 << 20;
	broker.policy.policy.rules = rules;
	broker.policy.policy.n_rules = 2;
	lend(0, 0);
	any.memlock = 64ULL << 30;
	any.flags = 0;
	fd = join(&any);
	tap_ok(refusal_of(fd) == GPUBROKER_REFUSED_MEMLOCK,
	       "the rule of a device that somebody else has grants no memory");
	any.memlock = 0;
	say(fd, &any, sizeof(any));
	turn(TURNS);
	claim = TAILQ_FIRST(&broker.claims.list);
	tap_ok(claim && claim->items[0].lease->group == FIRST_GROUP + 1 &&
		       claim->items[0].lease->terms.memlock == 1 << 20,
	       "... but that of the one that the claim gets");
	close(fd);
	turn(TURNS);
	let_fail(1);
	broker.policy.policy = before;
	let_go_all();
	tap_ok(nobody(), "and nothing is left");
}

static size_t count_marked(void)
{
	const struct waiting *waiting;
	size_t n = 0;

	TAILQ_FOREACH(waiting, &broker.claims.queue.list, link)
		n += waiting->look;
	return n;
}

static void test_turns(void)
{
	const struct message_claim claim = claim_of_bus(0);
	int fds[WAITING_PER_UID];
	size_t before;

	lend(0, 0);
	for (size_t i = 0; i < ARRAY_SIZE(fds); i++) {
		fds[i] = join(&claim);
		last_is_user(1000 + (uint32_t)i);
	}
	turn(USERS_DEBT);
	queue_mark_all(&broker.claims.queue);
	before = count_marked();
	event_base_loop(broker.base, EVLOOP_NONBLOCK | EVLOOP_ONCE);
	tap_ok(before == ARRAY_SIZE(fds) && count_marked() && count_marked() < before,
	       "a turn of the loop tries some of the marked claims, and not all (%zu are left)",
	       count_marked());
	for (size_t i = 0; i < ARRAY_SIZE(fds) && count_marked(); i++) {
		queue_wake(&broker.claims.queue); /* which does not put it off */
		event_base_loop(broker.base, EVLOOP_NONBLOCK | EVLOOP_ONCE);
	}
	tap_ok(!count_marked(), "... and further turns the others");
	for (size_t i = 0; i < ARRAY_SIZE(fds); i++)
		close(fds[i]);
	turn(TURNS);
	let_go_all();
	tap_ok(nobody(), "and nothing is left");
}

/* Returns what it costs to decide a claim of the first peer's. */
static uint64_t cost_of(const struct message_claim *claim)
{
	struct selection *selection = calloc(1, sizeof(*selection));
	struct message_refusal refusal;
	uint64_t cost;

	need(selection);
	need(selection_decide(&broker.claims, &TAILQ_FIRST(&broker.peers.list)->claimant, claim,
			      selection, &refusal) == GPUBROKER_REFUSED_BUSY);
	cost = selection->cost;
	selection_done(selection);
	free(selection);
	return cost;
}

static void test_cost(void)
{
	struct message_claim any = claim_of_any();
	const int fd = dial_in(0);
	uint64_t one, all;

	for (size_t i = 0; i < GROUPS; i++)
		lend(i, 0);
	one = cost_of(&any);
	any.n_selectors = PROTOCOL_SELECTORS_MAX;
	for (size_t i = 1; i < any.n_selectors; i++)
		any.selectors[i] = any.selectors[0];
	all = cost_of(&any);
	tap_ok(all < 4 * one, "16 times any reads no group 16 times: %llu, once %llu",
	       (unsigned long long)all, (unsigned long long)one);
	let_go_all();
	hang_up(fd);
	tap_ok(nobody(), "and nothing is left");
}

/* ---- places of the daemon before ---- */

static void keep(uint64_t id, uint32_t uid)
{
	need(!queue_keep(&broker.claims.queue,
			 &(struct queue_place){ .id = id, .since = 77, .uid = uid }));
}

static void test_kept(void)
{
	struct message_claim claim = claim_of_bus(0), no_wait = claim_of_bus(1);
	struct lease_table *leases = &broker.leases.table;
	const uint64_t base = leases->next_id + 100;
	int first, second, thief, late;
	struct message_queued q;

	no_wait.flags = 0;
	leases->next_id = base + 10;
	keep(base + 1, getuid());
	keep(base + 2, getuid());
	keep(base + 3, getuid() + 1);
	late = join(&no_wait);
	tap_ok(hears_nothing(late) && !leases->n,
	       "while places are kept, nothing is granted or refused");
	claim.place = base + 2;
	second = join(&claim);
	claim.place = base + 3;
	thief = join(&claim);
	claim.place = base + 1;
	first = join(&claim);
	tap_ok(hears_nothing(first) && !leases->n, "... also not to who has come again");
	tap_ok(TAILQ_FIRST(&broker.claims.queue.list)->since == 77,
	       "a claim that comes again has waited since it came first");
	queue_drop_kept(&broker.claims.queue, base + 3); /* it does not come */
	turn(TURNS);
	tap_ok(lease_find_group(leases, 100) && place(second) == 1,
	       "then the order is that of before, not of the connections");
	q = told(thief, NULL);
	tap_ok(q.place == 2 && q.id >= base + 10, "another user's place is not taken");
	tap_ok(lease_find_group(leases, 101), "... and who came since is served");
	let_fail(0);
	tap_ok(refusal_of(first) == GPUBROKER_REFUSED_FAILED, "the first was the first");
	let_fail(0);
	tap_ok(refusal_of(second) == GPUBROKER_REFUSED_FAILED, "... the second the second");
	let_fail(0);
	let_fail(1);
	close(first);
	close(second);
	close(thief);
	close(late);
	tap_ok(nobody(), "and nothing is left");
}

int main(void)
{
	alarm(300);
	broker_make_with_workers(&rule);
	make_host();
	fds_at_start = open_descriptors();

	test_order();
	test_places();
	test_ends();
	test_holds();
	test_no_use();
	test_prepared();
	test_many_groups();
	test_plugged();
	test_never_reads();
	test_many();
	test_another_request();
	test_limit();
	test_hoard();
	test_own_and_others();
	test_marked();
	test_shown();
	test_ended();
	test_memlock();
	test_cost();
	test_turns();
	test_kept();

	broker_drop();
	return tap_done();
}
