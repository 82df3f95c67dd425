/* SPDX-License-Identifier: MIT */
/*
 * Decisions in the journal: for whom, what, by which rule, how it came out. Each is one line of the
 *same keys in the same order, "-" where a key has no value:
 *
 *	lease=3 uid=1000 pid=4711 device=0000:01:00.0 group=14 name=- rule=/etc/…/10-lab.policy:7
 *	by=- outcome=granted reason=-
 *
 * No value holds a space but `reason`, which is quoted; a byte that could end a value or a line is
 *written as \xNN.
 *
 * A line about a change of a device is always written: a change takes a worker, so nobody can cause
 *many. Lines about what a user merely asks for (and is refused, say) are written AUDIT_BURST times,
 *then once in AUDIT_SECONDS; the others are counted, and a line with outcome=suppressed gives their
 *number.
 */
#pragma once

#include <stdbool.h>
#include <stdint.h>

#include "brokerd/state/lease.h"
#include "client/wire/protocol.h"

#define AUDIT_NOBODY INT64_C(-1) /* a uid that is none */
#define AUDIT_BURST 20
#define AUDIT_SECONDS 3
#define AUDIT_USERS 64 /* users whose lines are counted */
#define AUDIT_SUPPRESSED_SECONDS 10

struct audit_line {
	const char *outcome;
	int level;	/* log.h's */
	uint64_t lease; /* 0: none */
	int64_t uid;  /* the holder's, or the asking user's; AUDIT_NOBODY: the broker acts by itself
		       */
	uint32_t pid; /* 0: none */
	const struct pci_address *device;
	uint32_t group; /* UINT32_MAX: none */
	const char *name, *rule;
	int64_t by; /* the asking user, where that is not the holder; else AUDIT_NOBODY */
	const char *reason;
};

/* The lines that were written of late, for each of the users that asked last. All zero: none. */
struct audit {
	struct audit_user {
		uint32_t uid, left, suppressed;
		uint64_t filled; /* seconds of the monotonic clock; 0: nobody's */
		uint64_t asked;	 /* when last, by the count below */
	} users[AUDIT_USERS];
	uint64_t n_asked;
	bool waits; /* later() has been called */
	/* Has the owner call audit_write_suppressed() after that many seconds. May be NULL. */
	void (*later)(void *userdata, unsigned seconds);
	void *userdata;
};

/* Writes a line, without a limit. */
void audit_write(const struct audit_line *line);
/* Writes a line about a lease. `reason` may be NULL; `level` is log.h's. */
void audit_lease(const struct lease *lease, const char *outcome, int level, const char *reason);
/* Returns the line that audit_lease() would write, to be changed. Points into the lease. */
struct audit_line audit_line_of(const struct lease *lease, const char *outcome);

/* Writes a line if uid's share allows, else counts it. */
void audit_asked(struct audit *audit, uint32_t uid, const struct audit_line *line);
/* The same for the refusal of a client's request. */
void audit_refused(struct audit *audit, uint32_t uid, uint32_t pid,
		   const struct message_refusal *refusal);
/* Writes how many lines have been suppressed, for each user. */
void audit_write_suppressed(struct audit *audit);
