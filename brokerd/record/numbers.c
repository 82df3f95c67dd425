/* SPDX-License-Identifier: MIT */
/*
 * Numbers of leases, see numbers.h. Owns the file `numbers`: each line is a number from which on
 * none has been given out, and the last whole line counts. It must never let the table give out a
 * number that the disk does not have, and after the start never wait for the disk: a worker writes.
 */
#include "config.h"

#include "brokerd/record/numbers.h"
#include "brokerd/process/log.h"
#include "brokerd/record/sealed.h"
#include "client/common/util.h"
#include "client/host/directory.h"

#include <errno.h>
#include <fcntl.h>
#include <inttypes.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/file.h>
#include <sys/stat.h>
#include <time.h>
#include <unistd.h>

#define LINE_SIZE 32
#define FILE_MAX 65536
#define CLOCK_START INT64_C(1735689600) /* 2025; seconds since the epoch */

/* Returns a number that no lease can have had: there were never so many in so short a time. */
static uint64_t number_of_clock(void)
{
	struct timespec now;

	clock_gettime(CLOCK_REALTIME, &now);
	return now.tv_sec <= CLOCK_START ? 1
					 : (uint64_t)(now.tv_sec - CLOCK_START) * 1000 +
						   (uint64_t)now.tv_nsec / 1000000;
}

static uint64_t number_larger(uint64_t a, uint64_t b)
{
	return a > b ? a : b;
}

static uint64_t number_after(uint64_t number, uint64_t n)
{
	return number < UINT64_MAX - n ? number + n : UINT64_MAX;
}

static void format_number(char out[LINE_SIZE + 1], uint64_t number)
{
	char text[24];

	snprintf(text, sizeof(text), "%" PRIu64, number);
	sealed_make(out, LINE_SIZE, text);
}

/* ---- at the start ---- */

/* Returns 0, or -errno. */
static int check_history(int fd)
{
	struct stat st;

	if (fstat(fd, &st))
		return -errno;
	/* Whoever may write there decides which numbers and which usage there were. */
	if (st.st_uid != geteuid())
		return -EPERM;
	if (st.st_mode & 077 && fchmod(fd, 0700))
		return -errno;
	/* Another daemon would give out the same numbers. */
	return flock(fd, LOCK_EX | LOCK_NB) ? -errno : 0;
}

int numbers_directory(const char *path)
{
	cleanup_fd int fd = -1;
	int r = mkdir(path, 0700) && errno != EEXIST ? -errno : 0;

	if (!r)
		fd = open(path, O_RDONLY | O_DIRECTORY | O_CLOEXEC | O_NOFOLLOW);
	if (!r && fd < 0)
		r = -errno;
	if (!r)
		r = check_history(fd);
	if (!r)
		return TAKE_FD(fd);
	log_error("%s: %s; the usage of devices is not kept", path,
		  r == -EPERM	      ? "it is not root's"
		  : r == -EWOULDBLOCK ? "another gpubrokerd has it"
				      : strerror(-r));
	return -1;
}

/*
 * Reads the number in the last whole line. Returns 0; -ENOENT if there is no file, -EBADMSG if it
 * has no whole line, or another -errno.
 */
static int read_number(int directory, uint64_t *ret_number)
{
	cleanup_fd int fd =
		openat(directory, "numbers", O_RDONLY | O_CLOEXEC | O_NOFOLLOW | O_NONBLOCK);
	cleanup_free char *text = malloc(FILE_MAX);
	struct sealed lines = { .text = text, .size = LINE_SIZE };
	const char *line, *last = NULL;
	char *end;
	ssize_t n;

	if (fd < 0 || !text)
		return fd < 0 ? -errno : -ENOMEM;
	n = read_whole(fd, text, FILE_MAX);
	if (n < 0)
		return (int)n;
	lines.len = (size_t)n;
	while ((line = sealed_next(&lines)))
		last = line;
	if (!last)
		return -EBADMSG;
	*ret_number = strtoull(last, &end, 10);
	return end > last && *end == ' ' && *ret_number ? 0 : -EBADMSG;
}

/* Writes the file anew. Returns a descriptor that appends to it, or -errno. */
static int write_anew(int directory, uint64_t number)
{
	cleanup_fd int fd = openat(
		directory, "numbers.new",
		O_WRONLY | O_CREAT | O_TRUNC | O_APPEND | O_DSYNC | O_CLOEXEC | O_NOFOLLOW, 0600);
	char line[LINE_SIZE + 1];
	ssize_t n;

	if (fd < 0)
		return -errno;
	format_number(line, number);
	n = write(fd, line, LINE_SIZE);
	if (n != LINE_SIZE)
		return n < 0 ? -errno : -ENOSPC;
	if (fsync(fd) || renameat(directory, "numbers.new", directory, "numbers") ||
	    fsync(directory))
		return -errno;
	return TAKE_FD(fd);
}

static void go_by_clock(struct numbers *numbers, const char *why, int error)
{
	log_error("lease numbers: %s: %s; they go on from the clock, so that none is used twice",
		  why, strerror(error));
	numbers->by_clock = true;
}

void numbers_open(struct numbers *numbers, int directory, uint64_t used)
{
	int r = directory < 0 ? -ENOENT : read_number(directory, &numbers->first);

	*numbers = (struct numbers){
		.fd = -1,
		.first = number_larger(r ? 1 : numbers->first, number_after(used, 1)),
		.block = NUMBERS_BLOCK,
	};
	if (directory < 0)
		go_by_clock(numbers, "there is no directory for them", -r);
	else if (r && r != -ENOENT)
		go_by_clock(numbers, "the file cannot be read", -r);
	if (numbers->by_clock)
		numbers->first = number_larger(numbers->first, number_of_clock());
	numbers->end = number_after(numbers->first, numbers->block);
	if (directory < 0) {
		numbers->end = UINT64_MAX;
		return;
	}
	numbers->by_clock = false; /* once it is written, that is not needed any more */
	numbers->fd = write_anew(directory, numbers->end);
	if (numbers->fd >= 0)
		return;
	go_by_clock(numbers, "the file cannot be written", -numbers->fd);
	numbers->fd = -1;
	numbers->first = number_larger(numbers->first, number_of_clock());
	numbers->end = UINT64_MAX;
}

void numbers_attach(struct numbers *numbers, struct workers *workers, struct lease_table *table)
{
	numbers->workers = workers;
	numbers->table = table;
	table->next_id = numbers->first;
	table->end = numbers->end;
}

/* ---- later ---- */

static void numbers_fail(struct numbers *numbers, int error)
{
	struct lease_table *table = numbers->table;

	if (numbers->by_clock)
		return;
	go_by_clock(numbers, "more cannot be reserved", error);
	table->next_id =
		number_larger(number_larger(table->next_id, table->end), number_of_clock());
	table->end = UINT64_MAX;
}

static void on_reserved(void *userdata, const struct work_result *result)
{
	struct numbers *numbers = userdata;

	numbers->reserving = false;
	if (result->error)
		numbers_fail(numbers, result->error);
	else if (!numbers->by_clock)
		numbers->table->end = numbers->asked;
}

static void on_reserve_late(void *userdata, const char *what, const struct pci_address *address)
{
	(void)what;
	(void)address;
	numbers_fail(userdata, ETIMEDOUT);
}

/* Has a worker add a line. Returns 0, or -errno. */
static int start_writing(struct numbers *numbers, const struct work_ops *ops, uint64_t number)
{
	static const struct pci_address none = { 0 };
	struct work *work = work_new(ops, numbers);
	char line[LINE_SIZE + 1];
	int fd = fcntl(numbers->fd, F_DUPFD_CLOEXEC, 3), r;

	format_number(line, number);
	if (!work) {
		fd_close(fd);
		return -ENOMEM;
	}
	r = work_add(work, fd < 0 ? -errno : fd, line, "reserving lease numbers", &none, STOP);
	if (!r)
		r = workers_start(numbers->workers, work);
	if (r)
		work_free(work);
	return r;
}

void numbers_reserve(struct numbers *numbers)
{
	static const struct work_ops ops = {
		.done = on_reserved,
		.late = on_reserve_late,
		.may_be_left = true, /* the next start sees the line, or does not */
	};
	const struct lease_table *table = numbers->table;
	int r;

	if (numbers->fd < 0 || numbers->reserving || numbers->by_clock)
		return;
	if (numbers->block < NUMBERS_BLOCK_MAX)
		numbers->block *= 2;
	numbers->asked = number_after(number_larger(table->next_id, table->end), numbers->block);
	numbers->reserving = true;
	r = start_writing(numbers, &ops, numbers->asked);
	if (r) {
		numbers->reserving = false;
		numbers_fail(numbers, -r);
	}
}

static void on_given_back(void *userdata, const struct work_result *result)
{
	(void)userdata;
	if (result->error)
		log_notice("lease numbers: those that were not used cannot be given back: %s",
			   strerror(result->error));
}

void numbers_close(struct numbers *numbers)
{
	static const struct work_ops ops = { .done = on_given_back };

	if (numbers->fd < 0 || numbers->by_clock || !numbers->table)
		return;
	numbers->by_clock = true; /* no further line may follow */
	numbers->table->end = numbers->table->next_id;
	/* A worker may be writing a higher line behind ours: then there is a gap. */
	if (!numbers->reserving)
		start_writing(numbers, &ops, numbers->table->next_id);
}

void numbers_done(struct numbers *numbers)
{
	numbers->fd = fd_close(numbers->fd);
}
