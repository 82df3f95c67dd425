/* SPDX-License-Identifier: MIT */
/*
 * The socket of the helpers: who may connect as one, what the core does when a helper ends and
 * another connects, and what a silent connection costs the core.
 */
#include "config.h"

#include "brokerd/helper/start.h"
#include "brokerd/peer/listener.h"
#include "brokerd/claim/opening.h"
#include "brokerd/state/users.h"
#include "tests/unit/brokerd/log-file.h"
#include "tests/unit/brokerd/skip-clock.h"
#include "tests/unit/brokerd/world.h"
#include "tests/tap.h"

#include <string.h>
#include <sys/un.h>
#include <sys/wait.h>
#include <sysexits.h>
#include <time.h>

static struct sockaddr_un address = { .sun_family = AF_UNIX };
static size_t fds_without; /* open descriptors without connections */

/* Lets the core run, for whose timers so much time is over. */
static void run(unsigned ms)
{
	for (unsigned i = 0; i < ms / 10; i++) {
		turn(4);
		skip_ms(10);
	}
	turn(4);
}

static int come(void)
{
	int fd = socket(AF_UNIX, SOCK_SEQPACKET | SOCK_CLOEXEC | SOCK_NONBLOCK, 0);

	need(fd >= 0 && !connect(fd, (struct sockaddr *)&address, sizeof(address)));
	return fd;
}

static int come_as(enum helper_role role)
{
	const struct helper_hello hello = helper_hello(role);
	int fd = come();

	need(say(fd, &hello, sizeof(hello)));
	run(300);
	return fd;
}

static bool is_turned_away(int fd)
{
	char byte;
	ssize_t n = recv(fd, &byte, 1, 0);

	return !n || (n < 0 && errno == ECONNRESET);
}

static bool is_in(int fd)
{
	char byte;
	ssize_t n = recv(fd, &byte, 1, MSG_PEEK);

	return n > 0 || (n < 0 && errno == EAGAIN);
}

/* Returns how often the core has asked the helper so to load since the last call. */
static unsigned asked_to(int fd, uint32_t how)
{
	unsigned times = 0;
	uint32_t packet;

	while (recv(fd, &packet, sizeof(packet), 0) == sizeof(packet) && packet == how)
		times++;
	return times;
}

static void leave(int fd)
{
	close(fd);
	run(300);
}

static void tell(int fd, enum watcher_record_type type)
{
	struct watcher_record record = { .type = type, .address = { .bus = 1 }, .group = 1 };

	need(say(fd, &record, sizeof(record)));
}

static void load(int fd, enum loader_record_type type)
{
	struct loader_record record = { .type = type };

	need(say(fd, &record, sizeof(record)));
}

static void test_honest(void)
{
	int watcher = come_as(HELPER_WATCHER), loader = come_as(HELPER_LOADER), second;

	tap_ok(is_in(watcher) && is_in(loader), "a watcher and a loader come in");
	tap_ok(asked_to(loader, LOADER_LOAD_SAVED) == 1,
	       "the loader is asked to load when the core is there, or else the saved policy");
	helpers_reload(&broker.helpers);
	tap_ok(asked_to(loader, LOADER_LOAD_SAVED) == 1, "... and again at a reload");
	tell(watcher, WATCHER_SCAN);
	tell(watcher, WATCHER_DEVICE);
	tell(watcher, WATCHER_SCANNED);
	load(loader, LOADER_BEGIN);
	load(loader, LOADER_END);
	run(20);
	tap_ok(broker.devices.n == 1 && broker.devices.scanned, "the watcher is heard");
	tap_ok(broker.policy.good, "the loader is heard");
	second = come_as(HELPER_WATCHER);
	tap_ok(is_turned_away(second) && said("a second watcher"),
	       "a second watcher is turned away");
	close(second);
	second = come_as(HELPER_LOADER);
	tap_ok(is_turned_away(second) && said("a second loader"), "a second loader too");
	close(second);
	tap_ok(is_in(watcher) && is_in(loader), "... and the first stay");

	leave(watcher);
	tap_ok(!broker_status && !event_base_got_break(broker.base),
	       "a watcher's end is not the core's");
	tap_ok(said("the watcher has ended") == 1, "... and is said");
	tap_ok(broker.devices.n == 1, "... and what it has told holds");
	watcher = come_as(HELPER_WATCHER);
	tell(watcher, WATCHER_SCAN);
	run(20);
	tap_ok(broker.devices.n == 1, "... while the next one looks");
	tell(watcher, WATCHER_SCANNED);
	run(20);
	tap_ok(!broker.devices.n, "... until it has told what there is");

	load(loader, LOADER_INVALID);
	run(20);
	tap_ok(broker.policy.good, "a policy with mistakes leaves the one in force");
	load(loader, LOADER_BEGIN);
	leave(loader);
	tap_ok(!broker_status && broker.policy.good, "a loader's end leaves the policy in force");
	tap_ok(helpers_log_missing(&broker.helpers) &&
		       said("no loader has connected in 10 s: see 'systemctl status gpubroker-load'") ==
			       1 &&
		       !said("no watcher has connected"),
	       "one that does not come is missed, by name and unit");
	helpers_reload(&broker.helpers);
	loader = come_as(HELPER_LOADER);
	tap_ok(!helpers_log_missing(&broker.helpers), "... until it comes");
	tap_ok(is_in(loader) && asked_to(loader, LOADER_LOAD) == 1,
	       "a reload while it is not there is no fault: it is asked when it comes");
	load(loader, LOADER_END);
	run(20);
	tap_ok(broker_status == EX_SOFTWARE && said("the loader sent an invalid record") == 1,
	       "half of what one loader sent is no beginning for the next");
	broker_status = 0;
	need(say(watcher, "x", 1));
	run(20);
	tap_ok(broker_status == EX_SOFTWARE &&
		       said("the watcher sent a packet that is not a record") == 1,
	       "what is no record ends the core");
	broker_status = 0;
	leave(watcher);
	leave(loader);
	tap_ok(all_closed() && open_descriptors() == fds_without, "none of it leaves a descriptor");
}

static void test_others(void)
{
	static const char *const what[] = { "a later version", "a role that there is not",
					    "records of another size", "something reserved" };
	struct helper_hello hello;
	struct watcher_record record = { .type = WATCHER_SCANNED };
	int fd, null = open("/dev/null", O_RDONLY | O_CLOEXEC);

	for (unsigned i = 0; i < ARRAY_SIZE(what); i++) {
		hello = helper_hello(HELPER_LOADER);
		*(i == 0   ? &hello.version
		  : i == 1 ? &hello.role
		  : i == 2 ? &hello.record_size
			   : &hello.reserved) += HELPER_ROLES;
		fd = come();
		say(fd, &hello, sizeof(hello));
		run(300);
		tap_ok(is_turned_away(fd) && broker.helpers.loader.fd < 0,
		       "one that has %s is turned away", what[i]);
		close(fd);
	}
	hello = helper_hello(HELPER_WATCHER);
	fd = come();
	say(fd, &hello, sizeof(hello) - 1);
	run(300);
	tap_ok(is_turned_away(fd), "one that says too little is turned away");
	close(fd);
	fd = come();
	say(fd, &record, sizeof(record));
	run(300);
	tap_ok(is_turned_away(fd) && !broker_status,
	       "one that begins with a record is turned away");
	close(fd);
	fd = come();
	need(!passfd_send(fd, &hello, sizeof(hello), &null, 1));
	run(300);
	tap_ok(is_turned_away(fd) && broker.helpers.watcher.fd < 0,
	       "one that passes a descriptor is turned away");
	close(fd);
	close(null);

	broker.helpers.uid = getuid() + 1;
	fd = come_as(HELPER_WATCHER);
	tap_ok(is_turned_away(fd) && broker.helpers.watcher.fd < 0 && said("wrong uid") == 1,
	       "another user is turned away, root too");
	close(fd);
	broker.helpers.uid = getuid();
	tap_ok(all_closed() && open_descriptors() == fds_without, "none of it leaves a descriptor");
}

static void test_silent(void)
{
	int silent[NEWCOMERS_MAX], fd, in = 0;

	for (unsigned i = 0; i < NEWCOMERS_MAX; i++)
		silent[i] = come();
	run(700);
	for (unsigned i = 0; i < NEWCOMERS_MAX; i++)
		in += is_in(silent[i]);
	tap_ok(in == NEWCOMERS_MAX, "some may be silent for a while");
	fd = come_as(HELPER_WATCHER);
	tap_ok(is_turned_away(fd), "... and no more than that, whatever the next one says");
	close(fd);
	run(5500);
	in = 0;
	for (unsigned i = 0; i < NEWCOMERS_MAX; i++) {
		in += is_in(silent[i]);
		close(silent[i]);
	}
	tap_ok(!in && said("no greeting in time") == NEWCOMERS_MAX, "... and not for long");
	tap_ok(all_closed() && open_descriptors() == fds_without, "... and leave nothing");
	fd = come_as(HELPER_WATCHER);
	tap_ok(is_in(fd), "then an honest one comes in");
	leave(fd);
}

/* ---- the finder ---- */

static uint64_t spent;

static bool hears_question(int fd, uint64_t id)
{
	struct finder_question question;

	return recv(fd, &question, sizeof(question), 0) == sizeof(question) && question.id == id;
}

/* A finder sends this; its connection ends, and nothing else. */
static void send_nonsense(const char *name, const void *packet, size_t size)
{
	const unsigned before = said("the finder sent");
	int fd = come_as(HELPER_FINDER);

	need(say(fd, packet, size));
	run(20);
	tap_ok(is_turned_away(fd) && said("the finder sent") == before + 1 && !broker_status,
	       "a finder that sends %s is dropped, and the core goes on", name);
	close(fd);
}

static void on_opened(void *userdata, const struct message_refusal *refusal)
{
	(void)refusal;
	*(bool *)userdata = true;
}

static bool claimant_spend(struct claimant *claimant, uint64_t cost)
{
	(void)claimant;
	spent += cost;
	return true;
}

/* A claim waits for the answer of a finder that ends. */
static void test_restart(void)
{
	static const struct claimant_ops ops = { .spend = claimant_spend };
	struct claims *claims = &broker.claims;
	struct claimant claimant = { .ops = &ops };
	const struct message_claim request = { .n_selectors = 1 };
	struct group_view view = { .n_functions = 1, .functions = { { .driver = "nouveau" } } };
	const struct selection selection = { .n = 1, .items = { { .view = &view } } };
	struct finder_question question;
	struct finder_answer answer = { 0 };
	bool answered = false;
	int fd = come_as(HELPER_FINDER);

	spent = 0;
	need(opening_ask(claims, &claimant, &request, &selection, on_opened, &answered));
	tap_ok(spent == COST_FIND, "a question has its price");
	leave(fd);
	tap_ok(!answered, "a claim goes on waiting when the finder ends");
	fd = come_as(HELPER_FINDER);
	tap_ok(recv(fd, &question, sizeof(question), 0) == sizeof(question) && question.n == 1,
	       "... and the next finder is asked");
	answer.id = question.id;
	need(say(fd, &answer, sizeof(answer)));
	run(20);
	tap_ok(answered && is_in(fd), "... and answers");
	leave(fd);
}

static void test_finder(void)
{
	const struct finder_question question = { .id = 7, .n = 1 };
	struct finder_answer answer = { .id = 7 };
	int fd = -1, second;

	tap_ok(helpers_find(&broker.helpers, &question) == -ENOTCONN &&
		       helpers_find(&broker.helpers, &question) == -ENOTCONN &&
		       said("the finder is missing") == 1,
	       "without a finder there is no answer, which is said once");
	fd = come_as(HELPER_FINDER);
	tap_ok(is_in(fd), "a finder comes in");
	second = come_as(HELPER_FINDER);
	tap_ok(is_turned_away(second), "a second one does not");
	close(second);
	tap_ok(!helpers_find(&broker.helpers, &question) && hears_question(fd, 7), "it is asked");
	need(say(fd, &answer, sizeof(answer)));
	run(20);
	tap_ok(is_in(fd) && !broker.helpers.unanswered, "... and answers");
	need(!helpers_find(&broker.helpers, &question) && hears_question(fd, 7));
	answer.n = FINDING_HOLDERS_MAX + 1;
	need(say(fd, &answer, sizeof(answer)));
	run(20);
	tap_ok(is_turned_away(fd) && !broker_status && !broker.helpers.unanswered,
	       "after an invalid answer it is dropped");
	close(fd);
	answer.n = 0;
	send_nonsense("an answer to no question", &answer, sizeof(answer));
	send_nonsense("a packet that is too short", &answer, 3);
	fd = come_as(HELPER_FINDER);
	for (unsigned i = 0; i < 4096 && !helpers_find(&broker.helpers, &question); i++)
		need(i < 4095);
	tap_ok(is_in(fd), "one that does not read costs no more than its socket holds");
	tap_ok(helpers_find(&broker.helpers, &question) == -EAGAIN &&
		       said("the finder does not read") == 1,
	       "... which is said once");
	leave(fd);
	tap_ok(!broker_status && broker.helpers.finder.fd < 0, "its end is not the core's");
	tap_ok(helpers_find(&broker.helpers, &question) == -ECONNRESET &&
		       said("the finder is missing") == 1,
	       "the next one is expected");
	run(FINDING_LIMIT_MS);
	tap_ok(helpers_find(&broker.helpers, &question) == -ENOTCONN &&
		       said("the finder is missing") == 2,
	       "... but not for long");
	test_restart();
	tap_ok(open_descriptors() == fds_without, "none of it leaves a descriptor");
}

/* ---- the runner of hooks ---- */

/* A runner of hooks sends this; its connection ends, and nothing else. */
static void send_hook_nonsense(const char *name, const void *packet, size_t size)
{
	int fd = come_as(HELPER_HOOKS);

	need(is_in(fd) && broker.leases.hooks.connected && say(fd, packet, size));
	run(20);
	tap_ok(is_turned_away(fd) && !broker_status && !broker.leases.hooks.connected,
	       "a runner of hooks that sends %s is dropped, and the core goes on", name);
	close(fd);
}

static void test_hooks(void)
{
	const uid_t uid = broker.helpers.uid, root = broker.helpers.hooks_uid;
	struct hook_answer answer = { .result = HOOK_COUNT, .value = 3 };
	unsigned before;
	int fd, second;

	broker.helpers.uid = getuid() + 1;
	broker.helpers.hooks_uid = getuid();
	fd = come_as(HELPER_HOOKS);
	tap_ok(is_in(fd) && broker.leases.hooks.connected, "the runner of hooks comes in, as root");
	before = said("wrong uid");
	second = come_as(HELPER_FINDER);
	tap_ok(is_turned_away(second) && said("wrong uid") == before + 1,
	       "... which may be nothing else");
	close(second);
	second = come_as(HELPER_HOOKS);
	tap_ok(is_turned_away(second) && is_in(fd), "a second one does not");
	close(second);
	need(say(fd, &answer, sizeof(answer)));
	run(20);
	tap_ok(broker.leases.hooks.expected && said("there are hooks") == 1,
	       "it says how many there are");
	answer.value = 0;
	need(say(fd, &answer, sizeof(answer)));
	run(20);
	tap_ok(!broker.leases.hooks.expected && said("there are no hooks any more") == 1,
	       "... also if there are none any more");
	leave(fd);
	tap_ok(!broker_status && !broker.leases.hooks.connected, "its end is not the core's");
	answer.value = HOOKFILES_MAX + 1;
	send_hook_nonsense("a number of hooks that cannot be", &answer, sizeof(answer));
	send_hook_nonsense("a packet that is too short", &answer, 3);
	answer = (struct hook_answer){ .id = 1 };
	send_hook_nonsense("an answer to no question", &answer, sizeof(answer));
	broker.helpers.uid = getuid();
	broker.helpers.hooks_uid = getuid() + 1;
	fd = come_as(HELPER_HOOKS);
	tap_ok(is_turned_away(fd) && !broker.leases.hooks.connected,
	       "a helper cannot pass for the runner of hooks");
	close(fd);
	broker.helpers.uid = uid;
	broker.helpers.hooks_uid = root;
	tap_ok(all_closed() && open_descriptors() == fds_without, "none of it leaves a descriptor");
}

/* ---- sockets of systemd ---- */

static int made(const char *name)
{
	struct sockaddr_un there = { .sun_family = AF_UNIX };
	int fd = socket(AF_UNIX, SOCK_SEQPACKET | SOCK_CLOEXEC, 0);

	snprintf(there.sun_path, sizeof(there.sun_path), "%s/%s", scratch_path, name);
	unlink(there.sun_path);
	need(fd >= 0 && !bind(fd, (struct sockaddr *)&there, sizeof(there)) && !listen(fd, 1));
	return fd;
}

/*
 * Returns the descriptors that the daemon takes for its own socket and for its helpers', as two
 * digits; 1 if it refuses.
 */
static int sorted(int n, const char *names)
{
	pid_t child = fork();
	int status;

	need(child >= 0);
	if (!child) {
		int a = made("a"), b = made("b"), helpers = -1, own;
		char number[16];
		struct sockets kept = SOCKETS_NONE;
		bool made = false;

		a = fcntl(a, F_DUPFD, 20);
		b = fcntl(b, F_DUPFD, 20);
		need(dup2(a, 3) == 3 && dup2(b, 4) == 4);
		snprintf(number, sizeof(number), "%d", (int)getpid());
		setenv("LISTEN_PID", number, 1);
		snprintf(number, sizeof(number), "%d", n);
		setenv("LISTEN_FDS", number, 1);
		if (names)
			setenv("LISTEN_FDNAMES", names, 1);
		TAILQ_INIT(&kept.list);
		own = listener_open("/nonexistent/socket", sockets_keep, &kept, &helpers, &made);
		_exit(own < 0 ? 1 : own * 10 + (helpers < 0 ? 0 : helpers));
	}
	need(waitpid(child, &status, 0) == child && WIFEXITED(status));
	return WEXITSTATUS(status);
}

static void test_passed(void)
{
	tap_ok(sorted(2, "gpubroker.socket:helpers") == 34,
	       "of two sockets the one named so is the helpers'");
	tap_ok(sorted(2, "helpers:gpubroker.socket") == 43, "... in whichever order they come");
	tap_ok(sorted(1, "gpubroker.socket") == 1, "without one for helpers it is refused");
	tap_ok(sorted(1, NULL) == 1, "... also if that for users has no name");
	tap_ok(sorted(2, "gpubroker.socket:helpers-of-another") == 1 &&
		       sorted(2, "gpubroker.socket:helper") == 1,
	       "a name that begins so, or is the beginning, is another one");
	tap_ok(sorted(2, "helpers:helpers") == 1, "two of a kind are refused");
	tap_ok(sorted(2, "allotment-pod.7:helpers") == 1, "an allotment's socket is not its own");
	tap_ok(sorted(1, "helpers") == 1, "the helpers' alone is not taken for its own");
}

/* Sends a question about the policy as that user. Returns its connection. */
static int ask_policy(uint32_t uid, uint32_t flags)
{
	const struct message_policy request = { .type = MESSAGE_POLICY, .flags = flags };
	int fd = dial_in(1);

	TAILQ_LAST(&broker.peers.list, peer_list)->claimant.uid = uid;
	need(say(fd, &request, sizeof(request)));
	turn(TURNS);
	return fd;
}

/* Returns true if the answer has come, and has these flags. */
static bool is_answered(int fd, uint32_t flags)
{
	union answer answer;

	turn(TURNS);
	return hear(fd, &answer) == sizeof(answer.policy) && answer.type == MESSAGE_POLICY_STATE &&
	       answer.policy.flags == flags;
}

static void test_reload(void)
{
	const struct message_policy unknown = { .type = MESSAGE_POLICY, .flags = 4 };
	int loader = come_as(HELPER_LOADER), root, second, alice;
	union answer answer;

	asked_to(loader, LOADER_LOAD);
	load(loader, LOADER_BEGIN);
	load(loader, LOADER_END);
	run(20);
	root = ask_policy(0, POLICY_RELOAD);
	tap_ok(asked_to(loader, LOADER_LOAD) == 1, "root's reload has the loader asked");
	tap_ok(hear(root, &answer) < 0, "... and is not answered before the loader has");
	alice = ask_policy(1000, POLICY_WAIT);
	tap_ok(is_answered(alice, POLICY_IN_FORCE), "... while others are, about the one in force");
	close(alice);
	second = ask_policy(0, POLICY_RELOAD);
	load(loader, LOADER_INVALID);
	run(20);
	tap_ok(is_answered(root, POLICY_IN_FORCE | POLICY_REFUSED),
	       "mistakes are the answer, and the policy in force stays");
	tap_ok(hear(second, &answer) < 0, "... not to a reload that was asked for later");
	leave(loader);
	tap_ok(hear(second, &answer) < 0, "a loader that ends answers nothing");
	loader = come_as(HELPER_LOADER);
	load(loader, LOADER_BEGIN);
	load(loader, LOADER_END);
	run(20);
	tap_ok(is_answered(second, POLICY_IN_FORCE), "... the next one does");
	close(root);
	close(second);
	asked_to(loader, LOADER_LOAD);

	alice = ask_policy(1000, POLICY_RELOAD);
	tap_ok(hear(alice, &answer) == sizeof(answer.refusal) &&
		       answer.refusal.reason == GPUBROKER_REFUSED_NOT_YOURS,
	       "a reload by anybody else is refused");
	tap_ok(!asked_to(loader, LOADER_LOAD), "... and the loader is not asked");
	need(say(alice, &unknown, sizeof(unknown)));
	turn(TURNS);
	tap_ok(!hear(alice, &answer), "an unknown flag drops the peer");
	close(alice);

	root = ask_policy(0, POLICY_RELOAD);
	close(root);
	load(loader, LOADER_BEGIN);
	load(loader, LOADER_END);
	run(20);
	tap_ok(!broker.peers.n && !broker.peers.n_awaiting, "one who has left is forgotten");
	leave(loader);
}

int main(void)
{
	int fd;

	broker_make();
	broker.serving = true;
	test_passed();
	snprintf(address.sun_path, sizeof(address.sun_path), "%s/helpers", scratch_path);
	fd = socket(AF_UNIX, SOCK_SEQPACKET | SOCK_CLOEXEC | SOCK_NONBLOCK, 0);
	need(fd >= 0 && !bind(fd, (struct sockaddr *)&address, sizeof(address)) && !listen(fd, 8));
	log_file_make();
	broker.helpers.fd = fd;
	broker.helpers.uid = getuid();
	alarm(300);
	need(!helpers_listen(&broker.helpers));
	fds_without = open_descriptors();
	test_honest();
	test_others();
	test_silent();
	test_reload();
	test_finder();
	test_hooks();
	helpers_done(&broker.helpers);
	return tap_done();
}
