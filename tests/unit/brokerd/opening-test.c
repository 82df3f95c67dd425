/* SPDX-License-Identifier: MIT */
/*
 * The core asks who has a device open before a claim takes it, and gets answers of a finder that it
 * need not trust. The finder is the test's. Without a state directory each claim that gets
 * further fails when its lease is to be recorded.
 */
#include "config.h"

#include "brokerd/claim/opening.h"
#include "brokerd/state/finding.h"
#include "client/host/opened.h"
#include "client/library/refusal.h"
#include "tests/unit/brokerd/real-worker.h"
#include "tests/unit/brokerd/skip-clock.h"
#include "tests/unit/brokerd/world.h"
#include "tests/tap.h"

#define FIRST 1
#define SECOND 2
#define ON_VFIO 3
#define OTHER 777 /* the user of leases that the test makes */

static struct policy_rule rule;
static struct finder_question asked; /* the last question */
static unsigned n_asked;
static int ask_result;
static uint32_t held_buses; /* bit N: somebody has bus N open */
static uint32_t holder_uid = 4711;
static bool silent;

int __wrap_kernel_group_probe_in(int directory, uint32_t group);
int __wrap_kernel_group_probe_in(int directory, uint32_t group)
{
	(void)directory;
	(void)group;
	return 0;
}

static int find(void *userdata, const struct finder_question *question)
{
	(void)userdata;
	if (ask_result)
		return ask_result;
	asked = *question;
	n_asked++;
	return 0;
}

static struct finder_answer answer_to(const struct finder_question *question)
{
	struct finder_answer answer = { .id = question->id };
	struct finder_holder *holder = &answer.holders[0];

	if (!(held_buses & 1U << question->functions[0].bus))
		return answer;
	answer.n = 1;
	holder->address = question->functions[0];
	holder->pid = 812;
	holder->uid = holder_uid;
	strcpy(holder->node, "dri/card0");
	strcpy(holder->program, "Xorg");
	return answer;
}

static void finder_answers(void)
{
	struct finder_answer answer = answer_to(&asked);

	need(finding_believe(&answer));
	if (!silent && n_asked)
		opening_answered(&broker.claims, &answer);
}

static void make_function(unsigned bus, const char *driver)
{
	char address[24], path[160], text[48];

	snprintf(address, sizeof(address), "0000:%02x:00.0", bus);
	add_function(address, "0x030000\n", 10 + (int)bus);
	snprintf(path, sizeof(path), "%s/sys/bus/pci/devices/%s/driver", scratch_path, address);
	snprintf(text, sizeof(text), "../../drivers/%s", driver);
	need(!symlink(text, path));
	add_device((uint8_t)bus, 0, 0x030000, 10 + bus);
	strcpy(broker.devices.list[broker.devices.n - 1].record.driver, driver);
}

static bool hears_soon(int fd, union answer *answer)
{
	for (int n = 0; n < 12000; n++) {
		ssize_t size;

		turn(TURNS);
		finder_answers();
		size = hear(fd, answer);
		if (size > 0 && answer->type != MESSAGE_STEP)
			return true;
		poll(NULL, 0, 1);
		if (n % 10 == 9) {
			wait_for_workers(); /* no time passes for what the machine takes */
			skip_ms(50);
		}
	}
	return false;
}

/* Returns true if no lease is left but those that the test has made, of OTHER. */
static bool only_others(void)
{
	const struct lease *lease;

	TAILQ_FOREACH(lease, &broker.leases.table.list, link)
		if (lease->uid != OTHER)
			return false;
	return true;
}

/*
 * Returns true if no question and no claim's lease is left, soon: what was to be lent goes back by
 * workers, which take their time under a sanitizer and on a busy machine. Until then the next claim
 * would find the device leased.
 */
static bool nothing_soon(void)
{
	for (int n = 0; n < 30000; n++) {
		turn(TURNS);
		if (TAILQ_EMPTY(&broker.claims.openings) && only_others())
			return true;
		poll(NULL, 0, 1);
	}
	return false;
}

/* The client goes, and what its claim had goes back. */
static void leave(int fd)
{
	hang_up(fd);
	need(nothing_soon());
}

/* The answer to a claim of one selector; reason 0: it would be begun. */
static struct message_refusal refusal_to(enum selector_kind kind, unsigned bus, uint32_t flags)
{
	struct message_claim claim = claim_by(kind);
	int fd = dial_in(0);
	union answer answer = { 0 };

	n_asked = 0;
	claim.flags = flags;
	claim.selectors[0].address.bus = (uint8_t)bus;
	say(fd, &claim, sizeof(claim));
	need(hears_soon(fd, &answer));
	leave(fd);
	return answer.type == MESSAGE_REFUSAL ? answer.refusal : (struct message_refusal){ 0 };
}

static bool is_open(const struct message_refusal *r, unsigned bus)
{
	return r->reason == GPUBROKER_REFUSED_IN_USE && r->detail == REFUSAL_OPEN &&
	       r->address.bus == bus;
}

static bool got_on(const struct message_refusal *r, unsigned bus)
{
	return r->reason == GPUBROKER_REFUSED_FAILED && r->address.bus == bus &&
	       strstr(r->text, "recording");
}

static void test_claims(void)
{
	struct message_refusal r = refusal_to(SELECT_ADDRESS, FIRST, 0);
	char text[512];

	tap_ok(got_on(&r, FIRST) && n_asked == 1 && asked.n == 1 && asked.functions[0].bus == FIRST,
	       "what nobody has open is taken, and was asked about");
	held_buses = 1U << FIRST;
	r = refusal_to(SELECT_ADDRESS, FIRST, 0);
	refusal_format(&r, NULL, text, sizeof(text));
	tap_ok(is_open(&r, FIRST) && strstr(text, "/dev/dri/card0") && strstr(text, "--force"),
	       "what somebody has open is not: %s", text);
	tap_ok(getuid() == 0 ? r.holder_pid == 812 : !r.holder_pid && !r.driver[0],
	       "... and only root learns whose process it is");
	tap_ok(nothing_soon(), "... and nothing is left of the claim");
	holder_uid = getuid();
	r = refusal_to(SELECT_ADDRESS, FIRST, 0);
	refusal_format(&r, NULL, text, sizeof(text));
	tap_ok(r.holder_pid == 812 && strstr(text, "Xorg (pid 812"), "or its own user: %s", text);
	holder_uid = 4711;
	r = refusal_to(SELECT_ADDRESS, FIRST, CLAIM_FORCE);
	tap_ok(got_on(&r, FIRST) && !n_asked, "by --force it is taken");
	rule.in_use = 1;
	r = refusal_to(SELECT_ADDRESS, FIRST, 0);
	tap_ok(got_on(&r, FIRST) && !n_asked, "by a rule with in-use too");
	rule.in_use = 0;
	r = refusal_to(SELECT_ADDRESS, ON_VFIO, 0);
	tap_ok(!n_asked && r.reason != GPUBROKER_REFUSED_IN_USE,
	       "what no host driver has is not asked about");
}

static void test_questions(void)
{
	struct message_refusal r = refusal_to(SELECT_ADDRESS, FIRST, CLAIM_ASK);

	tap_ok(is_open(&r, FIRST), "a claim that is only asked for is refused as well");
	r = refusal_to(SELECT_ADDRESS, SECOND, CLAIM_ASK);
	tap_ok(!r.reason && n_asked == 1, "... or would be begun");
	r = refusal_to(SELECT_ADDRESS, FIRST, CLAIM_ASK | CLAIM_FORCE);
	tap_ok(!r.reason && !n_asked, "... by --force, too");
}

static void test_names(void)
{
	struct message_refusal r = refusal_to(SELECT_ANY, 0, 0);

	tap_ok(got_on(&r, SECOND), "any goes on to the next device");
	r = refusal_to(SELECT_ANY, 0, CLAIM_ASK);
	tap_ok(!r.reason && n_asked == 2, "... also when it is only asked for");
	held_buses = 1U << FIRST | 1U << SECOND;
	r = refusal_to(SELECT_ANY, 0, 0);
	tap_ok(r.reason && (is_open(&r, FIRST) || is_open(&r, SECOND) || r.address.bus == ON_VFIO),
	       "... and after the last one it is refused");
	held_buses = 1U << FIRST;
	tap_ok(TAILQ_EMPTY(&broker.claims.queue.list), "no claim waits");
}

static void test_without(void)
{
	struct message_refusal r;
	struct finder_answer answer;
	int fd;
	struct message_claim claim = claim_by(SELECT_ADDRESS);
	union answer heard;

	ask_result = -ENOTCONN;
	r = refusal_to(SELECT_ADDRESS, FIRST, 0);
	tap_ok(got_on(&r, FIRST), "without a finder a claim goes on");
	ask_result = 0;
	silent = true;
	r = refusal_to(SELECT_ADDRESS, FIRST, 0);
	tap_ok(got_on(&r, FIRST) && n_asked == 1, "with one that does not answer, after a while");
	r = refusal_to(SELECT_ADDRESS, FIRST, 0);
	tap_ok(got_on(&r, FIRST) && !n_asked, "... and the next one at once");
	answer = answer_to(&asked);
	opening_answered(&broker.claims, &answer);
	silent = false;
	r = refusal_to(SELECT_ADDRESS, FIRST, 0);
	tap_ok(is_open(&r, FIRST), "... until it answers again");
	silent = true;
	n_asked = 0;
	claim.selectors[0].address.bus = FIRST;
	fd = dial_in(0);
	say(fd, &claim, sizeof(claim));
	for (int n = 0; n < 1000 && !n_asked; n++) {
		turn(TURNS);
		poll(NULL, 0, 1);
	}
	opening_answered(&broker.claims, NULL);
	tap_ok(hears_soon(fd, &heard) && heard.type == MESSAGE_REFUSAL &&
		       got_on(&heard.refusal, FIRST),
	       "one that goes away is not waited for");
	leave(fd);
	for (uint32_t flags = 0; flags <= CLAIM_ASK; flags += CLAIM_ASK) {
		n_asked = 0;
		claim.flags = flags;
		fd = dial_in(0);
		say(fd, &claim, sizeof(claim));
		for (int n = 0; n < 1000 && !n_asked; n++) {
			turn(TURNS);
			poll(NULL, 0, 1);
		}
		hang_up(fd);
		turn(TURNS);
		answer = answer_to(&asked);
		opening_answered(&broker.claims, &answer);
		tap_ok(nothing_soon(), "an answer for a client that has gone means nothing");
	}
	silent = false;
}

/* ---- claims that wait ---- */

static struct lease *lease_to_other(unsigned bus)
{
	struct lease *lease = lease_new(&broker.leases.table, 0, 10 + bus);

	need(lease);
	lease->state = GPUBROKER_LEASE_LEASED;
	lease->uid = OTHER;
	lease->asked.bus = (uint8_t)bus;
	return lease;
}

/* The core does what it can now, and the finder answers. Keeps the last packet, if there is one. */
static void work_off(int fd, union answer *answer, uint32_t *type)
{
	for (int k = 0; k < 8; k++) {
		union answer heard;

		turn(TURNS);
		finder_answers();
		while (hear(fd, &heard) > 0) {
			*type = heard.type;
			*answer = heard;
		}
		poll(NULL, 0, 1);
	}
}

/*
 * Time passes, and the finder answers. Returns the last packet's type, or 0. A claim reads overrides
 * by a worker while the finder is asked, and takes as long as the machine does: no time passes then.
 */
static uint32_t pass(int fd, unsigned ms, union answer *answer)
{
	const unsigned step = ms > FINDING_LIMIT_MS * 2 ? 250 : 50;
	uint32_t type = 0;

	for (unsigned i = 0; i < ms / step + 1; i++) {
		work_off(fd, answer, &type);
		wait_for_workers();
		work_off(fd, answer, &type);
		skip_ms(step);
	}
	return type;
}

/* Lets the core run, without setting its clock forward, until it refuses the claim. */
static bool is_refused(int fd, union answer *answer)
{
	for (int n = 0; n < 30000; n++) {
		turn(TURNS);
		finder_answers();
		while (hear(fd, answer) > 0)
			if (answer->type == MESSAGE_REFUSAL)
				return true;
		poll(NULL, 0, 1);
	}
	return false;
}

static int wait_for(enum selector_kind kind, unsigned bus)
{
	struct message_claim claim = claim_by(kind);
	union answer answer;
	int fd = dial_in(0);

	n_asked = 0;
	claim.flags = CLAIM_WAIT;
	claim.selectors[0].address.bus = (uint8_t)bus;
	say(fd, &claim, sizeof(claim));
	pass(fd, 50, &answer);
	return fd;
}

static const struct waiting *first_waiting(void)
{
	return TAILQ_FIRST(&broker.claims.queue.list);
}

static bool first_wants(unsigned bus)
{
	for (size_t i = 0; i < first_waiting()->n_wanted; i++)
		if (first_waiting()->wanted[i] == 10 + bus)
			return true;
	return false;
}

/* Two devices are leased, and a program has the third open. */
static void test_waiting_for_any(void)
{
	struct lease *first = lease_to_other(FIRST), *third = lease_to_other(ON_VFIO);
	union answer answer;
	unsigned before;
	uint64_t id;
	int fd;

	held_buses = 1U << SECOND;
	fd = wait_for(SELECT_ANY, 0);
	need(first_waiting());
	id = first_waiting()->id;
	tap_ok(n_asked == 1 && first_wants(FIRST) && !first_wants(SECOND),
	       "a claim that waits does not keep what a program has open from others");
	before = n_asked;
	pass(fd, QUEUE_AVOIDED_MS, &answer);
	tap_ok(n_asked == before + 1 && first_waiting() && first_waiting()->id == id &&
		       !first_wants(SECOND),
	       "... and asks again after a while, once");
	held_buses = 0;
	tap_ok(pass(fd, 2 * QUEUE_AVOIDED_MS, &answer) == MESSAGE_REFUSAL &&
		       got_on(&answer.refusal, SECOND),
	       "... and takes it when the program has closed it");
	leave(fd);
	held_buses = 1U << SECOND;
	fd = wait_for(SELECT_ANY, 0);
	held_buses = 0;
	queue_mark_all(&broker.claims.queue);
	tap_ok(is_refused(fd, &answer) && got_on(&answer.refusal, SECOND),
	       "... or when anything else wakes it");
	leave(fd);
	turn(TURNS);
	lease_free(first);
	lease_free(third);
}

/* A claim's turn comes while the finder is being asked. */
static void test_place(void)
{
	struct lease *leases[] = { lease_to_other(FIRST), lease_to_other(SECOND),
				   lease_to_other(ON_VFIO) };
	union answer answer;
	uint64_t id;
	int a, b;

	held_buses = 1U << FIRST;
	a = wait_for(SELECT_ANY, 0);
	id = first_waiting()->id;
	b = wait_for(SELECT_ANY, 0);
	silent = true;
	lease_free(leases[0]);
	queue_mark(&broker.claims.queue, 10 + FIRST);
	pass(a, 50, &answer);
	tap_ok(n_asked && first_waiting() && first_waiting()->id == id,
	       "a claim keeps its place while the finder is asked");
	silent = false;
	pass(a, 50, &answer);
	tap_ok(first_waiting() && first_waiting()->id == id && TAILQ_NEXT(first_waiting(), link),
	       "... and afterwards, if a program has the device open");
	hang_up(a);
	leave(b);
	turn(TURNS);
	lease_free(leases[1]);
	lease_free(leases[2]);
}

/* A sound server opens the card for a moment when a lease has ended. */
static void test_outwaiting(enum selector_kind kind)
{
	struct lease *leases[] = { lease_to_other(FIRST), lease_to_other(ON_VFIO) };
	union answer answer;
	unsigned before;
	uint64_t id;
	int fd;

	held_buses = 1U << FIRST | 1U << SECOND;
	fd = wait_for(kind, FIRST);
	need(first_waiting());
	id = first_waiting()->id;
	lease_free(leases[0]);
	queue_mark(&broker.claims.queue, 10 + FIRST);
	lease_free(leases[1]);
	if (kind == SELECT_ANY)
		lease_to_other(ON_VFIO)->follower = NULL;
	pass(fd, 2000, &answer);
	before = n_asked;
	tap_ok(before && before < 8 && first_waiting() && first_waiting()->id == id,
	       "a claim whose turn has come outwaits a program");
	held_buses = 0;
	tap_ok(pass(fd, QUEUE_OPENED_MS + 2 * QUEUE_AVOIDED_MS, &answer) == MESSAGE_REFUSAL &&
		       answer.refusal.reason != GPUBROKER_REFUSED_IN_USE && !first_waiting(),
	       "... and is tried when that has closed it");
	leave(fd);
	turn(TURNS);
	if (kind == SELECT_ANY)
		lease_free(lease_find_group(&broker.leases.table, 10 + ON_VFIO));
}

/* A claim that does not wait gives a program a second. */
static void test_tries(void)
{
	struct message_claim claim = claim_by(SELECT_ADDRESS);
	struct message_refusal r;
	struct lease *third;
	union answer answer;
	int fd;

	held_buses = 1U << FIRST;
	r = refusal_to(SELECT_ADDRESS, FIRST, 0);
	tap_ok(is_open(&r, FIRST) && n_asked == 3, "a claim asks three times");
	for (uint32_t flags = 0; flags <= CLAIM_ASK; flags += CLAIM_ASK) {
		n_asked = 0;
		held_buses = 1U << FIRST;
		claim.flags = flags;
		claim.selectors[0].address.bus = FIRST;
		fd = dial_in(0);
		say(fd, &claim, sizeof(claim));
		pass(fd, 300, &answer);
		held_buses = 0;
		tap_ok(n_asked == 1 && pass(fd, 300, &answer) && n_asked == 2 &&
			       (answer.type != MESSAGE_REFUSAL || got_on(&answer.refusal, FIRST)),
		       "... and goes on if the program has closed it");
		leave(fd);
	}
	claim = claim_by(SELECT_ANY);
	third = lease_to_other(ON_VFIO);
	held_buses = 1U << FIRST | 1U << SECOND;
	n_asked = 0;
	fd = dial_in(0);
	say(fd, &claim, sizeof(claim));
	pass(fd, 300, &answer);
	held_buses = 1U << FIRST;
	tap_ok(n_asked == 2 && pass(fd, 600, &answer) == MESSAGE_REFUSAL &&
		       got_on(&answer.refusal, SECOND),
	       "one that may choose tries all of them again");
	leave(fd);
	held_buses = 1U << FIRST | 1U << SECOND;
	n_asked = 0;
	fd = dial_in(0);
	say(fd, &claim, sizeof(claim));
	tap_ok(pass(fd, 2000, &answer) == MESSAGE_REFUSAL && n_asked == 6 && !first_waiting(),
	       "... two times");
	leave(fd);
	turn(TURNS);
	lease_free(third);
}

static bool begins_to_ask(int fd, const struct message_claim *claim)
{
	n_asked = 0;
	say(fd, claim, sizeof(*claim));
	for (int n = 0; n < 1000 && !n_asked; n++) {
		turn(TURNS);
		poll(NULL, 0, 1);
	}
	return n_asked;
}

static void test_restart(void)
{
	struct message_claim claim = claim_by(SELECT_ADDRESS);
	struct finder_question before;
	struct message_refusal r;
	union answer answer;
	int fd = dial_in(0);

	claim.selectors[0].address.bus = FIRST;
	held_buses = 1U << FIRST;
	silent = true;
	need(begins_to_ask(fd, &claim));
	before = asked;
	opening_finder_came(&broker.claims);
	tap_ok(n_asked == 2 && asked.id != before.id && asked.n == 1 &&
		       asked.functions[0].bus == FIRST,
	       "a new finder is asked what the last one has not answered");
	silent = false;
	tap_ok(pass(fd, 2000, &answer) == MESSAGE_REFUSAL && is_open(&answer.refusal, FIRST),
	       "... and its answer counts");
	leave(fd);
	fd = dial_in(0);
	ask_result = -ECONNRESET;
	n_asked = 0;
	say(fd, &claim, sizeof(claim));
	pass(fd, 200, &answer);
	tap_ok(!TAILQ_EMPTY(&broker.claims.openings), "a claim waits for a finder that comes back");
	ask_result = 0;
	opening_finder_came(&broker.claims);
	tap_ok(n_asked == 1 && pass(fd, 2000, &answer) == MESSAGE_REFUSAL &&
		       is_open(&answer.refusal, FIRST),
	       "... and asks it");
	leave(fd);
	ask_result = -ECONNRESET;
	n_asked = 0;
	fd = dial_in(0);
	say(fd, &claim, sizeof(claim));
	tap_ok(pass(fd, FINDING_LIMIT_MS + 100, &answer) == MESSAGE_REFUSAL &&
		       got_on(&answer.refusal, FIRST),
	       "... but not for ever");
	leave(fd);
	ask_result = 0;
	tap_ok(broker.claims.finder_late, "it is late then");
	opening_answered(&broker.claims,
			 &(struct finder_answer){ .id = broker.claims.last_question + 1 });
	tap_ok(broker.claims.finder_late, "... also after an answer to what nobody has asked");
	opening_finder_came(&broker.claims);
	tap_ok(!broker.claims.finder_late, "... and not after it has come");
	r = refusal_to(SELECT_ADDRESS, FIRST, 0);
	tap_ok(is_open(&r, FIRST), "... and is asked");
}

static void test_sharing(void)
{
	struct message_claim claim = claim_by(SELECT_ADDRESS);
	union answer answer;
	int fds[4];

	claim.flags = CLAIM_ASK;
	claim.selectors[0].address.bus = FIRST;
	held_buses = 0;
	silent = true;
	for (size_t i = 0; i < ARRAY_SIZE(fds); i++)
		fds[i] = dial_in(0);
	need(begins_to_ask(fds[0], &claim));
	for (size_t i = 1; i < ARRAY_SIZE(fds); i++) {
		say(fds[i], &claim, sizeof(claim));
		pass(fds[i], 20, &answer);
	}
	tap_ok(n_asked == 1, "equal questions are asked once");
	silent = false;
	finder_answers();
	for (size_t i = 0; i < ARRAY_SIZE(fds); i++) {
		union answer heard = { 0 };

		turn(TURNS);
		tap_ok(hear(fds[i], &heard) > 0 && heard.type != MESSAGE_REFUSAL,
		       "... and the answer is for each");
		hang_up(fds[i]);
	}
	tap_ok(TAILQ_EMPTY(&broker.claims.openings), "... and all is answered");
}

/* The finder answers each question just in time, and every device is open. */
static void test_patience(void)
{
	struct message_claim claim = claim_by(SELECT_ANY);
	union answer answer;
	uint64_t since;
	unsigned n = 0;
	struct lease *third = lease_to_other(ON_VFIO);
	int fd = dial_in(0);

	held_buses = 1U << FIRST | 1U << SECOND;
	silent = true;
	need(begins_to_ask(fd, &claim));
	since = opened_now();
	for (; n < 100 && !pass(fd, 100, &answer); n++) {
		const bool in_time = n % 10 == 9;

		silent = !in_time;
	}
	silent = false;
	since = opened_now() - since;
	tap_ok(n < 100 && since < FINDING_CLAIM_MS + 500 && since > FINDING_CLAIM_MS / 2,
	       "no claim waits longer (%u ms)", (unsigned)since);
	hang_up(fd);
	turn(TURNS);
	lease_free(third);
	held_buses = 1U << FIRST;
}

static void test_belief(void)
{
	const struct finder_question question = { .id = 1,
						  .n = 1,
						  .functions = { { .bus = FIRST } } };
	const struct finder_answer good = answer_to(&question);
	struct finder_answer bad = good;

	tap_ok(finding_believe(&good), "an answer");
	bad.id = 0;
	tap_ok(!finding_believe(&bad), "one to no question");
	bad = good;
	bad.n = FINDING_HOLDERS_MAX + 1;
	tap_ok(!finding_believe(&bad), "one with too many holders");
	bad = good;
	bad.incomplete = 2;
	tap_ok(!finding_believe(&bad), "one with a third truth");
	bad = good;
	bad.holders[0].pid = 0;
	tap_ok(!finding_believe(&bad), "a process without a number");
	bad = good;
	memset(bad.holders[0].program, 'x', sizeof(bad.holders[0].program));
	tap_ok(!finding_believe(&bad), "a program's name without an end");
	bad = good;
	bad.holders[0].node[1] = '\x1b';
	tap_ok(!finding_believe(&bad), "a node's name that steers a terminal");
	bad = good;
	bad.holders[0].node[0] = '\0';
	tap_ok(!finding_believe(&bad), "a node without a name");
	bad = good;
	bad.holders[0].address.device = 32;
	tap_ok(!finding_believe(&bad), "a function that cannot be");
}

int main(void)
{
	char path[128];

	broker_make_with_workers(&rule);
	make_function(FIRST, "bochs-drm");
	make_function(SECOND, "bochs-drm");
	make_function(ON_VFIO, "vfio-pci");
	scratch_write("dev/vfio/vfio", "");
	snprintf(path, sizeof(path), "%s/dev", scratch_path);
	broker.kernel.dev = open(path, O_PATH | O_DIRECTORY | O_CLOEXEC);
	need(broker.kernel.dev >= 0);
	broker.claims.find = find;
	fds_at_start = open_descriptors();
	test_claims();
	test_questions();
	test_names();
	test_without();
	test_tries();
	test_waiting_for_any();
	test_place();
	test_outwaiting(SELECT_ADDRESS);
	test_outwaiting(SELECT_ANY);
	test_restart();
	test_sharing();
	test_patience();
	test_belief();
	tap_ok(quiet(), "no descriptor is left, and no claim");
	broker_drop();
	return tap_done();
}
