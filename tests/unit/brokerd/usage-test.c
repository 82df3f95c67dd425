/* SPDX-License-Identifier: MIT */
/*
 * The usage of devices: kept over restarts, bounded, oldest first dropped; damaged records are
 * skipped; a full disk is told once; and each user sees what is the user's own.
 */
#include "config.h"

#include "brokerd/record/usage.h"
#include "brokerd/record/sealed.h"
#include "tests/unit/brokerd/real-worker.h"
#include "tests/tap.h"

#include <fcntl.h>
#include <string.h>
#include <sys/stat.h>

#define LINE 210
#define BOB 5000

static struct policy_rule rule;
static int directory;
static char usage_path[96];

static void start(void)
{
	usage_done(&broker.usage);
	usage_open(&broker.usage, directory);
	broker.usage.workers = &broker.workers;
	broker.usage.owner = NULL;
}

static void wait_for_usage(void)
{
	for (int n = 0; n < 30000 && broker.usage.writing; n++) {
		poll(NULL, 0, 1);
		turn(TURNS);
	}
}

/* Ends a lease of a user that began so many seconds ago. */
static void end(uint64_t id, uint32_t uid, uint64_t seconds)
{
	struct lease lease = { .id = id, .uid = uid, .since = (uint64_t)time(NULL) - seconds };

	lease.asked.bus = (uint8_t)(id % 200);
	usage_add(&broker.usage, &lease);
}

static size_t count(void)
{
	struct usage_entry e;
	size_t n = 0;

	for (uint64_t at = 1; usage_from(&broker.usage, at, &e); at = e.number + 1)
		n++;
	return n;
}

/* Returns the first entry from a number on, an empty one if there is none. */
static struct usage_entry from(uint64_t number)
{
	struct usage_entry e;

	return usage_from(&broker.usage, number, &e) ? e : (struct usage_entry){ 0 };
}

static void overwrite(off_t where, const char *text, size_t len)
{
	int fd = open(usage_path, O_WRONLY | O_CLOEXEC);

	need(fd >= 0 && pwrite(fd, text, len, where) == (ssize_t)len);
	close(fd);
}

static void test_restarts(void)
{
	struct usage_entry e;
	struct lease mdev = { .id = 3, .uid = 7, .since = (uint64_t)time(NULL) + 500 };
	struct stat st;

	start();
	tap_ok(!count() && broker.usage.fd >= 0, "at first there is no usage");
	need(!stat(usage_path, &st));
	tap_ok(st.st_size == (off_t)USAGE_KEPT * LINE && (st.st_mode & 0777) == 0600,
	       "the file has its whole size from the start, and is root's");
	end(1, 1000, 60);
	end(2, BOB, 3600);
	strcpy(mdev.mdev.parent, "mtty");
	strcpy(mdev.mdev.type, "mtty-2");
	usage_add(&broker.usage, &mdev);
	tap_ok(count() == 3, "each end is an entry, at once");
	wait_for_usage();
	start();
	e = from(2);
	tap_ok(count() == 3 && e.lease == 2 && e.uid == BOB && e.seconds >= 3600 &&
		       e.seconds < 3700 && !strcmp(e.device, "0000:02:00.0") && !e.profile[0],
	       "it outlives a restart");
	e = from(3);
	tap_ok(!strcmp(e.device, "mtty") && !strcmp(e.profile, "mtty-2") && !e.seconds,
	       "a part has its parent and type, and a clock that was set back makes no time of less "
	       "than none");
	tap_ok(broker.usage.highest == 3, "the highest lease number is known");
	end(4, 1000, 1);
	wait_for_usage();
	start();
	tap_ok(count() == 4 && from(4).lease == 4, "what follows goes behind it");
}

static void test_damage(void)
{
	overwrite(LINE + 30, "X", 1);
	start();
	tap_ok(count() == 3 && from(2).number == 3,
	       "a damaged record is skipped, the others are there");
	/* A power cut: the last line is half there. */
	overwrite(3 * LINE + 100, "\0\0\0\0\0\0\0\0\0\0", 10);
	start();
	tap_ok(count() == 2, "so is one that was cut");
	end(5, 1000, 1);
	wait_for_usage();
	start();
	tap_ok(count() == 3 && from(4).lease == 5, "and the next is read all the same");
	{
		char line[LINE + 1] = "";

		need(sealed_make(line, LINE, "9 9 0 1 1 ../../etc -"));
		overwrite(10 * LINE, line, LINE);
		need(sealed_make(line, LINE, "10 9 -1 1 1 0000:01:00.0 -"));
		overwrite(11 * LINE, line, LINE);
		need(sealed_make(line, LINE, "18446744073709551615 9 0 1 1 0000:01:00.0 -"));
		overwrite(12 * LINE, line, LINE);
	}
	start();
	tap_ok(count() == 3, "nor is a whole line believed that no broker wrote");
	need(truncate(usage_path, 0) == 0);
	start();
	tap_ok(!count() && broker.usage.fd >= 0, "an empty file is a new one");
}

static void test_ring(void)
{
	const size_t more = 50;
	struct stat st;

	for (size_t i = 1; i <= USAGE_KEPT + more; i++) {
		end(i, (uint32_t)(1000 + i % 3), 1);
		if (i % 512 == 0)
			wait_for_usage();
	}
	while (broker.usage.written < broker.usage.next || broker.usage.writing)
		wait_for_usage();
	need(!stat(usage_path, &st));
	tap_ok(st.st_size == (off_t)USAGE_KEPT * LINE, "the file does not grow");
	tap_ok(count() == USAGE_KEPT && from(1).lease == more + 1,
	       "the oldest make room for the newest");
	start();
	tap_ok(count() == USAGE_KEPT && from(1).lease == more + 1 &&
		       broker.usage.next == USAGE_KEPT + more + 1,
	       "... on the disk too");
	end(USAGE_KEPT + more + 1, 1000, 1);
	wait_for_usage();
	start();
	tap_ok(count() == USAGE_KEPT && from(1).lease == more + 2, "... and after a restart");
}

static size_t count_of(uint32_t uid)
{
	struct usage_entry e;
	size_t n = 0;

	for (uint64_t at = 1; usage_from(&broker.usage, at, &e); at = e.number + 1)
		n += e.uid == uid;
	return n;
}

static uint32_t owner_is_bob(void *userdata, uint32_t uid)
{
	(void)userdata;
	return uid >= 100000 ? BOB : uid;
}

/* A user claims and releases in a loop. */
static void test_share(void)
{
	uint64_t lost;

	usage_done(&broker.usage);
	usage_open(&broker.usage, -1);
	for (uint64_t i = 1; i <= 100; i++)
		end(i, 1000, 3600);
	lost = broker.usage.lost;
	for (uint64_t i = 0; i < USAGE_SHARE + 2000; i++)
		end(1000 + i, BOB, 1);
	tap_ok(count_of(1000) == 100 && count_of(BOB) == USAGE_SHARE,
	       "a user who claims in a loop does not overwrite what others had");
	tap_ok(broker.usage.lost - lost == 2000, "... and what is left out is counted");
	end(900000, BOB, 3600);
	tap_ok(count_of(BOB) == USAGE_SHARE + 1, "a lease that was not short is kept all the same");
	end(900001, 1000, 1);
	tap_ok(count_of(1000) == 101, "so are others' short ones");
	broker.usage.owner = owner_is_bob;
	for (uint64_t i = 0; i < 500; i++)
		end(910000 + i, 100000 + (uint32_t)i, 1);
	tap_ok(broker.usage.lost - lost == 2500, "a user with many uids is one user");
	broker.usage.owner = NULL;
}

static void test_full_disk(void)
{
	const uint64_t lost = broker.usage.lost;
	size_t before = count();

	need(!truncate(usage_path, 0));
	start();
	close(broker.usage.fd);
	broker.usage.fd = open("/dev/full", O_WRONLY | O_CLOEXEC);
	end(1, 1000, 1);
	wait_for_usage();
	tap_ok(broker.usage.failed && broker.usage.lost > lost && count() == 1 && before,
	       "a full disk loses an entry of the file, not of this run");
	close(broker.usage.fd);
	broker.usage.fd = open(usage_path, O_WRONLY | O_CLOEXEC);
	end(2, 1000, 1);
	wait_for_usage();
	tap_ok(!broker.usage.failed, "and when there is room it goes on");
	start();
	tap_ok(count() == 1 && from(1).lease == 2, "... in the file");
	usage_done(&broker.usage);
	usage_open(&broker.usage, -1);
	end(1, 1000, 1);
	tap_ok(count() == 1, "without a directory this run's is known");
}

/* Ends a lease of a part whose profile has a name of its own. */
static void end_named(uint64_t id, unsigned name)
{
	struct lease lease = { .id = id, .uid = 1000, .since = (uint64_t)time(NULL) };

	strcpy(lease.mdev.parent, "mtty");
	snprintf(lease.mdev.type, sizeof(lease.mdev.type), "profile-%u", name);
	usage_add(&broker.usage, &lease);
}

/* The names of parents and profiles have a room of fixed size. */
static void test_names(void)
{
	const size_t room = USAGE_NAMES - 2; /* but for "mtty", and the place that is none */
	char text[PROTOCOL_PROFILE_MAX];
	uint64_t id = 1, lost;
	bool good = true;

	usage_done(&broker.usage);
	usage_open(&broker.usage, -1);
	for (unsigned i = 0; i < room; i++)
		end_named(id++, i);
	for (unsigned i = 0; i < room; i++) {
		snprintf(text, sizeof(text), "profile-%u", i);
		good = good && !strcmp(from(i + 1).profile, text) &&
		       !strcmp(from(i + 1).device, "mtty");
	}
	tap_ok(good && count() == room, "each entry has its own profile's name");
	lost = broker.usage.lost;
	end_named(id++, 9999);
	tap_ok(count() == room && broker.usage.lost == lost + 1,
	       "a name for which there is no room leaves its entry out, and that is counted");
	end_named(id++, 7);
	tap_ok(count() == room + 1 && !strcmp(from(room + 1).profile, "profile-7"),
	       "... while a known name goes on to be kept");
	for (size_t i = 0; i < USAGE_KEPT; i++)
		end(id++, (uint32_t)(2000 + i % 3), 3600);
	end_named(id++, 10001);
	end_named(id++, 10002);
	tap_ok(count() == USAGE_KEPT &&
		       !strcmp(from(room + 1 + USAGE_KEPT + 1).profile, "profile-10001") &&
		       !strcmp(from(room + 1 + USAGE_KEPT + 2).profile, "profile-10002") &&
		       !strcmp(from(room + 1 + USAGE_KEPT + 2).device, "mtty"),
	       "names that no entry has any more make room for others");
}

/* Returns how many leases a user is told of, 0 with `good` false if the answer is wrong. */
static size_t told(uint32_t uid, bool *ret_only_own)
{
	int fd = dial_in(0);
	union answer answer;
	size_t n = 0;

	last_is_user(uid);
	say_plain(fd, MESSAGE_USAGE);
	*ret_only_own = true;
	for (int turns = 0; turns < 10000; turns++) {
		ssize_t size;

		turn(1);
		while ((size = hear(fd, &answer)) == sizeof(answer.used) &&
		       answer.type == MESSAGE_USED) {
			*ret_only_own = *ret_only_own && answer.used.uid == uid;
			n++;
		}
		if (size > 0 && answer.type == MESSAGE_END) {
			hang_up(fd);
			return n;
		}
	}
	hang_up(fd);
	return SIZE_MAX;
}

static void test_peers(void)
{
	union answer answer;
	bool own;
	int fd;

	usage_done(&broker.usage);
	usage_open(&broker.usage, -1);
	for (size_t i = 1; i <= 3000; i++)
		end(i, i % 1000 ? 1000 : BOB, 1);
	tap_ok(told(0, &own) == 3000, "root sees all");
	tap_ok(told(BOB, &own) == 3 && own, "a user sees what is the user's own, and all of it");
	tap_ok(told(1000, &own) == 2997 && own, "... whoever it is");
	tap_ok(told(4321, &own) == 0, "... and who had nothing sees nothing");

	broker.peers.started = 77;
	broker.audit.refused[GPUBROKER_REFUSED_BUSY] = 5;
	broker.audit.granted = 6;
	fd = dial_in(0);
	last_is_user(0);
	say_plain(fd, MESSAGE_COUNTERS);
	turn(TURNS);
	tap_ok(hear(fd, &answer) == sizeof(answer.counted) && answer.type == MESSAGE_COUNTED &&
		       answer.counted.all && answer.counted.started == 77 &&
		       answer.counted.granted == 6 && answer.counted.ended >= 3000 &&
		       answer.counted.refused[GPUBROKER_REFUSED_BUSY] == 5,
	       "root gets the counters");
	hang_up(fd);
	fd = dial_in(0);
	last_is_user(BOB);
	say_plain(fd, MESSAGE_COUNTERS);
	turn(TURNS);
	tap_ok(hear(fd, &answer) == sizeof(answer.counted) && !answer.counted.all &&
		       answer.counted.started == 77 && !answer.counted.granted &&
		       !answer.counted.ended && !answer.counted.refused[GPUBROKER_REFUSED_BUSY],
	       "others learn since when they count, and nothing of others");
	say_plain(fd, MESSAGE_USAGE);
	turn(TURNS);
	tap_ok(hear(fd, &answer) > 0 && answer.type == MESSAGE_USED, "a request may follow");
	hang_up(fd);
}

int main(void)
{
	char path[80];

	broker_make_with_workers(&rule);
	snprintf(path, sizeof(path), "%s/history", scratch_path);
	snprintf(usage_path, sizeof(usage_path), "%s/usage", path);
	need(!mkdir(path, 0700));
	directory = open(path, O_RDONLY | O_DIRECTORY | O_CLOEXEC);
	need(directory >= 0);
	test_restarts();
	test_damage();
	test_ring();
	test_full_disk();
	test_share();
	test_names();
	test_peers();
	close(directory);
	broker_drop();
	return tap_done();
}
