/* SPDX-License-Identifier: MIT */
/*
 * The identity of a peer if the kernel does not give it: getsockopt() fails, or answers nonsense.
 * Such a peer gets nothing, and the broker logs that once.
 */
#include "config.h"

#include "brokerd/state/verdict.h"
#include "tests/unit/brokerd/log-file.h"
#include "tests/unit/brokerd/world.h"
#include "brokerd/claim/select.h"
#include "tests/tap.h"

#include <string.h>

#ifndef SO_PEERPIDFD
#define SO_PEERPIDFD 77
#endif

/* ---- in place of the kernel ---- */

int __real_getsockopt(int fd, int level, int option, void *value, socklen_t *size);
int __wrap_getsockopt(int fd, int level, int option, void *value, socklen_t *size);

static int failing, error; /* the option that fails, and its errno */
static struct ucred *answer;
static socklen_t answer_len;
static gid_t many[1200]; /* with n_many: the groups of every peer */
static size_t n_many;

int __wrap_getsockopt(int fd, int level, int option, void *value, socklen_t *size)
{
	if (level == SOL_SOCKET && option == failing) {
		errno = error;
		return -1;
	}
	if (level == SOL_SOCKET && option == SO_PEERCRED && answer) {
		memcpy(value, answer, answer_len);
		*size = answer_len;
		return 0;
	}
	if (level == SOL_SOCKET && option == SO_PEERGROUPS && n_many) {
		memcpy(value, many, n_many * sizeof(*many));
		*size = (socklen_t)(n_many * sizeof(*many));
		return 0;
	}
	return __real_getsockopt(fd, level, option, value, size);
}

#define UNKNOWN                                                                                    \
	"lease=- uid=- pid=- device=- group=- name=- rule=- by=- outcome=dropped "                 \
	"reason=\"its user is unknown: "

static void test_unknown(void)
{
	static const int errors[] = { ENOPROTOOPT, ENOMEM, EBADF, EPERM, EINVAL };
	struct ucred cred = { .pid = getpid(), .uid = 0, .gid = 0 };

	for (size_t i = 0; i < ARRAY_SIZE(errors); i++) {
		int fd;

		log_file_empty();
		failing = SO_PEERCRED;
		error = errors[i];
		fd = dial(0);
		failing = 0;
		tap_ok(!broker.peers.n && is_dropped(fd) && said(UNKNOWN) == 1,
		       "one whose user cannot be told (%s) is dropped, and it is said",
		       strerror(errors[i]));
		close(fd);
	}

	answer = &cred;
	answer_len = sizeof(cred);
	cred.uid = (uid_t)-1;
	log_file_empty();
	close(dial(0));
	tap_ok(!broker.peers.n && said(UNKNOWN) == 1,
	       "no user is nobody, not the one without a rule");
	cred = (struct ucred){ .pid = 0, .uid = 0, .gid = 0 };
	close(dial(0));
	tap_ok(!broker.peers.n && said(UNKNOWN) == 2,
	       "root without a process, so from outside of our processes, is nobody");
	cred.pid = -1;
	close(dial(0));
	tap_ok(!broker.peers.n && said(UNKNOWN) == 3, "nor with a negative one");
	cred = (struct ucred){ .pid = getpid(), .uid = 0, .gid = 0 };
	answer_len = sizeof(cred.pid);
	close(dial(0));
	tap_ok(!broker.peers.n && said(UNKNOWN) == 4,
	       "an answer that is too short is none: nobody becomes root by what was in memory");
	answer = NULL;
	tap_ok(quiet(), "none of them leaves anything");
}

static bool keeps(const struct selection *selection, gid_t gid)
{
	for (size_t i = 0; i < selection->n_gids; i++)
		if (selection->gids[i] == gid)
			return true;
	return false;
}

/* Decides a claim by a user in n groups, with a rule for the last one and some others. */
static void select_by_groups(struct policy_rule *rules, size_t n_rules, size_t n, bool indexed,
			     struct selection *ret_selection)
{
	const struct policy before = broker.policy.policy;
	struct message_claim claim = claim_by(SELECT_ADDRESS);
	struct message_refusal refusal;
	int fd;

	for (n_many = 0; n_many < n; n_many++)
		many[n_many] = 700000001 + (gid_t)n_many;
	many[n - 1] = 1500000000;
	broker.policy.policy.rules = rules;
	broker.policy.policy.n_rules = n_rules;
	broker.policy.policy.index = NULL;
	if (indexed && policy_index_build(&broker.policy.policy))
		exit(99);
	claim.selectors[0].address.bus = 1;
	fd = dial_in(0);
	*ret_selection = (struct selection){ 0 };
	tap_ok(!selection_decide(&broker.claims, &TAILQ_FIRST(&broker.peers.list)->claimant, &claim,
				 ret_selection, &refusal),
	       "a user in %zu groups has what a rule for the last one allows", n);
	selection_done(ret_selection);
	hang_up(fd);
	n_many = 0;
	broker.policy.policy.rules = NULL;
	broker.policy.policy.files = NULL;
	broker.policy.policy.names = NULL;
	broker.policy.policy.texts = NULL;
	policy_done(&broker.policy.policy);
	broker.policy.policy = before;
}

static void test_many_groups(bool indexed)
{
	struct policy_rule rules[400];
	struct selection *selection = malloc(sizeof(*selection));
	size_t kept = 0;

	need(selection);
	rules[399] = broker.policy.policy.rules[0];
	rules[399].who = POLICY_WHO_GROUP;
	rules[399].id = 1500000000;
	select_by_groups(rules + 399, 1, 121, indexed, selection);
	tap_ok(selection->n_gids == 121 && selection->gids[0] == 1500000000 &&
		       keeps(selection, 700000120),
	       "the lease keeps that one and all others");
	select_by_groups(rules + 399, 1, 1200, indexed, selection);
	tap_ok(selection->n_gids == LEASE_GIDS_MAX && selection->gids[0] == 1500000000,
	       "or, of more than a record holds, that one first");
	/* Rules for 399 of these groups: the first deny something else, the others allow it. */
	for (uint32_t i = 0; i < 399; i++) {
		rules[i] = rules[399];
		rules[i].verb = i < 200 ? POLICY_DENY : POLICY_ALLOW;
		rules[i].match.vendor = 0xffff;
		rules[i].id = 700000001 + 3 * i % 1199;
	}
	select_by_groups(rules, 400, 1200, indexed, selection);
	for (uint32_t i = 0; i < 200; i++)
		kept += keeps(selection, rules[i].id);
	tap_ok(kept == 200 && selection->n_gids == LEASE_GIDS_MAX &&
		       selection->gids[0] == 1500000000 && keeps(selection, rules[200].id),
	       "then those of deny rules, which must not be lost");
	free(selection);
	tap_ok(quiet(), "nothing is left of them");
}

/* The broker takes each uid for itself, up to the last. */
static void test_uids(void)
{
	static const uid_t uids[] = { 0, 1, 65534, 0x7fffffff, 0x80000000, 0xfffffffe };
	struct message_claim claim = claim_by(SELECT_ADDRESS);
	struct ucred cred = { .pid = getpid() };
	struct policy_rule rule = broker.policy.policy.rules[0];

	claim.selectors[0].address.bus = 1;
	for (size_t i = 0; i < ARRAY_SIZE(uids); i++) {
		char line[128];
		union answer told;
		int fd;

		/* The rule allows the next uid, or one that differs in a single high bit. */
		for (unsigned n = 0; n < 3; n++) {
			broker.policy.policy.rules[0].who = POLICY_WHO_USER;
			broker.policy.policy.rules[0].id = n == 0   ? uids[i] + 1
							   : n == 1 ? uids[i] ^ 0x80000000
								    : uids[i] ^ 0x10000;
			cred.uid = uids[i];
			answer = &cred;
			answer_len = sizeof(cred);
			fd = dial_in(0);
			answer = NULL;
			log_file_empty();
			say(fd, &claim, sizeof(claim));
			turn(TURNS);
			snprintf(line, sizeof(line),
				 "uid=%u pid=%d device=0000:01:00.0 group=14 name=- rule=- by=- "
				 "outcome=refused reason=\"policy\"",
				 (unsigned)uids[i], (int)getpid());
			tap_ok(hear(fd, &told) == sizeof(told.refusal) &&
				       told.refusal.reason == GPUBROKER_REFUSED_POLICY &&
				       said(line) == 1,
			       "uid %u has nothing of a rule for uid %u, and it is said",
			       (unsigned)uids[i], (unsigned)broker.policy.policy.rules[0].id);
			hang_up(fd);
		}
		/* Uses the listing, since a claim would go on to bind. */
		broker.policy.policy.rules[0].id = uids[i];
		answer = &cred;
		fd = dial_in(0);
		answer = NULL;
		say_plain(fd, MESSAGE_LIST);
		turn(TURNS);
		tap_ok(hear(fd, &told) == sizeof(told.device) && told.device.allowed,
		       "uid %u has what the rule for it allows", (unsigned)uids[i]);
		hang_up(fd);
	}
	broker.policy.policy.rules[0] = rule;
}

static void test_groups(void)
{
	struct message_claim claim = claim_by(SELECT_ADDRESS);
	union answer told;
	unsigned allowed = 0, listed = 0;
	int fd = dial_in(0);

	claim.selectors[0].address.bus = 1;
	log_file_empty();
	failing = SO_PEERGROUPS;
	error = ENOMEM;
	say(fd, &claim, sizeof(claim));
	turn(TURNS);
	tap_ok(hear(fd, &told) == sizeof(told.refusal) &&
		       told.refusal.reason == GPUBROKER_REFUSED_POLICY,
	       "whose groups cannot be told has nothing, though a rule allows all to everybody");
	tap_ok(said("cannot read the groups of uid") == 1 &&
		       said("outcome=refused reason=\"policy\"") == 1,
	       "... which is said, and why");
	say_plain(fd, MESSAGE_LIST);
	turn(TURNS);
	for (; hear(fd, &told) == sizeof(told.device); listed++)
		allowed += told.device.allowed;
	tap_ok(listed == 1 && !allowed, "... and is shown nothing as allowed");
	failing = 0;
	say_plain(fd, MESSAGE_LIST);
	turn(TURNS);
	for (; hear(fd, &told) == sizeof(told.device);)
		allowed += told.device.allowed;
	tap_ok(allowed == 1, "when they can be told it is again");
	hang_up(fd);
}

static void test_process(void)
{
	int fd = dial_in(0);
	struct peer *peer = TAILQ_FIRST(&broker.peers.list);

	if (peer->pidfd < 0) {
		failing = SO_PEERPIDFD;
		error = EMFILE;
	} else {
		peer->pidfd = fd_close(peer->pidfd);
		peer->pidfd = open("/dev/null", O_RDONLY | O_CLOEXEC);
	}
	tap_ok(peer->claimant.ops->raise_memlock(&peer->claimant, 1 << 20) == -ESRCH,
	       "whose process cannot be told has no limit raised");
	failing = 0;
	hang_up(fd);
}

int main(void)
{
	static struct policy_rule rule;

	alarm(300);
	log_file_make();
	broker_make();
	add_function("0000:01:00.0", "0x030000\n", 14);
	add_device(1, 0, 0x030000, 14);
	broker_allow_all(&rule);

	test_unknown();
	test_many_groups(false);
	test_many_groups(true);
	test_uids();
	test_groups();
	test_process();
	tap_ok(quiet(), "nothing is left");
	broker_drop();
	return tap_done();
}
