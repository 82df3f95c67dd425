/* SPDX-License-Identifier: MIT */
/*
 * Decisions in the journal. Whatever the values are, the keys and their order stay the same, no
 * value passes for another key or another line, and no user gets more lines than a share.
 */
#include "config.h"

#include "brokerd/record/audit.h"
#include "brokerd/process/log.h"
#include "tests/unit/brokerd/world.h"
#include "tests/tap.h"

#include <errno.h>
#include <fcntl.h>
#include <string.h>
#include <sys/mman.h>
#include <sys/socket.h>
#include <time.h>

static char journal[65536];
static int journal_fd, stderr_fd;

static void listen_in(void)
{
	fflush(stderr);
	need(!ftruncate(journal_fd, 0) && !lseek(journal_fd, 0, SEEK_SET));
	need(dup2(journal_fd, STDERR_FILENO) == STDERR_FILENO);
}

/* Reads what the broker has written since the last call. Returns the number of lines. */
static size_t listened(void)
{
	ssize_t n;
	size_t lines = 0;

	need(dup2(stderr_fd, STDERR_FILENO) == STDERR_FILENO);
	n = pread(journal_fd, journal, sizeof(journal) - 1, 0);
	need(n >= 0);
	journal[n] = '\0';
	for (const char *p = journal; (p = strchr(p, '\n')); p++)
		lines++;
	return lines;
}

static struct audit_line nothing(const char *outcome)
{
	return (struct audit_line){
		.outcome = outcome,
		.level = LOG_INFO,
		.uid = AUDIT_NOBODY,
		.group = UINT32_MAX,
		.by = AUDIT_NOBODY,
	};
}

static bool says(const struct audit_line *line, const char *text)
{
	size_t n;

	listen_in();
	audit_write(line);
	n = listened();
	if (n != 1 || strcmp(journal, text) != 0)
		printf("# %zu lines: %s", n, journal);
	return n == 1 && !strcmp(journal, text);
}

static void test_format(void)
{
	const struct pci_address address = { .bus = 1 };
	struct audit_line line = nothing("ended");
	char rule[300];
	int spaces = 0;

	tap_ok(says(&line, "<6>lease=- uid=- pid=- device=- group=- name=- rule=- by=- "
			   "outcome=ended reason=- duration=-\n"),
	       "where there is nothing to say, every key is there all the same");
	line = (struct audit_line){
		.outcome = "granted",
		.level = LOG_NOTICE,
		.lease = 3,
		.pid = 4711,
		.device = &address,
		.rule = "/etc/gpubroker/policy.d/10-lab.policy:7",
		.name = "a100",
		.reason = "because it may",
	};
	tap_ok(says(&line, "<5>lease=3 uid=0 pid=4711 device=0000:01:00.0 group=0 name=a100 "
			   "rule=/etc/gpubroker/policy.d/10-lab.policy:7 by=0 outcome=granted "
			   "reason=\"because it may\" duration=-\n"),
	       "root and group 0 are not nobody and none");
	line = nothing("refused");
	line.rule = "/etc/p d/\"x\" outcome=granted\\.policy:7";
	line.name = "a\n<3>uid=0";
	line.reason = "one\" outcome=granted reason=\"\ntwo\x80\\";
	tap_ok(says(&line,
		    "<6>lease=- uid=- pid=- device=- group=- name=a\\x0a<3>uid\\x3d0 "
		    "rule=/etc/p\\x20d/\\x22x\\x22\\x20outcome\\x3dgranted\\x5c.policy:7 "
		    "by=- outcome=refused "
		    "reason=\"one\\x22 outcome=granted reason=\\x22\\x0atwo\\x80\\x5c\" duration=-\n"),
	       "no name is another key, another value or another line");
	memset(rule, ' ', sizeof(rule) - 1);
	rule[sizeof(rule) - 1] = '\0';
	line.rule = line.reason = line.name = rule;
	listen_in();
	audit_write(&line);
	tap_ok(listened() == 1 && strstr(journal, " outcome=refused reason=\""),
	       "values of any length leave the keys behind them whole");
	for (const char *p = journal; p < strstr(journal, " reason="); p++)
		spaces += *p == ' ';
	tap_ok(spaces == 8, "and hold no space");
}

/* Returns true if a packet has this line, whole. */
static bool has_line(const char *packet, const char *line)
{
	const size_t n = strlen(line);

	for (const char *at = packet; (at = strstr(at, line)); at++)
		if ((at == packet || at[-1] == '\n') && at[n] == '\n')
			return true;
	return false;
}

/* The journal's own socket gets each value in a field of its own. */
static void test_fields(void)
{
	const struct pci_address address = { .bus = 1 };
	struct audit_line line = nothing("ended");
	char packet[16384] = "", long_text[4000];
	int ends[2], n;

	need(!socketpair(AF_UNIX, SOCK_DGRAM | SOCK_CLOEXEC | SOCK_NONBLOCK, 0, ends));
	log_use_journal(ends[0]);
	line.lease = 7;
	line.uid = 1000;
	line.device = &address;
	line.group = 14;
	line.rule = "/etc/p d/10.policy:7";
	line.reason = "one\nGPUBROKER_UID=0\x80";
	line.lasted = true;
	line.duration = 3600;
	listen_in();
	audit_write(&line);
	tap_ok(!listened(), "what the journal's socket takes is not written as text too");
	n = (int)recv(ends[1], packet, sizeof(packet) - 1, 0);
	need(n > 0);
	packet[n] = '\0';
	tap_ok(has_line(packet, "GPUBROKER_LEASE=7") && has_line(packet, "GPUBROKER_UID=1000") &&
		       has_line(packet, "GPUBROKER_DEVICE=0000:01:00.0") &&
		       has_line(packet, "GPUBROKER_GROUP=14") &&
		       has_line(packet, "GPUBROKER_RULE=/etc/p d/10.policy:7") &&
		       has_line(packet, "GPUBROKER_OUTCOME=ended") &&
		       has_line(packet, "GPUBROKER_DURATION=3600") &&
		       has_line(packet, "PRIORITY=6"),
	       "each value has a field");
	tap_ok(!strstr(packet, "GPUBROKER_PID") && !strstr(packet, "GPUBROKER_BY") &&
		       !strstr(packet, "GPUBROKER_NAME"),
	       "what is not known has none");
	tap_ok(has_line(packet, "GPUBROKER_REASON=one\\x0aGPUBROKER_UID=0\\x80") &&
		       !has_line(packet, "GPUBROKER_UID=0"),
	       "no value is another field");
	tap_ok(strstr(packet, "MESSAGE=lease=7 uid=1000 pid=- ") == packet,
	       "the message is the line that it was");
	memset(long_text, '\n', sizeof(long_text) - 1);
	long_text[sizeof(long_text) - 1] = '\0';
	line.reason = line.name = line.rule = long_text;
	listen_in();
	audit_write(&line);
	n = (int)recv(ends[1], packet, sizeof(packet) - 1, 0);
	need(n > 0);
	packet[n] = '\0';
	tap_ok(has_line(packet, "GPUBROKER_LEASE=7") && packet[n - 1] == '\n',
	       "values of any length leave the others whole (%d bytes)", n);
	/* The journal does not read: the line is not lost, and nothing waits. */
	line = nothing("ended");
	for (n = 0; n < 100000; n++) {
		listen_in();
		audit_write(&line);
		if (listened())
			break;
	}
	tap_ok(n < 100000 && strstr(journal, "<6>lease=- "),
	       "a journal that does not read gets the line as text (after %d)", n);
	close(ends[1]);
	listen_in();
	audit_write(&line);
	tap_ok(listened() == 1, "one that is gone too");
	log_use_journal(-1);
	close(ends[0]);
}

/* Writes what the journal says of a refusal. */
static bool says_reason(struct message_refusal refusal, const char *text)
{
	char reason[256];

	audit_reason(&refusal, reason, sizeof(reason));
	if (strcmp(reason, text) != 0)
		printf("# %s\n", reason);
	return !strcmp(reason, text);
}

static void test_reasons(void)
{
	struct message_refusal r = { .reason = GPUBROKER_REFUSED_FAILED, .error = EBUSY };
	struct lease lease = { .id = 5, .uid = 1000, .since = (uint64_t)time(NULL) - 90 };

	strcpy(r.text, "drivers_probe");
	tap_ok(says_reason(r, "failed: drivers_probe: Device or resource busy"),
	       "a failure has the step and the error, as the client's sentence");
	r.has_other = 1;
	r.other = (struct pci_address){ .bus = 1, .function = 1 };
	r.error = 0;
	memset(r.text, 'x', sizeof(r.text));
	listen_in();
	audit_refused(&broker.audit, 0, 1, &r);
	tap_ok(listened() == 1 &&
		       strstr(journal, "outcome=refused reason=\"failed: 0000:01:00.1: xxxx"),
	       "... and the function that failed, where that is another one");
	r = (struct message_refusal){ .reason = GPUBROKER_REFUSED_POLICY };
	strcpy(r.text, "of no use");
	tap_ok(says_reason(r, "policy"), "other refusals have their word alone");
	listen_in();
	audit_ended(&lease);
	tap_ok(listened() == 1 && strstr(journal, " outcome=undone reason=- duration=-\n"),
	       "the end of what was never lent is not that of a lease");
	lease.lent = true;
	listen_in();
	audit_ended(&lease);
	tap_ok(listened() == 1 && (strstr(journal, " outcome=ended reason=- duration=90\n") ||
				   strstr(journal, " outcome=ended reason=- duration=91\n")),
	       "the end of a lease says how long it was");
	lease.since += 1000;
	listen_in();
	audit_ended(&lease);
	tap_ok(listened() == 1 && strstr(journal, " duration=0\n"),
	       "a clock that was set back makes none negative");
}

/* Writes n lines of uid. Returns how many reach the journal. */
static size_t written(uint32_t uid, size_t n)
{
	struct audit_line line = nothing("refused");

	line.uid = uid;
	listen_in();
	while (n--)
		audit_asked(&broker.audit, uid, &line);
	return listened();
}

static void test_limit(void)
{
	struct audit_user *user = NULL;
	struct audit_line line = nothing("granted");

	tap_ok(written(1000, 500) == AUDIT_BURST, "a user causes so many lines and no more");
	tap_ok(written(1001, 1) == 1 && written(0, 1) == 1, "which takes none from others");
	tap_ok(written(0, 500) == AUDIT_ALL_BURST - 1, "root causes more, but not any number");
	listen_in();
	for (int i = 0; i < 100; i++)
		audit_act(&broker.audit, 0, &line);
	tap_ok(listened() == 100, "what root does to others' leases is always written");
	listen_in();
	audit_write_suppressed(&broker.audit);
	tap_ok(listened() == 2 && strstr(journal, "uid=0 "),
	       "and root too is told how many were not");
	need(!written(1000, 1));
	listen_in();
	for (int i = 0; i < 100; i++)
		audit_act(&broker.audit, 1000, &line);
	tap_ok(listened() == 0, "what others do counts among their lines");
	listen_in();
	for (int i = 0; i < 100; i++)
		audit_write(&line);
	tap_ok(listened() == 100, "what changes a device is always written");
	for (size_t i = 0; i < AUDIT_USERS; i++)
		if (broker.audit.users[i].asked && broker.audit.users[i].uid == 1000)
			user = &broker.audit.users[i];
	need(user);
	user->share.filled -= 3 * AUDIT_SECONDS;
	tap_ok(written(1000, 100) == 3, "with time there may be more");
	user->share.filled = 1;
	tap_ok(written(1000, 100) <= AUDIT_BURST, "but never more at once than at first");

	tap_ok(broker.audit.waits && broker.on_suppressed &&
		       evtimer_pending(broker.on_suppressed, NULL),
	       "that some were suppressed is told in time");
	listen_in();
	audit_write_suppressed(&broker.audit);
	tap_ok(listened() == 1 && strstr(journal, "uid=1000 ") &&
		       strstr(journal, " outcome=suppressed reason=\"") && !broker.audit.waits,
	       "how many, and whose");
	listen_in();
	audit_write_suppressed(&broker.audit);
	tap_ok(listened() == 0, "and that only once");
}

/* Lets the time since the last line of any user be so long. */
static void let_pass(uint64_t seconds)
{
	broker.audit.all.filled -= seconds;
	broker.audit.root.share.filled -= seconds;
	for (size_t i = 0; i < AUDIT_USERS; i++)
		if (broker.audit.users[i].asked)
			broker.audit.users[i].share.filled -= seconds;
}

static void test_many_users(void)
{
	struct audit_line line = nothing("refused");
	size_t n, most = AUDIT_ALL_BURST;

	let_pass(10000);
	written(2000, 100);
	listen_in();
	for (uint32_t uid = 10000; uid < 10000 + AUDIT_USERS; uid++)
		audit_asked(&broker.audit, uid, &line);
	n = listened();
	tap_ok(n == AUDIT_USERS && strstr(journal, "uid=2000 ") &&
		       strstr(journal, "reason=\"80 lines"),
	       "a user whose place another takes is told what was suppressed (%zu lines)", n);
	/* Each uid is another's by the time it comes again, as with a range of subordinate uids. */
	n += AUDIT_BURST;
	listen_in();
	for (int round = 0; round < 30; round++)
		for (uint32_t uid = 20000; uid < 20000 + 10 * AUDIT_USERS; uid++)
			audit_asked(&broker.audit, uid, &line);
	n += listened();
	tap_ok(n <= most + 2 * AUDIT_ALL_LINES && n >= most,
	       "19,200 lines of 640 users are as many as are for all (%zu)", n);
	tap_ok(written(0, 1) == 1, "root has lines whatever others have used up");
	listen_in();
	audit_write_suppressed(&broker.audit);
	n = listened();
	tap_ok(n <= AUDIT_USERS + 1 && strstr(journal, "uid=- ") &&
		       strstr(journal, "lines about what other users asked for"),
	       "and the rest is counted (%zu lines)", n);

	/* The limit over all aside, a new uid has what another has left. */
	let_pass(10000);
	for (uint32_t uid = 0; uid < AUDIT_USERS; uid++) {
		broker.audit.all.left = UINT32_MAX / 2;
		written(30000 + uid, 100);
	}
	broker.audit.all.left = UINT32_MAX / 2;
	n = 0;
	for (uint32_t uid = 0; uid < 10 * AUDIT_USERS; uid++) {
		n += written(40000 + uid, 1);
		if (strstr(journal, "outcome=suppressed"))
			n--;
	}
	tap_ok(n <= 2, "users who come after %d who have had their lines have none (%zu)",
	       AUDIT_USERS, n);
	audit_write_suppressed(&broker.audit);
	let_pass(10000);
	audit_asked(&broker.audit, 1, &line);
	tap_ok(written(50000, 100) == AUDIT_BURST, "with time there are lines for all again");
	audit_write_suppressed(&broker.audit);
}

/* The broker refuses a peer on a real connection. */
static void test_refused(void)
{
	struct message_refusal refusal = { .type = MESSAGE_REFUSAL,
					   .reason = UINT32_MAX,
					   .group = UINT32_MAX };
	int fd = dial_in(0);
	const struct peer *peer = TAILQ_FIRST(&broker.peers.list);

	memset(refusal.name, 'n', sizeof(refusal.name));
	memset(refusal.rule, 'r', sizeof(refusal.rule));
	listen_in();
	audit_refused(&broker.audit, peer->claimant.uid, peer->claimant.pid, &refusal);
	tap_ok(listened() == 1 && strstr(journal, " outcome=refused reason=\"unknown\""),
	       "a refusal whose texts have no end");
	listen_in();
	say(fd, "rubbish", 7);
	turn(TURNS);
	tap_ok(listened() == 1 && strstr(journal, " outcome=dropped reason=\"protocol\""),
	       "who does not speak the protocol is dropped, in the journal too");
	close(fd);
	turn(TURNS);
}

int main(void)
{
	broker_make();
	stderr_fd = dup(STDERR_FILENO);
	journal_fd = memfd_create("journal", 0);
	need(stderr_fd >= 0 && journal_fd >= 0);
	test_format();
	test_fields();
	test_limit();
	test_many_users();
	test_refused();
	test_reasons();
	broker_drop();
	return tap_done();
}
