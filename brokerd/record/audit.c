/* SPDX-License-Identifier: MIT */
/*
 * Decisions in the journal, see audit.h. Owns the format of the lines and how many a user can
 * cause. It must never let a name, of a file, a device or a peer, pass for another key or another
 * line.
 */
#include "config.h"

#include "brokerd/record/audit.h"
#include "brokerd/daemon.h"
#include "brokerd/state/verdict.h"
#include "brokerd/process/log.h"
#include "client/common/util.h"

#include <inttypes.h>
#include <stdbool.h>
#include <string.h>
#include <time.h>

#define SUPPRESSED_SECONDS 10 /* after which it is told how many were */

/*
 * A value as it may stand behind its "=": the rest is escaped, and "-" if it is empty. Quoted, a
 * space may stand in it. In ASCII, whatever the locale.
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

static const char *number(uint64_t number, bool none, char out[24])
{
	if (none)
		return "-";
	snprintf(out, 24, "%" PRIu64, number);
	return out;
}

void audit(const struct audit *a)
{
	char lease[24], uid[24], pid[24], group[24], by[24], address[PCI_ADDRESS_TEXT];
	char name[PROTOCOL_PROFILE_MAX * 4], rule[512], reason[512];

	log_line(
		(enum log_level)a->level,
		"lease=%s uid=%s pid=%s device=%s group=%s name=%s rule=%s by=%s outcome=%s reason=%s",
		number(a->lease, !a->lease, lease),
		number((uint64_t)a->uid, a->uid == AUDIT_NOBODY, uid), number(a->pid, !a->pid, pid),
		a->device ? pci_address_format(a->device, address) : "-",
		number(a->group, a->group == NO_GROUP, group),
		value(a->name, false, name, sizeof(name)),
		value(a->rule, false, rule, sizeof(rule)),
		number((uint64_t)a->by, a->by == AUDIT_NOBODY, by), a->outcome,
		value(a->reason, true, reason, sizeof(reason)));
}

struct audit audit_of(const struct lease *lease, const char *outcome)
{
	return (struct audit){
		.outcome = outcome,
		.level = LOG_INFO,
		.lease = lease->id,
		.uid = lease->uid == UINT32_MAX ? AUDIT_NOBODY : lease->uid,
		.pid = lease->pid,
		.device = lease_has_address(lease) ? &lease->asked : NULL,
		.name = lease_is_mdev(lease) ? lease->mdev.type : NULL,
		.group = lease->group,
		.rule = lease->terms.rule,
		.by = AUDIT_NOBODY,
	};
}

/* ---- how many ---- */

static uint64_t seconds(void)
{
	struct timespec now;

	clock_gettime(CLOCK_MONOTONIC, &now);
	return (uint64_t)now.tv_sec + 1;
}

static void tell_suppressed(struct audit_user *user)
{
	char reason[64];
	struct audit line = {
		.outcome = "suppressed",
		.level = LOG_WARNING,
		.uid = user->uid,
		.group = NO_GROUP,
		.by = AUDIT_NOBODY,
		.reason = reason,
	};

	if (!user->suppressed)
		return;
	snprintf(reason, sizeof(reason), "%" PRIu32 " lines about what the user asked for",
		 user->suppressed);
	audit(&line);
	user->suppressed = 0;
}

void audit_done(struct daemon *daemon)
{
	for (size_t i = 0; i < AUDIT_USERS; i++)
		tell_suppressed(&daemon->audited.users[i]);
	if (daemon->audited.timer)
		event_free(TAKE_PTR(daemon->audited.timer));
}

static void on_timer(evutil_socket_t fd, short what, void *userdata)
{
	struct daemon *daemon = userdata;

	(void)fd;
	(void)what;
	audit_done(daemon);
}

/* The user's entry, or the one that has been quiet for longest, made the user's. */
static struct audit_user *user_of(struct audit_limits *limits, uint32_t uid, uint64_t now)
{
	struct audit_user *oldest = &limits->users[0];

	for (size_t i = 0; i < AUDIT_USERS; i++) {
		struct audit_user *user = &limits->users[i];

		if (user->filled && user->uid == uid)
			return user;
		if (user->asked < oldest->asked)
			oldest = user;
	}
	tell_suppressed(oldest);
	*oldest = (struct audit_user){ .uid = uid, .left = AUDIT_BURST, .filled = now };
	return oldest;
}

void audit_asked(struct daemon *daemon, uint32_t uid, const struct audit *line)
{
	const struct timeval after = { .tv_sec = SUPPRESSED_SECONDS };
	struct audit_limits *limits = &daemon->audited;
	const uint64_t now = seconds();
	struct audit_user *user = user_of(limits, uid, now);
	uint64_t more = (now - user->filled) / AUDIT_SECONDS;

	user->asked = ++limits->n_asked;
	if (more) {
		user->left = more + user->left < AUDIT_BURST ? (uint32_t)(more + user->left)
							     : AUDIT_BURST;
		user->filled = now;
	}
	if (user->left) {
		user->left--;
		audit(line);
		return;
	}
	if (user->suppressed < UINT32_MAX)
		user->suppressed++;
	if (limits->timer)
		return;
	/* Where there is no memory for it, it is told at the end. */
	limits->timer = evtimer_new(daemon->base, on_timer, daemon);
	if (limits->timer)
		evtimer_add(limits->timer, &after);
}

void audit_refused(struct peer *peer, const struct message_refusal *refusal)
{
	char name[PROTOCOL_PROFILE_MAX + 1], rule[sizeof(refusal->rule) + 1];
	struct audit line = {
		.outcome = "refused",
		.level = LOG_INFO,
		.lease = refusal->lease,
		.uid = peer->uid,
		.pid = peer->pid,
		.device = refusal->has_address ? &refusal->address : NULL,
		.group = refusal->group,
		.name = name,
		.rule = rule,
		.by = AUDIT_NOBODY,
		.reason = refusal_name(refusal->reason),
	};

	snprintf(name, sizeof(name), "%.*s",
		 (int)(refusal->name[0] ? sizeof(refusal->name) : sizeof(refusal->profile)),
		 refusal->name[0] ? refusal->name : refusal->profile);
	snprintf(rule, sizeof(rule), "%.*s", (int)sizeof(refusal->rule), refusal->rule);
	audit_asked(peer->daemon, peer->uid, &line);
}
