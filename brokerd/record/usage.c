/* SPDX-License-Identifier: MIT */
/*
 * The usage of devices, see usage.h. Owns the file `usage`. A line that was cut, by a power cut or
 * a full disk, is skipped and counted; a disk that is full or hangs loses entries of the file, and
 * is reported once. It must never wait for the disk after the start, and never keep a lease from
 * ending.
 */
#include "config.h"

#include "brokerd/record/usage.h"
#include "brokerd/process/log.h"
#include "brokerd/record/sealed.h"
#include "client/common/name.h"
#include "client/common/util.h"
#include "client/host/directory.h"

#include <errno.h>
#include <fcntl.h>
#include <inttypes.h>
#include <linux/openat2.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <time.h>
#include <unistd.h>

/* A worker writes a text of less than WORK_TEXT_MAX bytes in a step, so a line takes three. */
#define PIECES 3
#define PIECE 70
_Static_assert(PIECES *PIECE == USAGE_LINE, "a line is written in whole pieces");
#define LINE_BYTES ((size_t)USAGE_LINE)
#define LINES_AT_ONCE 8
#define RING_BYTES (USAGE_KEPT * LINE_BYTES)

/* ---- lines ---- */

bool usage_format(const struct usage_entry *e, char out[USAGE_LINE + 1])
{
	char text[LINE_BYTES];

	snprintf(text, sizeof(text),
		 "%" PRIu64 " %" PRIu64 " %" PRIu32 " %" PRIu64 " %" PRIu64 " %s %s", e->number,
		 e->lease, e->uid, e->since, e->seconds, e->device,
		 e->profile[0] ? e->profile : "-");
	return sealed_make(out, LINE_BYTES, text);
}

static bool next_number(const char **at, uint64_t most, uint64_t *ret_number)
{
	char *end;
	unsigned long long number;

	if (**at < '0' || **at > '9')
		return false;
	errno = 0;
	number = strtoull(*at, &end, 10);
	if (errno || *end != ' ' || number > most)
		return false;
	*ret_number = number;
	*at = end + 1;
	return true;
}

static bool next_word(const char **at, char *out, size_t size)
{
	const size_t n = strcspn(*at, " ");

	if (!n || n >= size || !(*at)[n])
		return false;
	memcpy(out, *at, n);
	out[n] = '\0';
	*at += n + 1;
	return true;
}

bool usage_parse(const char *line, struct usage_entry *ret_entry)
{
	struct usage_entry e = { 0 };
	char text[LINE_BYTES + 1];
	const char *at = text;
	uint64_t uid;

	memcpy(text, line, LINE_BYTES);
	text[LINE_BYTES] = '\0';
	if (!next_number(&at, UINT64_MAX - 1, &e.number) || !e.number ||
	    !next_number(&at, UINT64_MAX - 1, &e.lease) || !e.lease ||
	    !next_number(&at, UINT32_MAX, &uid) || !next_number(&at, INT64_MAX, &e.since) ||
	    !next_number(&at, INT64_MAX, &e.seconds) ||
	    !next_word(&at, e.device, sizeof(e.device)) ||
	    !next_word(&at, e.profile, sizeof(e.profile)))
		return false;
	e.uid = (uint32_t)uid;
	if (!strcmp(e.profile, "-"))
		e.profile[0] = '\0';
	if (!mdev_is_name(e.device, sizeof(e.device)) ||
	    (e.profile[0] && !mdev_is_name(e.profile, sizeof(e.profile))))
		return false;
	*ret_entry = e;
	return true;
}

/* ---- at the start ---- */

/* Reads the file, and goes to the place behind its newest line. Returns 0, or -errno. */
static int read_ring(struct usage *usage)
{
	const size_t size = RING_BYTES + LINE_BYTES; /* of lines that were cut, a little more */
	cleanup_free char *text = malloc(size);
	struct sealed lines = { .text = text, .size = LINE_BYTES };
	ssize_t n = text ? read_whole(usage->fd, text, size) : -ENOMEM;
	size_t place = 0;
	const char *line;

	if (n < 0)
		return (int)n;
	lines.len = (size_t)n;
	while ((line = sealed_next(&lines))) {
		struct usage_entry e;

		if (!usage_parse(line, &e)) {
			lines.damaged++;
			continue;
		}
		if (!usage_ring_put(usage->ring, &e))
			usage->lost++;
		if (e.lease > usage->highest)
			usage->highest = e.lease;
		if (e.number >= usage->next) {
			usage->next = e.number + 1;
			place = lines.at;
		}
	}
	if (lines.damaged)
		log_warning("the usage of devices: %zu damaged records are skipped; a power cut "
			    "or a full disk leaves such",
			    lines.damaged);
	place = (place + LINE_BYTES - 1) / LINE_BYTES * LINE_BYTES;
	if (place >= RING_BYTES)
		place = 0;
	usage->left = (RING_BYTES - place) / LINE_BYTES;
	return lseek(usage->fd, (off_t)place, SEEK_SET) < 0 ? -errno : 0;
}

void usage_open(struct usage *usage, int directory)
{
	int r = 0;

	*usage = (struct usage)USAGE_NONE;
	usage->directory = directory;
	usage->ring = usage_ring_new();
	if (directory < 0 || !usage->ring)
		return;
	usage->fd = openat(directory, "usage",
			   O_RDWR | O_CREAT | O_CLOEXEC | O_NOFOLLOW | O_NONBLOCK, 0600);
	if (usage->fd < 0)
		r = -errno;
	/* A full disk shows now, and not when a lease has ended. */
	if (!r)
		r = -posix_fallocate(usage->fd, 0, (off_t)RING_BYTES);
	if (r)
		log_error("the usage of devices: the file in the history directory has no room or "
			  "cannot be opened: %s",
			  strerror(-r));
	r = usage->fd < 0 ? 0 : read_ring(usage);
	if (r) {
		log_error("the usage of devices cannot be read, and is not kept: %s", strerror(-r));
		usage->fd = fd_close(usage->fd);
	}
	usage->written = usage->next;
}

/* ---- later ---- */

static void write_more(struct usage *usage);

static void report_failure(struct usage *usage, int error)
{
	if (!usage->failed)
		log_error("the usage of devices cannot be written: %s; leases go on, and end, "
			  "without",
			  strerror(error));
	usage->failed = true;
}

static void on_written(void *userdata, const struct work_result *result)
{
	struct usage *usage = userdata;

	usage->writing = false;
	if (result->error) {
		report_failure(usage, result->error);
		usage->lost++;
	} else if (usage->failed) {
		usage->failed = false;
		log_notice("the usage of devices is written again");
	}
	write_more(usage);
}

static void on_write_late(void *userdata, const char *what, const struct pci_address *address)
{
	(void)what;
	(void)address;
	report_failure(userdata, ETIMEDOUT);
}

/* Adds the steps of a line. Returns 0, or -errno. */
static int usage_add_line(const struct usage *usage, struct work *work, const struct usage_entry *e)
{
	static const struct pci_address none = { 0 };
	char line[LINE_BYTES + 1], piece[PIECE + 1];
	int r = usage_format(e, line) ? 0 : -EINVAL;

	for (size_t i = 0; !r && i < PIECES; i++) {
		int fd = fcntl(usage->fd, F_DUPFD_CLOEXEC, 3);

		memcpy(piece, line + i * PIECE, PIECE);
		piece[PIECE] = '\0';
		r = work_add(work, fd < 0 ? -errno : fd, piece, "writing the usage of devices",
			     &none, STOP);
	}
	return r;
}

/* Goes to the start of the ring: the file anew, since that has its own place. */
static void ring_anew(struct usage *usage)
{
	usage->fd = fd_close(usage->fd);
	usage->fd = open_beneath(usage->directory, "usage", O_WRONLY, 0,
				 RESOLVE_BENEATH | RESOLVE_NO_SYMLINKS | RESOLVE_NO_XDEV);
	usage->left = USAGE_KEPT;
	if (usage->fd < 0) {
		report_failure(usage, -usage->fd);
		usage->fd = -1;
	}
}

/* Has a worker write what is not written yet, some entries at a time. */
static void write_more(struct usage *usage)
{
	static const struct work_ops ops = { .done = on_written, .late = on_write_late };
	struct work *work;
	int r = 0;

	if (usage->fd >= 0 && !usage->left && !usage->writing)
		ring_anew(usage);
	if (usage->fd < 0 || usage->writing || usage->written == usage->next)
		return;
	if (usage->next - usage->written > USAGE_KEPT) { /* a disk that hung for very long */
		usage->lost += usage->next - usage->written - USAGE_KEPT;
		usage->written = usage->next - USAGE_KEPT;
	}
	work = work_new(&ops, usage);
	if (!work)
		return; /* the next lease tries again */
	for (size_t i = 0; !r && i < LINES_AT_ONCE && usage->left && usage->written < usage->next;
	     i++) {
		struct usage_entry e;

		if (usage_ring_get(usage->ring, usage->written, &e)) {
			r = usage_add_line(usage, work, &e);
			usage->left--;
		}
		usage->written++;
	}
	if (!r)
		r = workers_start(usage->workers, work);
	usage->writing = !r;
	if (r) {
		work_free(work);
		report_failure(usage, -r);
		usage->lost++;
	}
}

static uint32_t usage_owner(const struct usage *usage, uint32_t uid)
{
	return usage->owner ? usage->owner(usage->userdata, uid) : uid;
}

/* Returns true if the user of a short lease has a full share of the entries. */
static bool is_beyond_share(const struct usage *usage, const struct usage_entry *e)
{
	const uint32_t owner = usage_owner(usage, e->uid);
	size_t n = 0;

	if (e->seconds >= USAGE_SHORT || usage->next <= USAGE_SHARE)
		return false;
	for (size_t i = 0; i < USAGE_KEPT; i++)
		n += usage->ring->entries[i].number &&
		     usage_owner(usage, usage->ring->entries[i].uid) == owner;
	return n >= USAGE_SHARE;
}

void usage_add(struct usage *usage, const struct lease *lease)
{
	const uint64_t now = (uint64_t)time(NULL);
	struct usage_entry e = {
		.number = usage->next,
		.lease = lease->id,
		.since = lease->since,
		.seconds = now > lease->since ? now - lease->since : 0,
		.uid = lease->uid,
	};

	usage->ended++;
	if (!usage->ring)
		return;
	if (is_beyond_share(usage, &e)) {
		usage->lost++;
		return;
	}
	if (lease_is_made(lease))
		memcpy(e.device, lease->mdev.parent, sizeof(e.device));
	else /* the group's first, as listings have it */
		pci_address_format(lease->n_functions ? &lease->functions[0].address
						      : &lease->asked,
				   e.device);
	memcpy(e.profile, lease->mdev.type, sizeof(e.profile));
	if (!usage_ring_put(usage->ring, &e)) {
		usage->lost++;
		return;
	}
	usage->next++;
	write_more(usage);
}

bool usage_from(const struct usage *usage, uint64_t number, struct usage_entry *ret_entry)
{
	uint64_t oldest = usage->next > USAGE_KEPT ? usage->next - USAGE_KEPT : 1;

	if (!usage->ring)
		return false;
	for (uint64_t i = number > oldest ? number : oldest; i < usage->next; i++)
		if (usage_ring_get(usage->ring, i, ret_entry))
			return true;
	return false;
}

void usage_done(struct usage *usage)
{
	usage->fd = fd_close(usage->fd);
	free(TAKE_PTR(usage->ring));
}
