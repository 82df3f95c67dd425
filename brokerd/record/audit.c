/* SPDX-License-Identifier: MIT */
/*
 * Decisions in the journal, see audit.h. Owns the format of the lines and the limit of lines that a
 * user can cause. It must never let a name (of a file, a device or a peer) pass for another key or
 * another line.
 */
#include "config.h"

#include "brokerd/record/audit.h"
#include "brokerd/process/log.h"
#include "brokerd/state/refuse.h"
#include "client/common/util.h"
#include "client/host/function.h"

#include <inttypes.h>
#include <stdbool.h>
#include <stdio.h>
#include <string.h>
#include <time.h>

/*
 * Returns a value in the form in which it follows its "=": "-" if it is empty, with escapes for
 * bytes that could end the value. A quoted value may hold spaces. It is ASCII in every locale.
 */
static const char *value(const char *text, bool quoted, char *out, size_t size)
{
	size_t n = 0;

	if (!text || !*text)
		return "-";
	if (quoted)
		out[n++] = '"';
	for (; *text && n + 6 < size; text++) {
		unsigned char c = (unsigned char)*text;

		if (c > ' ' && c < 0x7f && c != '"' && c != '\\' && (quoted || c != '='))
			out[n++] = (char)c;
		else if (c == ' ' && quoted)
			out[n++] = ' ';
		else
			n += (size_t)snprintf(out + n, size - n, "\\x%02x", c);
	}
	if (quoted)
		out[n++] = '"';
	out[n] = '\0';
	return out;
}

static void number(uint64_t number, bool none, char out[24])
{
	if (!none)
		snprintf(out, 24, "%" PRIu64, number);
}

static const char *dash(const char *text)
{
	return *text ? text : "-";
}

/* The numbers of a line as text, "" for none. */
struct audit_numbers {
	char lease[24], uid[24], pid[24], group[24], by[24], duration[24];
	char device[PCI_ADDRESS_TEXT];
};

static void format_numbers(const struct audit_line *line, struct audit_numbers *out)
{
	*out = (struct audit_numbers){ 0 };
	number(line->lease, !line->lease, out->lease);
	number((uint64_t)line->uid, line->uid == AUDIT_NOBODY, out->uid);
	number(line->pid, !line->pid, out->pid);
	number(line->group, line->group == NO_GROUP, out->group);
	number((uint64_t)line->by, line->by == AUDIT_NOBODY, out->by);
	number(line->duration, !line->lasted, out->duration);
	if (line->device)
		pci_address_format(line->device, out->device);
}

void audit_write(const struct audit_line *line)
{
	char name[PROTOCOL_PROFILE_MAX * 4], rule[512], reason[512], text[1536];
	const enum log_level level = (enum log_level)line->level;
	struct audit_numbers n;
	const struct log_field fields[] = {
		{ "GPUBROKER_LEASE", n.lease },
		{ "GPUBROKER_UID", n.uid },
		{ "GPUBROKER_PID", n.pid },
		{ "GPUBROKER_DEVICE", n.device },
		{ "GPUBROKER_GROUP", n.group },
		{ "GPUBROKER_NAME", line->name },
		{ "GPUBROKER_RULE", line->rule },
		{ "GPUBROKER_BY", n.by },
		{ "GPUBROKER_OUTCOME", line->outcome },
		{ "GPUBROKER_REASON", line->reason },
		{ "GPUBROKER_DURATION", n.duration },
	};

	format_numbers(line, &n);
	snprintf(text, sizeof(text),
		 "lease=%s uid=%s pid=%s device=%s group=%s name=%s rule=%s by=%s outcome=%s "
		 "reason=%s duration=%s",
		 dash(n.lease), dash(n.uid), dash(n.pid), dash(n.device), dash(n.group),
		 value(line->name, false, name, sizeof(name)),
		 value(line->rule, false, rule, sizeof(rule)), dash(n.by), line->outcome,
		 value(line->reason, true, reason, sizeof(reason)), dash(n.duration));
	if (!log_fields(level, text, fields, ARRAY_SIZE(fields)))
		log_line(level, "%s", text);
}

struct audit_line audit_line_of(const struct lease *lease, const char *outcome)
{
	return (struct audit_line){
		.outcome = outcome,
		.level = LOG_INFO,
		.lease = lease->id,
		.uid = lease->uid == UINT32_MAX ? AUDIT_NOBODY : lease->uid,
		.pid = lease->pid,
		.device = lease_has_address(lease) ? &lease->asked : NULL,
		.name = lease_is_made(lease) ? lease->mdev.type : NULL,
		.group = lease->group,
		.rule = lease->terms.rule,
		.by = AUDIT_NOBODY,
	};
}

void audit_lease(const struct lease *lease, const char *outcome, int level, const char *reason)
{
	struct audit_line line = audit_line_of(lease, outcome);

	line.level = level;
	line.reason = reason;
	audit_write(&line);
}

void audit_ended(const struct lease *lease)
{
	struct audit_line line = audit_line_of(lease, lease->lent ? "ended" : "undone");
	const uint64_t now = (uint64_t)time(NULL);

	line.lasted = lease->lent;
	line.duration = now > lease->since ? now - lease->since : 0;
	audit_write(&line);
}

/* ---- the limit of lines that a user can cause ---- */

static uint64_t seconds(void)
{
	struct timespec now;

	clock_gettime(CLOCK_MONOTONIC, &now);
	return (uint64_t)now.tv_sec + 1;
}

static void write_suppressed(int64_t uid, uint64_t n)
{
	char reason[64];
	struct audit_line line = {
		.outcome = "suppressed",
		.level = LOG_WARNING,
		.uid = uid,
		.group = NO_GROUP,
		.by = AUDIT_NOBODY,
		.reason = reason,
	};

	if (!n)
		return;
	snprintf(reason, sizeof(reason), "%" PRIu64 " lines about what %s asked for", n,
		 uid == AUDIT_NOBODY ? "other users" : "the user");
	audit_write(&line);
}

void audit_write_suppressed(struct audit *audit)
{
	for (size_t i = 0; i < AUDIT_USERS; i++) {
		write_suppressed((int64_t)audit->users[i].uid, audit->users[i].suppressed);
		audit->users[i].suppressed = 0;
	}
	write_suppressed(0, audit->root.suppressed);
	audit->root.suppressed = 0;
	write_suppressed(AUDIT_NOBODY, audit->suppressed);
	audit->suppressed = 0;
	audit->waits = false;
}

/* Adds what has become free since the last call: so many lines in so many seconds, up to `most`. */
static void fill_share(struct audit_share *share, uint64_t now, uint32_t most, unsigned lines,
		       unsigned in_seconds)
{
	uint64_t more = (now - share->filled) * lines / in_seconds;

	if (!share->filled)
		*share = (struct audit_share){ .left = most, .filled = now };
	else if (more)
		*share = (struct audit_share){
			.left = more + share->left < most ? (uint32_t)(more + share->left) : most,
			.filled = now,
		};
}

/*
 * Returns the user's entry. If there is none, the entry that has been unused for longest becomes
 * the user's, with the share that it has: a full share for each new user would be no limit for a
 * user with many uids.
 */
static struct audit_user *user_of(struct audit *audit, uint32_t uid)
{
	struct audit_user *oldest = &audit->users[0];

	for (size_t i = 0; i < AUDIT_USERS; i++) {
		struct audit_user *user = &audit->users[i];

		if (user->asked && user->uid == uid)
			return user;
		if (user->asked < oldest->asked)
			oldest = user;
	}
	if (oldest->suppressed && audit->all.left) {
		audit->all.left--;
		write_suppressed((int64_t)oldest->uid, oldest->suppressed);
	} else {
		audit->suppressed += oldest->suppressed;
	}
	oldest->suppressed = 0;
	oldest->uid = uid;
	return oldest;
}

/* Takes a line from a user's share and from that of all. Returns false if one has none left. */
static bool take_from_shares(struct audit *audit, struct audit_user *user, uint64_t now)
{
	user->asked = ++audit->n_asked;
	fill_share(&user->share, now, AUDIT_BURST, 1, AUDIT_SECONDS);
	if (!user->share.left || !audit->all.left)
		return false;
	user->share.left--;
	audit->all.left--;
	return true;
}

/* Other users must not be able to use up the lines that show what root does. */
static bool take_from_roots_share(struct audit *audit, uint64_t now)
{
	fill_share(&audit->root.share, now, AUDIT_ALL_BURST, AUDIT_ALL_LINES, 1);
	if (!audit->root.share.left)
		return false;
	audit->root.share.left--;
	return true;
}

void audit_asked(struct audit *audit, uint32_t uid, const struct audit_line *line)
{
	const uint64_t now = seconds();
	const uint32_t owner = audit->owner ? audit->owner(audit->userdata, uid) : uid;
	struct audit_user *user = &audit->root;

	fill_share(&audit->all, now, AUDIT_ALL_BURST, AUDIT_ALL_LINES, 1);
	if (uid)
		user = user_of(audit, owner);
	if (uid ? take_from_shares(audit, user, now) : take_from_roots_share(audit, now)) {
		audit_write(line);
		return;
	}
	if (user->suppressed < UINT32_MAX)
		user->suppressed++;
	if (!audit->waits && audit->later)
		audit->waits = audit->later(audit->userdata, AUDIT_SUPPRESSED_SECONDS);
}

void audit_act(struct audit *audit, uint32_t uid, const struct audit_line *line)
{
	if (uid)
		audit_asked(audit, uid, line);
	else
		audit_write(line);
}

const char *audit_reason(const struct message_refusal *refusal, char *out, size_t size)
{
	const bool says = refusal->reason == GPUBROKER_REFUSED_FAILED ||
			  refusal->reason == GPUBROKER_REFUSED_NOT_VIABLE;
	char other[PCI_ADDRESS_TEXT + 2] = "";

	if (says && refusal->has_other) {
		pci_address_format(&refusal->other, other);
		strcat(other, ": ");
	}
	snprintf(out, size, "%s%s%s%.*s%s%s", refusal_name(refusal->reason), says ? ": " : "",
		 other, says ? (int)sizeof(refusal->text) : 0, refusal->text,
		 says && refusal->error > 0 ? ": " : "",
		 says && refusal->error > 0 ? strerror(refusal->error) : "");
	return out;
}

void audit_refused(struct audit *audit, uint32_t uid, uint32_t pid,
		   const struct message_refusal *refusal)
{
	char name[PROTOCOL_PROFILE_MAX + 1], rule[sizeof(refusal->rule) + 1], reason[256];
	struct audit_line line = {
		.outcome = "refused",
		.level = LOG_INFO,
		.lease = refusal->lease,
		.uid = uid,
		.pid = pid,
		.device = refusal->has_address ? &refusal->address : NULL,
		.group = refusal->group,
		.name = name,
		.rule = rule,
		.by = AUDIT_NOBODY,
		.reason = audit_reason(refusal, reason, sizeof(reason)),
	};

	snprintf(name, sizeof(name), "%.*s",
		 (int)(refusal->name[0] ? sizeof(refusal->name) : sizeof(refusal->profile)),
		 refusal->name[0] ? refusal->name : refusal->profile);
	snprintf(rule, sizeof(rule), "%.*s", (int)sizeof(refusal->rule), refusal->rule);
	if (refusal->reason < PROTOCOL_REASONS_MAX)
		audit->refused[refusal->reason]++;
	audit_asked(audit, uid, &line);
}
