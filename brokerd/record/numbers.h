/* SPDX-License-Identifier: MIT */
/*
 * The numbers of leases and waiting claims, of which none is ever used twice, over restarts and
 * reboots. They are reserved in blocks, in a file that outlives both, before one of them is given
 * out. So a claim waits for no disk, and a daemon that is killed leaves a gap.
 *
 * Where the file cannot be read or written, numbers go on from the clock, in milliseconds: no
 * earlier lease can have such a number, and lending does not depend on a disk.
 */
#pragma once

#include <stdbool.h>
#include <stdint.h>

#include "brokerd/process/worker.h"
#include "brokerd/state/lease.h"

#define NUMBERS_BLOCK 256 /* the first block; each later one is twice as large, */
#define NUMBERS_BLOCK_MAX                                                                          \
	1048576 /* up to this: so the file grows by a line each, and stays small */

/*
 * Opens the directory of what outlives a reboot, and locks it; makes it if need be. Returns a
 * descriptor, or -1 after logging why; then nothing in it is used.
 */
int numbers_directory(const char *path);

struct numbers {
	int fd;		       /* appends, and returns when that is on the disk; -1: none */
	uint64_t first, end;   /* as numbers_open() has reserved them */
	uint64_t block, asked; /* the next block; up to where a worker reserves */
	struct workers *workers;
	struct lease_table *table;
	bool reserving, by_clock;
};

#define NUMBERS_NONE                                                                               \
	{                                                                                          \
		.fd = -1, .first = 1, .end = UINT64_MAX                                            \
	}

/*
 * Reads the file in a directory, and reserves the first block; `used` is the highest number that is
 * known to have been used, 0: none. Waits for the disk, so it is for the start. Logs what fails.
 * -1 for the directory: numbers go on from the clock.
 */
void numbers_open(struct numbers *numbers, int directory, uint64_t used);
/* Lets a table give these numbers out. */
void numbers_attach(struct numbers *numbers, struct workers *workers, struct lease_table *table);
/* Has a worker reserve the next block, if the table has few left. */
void numbers_reserve(struct numbers *numbers);
/* Gives back what the table has not used: from now on it gives out none. For the daemon's end. */
void numbers_close(struct numbers *numbers);
void numbers_done(struct numbers *numbers);
