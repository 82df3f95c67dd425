/* SPDX-License-Identifier: MIT */
/*
 * Decisions in the journal: who, what, by which rule, how it came out. Each is one line of the same
 * keys in the same order, "-" where there is nothing to say:
 *
 *	lease=3 uid=1000 pid=4711 device=0000:01:00.0 group=14 name=- rule=/etc/…/10-lab.policy:7
 *	by=- outcome=granted reason=-
 *
 * No value holds a space but `reason`, which is quoted; what could end a value or a line is written
 * as \xNN.
 *
 * What changes a device is always written: it takes a worker, so nobody can do it fast. What a user
 * merely asks for (and is refused, say) is written AUDIT_BURST times, then once in AUDIT_SECONDS,
 * and the others are counted: an outcome=suppressed line tells how many there were.
 */
#pragma once

#include <stdint.h>

#include "client/wire/protocol.h"

#define AUDIT_NOBODY INT64_C(-1) /* a uid that is none */
#define AUDIT_BURST 20
#define AUDIT_SECONDS 3
#define AUDIT_USERS 64 /* of whom it is remembered how much was written */

struct daemon;
struct event;
struct lease;
struct peer;

struct audit {
	const char *outcome;
	int level;	/* log.h's */
	uint64_t lease; /* 0: none */
	int64_t uid; /* whose lease it is, or whose request; AUDIT_NOBODY: the broker's own doing */
	uint32_t pid; /* 0: none */
	const struct pci_address *device;
	uint32_t group; /* UINT32_MAX: none */
	const char *name, *rule;
	int64_t by; /* who asked, where that is not who has the lease; else AUDIT_NOBODY */
	const char *reason;
};

/* What has been written of late, of each of the users who asked last. All zero: nothing. */
struct audit_limits {
	struct audit_user {
		uint32_t uid, left, suppressed;
		uint64_t filled; /* seconds of the monotonic clock; 0: nobody's */
		uint64_t asked;	 /* when last, by the count below */
	} users[AUDIT_USERS];
	uint64_t n_asked;
	struct event *timer;
};

/* Writes it, whoever asked for it. */
void audit(const struct audit *audit);
/* Writes it if uid's share, of whom it is about or by, allows. */
void audit_asked(struct daemon *daemon, uint32_t uid, const struct audit *audit);
/* What a lease is, for a line about it. */
struct audit audit_of(const struct lease *lease, const char *outcome);
/* A refusal of a peer's request. */
void audit_refused(struct peer *peer, const struct message_refusal *refusal);
/* Tells what has been suppressed, and of whom. */
void audit_done(struct daemon *daemon);
