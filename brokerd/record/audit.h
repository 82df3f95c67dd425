/* SPDX-License-Identifier: MIT */
/*
 * Decisions in the journal: the user, the device, the rule and the outcome. Each is one line of the
 * same keys in the same order; a key without a value has "-":
 *
 *	lease=3 uid=1000 pid=4711 device=0000:01:00.0 group=14 name=- rule=/etc/…/10-lab.policy:7
 *	by=- outcome=granted reason=- duration=-
 *
 * Only `reason` may hold spaces, and it is quoted. A byte that could end a value or a line is
 * written as \xNN. If the journal is there, the line goes to it with a field for each value that
 * it has: GPUBROKER_LEASE and so on.
 *
 * A line about a change of a device is always written: a change takes a worker, so nobody can cause
 * many. Lines about mere requests (refusals, for example) are limited for each user: AUDIT_BURST at
 * once, then one in AUDIT_SECONDS; and for all users together: AUDIT_ALL_BURST at once, then
 * AUDIT_ALL_LINES a second. The others are counted, and a line with outcome=suppressed gives their
 * number. Root's requests have a share as large as that of all users, beside it; and what root does
 * to the lease or claim of another is always written.
 *
 * The shares of AUDIT_USERS users are known. The share of a user who asks after those is the one of
 * the user who asked longest ago, so a user with many uids has no more lines than AUDIT_USERS
 * users.
 */
#pragma once

#include <stdbool.h>
#include <stdint.h>

#include "brokerd/state/lease.h"
#include "client/wire/protocol.h"

#define AUDIT_NOBODY INT64_C(-1) /* in place of a uid */
#define AUDIT_BURST 20
#define AUDIT_SECONDS 3
#define AUDIT_USERS 64	    /* users whose lines are counted */
#define AUDIT_ALL_BURST 200 /* of all users, whether they are among those or not */
#define AUDIT_ALL_LINES 5
#define AUDIT_SUPPRESSED_SECONDS 10

struct audit_line {
	const char *outcome;
	int level;	/* enum log_level */
	uint64_t lease; /* 0: none */
	int64_t uid;	/* the holder or the asking user; AUDIT_NOBODY: the broker */
	uint32_t pid;	/* 0: none */
	const struct pci_address *device;
	uint32_t group; /* UINT32_MAX: none */
	const char *name, *rule;
	int64_t by; /* the asking user, if not the holder; else AUDIT_NOBODY */
	const char *reason;
	bool lasted;	   /* the lease was lent, */
	uint64_t duration; /* ... for so many seconds */
};

/* The lines that may still be written. */
struct audit_share {
	uint32_t left;
	uint64_t filled; /* seconds of the monotonic clock; 0: nothing has been written yet */
};

/* The lines that were written recently, for each of the users who asked last. All zero: none. */
struct audit {
	struct audit_user {
		uint32_t uid, suppressed;
		struct audit_share share;
		uint64_t asked; /* n_asked at the user's last request; 0: the entry is free */
	} users[AUDIT_USERS];
	struct audit_share all;
	struct audit_user root;
	uint64_t suppressed; /* lines of users whose entries are another's by now */
	uint64_t n_asked;
	uint64_t granted, refused[PROTOCOL_REASONS_MAX]; /* leases; requests, by their reason */
	bool waits;					 /* later() has been called */
	/*
	 * Has the owner call audit_write_suppressed() after that many seconds. False: it will not,
	 * and is asked again. May be NULL.
	 */
	bool (*later)(void *userdata, unsigned seconds);
	/* Returns the user whose limit counts for a uid. NULL: each uid has its own. */
	uint32_t (*owner)(void *userdata, uint32_t uid);
	void *userdata;
};

/* Writes a line, without a limit. */
void audit_write(const struct audit_line *line);
/* Writes a line about a lease. `reason` may be NULL; `level` is an enum log_level. */
void audit_lease(const struct lease *lease, const char *outcome, int level, const char *reason);
/* Writes that a lease is over: how long it was lent, or that it never was. */
void audit_ended(const struct lease *lease);
/*
 * Returns the line that audit_lease() would write, for the caller to change. It points into the
 * lease.
 */
struct audit_line audit_line_of(const struct lease *lease, const char *outcome);

/* Writes a line if the owner of uid is within the limit; otherwise counts it. */
void audit_asked(struct audit *audit, uint32_t uid, const struct audit_line *line);
/* The same for what the user does to a lease or a claim: root's line is always written. */
void audit_act(struct audit *audit, uint32_t uid, const struct audit_line *line);
/* Writes why, as the client reads it: "policy", "failed: drivers_probe: Input/output error". */
const char *audit_reason(const struct message_refusal *refusal, char *out, size_t size);
/* The same for the refusal of a client's request. */
void audit_refused(struct audit *audit, uint32_t uid, uint32_t pid,
		   const struct message_refusal *refusal);
/* Writes, for each user, how many lines have been suppressed. */
void audit_write_suppressed(struct audit *audit);
