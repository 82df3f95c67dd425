/* SPDX-License-Identifier: MIT */
/*
 * The usage of devices, by user and for how long: the last USAGE_KEPT leases that have ended, in
 * memory and in a file that outlives reboots. The file is a ring of lines of one size, so it never
 * grows, and the oldest lease makes room for the newest. A worker writes it; a lease's end waits
 * for no disk.
 */
#pragma once

#include <stdbool.h>
#include <stddef.h>
#include <stdint.h>

#include "brokerd/process/worker.h"
#include "brokerd/record/usage-ring.h"
#include "brokerd/state/lease.h"

/*
 * A user who has so many of the entries gets no more of leases that were shorter than so many
 * seconds: otherwise a user who claims and releases in a loop would overwrite what all others had,
 * or the user's own. The journal has these leases as any other.
 */
#define USAGE_SHARE (USAGE_KEPT / 2)
#define USAGE_SHORT 60

#define USAGE_LINE 210 /* bytes of a line in the file */

/* Writes an entry as a line, with a NUL. Returns false if it does not fit. */
bool usage_format(const struct usage_entry *entry, char out[USAGE_LINE + 1]);
/* Parses a line, of which only the checksum was looked at. Returns false if no broker wrote it. */
bool usage_parse(const char *line, struct usage_entry *ret_entry);

struct usage {
	int directory;		 /* the caller's; -1: there is no file */
	int fd;			 /* at the place of the next line; -1: none */
	size_t left;		 /* lines until the ring begins anew */
	struct usage_ring *ring; /* NULL: none are kept */
	uint64_t next;		 /* the number of the next entry */
	uint64_t written;	 /* the entries below this number were given to a worker */
	uint64_t highest;	 /* the highest lease number in the file */
	uint64_t ended;		 /* leases that have ended since the start */
	uint64_t lost;		 /* entries that could not be written, or are of no share */
	struct workers *workers;
	/* Returns the user whose share counts for a uid. NULL: each uid has its own. */
	uint32_t (*owner)(void *userdata, uint32_t uid);
	void *userdata;
	bool writing, failed;
};

#define USAGE_NONE                                                                                 \
	{                                                                                          \
		.directory = -1, .fd = -1, .next = 1, .written = 1                                 \
	}

/*
 * Reads the file in a directory. Waits for the disk, so it is for the start. Logs what fails, and
 * how many lines were damaged. -1: entries are kept in memory only.
 */
void usage_open(struct usage *usage, int directory);
/* Adds a lease that has ended, and was lent. */
void usage_add(struct usage *usage, const struct lease *lease);
/* Finds the first entry whose number is at least that: a cursor. Returns false if there is none. */
bool usage_from(const struct usage *usage, uint64_t number, struct usage_entry *ret_entry);
void usage_done(struct usage *usage);
