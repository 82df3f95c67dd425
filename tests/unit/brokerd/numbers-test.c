/* SPDX-License-Identifier: MIT */
/*
 * Lease numbers are never used twice: over ends, kills, power cuts, damaged files and full disks. A
 * daemon that is killed is one whose struct is forgotten; the file is all that the next one has.
 */
#include "config.h"

#include "brokerd/record/numbers.h"
#include "brokerd/record/sealed.h"
#include "tests/unit/brokerd/real-worker.h"
#include "tests/tap.h"

#include <fcntl.h>
#include <string.h>
#include <sys/stat.h>

static struct policy_rule rule;
static int directory;
static char numbers_path[96];

/* Starts a daemon: its table is empty, its numbers are those of the file. */
static void start(uint64_t used)
{
	const bool on_its_way = broker.numbers.reserving;
	bool by_clock;

	numbers_done(&broker.numbers);
	numbers_open(&broker.numbers, directory, used);
	/* The worker of a daemon that was killed may still write, but nobody hears of its result. */
	by_clock = broker.numbers.by_clock;
	broker.numbers.by_clock = true;
	broker.numbers.reserving = on_its_way;
	for (int n = 0; n < 30000 && broker.numbers.reserving; n++) {
		poll(NULL, 0, 1);
		turn(TURNS);
	}
	broker.numbers.by_clock = by_clock;
	numbers_attach(&broker.numbers, &broker.workers, &broker.leases.table);
}

/* Waits for the worker that reserves or gives back. */
static void wait_for_numbers(void)
{
	for (int n = 0; n < 30000 && (broker.numbers.reserving || broker.workers.busy); n++) {
		poll(NULL, 0, 1);
		turn(TURNS);
	}
}

/* Takes so many numbers, and waits where none is left. Returns the last; 0: they do not go up. */
static uint64_t take(size_t n)
{
	uint64_t last = 0;

	while (n) {
		uint64_t id = lease_take_id(&broker.leases.table);

		if (!id) {
			if (!broker.numbers.reserving)
				return 0;
			wait_for_numbers();
			continue;
		}
		if (id <= last)
			return 0;
		last = id;
		n--;
	}
	return last;
}

static void end_gently(void)
{
	numbers_close(&broker.numbers);
	wait_for_numbers();
}

static void write_file(const char *text, size_t len)
{
	int fd = open(numbers_path, O_WRONLY | O_CREAT | O_TRUNC | O_CLOEXEC, 0600);

	need(fd >= 0 && write(fd, text, len) == (ssize_t)len);
	close(fd);
}

static void add_to_file(const char *text)
{
	int fd = open(numbers_path, O_WRONLY | O_APPEND | O_CLOEXEC);

	need(fd >= 0 && write(fd, text, strlen(text)) == (ssize_t)strlen(text));
	close(fd);
}

static bool is_by_clock(uint64_t number)
{
	return number > UINT64_C(1000000000);
}

static void test_ends(void)
{
	uint64_t last, first;
	bool up = true;

	start(0);
	tap_ok(take(1) == 1 && take(9) == 10, "the first numbers are small");
	end_gently();
	tap_ok(!lease_take_id(&broker.leases.table) && !lease_has_id(&broker.leases.table),
	       "a daemon that has given numbers back gives out none");
	start(0);
	tap_ok(take(1) == 11, "after an end there is no gap");
	last = take(4);
	start(0);
	first = take(1);
	tap_ok(first > last && first <= last + NUMBERS_BLOCK,
	       "a killed daemon leaves a gap of at most a block (%llu, %llu)",
	       (unsigned long long)last, (unsigned long long)first);

	/* Killed at any point between two reservations, with a worker at work or not. */
	for (size_t n = 1; up && n <= 2 * NUMBERS_BLOCK; n += 37) {
		last = take(n);
		start(0);
		first = take(1);
		up = last && first > last;
	}
	tap_ok(up, "killed after any number of claims, a reservation may be on its way: none is "
		   "used twice");
	wait_for_numbers();
	start(0);
	last = take(20000);
	tap_ok(last, "20000 numbers go up, in blocks");
	wait_for_numbers();
	end_gently();
	start(0);
	tap_ok(take(1) == last + 1, "... and the end gives the rest back");
}

/* The table must not give out what the disk does not have yet. */
static void test_waits_for_disk(void)
{
	uint64_t end;

	start(0);
	end = broker.leases.table.end;
	for (uint64_t left = end - broker.leases.table.next_id; left > 1; left--)
		need(lease_take_id(&broker.leases.table));
	tap_ok(broker.numbers.reserving && lease_take_id(&broker.leases.table) == end - 1 &&
		       !lease_take_id(&broker.leases.table),
	       "none is given out while its reservation is on its way");
	tap_ok(!lease_new(&broker.leases.table, 0, 7), "... to a lease either");
	wait_for_numbers();
	tap_ok(lease_take_id(&broker.leases.table) == end, "and then they go on");
	lease_free(lease_new(&broker.leases.table, end + 5000, 7));
	tap_ok(!lease_has_id(&broker.leases.table),
	       "a record with a higher number than those that are reserved takes none of them");
	lease_take_id(&broker.leases.table);
	wait_for_numbers();
	tap_ok(lease_take_id(&broker.leases.table) == end + 5001, "... and the next is past it");
}

static void test_damage(void)
{
	char line[33];
	uint64_t first;

	need(sealed_make(line, 32, "5000"));
	write_file(line, 32);
	start(0);
	tap_ok(take(1) == 5000, "the number in the file is the next");
	need(sealed_make(line, 32, "9000"));
	write_file(line, 32);
	add_to_file("9512       ");
	start(0);
	tap_ok(take(1) == 9000, "a line that a power cut has cut was no reservation");
	write_file(line, 32);
	add_to_file("9512  ");
	need(sealed_make(line, 32, "9700"));
	line[32] = '\0';
	add_to_file(line);
	start(0);
	tap_ok(take(1) == 9700, "... and spoils none that follows");
	write_file("7 gone\n", 7);
	start(0);
	first = take(1);
	tap_ok(is_by_clock(first), "a damaged file: numbers go on from the clock");
	take(3);
	start(0);
	tap_ok(take(1) > first + 3 && broker.numbers.fd >= 0, "... and are reserved as before");
	write_file("", 0);
	start(0);
	tap_ok(is_by_clock(take(1)), "an empty file is a damaged one");
	need(!unlink(numbers_path));
	start(812);
	tap_ok(take(1) == 813, "no file: the usage that was kept tells which were used");
	need(!unlink(numbers_path) && !symlink("/etc/passwd", numbers_path));
	start(0);
	tap_ok(is_by_clock(take(1)), "a link is not followed");
	end_gently();
	need(!unlink(numbers_path));
	need(!mkdir(numbers_path, 0700));
	start(0);
	tap_ok(is_by_clock(take(1)) && take(2000),
	       "a directory in its place does not stop lending");
	need(!rmdir(numbers_path));
	numbers_done(&broker.numbers);
	numbers_open(&broker.numbers, -1, 0);
	numbers_attach(&broker.numbers, &broker.workers, &broker.leases.table);
	tap_ok(is_by_clock(take(1)) && take(2000), "nor does it need a directory");
}

static void test_full_disk(void)
{
	uint64_t last;

	start(0);
	close(broker.numbers.fd);
	broker.numbers.fd = open("/dev/full", O_WRONLY | O_CLOEXEC);
	need(broker.numbers.fd >= 0);
	last = take(NUMBERS_BLOCK - 1);
	wait_for_numbers();
	tap_ok(last < 100000 && is_by_clock(take(1)),
	       "a full disk: numbers go on from the clock, past those that were reserved");
	tap_ok(take(3000), "... for as long as it takes");
	numbers_close(&broker.numbers);
	tap_ok(!broker.workers.busy, "... and the end gives nothing back");
	start(0);
	tap_ok(take(1) > last, "the next start goes on past the reservation that the disk has");
}

static void test_directory(void)
{
	char path[96];
	int fd, again;

	snprintf(path, sizeof(path), "%s/lib", scratch_path);
	fd = numbers_directory(path);
	again = numbers_directory(path);
	tap_ok(fd >= 0 && again < 0, "the directory is made, and a second daemon does not get it");
	fd_close(fd);
	need(!chmod(path, 0777));
	fd = numbers_directory(path);
	tap_ok(fd >= 0 && !faccessat(fd, ".", X_OK, 0), "... but the next one does");
	{
		struct stat st;

		tap_ok(!fstat(fd, &st) && !(st.st_mode & 077), "nobody else can look into it");
	}
	fd_close(fd);
	need(!rmdir(path) && !symlink("/tmp", path));
	tap_ok(numbers_directory(path) < 0, "a link in its place is not followed");
	need(!unlink(path));
}

int main(void)
{
	char path[80];

	broker_make_with_workers(&rule);
	snprintf(path, sizeof(path), "%s/history", scratch_path);
	snprintf(numbers_path, sizeof(numbers_path), "%s/numbers", path);
	need(!mkdir(path, 0700));
	directory = open(path, O_RDONLY | O_DIRECTORY | O_CLOEXEC);
	need(directory >= 0);
	test_ends();
	test_waits_for_disk();
	test_damage();
	test_full_disk();
	test_directory();
	close(directory);
	broker_drop();
	return tap_done();
}
