/* SPDX-License-Identifier: MIT */
/*
 * The table of `gpubroker leases` for people, see leases-people.h. The programs, which
 * /proc names, only inform: nothing is decided by them.
 */
#include "config.h"

#include "client/command/leases-people.h"
#include "client/command/cli.h"
#include "client/command/holders.h"
#include "client/command/moments.h"
#include "client/command/program.h"
#include "client/command/screen.h"
#include "client/command/taken.h"
#include "client/common/util.h"
#include "client/host/function.h"
#include "client/host/marked.h"

#include <errno.h>
#include <inttypes.h>
#include <libsmartcols.h>
#include <stdarg.h>
#include <stdlib.h>
#include <string.h>
#include <time.h>
#include <unistd.h>

#define ADDRESS_TEXT 20

/* A lease, as far as it is shown. */
struct shown {
	uint64_t id, since, expires, stuck_since, released_at;
	uint32_t uid, pid, group;
	enum gpubroker_lease_state state;
	bool allowed;
	enum gpubroker_migration migration;
	char reason[128], rule[288], parent[32], profile[64], label[48];
	char (*devices)[ADDRESS_TEXT];
	size_t n_devices;
};

struct waiter {
	uint64_t lease, since;
	uint32_t uid, place;
};

/* A function of a lease: leases have addresses alone. */
struct known {
	char address[ADDRESS_TEXT];
	uint32_t class_code;
	char *model;
};

struct leases {
	struct shown *list;
	size_t n;
	struct waiter *waiters;
	size_t n_waiters;
	struct known *known;
	size_t n_known;
	struct libscols_table *table;
	gpubroker_waiting_func other;
	void *userdata;
};

/* ---- what the broker says ---- */

static int add_shown(void *userdata, const struct gpubroker_lease *lease)
{
	struct leases *l = userdata;
	struct shown *more = reallocarray(l->list, l->n + 1, sizeof(*more)), *shown;

	if (!more)
		return -ENOMEM;
	l->list = more;
	shown = &more[l->n];
	*shown = (struct shown){
		.id = lease->id,
		.since = lease->since,
		.expires = lease->expires,
		.stuck_since = lease->stuck_since,
		.released_at = lease->released_at,
		.uid = lease->uid,
		.pid = lease->pid,
		.group = lease->iommu_group,
		.state = lease->state,
		.allowed = lease->allowed,
		.migration = lease->migration,
		.n_devices = lease->n_devices,
		.devices = calloc(lease->n_devices + 1, sizeof(*shown->devices)),
	};
	if (!shown->devices)
		return -ENOMEM;
	memcpy(shown->devices, lease->devices, lease->n_devices * sizeof(*shown->devices));
	snprintf(shown->reason, sizeof(shown->reason), "%s", lease->reason);
	snprintf(shown->rule, sizeof(shown->rule), "%s", lease->rule);
	snprintf(shown->parent, sizeof(shown->parent), "%s", lease->parent);
	snprintf(shown->profile, sizeof(shown->profile), "%s", lease->profile);
	snprintf(shown->label, sizeof(shown->label), "%s", lease->label);
	l->n++;
	return 0;
}

/* Keeps a claim that waits for a lease that is shown; another one is printed at the end. */
static int add_waiter(void *userdata, const struct gpubroker_waiting *waiting)
{
	struct leases *l = userdata;
	struct waiter *more;
	bool is_shown = false;

	for (size_t i = 0; i < l->n; i++)
		is_shown = is_shown || (waiting->lease && l->list[i].id == waiting->lease);
	if (!is_shown)
		return 0;
	more = reallocarray(l->waiters, l->n_waiters + 1, sizeof(*more));
	if (!more)
		return -ENOMEM;
	l->waiters = more;
	more[l->n_waiters++] = (struct waiter){
		.lease = waiting->lease,
		.since = waiting->since,
		.uid = waiting->uid,
		.place = waiting->place,
	};
	return 0;
}

/* Passes on the claims that add_waiter() did not keep. */
static int pass_other(void *userdata, const struct gpubroker_waiting *waiting)
{
	const struct leases *l = userdata;

	for (size_t i = 0; i < l->n; i++)
		if (waiting->lease && l->list[i].id == waiting->lease)
			return 0;
	return l->other(l->userdata, waiting);
}

static int add_known(void *userdata, const struct gpubroker_device *device)
{
	struct leases *l = userdata;
	struct known *more;
	struct screen_text model = { 0 };

	if (!device->lease)
		return 0;
	more = reallocarray(l->known, l->n_known + 1, sizeof(*more));
	if (!more)
		return -ENOMEM;
	l->known = more;
	screen_model(device, &model);
	screen_shorten(&model);
	more[l->n_known] = (struct known){
		.class_code = device->class_code,
		.model = model.text,
	};
	memcpy(more[l->n_known++].address, device->address, ADDRESS_TEXT);
	return 0;
}

static const struct known *find_known(const struct leases *l, const char *address)
{
	for (size_t i = 0; i < l->n_known; i++)
		if (!strcmp(l->known[i].address, address))
			return &l->known[i];
	return NULL;
}

/* ---- columns ---- */

static void write_lease(const struct leases *l, const struct shown *shown, struct screen_text *out)
{
	(void)l;
	screen_say(out, TONE_PLAIN, "%" PRIu64, shown->id);
}

static void write_user(const struct leases *l, const struct shown *shown, struct screen_text *out)
{
	char user[SCREEN_USER];

	(void)l;
	screen_say(out, TONE_PLAIN, "%s", screen_user(shown->uid, user));
}

static void write_held(const struct leases *l, const struct shown *shown, struct screen_text *out)
{
	char held[MOMENT_TEXT];

	(void)l;
	moment_ago(shown->since, held);
	screen_say(out, TONE_PLAIN, "%s", held);
}

/* "06:05 (5h)", or "4m ago !". */
static void write_ends(const struct leases *l, const struct shown *shown, struct screen_text *out)
{
	const uint64_t now = (uint64_t)time(NULL);
	char clock[MOMENT_TEXT], span[MOMENT_TEXT];

	(void)l;
	if (!shown->expires || !moment_clock(shown->expires, clock)) {
		screen_say(out, TONE_DIM, "-");
	} else if (shown->expires <= now) {
		moment_ago(shown->expires, span);
		screen_say(out, TONE_BAD, "%s ago !", span);
	} else {
		moment_span(shown->expires - now, span);
		screen_say(out, shown->expires - now < 600 ? TONE_MIND : TONE_PLAIN, "%s (%s)",
			   clock, span);
	}
}

/* The function that the lease is about: the first GPU, or else the first. */
static size_t main_device(const struct leases *l, const struct shown *shown)
{
	for (size_t i = 0; i < shown->n_devices; i++) {
		const struct known *known = find_known(l, shown->devices[i]);

		if (known && class_is_gpu(known->class_code))
			return i;
	}
	return 0;
}

/* "02:00.0 A100 80GB +audio", or "mtty-1 of mtty". */
static void write_device(const struct leases *l, const struct shown *shown, struct screen_text *out)
{
	const size_t first = main_device(l, shown);
	char along[96] = "";
	const struct known *known;
	size_t len = 0;

	if (!shown->n_devices) {
		screen_say(out, TONE_PLAIN, "%s of %s", shown->profile,
			   screen_address(shown->parent));
		return;
	}
	for (size_t i = 0; i < shown->n_devices && len < sizeof(along) - 16; i++) {
		known = find_known(l, shown->devices[i]);
		if (i != first)
			len += (size_t)snprintf(along + len, sizeof(along) - len, " +%s",
						known ? screen_companion(known->class_code)
						      : screen_address(shown->devices[i]));
	}
	known = find_known(l, shown->devices[first]);
	screen_say(out, TONE_PLAIN, "%s %s%s", screen_address(shown->devices[first]),
		   known && known->model ? known->model : "", along);
}

static void write_command(const struct leases *l, const struct shown *shown,
			  struct screen_text *out)
{
	char program[PROGRAM_TEXT], mark[48];
	struct marked survivor;

	(void)l;
	snprintf(mark, sizeof(mark), "GPUBROKER_LEASE=%" PRIu64, shown->id);
	if (program_text(shown->pid, shown->uid, shown->since, program))
		screen_say(out, TONE_PLAIN, "%s", program);
	else if (shown->state == GPUBROKER_LEASE_LEASED &&
		 marked_find(mark, (uid_t)shown->uid, &survivor, 1))
		screen_say(out, TONE_PLAIN, "%s, pid %" PRIu32, survivor.name, survivor.pid);
	else
		screen_say(out, TONE_DIM, "ended, pid %" PRIu32, shown->pid);
}

static void write_pid(const struct leases *l, const struct shown *shown, struct screen_text *out)
{
	(void)l;
	screen_say(out, TONE_PLAIN, "%" PRIu32, shown->pid);
}

/* States in which something is wrong or under way; others are plain. */
static const struct {
	enum gpubroker_lease_state state;
	enum tone tone;
	const char *says; /* before the reason */
} states[] = {
	{ GPUBROKER_LEASE_PREPARING, TONE_MIND, "is being taken over from its host driver" },
	{ GPUBROKER_LEASE_RELEASING, TONE_MIND, "goes back" },
	{ GPUBROKER_LEASE_RESTORING, TONE_MIND, "goes back" },
	{ GPUBROKER_LEASE_ASKED, TONE_MIND, "asked back" },
	{ GPUBROKER_LEASE_STUCK, TONE_BAD, "stuck" },
};

static size_t find_state(enum gpubroker_lease_state state)
{
	size_t i = 0;

	while (i < ARRAY_SIZE(states) && states[i].state != state)
		i++;
	return i;
}

static void write_state(const struct leases *l, const struct shown *shown, struct screen_text *out)
{
	const size_t i = find_state(shown->state);

	(void)l;
	screen_say(out, i < ARRAY_SIZE(states) ? states[i].tone : TONE_PLAIN, "%s",
		   gpubroker_lease_state_name(shown->state));
}

static void write_since(const struct leases *l, const struct shown *shown, struct screen_text *out)
{
	char since[MOMENT_TEXT];

	(void)l;
	screen_say(out, TONE_PLAIN, "%s", moment_full(shown->since, since) ? since : "-");
}

static void write_iommu(const struct leases *l, const struct shown *shown, struct screen_text *out)
{
	(void)l;
	if (shown->group == UINT32_MAX)
		screen_say(out, TONE_DIM, "-");
	else
		screen_say(out, TONE_PLAIN, "%" PRIu32, shown->group);
}

static void write_migrates(const struct leases *l, const struct shown *shown,
			   struct screen_text *out)
{
	(void)l;
	screen_say(out, TONE_PLAIN, "%s",
		   shown->migration == GPUBROKER_MIGRATION_YES	? "yes"
		   : shown->migration == GPUBROKER_MIGRATION_NO ? "no"
								: "-");
}

static void write_rule(const struct leases *l, const struct shown *shown, struct screen_text *out)
{
	const char *name = strrchr(shown->rule, '/');

	(void)l;
	screen_say(out, TONE_PLAIN, "%s", name ? name + 1 : shown->rule[0] ? shown->rule : "-");
}

static void write_allotment(const struct leases *l, const struct shown *shown,
			    struct screen_text *out)
{
	(void)l;
	screen_say(out, shown->label[0] ? TONE_PLAIN : TONE_DIM, "%s",
		   shown->label[0] ? shown->label : "-");
}

static const struct {
	struct screen_column column;
	void (*write)(const struct leases *l, const struct shown *shown, struct screen_text *out);
} lease_columns[] = {
	{ { "lease", "LEASE", 5, 0 }, write_lease },
	{ { "user", "USER", 8, 0 }, write_user },
	{ { "held", "HELD", 4, 0 }, write_held },
	{ { "ends", "ENDS", 10, 0 }, write_ends },
	{ { "device", "DEVICE", 0.3, SCOLS_FL_TRUNC }, write_device },
	{ { "command", "COMMAND", 0.2, SCOLS_FL_TRUNC }, write_command },
	{ { "pid", "PID", 7, SCOLS_FL_RIGHT }, write_pid },
	{ { "state", "STATE", 9, 0 }, write_state },
	{ { "since", "SINCE", 19, 0 }, write_since },
	{ { "group", "GROUP", 5, SCOLS_FL_RIGHT }, write_iommu },
	{ { "migrates", "MIGRATES", 8, 0 }, write_migrates },
	{ { "rule", "RULE", 16, 0 }, write_rule },
	{ { "allotment", "ALLOTMENT", 12, 0 }, write_allotment },
};

/* ---- below a lease ---- */

static void print_bad(const char *text)
{
	screen_note(TONE_BAD, text);
}

__attribute__((format(printf, 2, 3))) static void note(enum tone tone, const char *format, ...)
{
	cleanup_free char *text = NULL;
	va_list args;

	va_start(args, format);
	if (vasprintf(&text, format, args) < 0)
		text = NULL;
	va_end(args);
	if (text)
		screen_note(tone, text);
}

/* "waiting: 1. alice 12m  2. dave 3m" */
static void note_waiters(const struct leases *l, const struct shown *shown)
{
	cleanup_free char *text = NULL;
	size_t size;
	FILE *file = open_memstream(&text, &size);
	char user[SCREEN_USER], waits[MOMENT_TEXT];
	bool any = false;

	for (size_t i = 0; file && i < l->n_waiters; i++) {
		const struct waiter *w = &l->waiters[i];

		if (w->lease != shown->id)
			continue;
		moment_ago(w->since, waits);
		fprintf(file, "%s%" PRIu32 ". %s %s", any ? "  " : "waiting: ", w->place,
			screen_user(w->uid, user), waits);
		any = true;
	}
	if (file && !fclose(file) && any)
		screen_note(TONE_PLAIN, text);
}

/* Says what is under way with the lease, for how long, and what helps. */
static void note_state(const struct shown *shown)
{
	const size_t i = find_state(shown->state);
	const uint64_t since = shown->stuck_since ? shown->stuck_since : shown->released_at;
	char clock[MOMENT_TEXT] = "";
	const bool timed = since && moment_clock(since, clock);

	if (i == ARRAY_SIZE(states) || (!shown->reason[0] && !since))
		return;
	note(states[i].tone, "%s%s%s%s%s", states[i].says, timed ? " since " : "", clock,
	     shown->reason[0] ? ": " : "", shown->reason);
	if (!shown->reason[0])
		return;
	holders_print(shown->group, print_bad);
	if (shown->state == GPUBROKER_LEASE_ASKED)
		note(TONE_PLAIN, "'gpubroker revoke %" PRIu64 " --kill'%s ends what has it",
		     shown->id, geteuid() ? ", by root," : "");
	else if (shown->state == GPUBROKER_LEASE_STUCK)
		note(TONE_PLAIN, "'gpubroker %s %" PRIu64 "' tries again%s",
		     geteuid() ? "release" : "revoke", shown->id,
		     geteuid() && geteuid() != shown->uid ? ", for its user or root" : "");
}

static void note_lease(const struct leases *l, const struct shown *shown)
{
	char node[320];

	note_waiters(l, shown);
	if (shown->label[0])
		note(TONE_PLAIN, "by the allotment %s", shown->label);
	if (!shown->allowed)
		screen_note(TONE_MIND, "the policy in force would not grant this lease; it goes on "
				       "until it ends");
	note_state(shown);
	if (shown->group != UINT32_MAX && holders_node_text(shown->group, node, sizeof(node)))
		screen_note(TONE_BAD, node);
	taken_print(shown->state, shown->devices, shown->n_devices, print_bad);
}

/* ---- the table ---- */

static int fill_table(struct leases *l, const char *list)
{
	const struct screen_column *all[ARRAY_SIZE(lease_columns)];
	size_t chosen[SCREEN_COLUMNS_MAX], n;
	int r;

	for (size_t i = 0; i < ARRAY_SIZE(lease_columns); i++)
		all[i] = &lease_columns[i].column;
	r = screen_table_columns(l->table, "leases", all, ARRAY_SIZE(all), list, chosen, &n);
	for (size_t i = 0; !r && i < l->n; i++) {
		struct screen_text cells[SCREEN_COLUMNS_MAX] = { 0 };

		for (size_t k = 0; k < n; k++)
			lease_columns[chosen[k]].write(l, &l->list[i], &cells[k]);
		r = screen_table_line(l->table, NULL, cells, n) ? 0 : EXIT_SOFTWARE;
	}
	return r;
}

/* Prints line after line, since what stands below one has the whole width. */
static int print_lines(const struct leases *l)
{
	struct libscols_line *line;

	for (size_t i = 0; i < l->n; i++) {
		cleanup_free char *text = NULL;

		line = scols_table_get_line(l->table, i);
		if (!line || scols_table_print_range_to_string(l->table, line, line, &text) ||
		    !text)
			return EXIT_SOFTWARE;
		/* The library ends each line but the last of the table. */
		if (*text && text[strlen(text) - 1] == '\n')
			text[strlen(text) - 1] = '\0';
		puts(text);
		if (isatty(STDOUT_FILENO)) /* --columns is for scripts, too */
			note_lease(l, &l->list[i]);
	}
	return 0;
}

static void leases_done(struct leases *l)
{
	for (size_t i = 0; i < l->n; i++)
		free(l->list[i].devices);
	for (size_t i = 0; i < l->n_known; i++)
		free(l->known[i].model);
	free(l->list);
	free(l->known);
	free(l->waiters);
	scols_unref_table(l->table);
}

int leases_people(struct gpubroker *handle, const char *list, gpubroker_waiting_func other,
		  void *userdata, size_t *ret_n)
{
	static const struct cli plain = { 0 };
	struct leases l = { .other = other, .userdata = userdata, .table = screen_table_new() };
	int r = l.table ? gpubroker_leases(handle, add_shown, &l) : -ENOMEM;

	if (!r)
		r = gpubroker_queue(handle, add_waiter, &l);
	if (!r)
		r = gpubroker_list(handle, add_known, &l);
	if (r) {
		r = cli_failed(&plain, handle, r);
	} else {
		r = fill_table(&l, list ? list : "lease,user,held,ends,device,command");
		if (!r)
			r = print_lines(&l);
		*ret_n = l.n;
		if (!r && isatty(STDOUT_FILENO) && gpubroker_queue(handle, pass_other, &l))
			r = EXIT_NO_BROKER;
	}
	leases_done(&l);
	return r;
}
