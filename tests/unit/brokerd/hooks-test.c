/* SPDX-License-Identifier: MIT */
/*
 * The administrator's hooks as the core asks for them, of a runner that it need not trust: it is the
 * test's. Nothing is taken from a host driver before its hooks have run, nothing is free before
 * those of its restore have, and neither waits for good. No worker is forked: the test changes its
 * files in the shape of sysfs as the kernel would.
 */
#include "config.h"

#include "brokerd/claim/claim.h"
#include "brokerd/claim/opening.h"
#include "brokerd/lease/bringup.h"
#include "brokerd/lease/ending.h"
#include "brokerd/lease/hooks.h"
#include "brokerd/lease/recover.h"
#include "brokerd/lease/restore.h"
#include "brokerd/process/log.h"
#include "client/library/refusal.h"
#include "tests/unit/brokerd/fake-worker.h"
#include "tests/unit/brokerd/skip-clock.h"
#include "tests/unit/brokerd/world.h"
#include "tests/tap.h"

#include <stdarg.h>

#define CARD "0000:01:00.0"
#define ON_VFIO "0000:05:00.0"

static struct policy_rule rule;
static bool held; /* somebody has the group of CARD */
static char driver[32] = "bochs-drm", override[32] = "";

static char warned[1024]; /* the last warning of the journal */

void __wrap_log_line(enum log_level level, const char *format, ...)
	__attribute__((format(printf, 2, 3)));
void __wrap_log_line(enum log_level level, const char *format, ...)
{
	va_list args;

	if (level > LOG_WARNING)
		return;
	va_start(args, format);
	vsnprintf(warned, sizeof(warned), format, args);
	va_end(args);
}

/* ---- in place of the kernel ---- */

int __wrap_kernel_group_open(const struct kernel *kernel, uint32_t group);
int __wrap_kernel_group_open(const struct kernel *kernel, uint32_t group)
{
	(void)kernel;
	(void)group;
	held = true;
	return open("/dev/null", O_RDWR | O_CLOEXEC);
}

int __wrap_kernel_group_viable(int fd);
int __wrap_kernel_group_viable(int fd)
{
	(void)fd;
	return 0;
}

bool __wrap_kernel_node_is_open(int fd, struct kernel_node *ret_node);
bool __wrap_kernel_node_is_open(int fd, struct kernel_node *ret_node)
{
	(void)fd;
	(void)ret_node;
	return false;
}

int __wrap_kernel_group_watch(const struct kernel *kernel, uint32_t group);
int __wrap_kernel_group_watch(const struct kernel *kernel, uint32_t group)
{
	(void)kernel;
	return (int)group + 1000;
}

void __wrap_kernel_group_unwatch(const struct kernel *kernel, int watch);
void __wrap_kernel_group_unwatch(const struct kernel *kernel, int watch)
{
	(void)kernel;
	(void)watch;
}

static void set_driver(const char *address, const char *name)
{
	char path[200], target[64];

	snprintf(path, sizeof(path), "%s/sys/bus/pci/devices/%s/driver", scratch_path, address);
	unlink(path);
	snprintf(target, sizeof(target), "../../drivers/%s", name);
	need(!*name || !symlink(target, path));
}

static int kernel_does(const struct fake_step *step, char text[FAKE_TEXT_MAX])
{
	const char *file = strrchr(step->path, '/') + 1;

	if (step->does == FAKE_OPENS)
		return held ? EBUSY : 0;
	if (step->does == FAKE_READS || step->does == FAKE_EXPECTS) {
		strcpy(text, *override ? override : "(null)");
		return 0;
	}
	if (!strcmp(file, "driver_override"))
		snprintf(override, sizeof(override), "%.*s", (int)strcspn(step->text, "\n"),
			 step->text);
	else if (!strcmp(file, "unbind"))
		driver[0] = '\0';
	else if (!strcmp(file, "drivers_probe") || !strcmp(file, "bind"))
		strcpy(driver, *override ? override : "bochs-drm");
	set_driver(CARD, driver);
	return 0;
}

/* ---- the runner ---- */

static struct hook_question asked; /* the last question */
static unsigned n_asked, n_dropped;
static bool full; /* it does not read */

static int runner_ask(void *userdata, const struct hook_question *question)
{
	(void)userdata;
	if (full)
		return -EAGAIN;
	need(hooking_question_valid(question));
	asked = *question;
	n_asked++;
	return 0;
}

static void runner_drop(void *userdata)
{
	(void)userdata;
	n_dropped++;
	hooks_left(&broker.leases);
}

static bool runner_says(enum hook_result result, const char *hook, uint32_t value)
{
	struct hook_answer answer = { .id = asked.id, .result = result, .value = value };

	strcpy(answer.hook, hook);
	need(hooking_believe(&answer));
	return hooks_answered(&broker.leases, &answer);
}

static bool runner_is_done(void)
{
	return runner_says(HOOK_DONE, "", 0);
}

/* ---- the broker ---- */

static bool no_records(void)
{
	char path[200];

	for (int id = 1; id < 2000; id++) {
		snprintf(path, sizeof(path), "%s/state/%d", scratch_path, id);
		if (!access(path, F_OK))
			return false;
	}
	return true;
}

static bool is_whole(void)
{
	bool whole = !strcmp(driver, "bochs-drm") && !*override && no_records() &&
		     !broker.leases.table.n && TAILQ_EMPTY(&broker.claims.list) &&
		     !broker.workers.busy && !fake_first();

	if (!whole)
		printf("# driver %s, override %s, %zu leases, %zu busy\n", driver, override,
		       broker.leases.table.n, broker.workers.busy);
	return whole;
}

static struct lease *only_lease(void)
{
	return TAILQ_FIRST(&broker.leases.table.list);
}

/*
 * Lets everything go on that waits for no hook: workers, also those that let others come first, and
 * the pause before a grant.
 */
static void go_on(void)
{
	for (int i = 0; i < 200 && !fake.died; i += TAILQ_EMPTY(&fake.awaiting)) {
		fake_run_all();
		turn(2);
		skip_ms(i < 100 ? 5 : 0);
		if (!fake_first() && only_lease() &&
		    (only_lease()->hook.event || only_lease()->state == GPUBROKER_LEASE_LEASED))
			return;
		if (!fake_first() && !only_lease())
			return;
	}
}

/* Sends a claim, and goes on until a hook is waited for. Returns the connection. */
static int claim(const char *address)
{
	struct message_claim message = claim_by(SELECT_ADDRESS);
	int fd = dial_in(0);

	need(!pci_address_parse(address, &message.selectors[0].address));
	say(fd, &message, sizeof(message));
	turn(TURNS);
	go_on();
	return fd;
}

static union {
	uint32_t type;
	struct message_refusal refusal;
	char all[PROTOCOL_MESSAGE_MAX];
} answer;
static char sentence[512];

/* Reads the answer to a claim, after its steps. Returns false if there is none. */
static bool hear_answer(int fd)
{
	int fds[PROTOCOL_SELECTORS_MAX];
	size_t n_fds = 0;
	ssize_t n;

	turn(TURNS);
	do {
		memset(&answer, 0, sizeof(answer));
		n = passfd_receive(fd, &answer, sizeof(answer), fds, ARRAY_SIZE(fds), &n_fds);
	} while (n > 0 && answer.type == MESSAGE_STEP);
	for (size_t i = 0; i < n_fds; i++)
		close(fds[i]);
	sentence[0] = '\0';
	if (n > 0 && answer.type == MESSAGE_REFUSAL)
		refusal_format(&answer.refusal, NULL, sentence, sizeof(sentence));
	return n > 0;
}

static bool is_granted(int fd)
{
	return hear_answer(fd) && answer.type == MESSAGE_GRANT;
}

static bool is_refused(int fd, uint32_t reason)
{
	return hear_answer(fd) && answer.type == MESSAGE_REFUSAL && answer.refusal.reason == reason;
}

static void let_go(void)
{
	held = false;
	lease_closed(only_lease());
	go_on();
}

static bool is_asked(enum hook_event event)
{
	return n_asked && asked.event == event && only_lease() &&
	       only_lease()->hook.event == event && asked.group == 20 && asked.n == 1 &&
	       asked.functions[0].bus == 1 && asked.lease == only_lease()->id;
}

/* ---- tests ---- */

static void test_runs(void)
{
	int fd = claim(CARD), other;

	tap_ok(is_granted(fd) && !n_asked, "without hooks nothing is asked");
	let_go();
	tap_ok(is_whole(), "... and the end is as before");
	hang_up(fd);

	hooks_expect(&broker.leases, true);
	hooks_came(&broker.leases);
	fd = claim(CARD);
	tap_ok(is_asked(HOOK_BIND) && !no_records() && !strcmp(driver, "bochs-drm") && !*override,
	       "a hook is asked for after the record, before anything is changed");
	tap_ok(asked.uid == getuid(), "... with who claims");
	tap_ok(!hear_answer(fd), "... and the claim waits");
	tap_ok(runner_is_done(), "the runner is believed");
	go_on();
	tap_ok(!strcmp(driver, "vfio-pci") && is_granted(fd), "... and then it is taken and lent");
	n_asked = 0;
	let_go();
	tap_ok(is_asked(HOOK_RESTORE) && !strcmp(driver, "bochs-drm") && !*override,
	       "at its end they run when the host has it back");
	other = claim(CARD);
	tap_ok(is_refused(other, GPUBROKER_REFUSED_BUSY) && !no_records(),
	       "... and until they have, it is not free, nor forgotten");
	tap_ok(broker.workers.busy, "... nor does the daemon end, for a while");
	tap_ok(runner_is_done() && is_whole(), "... then it is");
	hang_up(other);
	hang_up(fd);

	n_asked = 0;
	fd = claim(ON_VFIO);
	tap_ok(!n_asked && is_granted(fd), "what no host driver has is lent without hooks");
	held = false;
	lease_recall(only_lease(), "recalled");
	go_on();
	tap_ok(!n_asked && !broker.leases.table.n, "... and goes back without");
	hang_up(fd);
	tap_ok(quiet(), "nothing is left");
}

static void test_fails(void)
{
	static const struct {
		enum hook_result result;
		uint32_t value;
		const char *hook, *says;
	} failures[] = {
		{ HOOK_EXITED, 3, "10-display", "the hook 10-display ended with status 3" },
		{ HOOK_KILLED, 11, "10-display", "the hook 10-display was ended by signal 11" },
		{ HOOK_LATE, 0, "x", "the hook x took too long: all may take 30 s" },
		{ HOOK_NOT_EXECUTED, ENOEXEC, "x", "the hook x: Exec format error" },
		{ HOOK_LOST, 0, "", "the process that ran the hooks was ended" },
	};
	int fd;

	for (size_t i = 0; i < ARRAY_SIZE(failures); i++) {
		n_asked = fake.n_steps = 0;
		fd = claim(CARD);
		need(is_asked(HOOK_BIND));
		runner_says(failures[i].result, failures[i].hook, failures[i].value);
		go_on();
		tap_ok(is_asked(HOOK_RESTORE) && !strcmp(driver, "bochs-drm") && !hear_answer(fd),
		       "a hook fails (%zu): nothing is taken, and those of the restore run", i);
		runner_is_done();
		tap_ok(is_refused(fd, GPUBROKER_REFUSED_HOOK) && strstr(sentence, failures[i].says),
		       "... and it is refused: %s", sentence);
		hang_up(fd);
		tap_ok(is_whole(), "... and all is as before");
		fd = claim(CARD);
		runner_is_done();
		go_on();
		need(is_granted(fd));
		let_go();
		runner_says(failures[i].result, failures[i].hook, failures[i].value);
		tap_ok(is_whole() && strstr(warned, failures[i].says),
		       "... but none keeps a device from its host: %s", warned);
		hang_up(fd);
	}
	fd = claim(CARD);
	need(is_asked(HOOK_BIND));
	hang_up(fd);
	tap_ok(is_asked(HOOK_BIND) && only_lease()->state == GPUBROKER_LEASE_PREPARING,
	       "if its claimant leaves meanwhile, the hook is waited for");
	runner_is_done();
	go_on();
	tap_ok(is_asked(HOOK_RESTORE) && !strcmp(driver, "bochs-drm"),
	       "... nothing is taken then, and those of the restore run");
	runner_is_done();
	tap_ok(is_whole() && quiet(), "... and nothing is left");
}

/* A runner that is hostile, late, or gone. */
static void test_lies(void)
{
	struct hook_answer lie = { .id = 4711 };
	int fd = claim(CARD);

	need(is_asked(HOOK_BIND));
	tap_ok(!hooks_answered(&broker.leases, &lie) && is_asked(HOOK_BIND),
	       "an answer to what nobody has asked is not believed");
	need(runner_is_done());
	tap_ok(!runner_is_done(), "nor a second one");
	go_on();
	need(is_granted(fd));
	tap_ok(!runner_is_done(), "nor one long after");
	let_go();
	need(is_asked(HOOK_RESTORE) && runner_is_done());
	hang_up(fd);

	n_dropped = 0;
	fd = claim(CARD);
	skip_ms(44000);
	turn(TURNS);
	tap_ok(!n_dropped && is_asked(HOOK_BIND), "a runner has its time");
	skip_ms(2000);
	turn(TURNS);
	tap_ok(n_dropped == 1, "... and is dropped after it");
	go_on();
	tap_ok(!hear_answer(fd) && only_lease()->hook.event == HOOK_RESTORE &&
		       !only_lease()->hook.id,
	       "... and the restore waits for the next one");
	n_asked = 0;
	hooks_came(&broker.leases);
	tap_ok(is_asked(HOOK_RESTORE) && runner_is_done(), "... which is asked");
	tap_ok(is_refused(fd, GPUBROKER_REFUSED_HOOK), "... and the claim is refused: %s",
	       sentence);
	hang_up(fd);
	tap_ok(is_whole(), "... and all is as before");

	fd = claim(CARD);
	runner_is_done();
	go_on();
	need(is_granted(fd));
	let_go();
	need(is_asked(HOOK_RESTORE));
	n_asked = 0;
	hooks_left(&broker.leases);
	hooks_came(&broker.leases);
	tap_ok(n_asked == 1 && is_asked(HOOK_RESTORE),
	       "a runner that is lost in a restore: the next one is asked again");
	hooks_left(&broker.leases);
	tap_ok(is_whole(), "... once, however often it is lost");
	hang_up(fd);
	hooks_came(&broker.leases);
	tap_ok(quiet(), "nothing is left");
}

static void test_missing(void)
{
	int fd;

	hooks_left(&broker.leases);
	n_asked = 0;
	fd = claim(CARD);
	tap_ok(!n_asked && only_lease() && !hear_answer(fd),
	       "a runner that is missing is waited for");
	hooks_came(&broker.leases);
	tap_ok(is_asked(HOOK_BIND) && runner_is_done(), "... and asked when it comes");
	go_on();
	need(is_granted(fd));
	hooks_left(&broker.leases);
	let_go();
	need(only_lease()->hook.event == HOOK_RESTORE);
	skip_ms(11000);
	turn(TURNS);
	tap_ok(is_whole(), "a restore does not wait for it for good");
	hang_up(fd);
	fd = claim(CARD);
	turn(TURNS);
	tap_ok(is_refused(fd, GPUBROKER_REFUSED_HOOK) &&
		       strstr(sentence, "systemctl status gpubroker-hooks"),
	       "nor does a claim, which is refused: %s", sentence);
	tap_ok(is_whole(), "... and all is as before");
	hang_up(fd);

	hooks_came(&broker.leases);
	fd = claim(CARD);
	runner_is_done();
	go_on();
	need(is_granted(fd));
	hooks_left(&broker.leases);
	let_go();
	need(only_lease());
	hooks_expect(&broker.leases, false);
	tap_ok(is_whole(), "if there are no hooks any more, nothing waits");
	hang_up(fd);
	full = true;
	hooks_expect(&broker.leases, true);
	hooks_came(&broker.leases);
	fd = claim(CARD);
	skip_ms(46000);
	turn(TURNS);
	go_on();
	tap_ok(!hear_answer(fd) && only_lease()->hook.event == HOOK_RESTORE,
	       "a runner that reads nothing is not waited for");
	skip_ms(46000);
	turn(TURNS);
	tap_ok(is_refused(fd, GPUBROKER_REFUSED_HOOK), "... and the claim is refused");
	full = false;
	hang_up(fd);
	tap_ok(is_whole() && quiet(), "... and nothing is left");
}

/* A thousand restores at once, of what is not there any more. */
static void test_many(void)
{
	uint64_t first;
	unsigned most = 0, rounds = 0;

	hooks_came(&broker.leases);
	n_asked = 0;
	first = broker.leases.hooks.last_id + 1;
	for (unsigned i = 0; i < LEASES_MAX; i++) {
		struct lease *lease = lease_new(&broker.leases.table, 0, 5000 + i);

		need(lease);
		lease->n_functions = 1;
		lease->functions[0] =
			(struct lease_function){ .address = { .bus = 0x77 }, .driver = "nvidia" };
		lease->recorded = true;
		lease_set_kind(lease);
		need(lease_transition(lease, LEASE_ABANDON));
		lease_restore(lease);
	}
	go_on();
	tap_ok(n_asked == HOOKS_ASKED_MAX, "of %u only %u are asked at a time", LEASES_MAX,
	       n_asked);
	while (broker.leases.table.n && rounds++ < 2 * LEASES_MAX) {
		const struct hook_answer done = { .id = first++ };

		if (broker.leases.hooks.n_asked > most)
			most = (unsigned)broker.leases.hooks.n_asked;
		skip_ms(30000);
		turn(1);
		need(hooks_answered(&broker.leases, &done));
	}
	tap_ok(!broker.leases.table.n && n_asked == LEASES_MAX && most == HOOKS_ASKED_MAX &&
		       n_dropped == 1,
	       "... and all are, one after the other, however slow they are");
	tap_ok(is_whole() && quiet(), "... and nothing is left");
}

/* ---- who has it open ---- */

static unsigned n_found;
static bool opened;
static struct finder_question finding;

static int find(void *userdata, const struct finder_question *question)
{
	(void)userdata;
	finding = *question;
	n_found++;
	return 0;
}

static void finder_says(void)
{
	struct finder_answer found = { .id = finding.id, .n = opened };

	if (opened) {
		found.holders[0].address = finding.functions[0];
		found.holders[0].pid = 812;
		strcpy(found.holders[0].node, "nvidia0");
	}
	opening_answered(&broker.claims, &found);
}

static void test_finder(void)
{
	int fd;

	broker.claims.find = find;
	fd = claim(CARD);
	tap_ok(is_asked(HOOK_BIND) && !n_found,
	       "who has it open is not asked before the hooks, which may end that");
	runner_is_done();
	go_on();
	tap_ok(n_found == 1 && finding.functions[0].bus == 1 && !strcmp(driver, "bochs-drm"),
	       "... but after them, before anything is taken");
	finder_says();
	go_on();
	tap_ok(is_granted(fd), "... and nobody has");
	let_go();
	runner_is_done();
	hang_up(fd);
	opened = true;
	fd = claim(CARD);
	runner_is_done();
	for (int i = 0; i < 3; i++) {
		finder_says();
		skip_ms(500);
		turn(TURNS);
	}
	go_on();
	tap_ok(is_asked(HOOK_RESTORE) && !strcmp(driver, "bochs-drm"),
	       "if somebody still has, nothing is taken, and the hooks of the restore run");
	runner_is_done();
	tap_ok(is_refused(fd, GPUBROKER_REFUSED_IN_USE), "... and it is refused: %s", sentence);
	hang_up(fd);
	broker.claims.find = NULL;
	tap_ok(is_whole() && quiet(), "... and nothing is left");
}

/* ---- the daemon dies ---- */

/* Forgets everything: only the kernel's state and the records are left. */
static void die(void)
{
	while (!TAILQ_EMPTY(&broker.claims.list))
		claim_free(TAILQ_FIRST(&broker.claims.list));
	while (only_lease()) {
		struct lease *lease = only_lease();

		if (lease->hook.event)
			workers_leave(&broker.workers);
		if (lease->timer)
			event_free(lease->timer);
		if (lease->expiry)
			event_free(lease->expiry);
		lease_free(lease);
	}
	fake_forget();
	lease_table_init(&broker.leases.table, broker.leases.table.events,
			 broker.leases.table.userdata);
	hooks_left(&broker.leases);
	need(!recover_leases(&broker.leases));
	hooks_came(&broker.leases);
}

/* What the daemon leaves goes back; returns true if the last that happens is a restore's hook. */
static bool comes_back(void)
{
	bool restored = false;

	held = false;
	for (int i = 0; i < 20 && only_lease(); i++) {
		go_on();
		if (!only_lease())
			break;
		if (only_lease()->hook.event) {
			restored = is_asked(HOOK_RESTORE) && !strcmp(driver, "bochs-drm") &&
				   !*override;
			runner_is_done();
		} else if (only_lease()->state == GPUBROKER_LEASE_LEASED) {
			lease_closed(only_lease());
		}
	}
	return restored && is_whole();
}

static void test_dies(void)
{
	unsigned step, bound = 0;

	for (step = 1; step < 60; step++) {
		bool died, was_bound;
		int fd;

		n_asked = fake.n_steps = 0;
		fake.dies_at = step;
		fd = claim(CARD);
		was_bound = n_asked;
		if (!fake.died && only_lease() && only_lease()->hook.event == HOOK_BIND) {
			runner_is_done();
			go_on();
		}
		if (!fake.died && only_lease() && only_lease()->state == GPUBROKER_LEASE_LEASED)
			let_go();
		if (!fake.died && only_lease() && only_lease()->hook.event == HOOK_RESTORE)
			runner_is_done();
		died = fake.died;
		if (died)
			die();
		hang_up(fd);
		if (!died)
			break;
		bound += was_bound;
		if (!tap_ok(was_bound ? comes_back() : is_whole(),
			    "the daemon dies at step %u: the host is whole%s", step,
			    was_bound ? ", and the hooks of the restore have run last" : ""))
			break;
	}
	fake.dies_at = 0;
	tap_ok(step > 6 && bound > 3 && is_whole(), "... at each step (%u, %u after a hook)", step,
	       bound);
}

static void test_dies_in_hook(void)
{
	int fd = claim(CARD);

	need(is_asked(HOOK_BIND));
	die();
	hang_up(fd);
	tap_ok(comes_back(), "the daemon dies while hooks of a bind run: those of the restore run");
	fd = claim(CARD);
	runner_is_done();
	go_on();
	need(is_granted(fd));
	let_go();
	need(is_asked(HOOK_RESTORE));
	die();
	hang_up(fd);
	tap_ok(comes_back(), "... and while those of a restore run: they run again");
	tap_ok(quiet(), "... and nothing is left");
}

/* ---- the form of answers ---- */

static void test_form(void)
{
	static const struct {
		struct hook_answer answer;
		bool right;
	} forms[] = {
		{ { 1, HOOK_DONE, 0, "" }, true },	  { { 0, HOOK_DONE, 0, "" }, false },
		{ { 1, HOOK_DONE, 1, "" }, false },	  { { 1, HOOK_DONE, 0, "x" }, false },
		{ { 1, HOOK_EXITED, 1, "10-x" }, true },  { { 1, HOOK_EXITED, 0, "10-x" }, false },
		{ { 1, HOOK_EXITED, 1, "" }, false },	  { { 1, HOOK_EXITED, 1, "a b" }, false },
		{ { 1, HOOK_EXITED, 1, "a\n" }, false },  { { 1, HOOK_EXITED, 1, "../x" }, false },
		{ { 1, HOOK_KILLED, 4096, "x" }, false }, { { 1, HOOK_LATE, 0, "x" }, true },
		{ { 1, HOOK_LATE, 0, "" }, false },	  { { 1, HOOK_LOST, 0, "" }, true },
		{ { 1, HOOK_MISSING, 0, "" }, false },	  { { 0, HOOK_COUNT, 64, "" }, true },
		{ { 0, HOOK_COUNT, 65, "" }, false },	  { { 1, HOOK_COUNT, 1, "" }, false },
		{ { 1, HOOK_N_RESULTS, 0, "" }, false },  { { 1, UINT32_MAX, 0, "" }, false },
	};
	struct hook_answer unended = { .id = 1, .result = HOOK_EXITED, .value = 1 };
	struct hook_question question = { .id = 1, .event = HOOK_BIND, .n = 1 };
	unsigned right = 0;

	for (size_t i = 0; i < ARRAY_SIZE(forms); i++) {
		right += hooking_believe(&forms[i].answer) == forms[i].right;
		if (right != i + 1)
			break;
	}
	tap_ok(right == ARRAY_SIZE(forms), "only an answer of the right form is believed (%u)",
	       right);
	memset(unended.hook, 'a', sizeof(unended.hook));
	tap_ok(!hooking_believe(&unended), "nor one whose name does not end");
	tap_ok(hooking_question_valid(&question), "a question is valid");
	question.functions[0].device = 32;
	tap_ok(!hooking_question_valid(&question), "... but not about no function");
	question = (struct hook_question){ .id = 1, .event = HOOK_N_EVENTS, .n = 1 };
	tap_ok(!hooking_question_valid(&question), "... nor of no event");
	question = (struct hook_question){ .id = 1,
					   .event = HOOK_BIND,
					   .n = PROTOCOL_FUNCTIONS_MAX + 1 };
	tap_ok(!hooking_question_valid(&question), "... nor of too many functions");
}

int main(void)
{
	static const char *const drivers[] = { "vfio-pci", "bochs-drm" };
	char path[200];

	broker_make();
	broker_allow_all(&rule);
	fake.answer = kernel_does;
	broker.leases.hooks.ask = runner_ask;
	broker.leases.hooks.drop = runner_drop;
	add_function(CARD, "0x030000\n", 20);
	add_function(ON_VFIO, "0x030000\n", 25);
	set_driver(CARD, "bochs-drm");
	set_driver(ON_VFIO, "vfio-pci");
	add_device(1, 0, 0x030000, 20);
	add_device(5, 0, 0x030000, 25);
	scratch_write("sys/bus/pci/drivers_probe", "");
	for (size_t i = 0; i < ARRAY_SIZE(drivers); i++) {
		snprintf(path, sizeof(path), "sys/bus/pci/drivers/%s/bind", drivers[i]);
		scratch_write(path, "");
		snprintf(path, sizeof(path), "sys/bus/pci/drivers/%s/unbind", drivers[i]);
		scratch_write(path, "");
	}
	scratch_write("dev/vfio/vfio", "");
	snprintf(path, sizeof(path), "%s/dev", scratch_path);
	broker.kernel.dev = open(path, O_PATH | O_DIRECTORY | O_CLOEXEC);
	snprintf(path, sizeof(path), "%s/state", scratch_path);
	need(!mkdir(path, 0700));
	broker.store.directory = open(path, O_RDONLY | O_DIRECTORY | O_CLOEXEC);
	need(broker.kernel.dev >= 0 && broker.store.directory >= 0);
	fds_at_start = open_descriptors();
	test_form();
	test_runs();
	test_fails();
	test_lies();
	test_missing();
	test_many();
	test_finder();
	test_dies();
	test_dies_in_hook();
	broker_drop();
	return tap_done();
}
