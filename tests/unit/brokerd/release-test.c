/* SPDX-License-Identifier: MIT */
/*
 * Leases that end before their holders let go, and peers that watch: the requests, who may make
 * them, and the messages about them. The test makes the leases by hand, and answers for the kernel
 * when the broker opens a group.
 */
#include "config.h"

#include "brokerd/claim/claim.h"
#include "brokerd/state/verdict.h"
#include "brokerd/lease/bringup.h"
#include "brokerd/lease/ending.h"
#include "brokerd/lease/kill.h"
#include "brokerd/lease/restore.h"
#include "brokerd/lease/recover.h"
#include "brokerd/peer/watching.h"
#include "brokerd/record/lease-record.h"
#include "client/library/refusal.h"
#include "tests/unit/brokerd/real-worker.h"
#include "tests/unit/brokerd/world.h"
#include "tests/tap.h"

#include <fcntl.h>
#include <inttypes.h>
#include <malloc.h>
#include <poll.h>
#include <signal.h>
#include <sys/time.h>
#include <time.h>

#define OTHER 4242	   /* the uid of another user */
#define SUBORDINATE 300000 /* the first of that user's, where there are some */

static struct policy_rule rule;
static int override = -1; /* the override of 0000:05:00.0, a FIFO */
static int group_says;	  /* result of opening a group in a worker: 0 or -errno */

int __wrap_kernel_group_probe_in(int directory, uint32_t group);
int __wrap_kernel_group_probe_in(int directory, uint32_t group)
{
	(void)directory;
	(void)group;
	return group_says;
}

static void add_override(const char *address, const char *text)
{
	char path[96];

	snprintf(path, sizeof(path), "sys/bus/pci/devices/%.16s/driver_override", address);
	scratch_write(path, text);
}

static void make_host(void)
{
	char path[128];

	add_function("0000:01:00.0", "0x030000\n", 11);
	add_override("0000:01:00.0", "\n");
	add_function("0000:02:00.0", "0x030000\n", 12); /* vfio-pci does not let it go */
	add_override("0000:02:00.0", "\n");
	scratch_write("sys/bus/pci/devices/0000:02:00.0/drivers/vfio-pci/unbind", "");
	snprintf(path, sizeof(path), "%s/sys/bus/pci/devices/0000:02:00.0/driver", scratch_path);
	need(!symlink("drivers/vfio-pci", path));
	scratch_write("sys/bus/pci/drivers_probe", "");
	add_function("0000:03:00.0", "0x030000\n", -1);
	add_function("0000:05:00.0", "0x030000\n", 15);
	snprintf(path, sizeof(path), "%s/sys/bus/pci/devices/0000:05:00.0/driver_override",
		 scratch_path);
	need(!unlink(path) && !mkfifo(path, 0600));
	override = open(path, O_RDWR | O_CLOEXEC | O_NONBLOCK);
	need(override >= 0);
	scratch_write("dev/vfio/none", "");
	snprintf(path, sizeof(path), "%s/dev", scratch_path);
	broker.kernel.dev = open(path, O_PATH | O_DIRECTORY | O_CLOEXEC);
	need(broker.kernel.dev >= 0);
	scratch_write("state/none", "");
	snprintf(path, sizeof(path), "%s/state", scratch_path);
	broker.store.directory = open(path, O_RDONLY | O_DIRECTORY | O_CLOEXEC);
	need(broker.store.directory >= 0);
}

static struct lease *lend(uint32_t group, uint32_t uid)
{
	struct lease *lease = lease_new(&broker.leases.table, 0, group);

	need(lease);
	lease->state = GPUBROKER_LEASE_LEASED;
	lease->uid = uid;
	lease->pid = 4711;
	lease->asked.bus = 1;
	lease->n_functions = 1;
	lease->functions[0].address = lease->asked;
	lease_set_kind(lease);
	return lease;
}

static void let_go_all(void)
{
	while (!TAILQ_EMPTY(&broker.leases.table.list)) {
		struct lease *lease = TAILQ_FIRST(&broker.leases.table.list);

		need(!lease->work);
		if (lease->timer)
			event_free(lease->timer);
		if (lease->expiry)
			event_free(lease->expiry);
		lease_record_remove(&broker.store, lease->id);
		lease_free(lease);
	}
}

static bool is_recorded(uint64_t id)
{
	char name[24];

	snprintf(name, sizeof(name), "%u", (unsigned)id);
	return !faccessat(broker.store.directory, name, F_OK, 0);
}

/*
 * Asks as a user. Returns the refusal's reason; 0 for the end; -1 if the peer was dropped; -2 for
 * no answer.
 */
static int ask_as(uint32_t uid, const void *request, size_t size,
		  struct message_refusal *ret_refusal)
{
	union answer answer = { 0 };
	int fd = dial_in(0), r = -2;
	ssize_t n;

	last_is_user(uid);
	say(fd, request, size);
	turn(TURNS);
	n = hear(fd, &answer);
	if (!n)
		r = -1;
	else if (n == sizeof(answer.end) && answer.type == MESSAGE_END)
		r = 0;
	else if (n == sizeof(answer.refusal) && answer.type == MESSAGE_REFUSAL)
		r = (int)answer.refusal.reason;
	if (ret_refusal)
		*ret_refusal = answer.refusal;
	hang_up(fd);
	return r;
}

static int release_as(uint32_t uid, uint64_t lease, struct message_refusal *ret_refusal)
{
	const struct message_release request = { .type = MESSAGE_RELEASE, .lease = lease };

	return ask_as(uid, &request, sizeof(request), ret_refusal);
}

static int revoke_as(uint32_t uid, uint64_t lease, uint64_t after,
		     struct message_refusal *ret_refusal)
{
	const struct message_release request = {
		.type = MESSAGE_RELEASE,
		.flags = RELEASE_REVOKE,
		.lease = lease,
		.after = after,
	};

	return ask_as(uid, &request, sizeof(request), ret_refusal);
}

static int restore_as(uint32_t uid, uint8_t bus, struct message_refusal *ret_refusal)
{
	const struct message_restore request = { .type = MESSAGE_RESTORE,
						 .address = { .bus = bus } };

	return ask_as(uid, &request, sizeof(request), ret_refusal);
}

static bool sentence_has(const struct message_refusal *refusal, const char *text)
{
	static const struct refusal_names names = { 0 };
	char sentence[1024];

	refusal_format(refusal, &names, sentence, sizeof(sentence));
	if (!strstr(sentence, text))
		printf("# %s\n", sentence);
	return strstr(sentence, text);
}

/* ---- packets that are no request ---- */

static void test_bad(void)
{
	static const struct {
		const char *what;
		struct message_release release;
	} releases[] = {
		{ "a release with an unknown flag", { .flags = 2, .lease = 1 } },
		{ "a revocation with an unknown flag", { .flags = 3, .lease = 1 } },
		{ "a release with all flags", { .flags = UINT32_MAX, .lease = 1 } },
		{ "a release with a time", { .lease = 1, .after = 1 } },
	};
	static const struct {
		const char *what;
		struct message_restore restore;
	} restores[] = {
		{ "a restore with a reserved field that is not 0", { .reserved = 1 } },
		{ "a restore of device 32", { .address = { .device = 32 } } },
		{ "a restore of function 8", { .address = { .function = 8 } } },
		{ "a restore with a reserved byte in its address",
		  { .address = { .reserved = 1 } } },
	};
	const struct message_plain watch = { .type = MESSAGE_WATCH, .reserved = 1 };
	const struct lease *lease;

	lend(11, getuid());
	for (size_t i = 0; i < ARRAY_SIZE(releases); i++) {
		struct message_release release = releases[i].release;

		release.type = MESSAGE_RELEASE;
		tap_ok(ask_as(0, &release, sizeof(release), NULL) == -1, "%s drops the peer",
		       releases[i].what);
	}
	for (size_t i = 0; i < ARRAY_SIZE(restores); i++) {
		struct message_restore restore = restores[i].restore;

		restore.type = MESSAGE_RESTORE;
		tap_ok(ask_as(0, &restore, sizeof(restore), NULL) == -1, "%s drops the peer",
		       restores[i].what);
	}
	tap_ok(ask_as(0, &watch, sizeof(watch), NULL) == -1,
	       "to watch with a reserved field that is not 0 does too");
	lease = TAILQ_FIRST(&broker.leases.table.list);
	tap_ok(broker.leases.table.n == 1 && lease->state == GPUBROKER_LEASE_LEASED && !lease->ends,
	       "and does nothing to a lease");
	let_go_all();
	tap_ok(quiet(), "and leaves nothing");
}

/* ---- release ---- */

static void test_release(void)
{
	const struct lease *lease = lend(11, OTHER), *next;
	struct message_refusal r;
	uint64_t id = lease->id;

	tap_ok(release_as(OTHER, id + 1, &r) == GPUBROKER_REFUSED_NO_LEASE && r.lease == id + 1 &&
		       sentence_has(&r, "no lease"),
	       "a lease that there is not");
	tap_ok(release_as(OTHER, 0, &r) == GPUBROKER_REFUSED_NO_LEASE, "nor 0");
	tap_ok(release_as(0, UINT64_MAX, &r) == GPUBROKER_REFUSED_NO_LEASE,
	       "nor the largest number");
	next = lend(12, OTHER);
	tap_ok(release_as(OTHER, id - 1, &r) == GPUBROKER_REFUSED_NO_LEASE &&
		       broker.leases.table.n == 2,
	       "and not the next one in its place");
	tap_ok(release_as(OTHER + 1, id, &r) == GPUBROKER_REFUSED_NOT_YOURS && r.lease == id &&
		       lease->state == GPUBROKER_LEASE_LEASED && !r.holder_uid && !r.holder_pid,
	       "another user's, and not whose it is");
	tap_ok(sentence_has(&r, "another user"), "which is said");
	tap_ok(!release_as(OTHER, id, NULL) && broker.leases.table.n == 1, "one's own ends");
	tap_ok(!release_as(0, next->id, NULL) && !broker.leases.table.n, "anybody's for root");
	tap_ok(release_as(OTHER, id, NULL) == GPUBROKER_REFUSED_NO_LEASE,
	       "it is gone the second time");
	tap_ok(quiet(), "and nothing is left");
}

static void test_release_states(void)
{
	static const enum gpubroker_lease_state still[] = { GPUBROKER_LEASE_RELEASING,
							    GPUBROKER_LEASE_RESTORING };
	struct lease *lease = lend(11, OTHER);

	for (size_t i = 0; i < ARRAY_SIZE(still); i++) {
		lease->state = still[i];
		tap_ok(!release_as(OTHER, lease->id, NULL) && broker.leases.table.n == 1 &&
			       lease->state == still[i],
		       "one that is %s goes its way", i ? "restored" : "closed");
	}
	lease->state = GPUBROKER_LEASE_RELEASING;
	lease->work = (struct work *)1;
	lease_recall(lease, "expired");
	tap_ok(lease->recall, "the end of its time is not forgotten while it is looked at");
	lease->recall = NULL;
	lease->work = NULL;
	lease->state = GPUBROKER_LEASE_STUCK;
	tap_ok(!release_as(OTHER, lease->id, NULL) && !broker.leases.table.n,
	       "one that is stuck is tried again");
	tap_ok(quiet(), "and nothing is left");
}

/* ---- holders that are ended ---- */

static struct ender_order ordered;
static unsigned n_ordered;
static bool with_ender;

static int take_order(void *userdata, const struct ender_order *order)
{
	(void)userdata;
	ordered = *order;
	n_ordered++;
	return 0;
}

static bool ender_is_there(void *userdata)
{
	(void)userdata;
	return with_ender;
}

static int kill_as(uint32_t uid, uint64_t lease, uint32_t flags, uint64_t grace)
{
	const struct message_release request = {
		.type = MESSAGE_RELEASE,
		.flags = flags,
		.lease = lease,
		.grace = grace,
	};

	return ask_as(uid, &request, sizeof(request), NULL);
}

/*
 * The kernel uses a node's number again: a lease that is stuck, and has no holder any more, must not
 * have the processes ended that have another lease. The nodes are those of terminals here.
 */
static void test_kill_of_old_number(struct lease *lease)
{
	const int before = broker.kernel.dev;
	const char *name;
	char path[256];
	struct lease *other;
	uint32_t group;
	int terminal = posix_openpt(O_RDWR | O_NOCTTY | O_CLOEXEC);

	name = terminal < 0 ? NULL : ptsname(terminal);
	if (!name || sscanf(name, "/dev/pts/%" SCNu32, &group) != 1) {
		tap_ok(true, "the number of a node that is gone # SKIP no terminals here");
		return;
	}
	snprintf(path, sizeof(path), "%s/terminals", scratch_path);
	need(!mkdir(path, 0700));
	broker.kernel.dev = open(path, O_PATH | O_DIRECTORY | O_CLOEXEC);
	snprintf(path, sizeof(path), "%s/terminals/vfio", scratch_path);
	need(!symlink("/dev/pts", path) && broker.kernel.dev >= 0);

	other = lend(group, OTHER);
	kill_note_nodes(other);
	lease->nodes[0] = other->nodes[0]; /* it was the other lease's before */
	lease->nodes[1] = (struct ender_node){ 240, 9 };
	lease->n_nodes = 2;
	kill_note_nodes(other);
	n_ordered = 0;
	lease->state = GPUBROKER_LEASE_STUCK;
	kill_again(lease);
	tap_ok(other->n_nodes == 1 && n_ordered == 1 && ordered.n_nodes == 1 &&
		       ordered.nodes[0].minor == 9,
	       "a number that another lease has now is not looked for");

	close(terminal); /* the kernel removes its node */
	lease->kill_unanswered = false;
	strcpy(other->reason, "its driver is not loaded");
	other->state = GPUBROKER_LEASE_STUCK;
	need(other->group_noted);
	n_ordered = 0;
	kill_again(other);
	tap_ok(!n_ordered && !strcmp(other->reason, "its driver is not loaded"),
	       "a group without its node has no holder, and keeps the reason why it is stuck");
	event_free(TAKE_PTR(other->kill_timer));
	lease_free(other);
	lease->n_nodes = 1;
	fd_close(broker.kernel.dev);
	broker.kernel.dev = before;
}

static long grace_left(const struct lease *lease)
{
	struct timeval now, end = { 0 };

	evtimer_pending(lease->kill_timer, &end);
	gettimeofday(&now, NULL);
	return (long)(end.tv_sec - now.tv_sec);
}

static bool is_over(void)
{
	for (int n = 0; n < 10000 && broker.leases.table.n; n++) {
		turn(TURNS);
		poll(NULL, 0, 1);
	}
	return !broker.leases.table.n;
}

static void test_kill(void)
{
	const uint32_t both = RELEASE_REVOKE | RELEASE_KILL;
	struct lease *lease = lend(11, OTHER);
	struct ender_answer answer = { .lease = lease->id, .signalled = 2, .pid = 4712 };
	const struct timeval soon = { .tv_sec = 1 };

	broker.leases.end = take_order;
	broker.leases.has_ender = ender_is_there;
	lease->nodes[0] = (struct ender_node){ 240, 3 };
	lease->n_nodes = 1;
	tap_ok(kill_as(0, lease->id, RELEASE_KILL, 5) == -1 &&
		       kill_as(0, lease->id, RELEASE_REVOKE, 5) == -1 &&
		       kill_as(0, lease->id, both, 0) == -1 &&
		       kill_as(0, lease->id, both, PROTOCOL_GRACE_MAX + 1) == -1,
	       "to end a holder takes a revocation and a grace, or the peer is dropped");
	tap_ok(kill_as(OTHER, lease->id, both, 5) == GPUBROKER_REFUSED_NOT_YOURS, "... and root");
	tap_ok(kill_as(0, lease->id, both, 5) == GPUBROKER_REFUSED_FAILED && !lease->terms.kill &&
		       lease->state == GPUBROKER_LEASE_LEASED,
	       "... and the ender, or nothing is begun");
	with_ender = true;
	lease->state = GPUBROKER_LEASE_ASKED;
	tap_ok(!kill_as(0, lease->id, both, 5) && lease->terms.kill == 5 && n_ordered == 1 &&
		       ordered.signal == SIGTERM && ordered.lease == lease->id &&
		       ordered.n_nodes == 1 && ordered.nodes[0].minor == 3 &&
		       ordered.n_ranges == 1 && ordered.uids[0].first == OTHER &&
		       ordered.uids[0].last == OTHER && ender_order_valid(&ordered),
	       "the ender is to find the user's processes by the nodes");
	strcpy(answer.program, "vm");
	need(!kill_as(0, lease->id, both, 50) && !evtimer_add(lease->kill_timer, &soon));
	tap_ok(n_ordered == 1 && lease->terms.kill == 50,
	       "a second revocation waits for the answer to the first, with its own grace");
	kill_answered(&broker.leases, &answer);
	tap_ok(grace_left(lease) > 45, "the grace begins when the signal was sent");
	tap_ok(strstr(lease->reason, "SIGTERM was sent to pid 4712 (vm) and 1 more"),
	       "the lease says what was done: %s", lease->reason);
	answer = (struct ender_answer){ .lease = lease->id, .spared = 1, .pid = 1, .uid = 5 };
	kill_answered(&broker.leases, &answer);
	tap_ok(!strstr(lease->reason, "uid 5"), "an answer that nobody waits for means nothing");
	lease->uid = 0;
	tap_ok(kill_as(0, lease->id, both, 5) == GPUBROKER_REFUSED_FAILED && n_ordered == 1,
	       "root's own processes are not ended");
	lease->uid = OTHER;
	lease->kill_unanswered = false;
	test_kill_of_old_number(lease);
	lease->kill_unanswered = true;
	lease->state = GPUBROKER_LEASE_STUCK;
	need(!release_as(OTHER, lease->id, NULL));
	tap_ok(broker.leases.table.n == 1 && lease->kill_waits && !lease->work,
	       "a lease is not over while the ender may end who has its nodes next");
	answer.lease = lease->id;
	kill_answered(&broker.leases, &answer);
	tap_ok(is_over(), "... and is when that has answered");

	lease = lend(11, OTHER);
	lease->kill_unanswered = true;
	lease->state = GPUBROKER_LEASE_STUCK;
	need(!release_as(OTHER, lease->id, NULL) && broker.leases.table.n == 1);
	tap_ok(is_over() && quiet(), "an ender that never answers is not waited for");
	broker.leases.end = NULL;
	broker.leases.has_ender = NULL;
}

/* The holder reports whether the device can migrate. */
static void test_migration(void)
{
	struct lease *lease = lend(11, OTHER);
	struct message_migration note = { .type = MESSAGE_MIGRATION,
					  .migration = GPUBROKER_MIGRATION_YES,
					  .lease = lease->id };
	struct policy_owners owners = { 0 };
	const uint64_t id = lease->id;
	struct message_refusal r;

	for (uint32_t bad = 0; bad < 4; bad += 3) {
		note.migration = bad;
		tap_ok(ask_as(OTHER, &note, sizeof(note), NULL) == -1, "%u is no answer: dropped",
		       (unsigned)bad);
	}
	note.migration = GPUBROKER_MIGRATION_YES;
	tap_ok(ask_as(OTHER + 1, &note, sizeof(note), &r) == GPUBROKER_REFUSED_NOT_YOURS &&
		       lease->migration == GPUBROKER_MIGRATION_UNKNOWN,
	       "nobody says of another's lease whether it migrates");
	tap_ok(ask_as(0, &note, sizeof(note), &r) == GPUBROKER_REFUSED_NOT_YOURS,
	       "nor does root, who has not asked the device");
	note.lease = id + 1;
	tap_ok(ask_as(OTHER, &note, sizeof(note), &r) == GPUBROKER_REFUSED_NO_LEASE,
	       "nor of a lease that there is not");
	note.lease = id;
	tap_ok(!ask_as(OTHER, &note, sizeof(note), NULL) &&
		       lease->migration == GPUBROKER_MIGRATION_YES,
	       "its holder does");
	note.migration = GPUBROKER_MIGRATION_NO;
	tap_ok(!ask_as(OTHER, &note, sizeof(note), NULL) &&
		       lease->migration == GPUBROKER_MIGRATION_NO,
	       "and may find otherwise later");
	owners.ranges = calloc(1, sizeof(*owners.ranges));
	need(owners.ranges);
	owners.ranges[owners.n_ranges++] = (struct policy_range){ SUBORDINATE, 10, OTHER };
	broker.policy.policy.owners = owners;
	tap_ok(!ask_as(SUBORDINATE + 9, &note, sizeof(note), NULL) &&
		       ask_as(SUBORDINATE + 10, &note, sizeof(note), &r) ==
			       GPUBROKER_REFUSED_NOT_YOURS &&
		       release_as(SUBORDINATE + 10, id, &r) == GPUBROKER_REFUSED_NOT_YOURS,
	       "its holder is so by each subordinate uid, and by no other");
	lease->uid = SUBORDINATE;
	tap_ok(!ask_as(OTHER, &note, sizeof(note), NULL) &&
		       release_as(OTHER + 1, id, &r) == GPUBROKER_REFUSED_NOT_YOURS,
	       "and what one of them holds is its holder's");
	broker.policy.policy.owners.ranges[0].owner = POLICY_NOBODY;
	tap_ok(release_as(SUBORDINATE + 1, id, &r) == GPUBROKER_REFUSED_NOT_YOURS,
	       "uids that several users have do not end each other's leases");
	broker.policy.policy.owners.ranges[0].owner = OTHER;
	tap_ok(!release_as(OTHER, id, NULL) && quiet(), "and nothing is left");
	policy_owners_done(&broker.policy.policy.owners);
}

/* A user releases a lease while its claim is under way. */
static void test_release_claim(void)
{
	struct message_claim claim = claim_by(SELECT_ADDRESS);
	union answer answer;
	int fd = dial_in(0);
	uint64_t id;

	claim.selectors[0].address.bus = 5;
	say(fd, &claim, sizeof(claim));
	turn(TURNS);
	need(broker.leases.table.n == 1 && TAILQ_FIRST(&broker.leases.table.list)->work);
	id = TAILQ_FIRST(&broker.leases.table.list)->id;
	tap_ok(revoke_as(getuid() + 1, id, 0, NULL) == GPUBROKER_REFUSED_NOT_YOURS ||
		       getuid() + 1 == 0,
	       "what is being claimed is nobody else's to revoke");
	tap_ok(!release_as(getuid(), id, NULL) && broker.leases.table.n == 1 &&
		       hear(fd, &answer) == -1,
	       "a claim under way is released, when its worker is done");
	need(write(override, "(null)\n", 7) == 7);
	wait_for_workers();
	tap_ok(hear(fd, &answer) == sizeof(answer.refusal) &&
		       answer.refusal.reason == GPUBROKER_REFUSED_FAILED &&
		       !strcmp(answer.refusal.text, "released before it was granted") &&
		       answer.refusal.address.bus == 5,
	       "and its claimer told why it gets nothing");
	tap_ok(!broker.leases.table.n && !is_recorded(id), "no lease is left, and no record");
	close(fd);
	tap_ok(quiet(), "and nothing else");
}

static void test_revoke(void)
{
	struct lease *lease = lend(11, OTHER);
	struct message_refusal r;
	uint64_t now = (uint64_t)time(NULL);
	int dir = broker.store.directory;

	lease->recorded = true;
	tap_ok(revoke_as(OTHER, lease->id, 0, &r) == GPUBROKER_REFUSED_NOT_YOURS && !r.lease &&
		       lease->state == GPUBROKER_LEASE_LEASED,
	       "only root may revoke, also of one's own");
	tap_ok(sentence_has(&r, "only root") && sentence_has(&r, "gpubroker release"),
	       "and is told what it may do");
	tap_ok(revoke_as(OTHER, lease->id + 1, 0, &r) == GPUBROKER_REFUSED_NOT_YOURS,
	       "nobody else learns so which leases there are");
	tap_ok(revoke_as(0, lease->id + 1, 0, &r) == GPUBROKER_REFUSED_NO_LEASE,
	       "root may not revoke one that there is not");
	tap_ok(!revoke_as(0, lease->id, 600, NULL) && lease->ends >= now + 600 &&
		       lease->ends <= now + 605 && lease->expiry &&
		       lease->state == GPUBROKER_LEASE_LEASED,
	       "after a time: it has an end, and goes on until then");
	tap_ok(is_recorded(lease->id), "which is recorded");
	lease->warned = true;
	tap_ok(!revoke_as(0, lease->id, 6000, NULL) && lease->ends <= now + 605 && lease->warned,
	       "a later end does not put it off");
	tap_ok(!revoke_as(0, lease->id, 300, NULL) && lease->ends <= now + 305 && !lease->warned,
	       "an earlier one counts, and is warned of");
	broker.store.directory = -1;
	tap_ok(revoke_as(0, lease->id, 100, &r) == GPUBROKER_REFUSED_FAILED && r.error == EBADF &&
		       lease->ends > now + 200,
	       "an end that cannot be recorded is none, and root is told");
	broker.store.directory = dir;
	let_go_all();

	lease = lend(11, OTHER);
	tap_ok(!revoke_as(0, lease->id, 0, NULL) && !broker.leases.table.n, "at once: it ends");
	lease = lend(11, OTHER);
	lease->probing = true;
	lease->work = (struct work *)lease;
	lease->recorded = true;
	tap_ok(!revoke_as(0, lease->id, 0, NULL) && lease->recall &&
		       !strcmp(lease->recall, "revoked") && lease->ends && lease->ends <= now + 5 &&
		       is_recorded(lease->id),
	       "where that takes time, it is recorded that it is to end, so a restart ends it");
	lease->work = NULL;
	let_go_all();
	tap_ok(quiet(), "and nothing is left");
}

/* ---- restore ---- */

static bool listed_as_allowed(uint64_t id)
{
	union answer answer = { 0 };
	int fd = dial_in(0);
	bool allowed;

	say_plain(fd, MESSAGE_LEASES);
	turn(TURNS);
	allowed = hear(fd, &answer) == sizeof(answer.lease) && answer.lease.id == id &&
		  answer.lease.allowed;
	hang_up(fd);
	return allowed;
}

static void test_restore(void)
{
	struct message_refusal r;
	struct lease *lease;
	uint64_t id;

	tap_ok(restore_as(OTHER, 1, &r) == GPUBROKER_REFUSED_NOT_YOURS && !broker.leases.table.n &&
		       sentence_has(&r, "only root") && sentence_has(&r, "gpubroker release"),
	       "only root may restore");
	tap_ok(restore_as(OTHER, 99, &r) == GPUBROKER_REFUSED_NOT_YOURS,
	       "nobody else learns so what there is");
	tap_ok(restore_as(0, 99, &r) == GPUBROKER_REFUSED_NO_DEVICE && r.address.bus == 99,
	       "no such function");
	tap_ok(restore_as(0, 3, &r) == GPUBROKER_REFUSED_NO_GROUP && r.address.bus == 3,
	       "one without a group");
	lease = lend(11, OTHER);
	tap_ok(restore_as(0, 1, &r) == GPUBROKER_REFUSED_BUSY && r.lease == lease->id &&
		       r.holder_uid == OTHER && sentence_has(&r, "gpubroker revoke"),
	       "one that is leased, and what would help");
	lease->state = GPUBROKER_LEASE_RESTORING;
	tap_ok(restore_as(0, 1, &r) == GPUBROKER_REFUSED_BUSY && r.detail == REFUSAL_RELEASING,
	       "one on its way back is told apart");
	let_go_all();

	id = broker.leases.table.next_id;
	group_says = -EBUSY;
	tap_ok(!restore_as(0, 1, NULL) && broker.leases.table.n == 1 && is_recorded(id),
	       "one that no lease has is given back by a lease, with a record");
	lease = TAILQ_FIRST(&broker.leases.table.list);
	wait_for_workers();
	tap_ok(lease->state == GPUBROKER_LEASE_RELEASING && lease->timer,
	       "while somebody has it without us, it is waited for");
	tap_ok(listed_as_allowed(id), "and nobody is told that no rule grants that");
	group_says = 0;
	lease->tries = 0;
	lease_closed(lease);
	for (int n = 0; n < 30000 && broker.leases.table.n; n++) {
		turn(TURNS);
		poll(NULL, 0, 1);
	}
	tap_ok(!broker.leases.table.n && !is_recorded(id),
	       "and when it is let go it is the host's");

	id = broker.leases.table.next_id;
	tap_ok(!restore_as(0, 2, NULL), "one that its driver does not let go of");
	for (int n = 0;
	     n < 30000 && TAILQ_FIRST(&broker.leases.table.list)->state != GPUBROKER_LEASE_STUCK;
	     n++) {
		turn(TURNS);
		poll(NULL, 0, 1);
	}
	lease = TAILQ_FIRST(&broker.leases.table.list);
	tap_ok(lease->state == GPUBROKER_LEASE_STUCK && lease->stuck_since &&
		       strstr(lease->reason, "0000:02:00.0: did not go back") && is_recorded(id),
	       "is stuck, says why, and keeps its record");
	tap_ok(!restore_as(0, 2, NULL) && lease->forced && broker.leases.table.n == 1,
	       "which root may try again");
	wait_for_workers();
	unlinkat(broker.kernel.sys, "bus/pci/devices/0000:02:00.0/driver", 0);
	tap_ok(!release_as(0, id, NULL), "or release");
	wait_for_workers();
	tap_ok(!broker.leases.table.n && !is_recorded(id), "when it can be had, it is the host's");

	lease = lend(11, OTHER);
	lease->state = GPUBROKER_LEASE_STUCK;
	lease->work = (struct work *)lease;
	strcpy(lease->reason, "0000:01:00.0: unbind: has not come back from the kernel");
	tap_ok(restore_as(0, 1, &r) == GPUBROKER_REFUSED_STUCK && strstr(r.text, "unbind"),
	       "one whose worker has not come back cannot be tried, and root is told of the step");
	lease->work = NULL;
	let_go_all();
	tap_ok(quiet(), "and nothing is left");
}

/* ---- a driver that was unloaded meanwhile ---- */

static long seconds_to_retry(const struct lease *lease)
{
	struct timeval at, now;

	need(lease->timer && event_pending(lease->timer, EV_TIMEOUT, &at));
	event_base_gettimeofday_cached(broker.base, &now);
	return at.tv_sec - now.tv_sec;
}

static void retry(struct lease *lease)
{
	lease_retry(lease);
	wait_for_workers();
	need(lease->state == GPUBROKER_LEASE_STUCK);
}

static void test_unloaded(void)
{
	struct watcher_record seen = { .type = WATCHER_DEVICE, .address = { .bus = 1 } };
	struct lease *lease = lend(11, OTHER);
	long longest = 0, before = 0;
	bool longer = true;
	char path[128];

	strcpy(lease->functions[0].driver, "nouveau");
	need(!lease_record(lease));
	lease->recorded = true;
	lease->state = GPUBROKER_LEASE_STUCK;
	retry(lease);
	tap_ok(!strcmp(lease->reason, "0000:01:00.0: its driver nouveau is not loaded: modprobe "
				      "$(cat /sys/bus/pci/devices/0000:01:00.0/modalias)"),
	       "a driver that was unloaded is named, with the command that loads it: %s",
	       lease->reason);
	for (int i = 0; i < 20; i++) {
		retry(lease);
		longest = seconds_to_retry(lease);
		longer = longer && longest >= before - 1;
		before = longest;
		if (i == 2)
			tap_ok(longest >= 8 && longest <= 11, "it is tried soon at first");
	}
	tap_ok(longer && longest > 500 && longest <= 601, "then less and less often: %ld s",
	       longest);
	lease_device_seen(&broker.leases, &seen);
	tap_ok(!lease->work, "a look at the function without a driver changes nothing");
	scratch_write("sys/bus/pci/drivers/nouveau/bind", "");
	snprintf(path, sizeof(path), "%s/sys/bus/pci/devices/0000:01:00.0/driver", scratch_path);
	need(!symlink("../../drivers/nouveau", path));
	strcpy(seen.driver, "nouveau");
	lease_device_seen(&broker.leases, &seen);
	wait_for_workers();
	tap_ok(!broker.leases.table.n, "and when the driver has it again, it is over at once");
	need(!unlink(path));
	need(!unlinkat(broker.kernel.sys, "bus/pci/drivers/nouveau/bind", 0));
	need(!unlinkat(broker.kernel.sys, "bus/pci/drivers/nouveau", AT_REMOVEDIR));
}

/* ---- waiting for a worker ---- */

/* A lease of an earlier run has expired: the broker first probes whether somebody holds it. */
static void test_expired_while_away(void)
{
	struct lease *lease = lend(11, OTHER);

	lease->state = GPUBROKER_LEASE_PREPARING;
	lease->ends = (uint64_t)time(NULL) - 10;
	group_says = -EBUSY;
	recover_lease(lease);
	for (int n = 0;
	     n < 30000 && broker.leases.table.n && lease->state != GPUBROKER_LEASE_RESTORING; n++) {
		turn(1);
		poll(NULL, 0, 1);
	}
	tap_ok(!broker.leases.table.n || lease->state != GPUBROKER_LEASE_LEASED,
	       "a lease whose time was up while the broker was away is taken back");
	wait_for_workers();
	let_go_all();

	lease = lend(11, OTHER);
	lease->state = GPUBROKER_LEASE_PREPARING;
	recover_lease(lease);
	tap_ok(lease->work && !release_as(OTHER, lease->id, NULL),
	       "a lease that is just being looked at may be released");
	for (int n = 0;
	     n < 30000 && broker.leases.table.n && lease->state != GPUBROKER_LEASE_RESTORING; n++) {
		turn(1);
		poll(NULL, 0, 1);
	}
	tap_ok(!broker.leases.table.n || lease->state != GPUBROKER_LEASE_LEASED,
	       "and is taken back when that is done");
	wait_for_workers();
	let_go_all();

	lease = lend(11, OTHER);
	lease->state = GPUBROKER_LEASE_PREPARING;
	recover_lease(lease);
	wait_for_workers();
	tap_ok(broker.leases.table.n == 1 && lease->state == GPUBROKER_LEASE_LEASED,
	       "one that nobody wants back goes on");
	let_go_all();
	group_says = 0;
	tap_ok(quiet(), "and nothing is left");
}

/* ---- the look whether anybody holds a lease ---- */

static struct lease *lend_recorded(void)
{
	struct lease *lease = lend(11, OTHER);

	strcpy(lease->terms.rule, "-");
	lease->recorded = lease->lent = true;
	need(!lease_record(lease));
	return lease;
}

static bool becomes(const struct lease *lease, enum gpubroker_lease_state state)
{
	for (int n = 0; n < 30000 && lease->state != state; n++) {
		turn(TURNS);
		poll(NULL, 0, 1);
	}
	return lease->state == state;
}

static struct message_lease listed(void)
{
	int fd = dial_in(0);
	union answer answer = { 0 };

	say_plain(fd, MESSAGE_LEASES);
	turn(TURNS);
	need(hear(fd, &answer) == sizeof(answer.lease) && answer.type == MESSAGE_LEASE);
	hang_up(fd);
	return answer.lease;
}

static void test_look(void)
{
	struct lease *lease = lend_recorded();

	group_says = -EACCES;
	lease_closed(lease);
	tap_ok(lease->state == GPUBROKER_LEASE_RELEASING && lease->released_at,
	       "a lease whose holder has let go");
	tap_ok(becomes(lease, GPUBROKER_LEASE_STUCK) &&
		       strstr(lease->reason, "opening /dev/vfio/11: Permission denied"),
	       "is stuck if its group cannot be looked at, and says why: %s", lease->reason);
	tap_ok(strstr(listed().reason, "/dev/vfio/11"), "... in the listing, too");
	wait_for_workers();
	let_go_all();

	lease = lend_recorded();
	group_says = -EBUSY;
	lease_closed(lease);
	wait_for_workers();
	lease->released_at -= 20;
	lease->tries = 0;
	lease_probe_holder(lease);
	wait_for_workers();
	tap_ok(lease->state == GPUBROKER_LEASE_RELEASING &&
		       strstr(listed().reason, "still or again"),
	       "one that a process has again says so after a while, and waits: %s",
	       listed().reason);
	tap_ok(listed().released_at == lease->released_at && !listed().stuck_since,
	       "... and since when");
	let_go_all();

	/* The kernel has iommufd. */
	lease = lend_recorded();
	broker.kernel.cdevs = true;
	group_says = KERNEL_ATTACHED;
	lease_closed(lease);
	wait_for_workers();
	tap_ok(lease->state == GPUBROKER_LEASE_LEASED && lease->attached && lease->timer,
	       "one whose holder has closed the group, and uses a device, goes on");
	lease->tries = 100;
	lease_probe_holder(lease);
	wait_for_workers();
	tap_ok(lease->state == GPUBROKER_LEASE_LEASED && lease->timer &&
		       event_pending(lease->timer, EV_TIMEOUT, NULL),
	       "... and is looked at for as long as it takes");
	group_says = -EBUSY;
	lease_probe_holder(lease);
	wait_for_workers();
	tap_ok(becomes(lease, GPUBROKER_LEASE_RELEASING), "... while it lets go, it is releasing");
	group_says = KERNEL_ATTACHED;
	lease_probe_holder(lease);
	wait_for_workers();
	tap_ok(lease->state == GPUBROKER_LEASE_LEASED && !lease->released_at,
	       "... and leased again if a device of it is in use after all");
	let_go_all();
	broker.kernel.cdevs = false;

	/* A record does not say whether anybody has the lease, and nor does this look. */
	lease = lend(11, OTHER);
	lease->state = GPUBROKER_LEASE_PREPARING;
	group_says = -EACCES;
	recover_lease(lease);
	wait_for_workers();
	tap_ok(lease->state == GPUBROKER_LEASE_LEASED && listed().reason[0],
	       "one from a record that cannot be looked at goes on, and says so: %s",
	       listed().reason);
	let_go_all();
	group_says = 0;
	tap_ok(quiet(), "and nothing is left");
}

/* ---- watching ---- */

static int watch(int room)
{
	int fd = dial_in(room);

	say_plain(fd, MESSAGE_WATCH);
	turn(TURNS);
	return fd;
}

static struct message_event event_of(int fd)
{
	union answer answer = { 0 };

	if (hear(fd, &answer) != sizeof(answer.event) || answer.type != MESSAGE_EVENT)
		memset(&answer, 0, sizeof(answer));
	return answer.event;
}

static void test_watch(void)
{
	struct lease *lease = lend(11, OTHER);
	const struct pci_address other = { .bus = 9 };
	uint64_t now = (uint64_t)time(NULL), id = lease->id;
	struct message_event e;
	union answer answer;
	int fd, second, idle;

	watching_state(&broker.peers, lease);
	fd = watch(0);
	second = watch(0);
	idle = dial_in(0);
	tap_ok(hear(fd, &answer) == -1, "who watches is not told what was before");
	lease->ends = 77;
	watching_ending(&broker.peers, lease);
	e = event_of(fd);
	tap_ok(e.event == GPUBROKER_EVENT_ENDING && e.lease == id && e.ends == 77 &&
		       e.uid == OTHER && e.pid == 4711 && e.group == 11 &&
		       e.state == GPUBROKER_LEASE_LEASED && e.has_address && e.address.bus == 1 &&
		       e.time >= now && e.time <= now + 5 && !e.lost && !e.reason[0],
	       "a lease that ends soon");
	tap_ok(event_of(second).event == GPUBROKER_EVENT_ENDING, "all who watch are told");
	tap_ok(hear(idle, &answer) == -1, "and who does not watch is not");
	watching_function(&broker.peers, lease, &other, true, NULL);
	e = event_of(fd);
	tap_ok(e.event == GPUBROKER_EVENT_ARRIVED && e.address.bus == 9 && e.lease == id,
	       "a function that came");
	watching_function(&broker.peers, lease, &other, false, NULL);
	e = event_of(fd);
	tap_ok(e.event == GPUBROKER_EVENT_VANISHED && e.address.bus == 9, "one that went");
	strcpy(lease->reason, "an old one");
	release_as(OTHER, id, NULL);
	e = event_of(fd);
	tap_ok(e.event == GPUBROKER_EVENT_STATE && e.state == GPUBROKER_LEASE_RESTORING &&
		       e.lease == id && !e.reason[0],
	       "a lease that is released goes back");
	e = event_of(fd);
	tap_ok(e.event == GPUBROKER_EVENT_STATE && e.state == GPUBROKER_LEASE_HOST && e.lease == id,
	       "and is the host's");
	tap_ok(hear(fd, &answer) == -1, "and that is all");

	lease = lend(11, OTHER);
	lease->state = GPUBROKER_LEASE_RESTORING;
	lease_worker_late(lease, "unbind", &lease->asked);
	e = event_of(fd);
	tap_ok(e.state == GPUBROKER_LEASE_STUCK &&
		       strstr(e.reason, "0000:01:00.0: unbind: has not"),
	       "one that is stuck says why, in its one event");
	tap_ok(hear(fd, &answer) == -1, "and no other");
	let_go_all();

	for (int i = 0; i < 2; i++) {
		const struct message_claim claim = claim_by(SELECT_ANY);

		if (i)
			say(fd, &claim, sizeof(claim));
		else
			say_plain(second, MESSAGE_WATCH);
		turn(TURNS);
	}
	while (hear(second, &answer) > 0)
		;
	tap_ok(is_dropped(second) && is_dropped(fd) && broker.peers.n == 1,
	       "who watches and asks for something else is dropped");
	close(fd);
	close(second);
	close(idle);
	tap_ok(quiet(), "and nothing is left");
}

static void test_watch_silent(void)
{
	struct lease *lease = lend(11, OTHER);
	int silent = watch(1), reader = watch(0);
	uint32_t sent = 1000, there = 0, heard = 0;
	struct message_event e;
	union answer answer;
	size_t before = mallinfo2().uordblks;

	for (uint32_t i = 0; i < sent; i++) {
		lease->ends = i + 1;
		watching_ending(&broker.peers, lease);
		turn(1);
		heard += event_of(reader).ends == i + 1;
	}
	tap_ok(heard == sent, "who reads is told all, beside one who does not");
	tap_ok(mallinfo2().uordblks <= before && broker.peers.n == 2 &&
		       !TAILQ_FIRST(&broker.peers.list)->on_writable,
	       "who does not read takes no memory, and stays");
	while ((e = event_of(silent)).event) {
		there++;
		if (e.ends != there || e.lost)
			break;
	}
	tap_ok(there && there < 100 && !e.event, "it has the first ones, in order (%u)", there);
	watching_ending(&broker.peers, lease);
	e = event_of(silent);
	tap_ok(e.lost == sent - there && e.ends == sent,
	       "and is told with the next how many it has lost (%u)", e.lost);
	watching_ending(&broker.peers, lease);
	e = event_of(silent);
	tap_ok(e.event && !e.lost, "once");
	tap_ok(!event_of(reader).lost && hear(reader, &answer) > 0 && !answer.event.lost,
	       "others have lost none");
	close(silent);
	watching_ending(&broker.peers, lease);
	watching_ending(&broker.peers, lease);
	hang_up(reader);
	let_go_all();
	tap_ok(quiet(), "gone in the middle of it, nothing is left");
}

static void test_watch_claim(void)
{
	static const uint32_t want[] = { GPUBROKER_LEASE_PREPARING, GPUBROKER_LEASE_RESTORING,
					 GPUBROKER_LEASE_HOST };
	struct message_claim claim = claim_by(SELECT_ADDRESS);
	int watcher = watch(0), fd = dial_in(0), dir = broker.store.directory;
	bool good = true;
	union answer answer;

	broker.store.directory = -1; /* makes the claim fail */
	claim.selectors[0].address.bus = 5;
	say(fd, &claim, sizeof(claim));
	turn(TURNS);
	need(write(override, "(null)\n", 7) == 7);
	wait_for_workers();
	broker.store.directory = dir;
	for (size_t i = 0; i < ARRAY_SIZE(want); i++) {
		struct message_event e = event_of(watcher);

		good = good && e.event == GPUBROKER_EVENT_STATE && e.state == want[i] &&
		       e.uid == getuid() && e.pid == (uint32_t)getpid() && e.address.bus == 5;
	}
	tap_ok(good && hear(watcher, &answer) == -1,
	       "a claim that fails is told from begin to end");
	close(watcher);
	hang_up(fd);
	tap_ok(!broker.leases.table.n && quiet(), "and nothing is left");
}

int main(void)
{
	alarm(300);
	broker_make_with_workers(&rule);
	make_host();
	fds_at_start = open_descriptors();

	test_bad();
	test_release();
	test_release_states();
	test_kill();
	test_migration();
	test_release_claim();
	test_revoke();
	test_restore();
	test_unloaded();
	test_expired_while_away();
	test_look();
	test_watch();
	test_watch_silent();
	test_watch_claim();

	close(override);
	broker_drop();
	return tap_done();
}
