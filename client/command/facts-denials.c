/* SPDX-License-Identifier: MIT */
/*
 * Finds what SELinux or AppArmor have denied the broker, QEMU and others about VFIO since the boot,
 * in the audit log or the journal as far as the caller may read them. Runs journalctl, for some
 * seconds at most, and must never keep a name of a denied file unless it is a node of VFIO: it may
 * be below somebody's home.
 */
#include "config.h"

#include "client/command/facts.h"
#include "client/common/util.h"

#include <fcntl.h>
#include <glob.h>
#include <inttypes.h>
#include <poll.h>
#include <signal.h>
#include <spawn.h>
#include <string.h>
#include <sys/wait.h>
#include <time.h>

#define LINES_MAX "5000"	   /* of the journal, the last */
#define AUDIT_MAX (4 << 20)	   /* bytes of the audit log, the last */
#define JOURNAL_MS 5000		   /* for which journalctl may take */
#define JOURNAL_TEXT_MAX (8 << 20) /* more of its output is not looked at */
#define AUDIT_LOG "/var/log/audit/audit.log"

struct denials {
	bool selinux; /* else AppArmor */
	uint64_t count;
	char last[256];
	char seen[64]; /* the last event's stamp: both logs may have it */
};

/* Copies the value behind a key, as comm="qemu", without what does not belong into a sentence. */
static bool value_of_key(const char *line, const char *key, char *out, size_t size)
{
	const char *at = strstr(line, key);
	size_t n = 0;

	out[0] = '\0';
	if (!at)
		return false;
	at += strlen(key);
	at += *at == '"';
	while (*at && !strchr("\" \n", *at) && n + 1 < size)
		out[n++] = *at++;
	out[n] = '\0';
	return n;
}

/* Returns true for a denial about the broker, a VMM or VFIO. */
static bool is_denial(const char *line, bool selinux)
{
	static const char *const about[] = { "gpubroker", "vfio", "qemu", "svirt", "libvirt" };

	if (selinux ? !strstr(line, "avc:") || !strstr(line, "denied")
		    : !strstr(line, "apparmor=\"DENIED\""))
		return false;
	for (size_t i = 0; i < ARRAY_SIZE(about); i++)
		if (strstr(line, about[i]))
			return true;
	return false;
}

static void take_audit_line(struct denials *denials, const char *line)
{
	char comm[64], what[64], name[64], stamp[64];

	if (!is_denial(line, denials->selinux))
		return;
	/* audit(1700000000.123:45) is one event, in whichever log. */
	if (value_of_key(line, "audit(", stamp, sizeof(stamp))) {
		if (!strcmp(stamp, denials->seen))
			return;
		snprintf(denials->seen, sizeof(denials->seen), "%s", stamp);
	}
	denials->count++;
	value_of_key(line, "comm=", comm, sizeof(comm));
	value_of_key(line, denials->selinux ? "tclass=" : "operation=", what, sizeof(what));
	if (!value_of_key(line, "path=", name, sizeof(name)))
		value_of_key(line, "name=", name, sizeof(name));
	if (strncmp(name, "/dev/vfio/", strlen("/dev/vfio/")))
		name[0] = '\0';
	snprintf(denials->last, sizeof(denials->last), "%s, %s%s%s", comm[0] ? comm : "a process",
		 what[0] ? what : "access", name[0] ? " of " : "", name);
}

/* ---- the audit log ---- */

static int64_t boot_time(void)
{
	cleanup_file FILE *file = fopen("/proc/stat", "re");
	char line[256];
	long long t;

	while (file && fgets(line, sizeof(line), file))
		if (sscanf(line, "btime %lld", &t) == 1)
			return t;
	return 0;
}

static bool read_audit_log(struct denials *denials)
{
	cleanup_file FILE *file = fopen(AUDIT_LOG, "re");
	const int64_t boot = boot_time();
	char line[4096];

	if (!file)
		return false;
	if (!fseek(file, 0, SEEK_END) && ftell(file) > AUDIT_MAX)
		fseek(file, -AUDIT_MAX, SEEK_END);
	else
		rewind(file);
	while (fgets(line, sizeof(line), file)) {
		const char *stamp = strstr(line, "audit(");

		if (stamp && strtoll(stamp + strlen("audit("), NULL, 10) >= boot)
			take_audit_line(denials, line);
	}
	return true;
}

/* ---- the journal ---- */

/* Returns true if the caller may read the system's journal, and not only its own. */
static bool may_read_journal(void)
{
	static const char *const patterns[] = { "/var/log/journal/*/system.journal",
						"/run/log/journal/*/system.journal" };
	bool may = false;

	for (size_t i = 0; !may && i < ARRAY_SIZE(patterns); i++) {
		glob_t found;

		if (!glob(patterns[i], 0, NULL, &found))
			may = found.gl_pathc && !access(found.gl_pathv[0], R_OK);
		globfree(&found);
	}
	return may;
}

/* Starts journalctl. Returns what it writes, or -1. */
static int start_journalctl(pid_t *ret_pid)
{
	static char *const argv[] = { (char *)"journalctl",
				      (char *)"-q",
				      (char *)"-b",
				      (char *)"--no-pager",
				      (char *)"-o",
				      (char *)"cat",
				      (char *)"-n",
				      (char *)LINES_MAX,
				      (char *)"_TRANSPORT=audit",
				      (char *)"+",
				      (char *)"_TRANSPORT=kernel",
				      NULL };
	static char *const environment[] = { (char *)"PATH=/usr/bin:/bin", (char *)"LC_ALL=C",
					     NULL };
	posix_spawn_file_actions_t actions;
	int ends[2], r;

	if (pipe2(ends, O_CLOEXEC))
		return -1;
	posix_spawn_file_actions_init(&actions);
	posix_spawn_file_actions_adddup2(&actions, ends[1], STDOUT_FILENO);
	posix_spawn_file_actions_addopen(&actions, STDIN_FILENO, "/dev/null", O_RDONLY, 0);
	posix_spawn_file_actions_addopen(&actions, STDERR_FILENO, "/dev/null", O_WRONLY, 0);
	r = posix_spawn(ret_pid, "/usr/bin/journalctl", &actions, NULL, argv, environment);
	posix_spawn_file_actions_destroy(&actions);
	close(ends[1]);
	if (!r)
		return ends[0];
	close(ends[0]);
	return -1;
}

static int64_t now_ms(void)
{
	struct timespec t;

	clock_gettime(CLOCK_MONOTONIC, &t);
	return (int64_t)t.tv_sec * 1000 + t.tv_nsec / 1000000;
}

/* Reads until the end, or the deadline. Returns true if it was the end. */
static bool read_lines(struct denials *denials, int fd)
{
	const int64_t end = now_ms() + JOURNAL_MS;
	size_t used = 0, all = 0;
	char text[8192];

	while (all < JOURNAL_TEXT_MAX) {
		struct pollfd wait = { .fd = fd, .events = POLLIN };
		const int64_t left = end - now_ms();
		char *line = text, *newline;
		ssize_t n;

		if (left <= 0 || poll(&wait, 1, (int)left) <= 0)
			return false;
		n = read(fd, text + used, sizeof(text) - 1 - used);
		if (n <= 0)
			return !n;
		all += (size_t)n;
		used += (size_t)n;
		text[used] = '\0';
		while ((newline = memchr(line, '\n', used - (size_t)(line - text)))) {
			*newline = '\0';
			take_audit_line(denials, line);
			line = newline + 1;
		}
		used -= (size_t)(line - text);
		/* A line that does not fit is none of a denial. */
		if (used == sizeof(text) - 1)
			used = 0;
		memmove(text, line, used);
	}
	return false;
}

static bool read_journal(struct denials *denials)
{
	pid_t pid;
	bool whole;
	int fd;

	if (!may_read_journal())
		return false;
	fd = start_journalctl(&pid);
	if (fd < 0)
		return false;
	whole = read_lines(denials, fd);
	close(fd);
	if (!whole)
		kill(pid, SIGKILL);
	waitpid(pid, NULL, 0);
	return whole;
}

void facts_add_denials(struct json_object *facts)
{
	struct denials denials = { .selinux = facts_path_exists("/sys/fs/selinux/enforce") };
	struct json_object *object;
	char line[8] = "";
	bool readable;

	if (!denials.selinux)
		facts_read_line("/sys/module/apparmor/parameters/enabled", line, sizeof(line));
	if (!denials.selinux && line[0] != 'Y')
		return;
	object = json_object_new_object();
	facts_add_text(object, "module", denials.selinux ? "SELinux" : "AppArmor");
	/* auditd takes the records from the kernel's log; without it they are in the journal. */
	readable = read_audit_log(&denials) || read_journal(&denials);
	facts_add_flag(object, "readable", readable);
	facts_add_number(object, "count", (int64_t)denials.count);
	facts_add_text(object, "last", denials.last);
	json_object_object_add(facts, "denials", object);
}
