/* SPDX-License-Identifier: MIT */
/*
 * The table of `gpubroker list` for people, see list-people.h. It gathers from three places: the
 * broker (who has what, who waits), /sys (what the host does with a device) and the policy's files
 * (names). Whatever of these is missing leaves a column emptier, and is no failure.
 */
#include "config.h"

#include "client/command/list-people.h"
#include "client/command/cli.h"
#include "client/command/holders.h"
#include "client/command/inventory.h"
#include "client/command/moments.h"
#include "client/command/names.h"
#include "client/common/nearness.h"
#include "client/common/util.h"
#include "client/host/function.h"

#include <errno.h>
#include <inttypes.h>
#include <libsmartcols.h>
#include <pwd.h>
#include <stdarg.h>
#include <stdbool.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <unistd.h>

/* A lease or a waiting claim, as far as the table needs it. */
struct held {
	uint64_t id;
	char user[32];
	uint64_t since, ends, asked_at;
	bool is_asked;
	char reason[128];
	unsigned waiters;
};

struct people {
	struct held *leases;
	size_t n_leases;
	struct inventory inventory;
	struct policy policy;
	struct libscols_table *table;
	const struct gpubroker_device *const *devices;
	size_t n_devices;
};

enum tone { TONE_PLAIN, TONE_GOOD, TONE_MIND, TONE_BAD, TONE_DIM };
static const char *const tones[] = {
	[TONE_PLAIN] = NULL, [TONE_GOOD] = "green",   [TONE_MIND] = "yellow",
	[TONE_BAD] = "red",  [TONE_DIM] = "darkgray",
};

struct text {
	char *text; /* NULL: empty */
	enum tone tone;
};

__attribute__((format(printf, 3, 4))) static void say_in(struct text *out, enum tone tone,
							 const char *format, ...)
{
	va_list args;

	free(out->text);
	va_start(args, format);
	if (vasprintf(&out->text, format, args) < 0)
		out->text = NULL;
	va_end(args);
	out->tone = tone;
}

/* ---- who has what ---- */

static int add_held(void *userdata, const struct gpubroker_lease *lease)
{
	const struct passwd *user = getpwuid((uid_t)lease->uid);
	struct people *p = userdata;
	struct held *more = reallocarray(p->leases, p->n_leases + 1, sizeof(*more));
	struct held *held;

	if (!more)
		return -ENOMEM;
	p->leases = more;
	held = &more[p->n_leases++];
	*held = (struct held){
		.id = lease->id,
		.since = lease->since,
		.ends = lease->expires,
		.is_asked = lease->state == GPUBROKER_LEASE_ASKED,
		.asked_at = lease->stuck_since ? lease->stuck_since : lease->released_at,
	};
	snprintf(held->user, sizeof(held->user), "uid %" PRIu32, lease->uid);
	if (user)
		snprintf(held->user, sizeof(held->user), "%.31s", user->pw_name);
	memcpy(held->reason, lease->reason, sizeof(held->reason));
	return 0;
}

static struct held *find_held(const struct people *p, uint64_t id)
{
	for (size_t i = 0; i < p->n_leases; i++)
		if (p->leases[i].id == id)
			return &p->leases[i];
	return NULL;
}

static int count_waiter(void *userdata, const struct gpubroker_waiting *waiting)
{
	struct held *held = find_held(userdata, waiting->lease);

	if (held)
		held->waiters++;
	return 0;
}

/* ---- columns ---- */

static const struct function *local_of(const struct people *p, const struct gpubroker_device *d)
{
	struct pci_address address;

	return pci_address_parse(d->address, &address) ? NULL
						       : inventory_find(&p->inventory, &address);
}

static const char *short_address(const char *address)
{
	return strncmp(address, "0000:", 5) ? address : address + 5;
}

/* Writes what a vendor is called: "NVIDIA", "Red Hat", "AMD/ATI". */
static void write_vendor(const char *name, char out[32])
{
	const char *open = strchr(name, '[');
	size_t n = open ? strcspn(open + 1, "]") : strcspn(name, ",");
	const char *end = open ? NULL : strstr(name, " Corporation");

	if (end && (size_t)(end - name) < n)
		n = (size_t)(end - name);
	snprintf(out, 32, "%.*s", (int)(n < 31 ? n : 31), open ? open + 1 : name);
}

/* Writes at most so many bytes of text, and shows that there is more; no character is cut. */
static void cut(char *text, size_t most)
{
	if (strlen(text) <= most)
		return;
	while (most && ((unsigned char)text[most] & 0xc0) == 0x80)
		most--;
	strcpy(text + most, "...");
}

/* The name that is on the box, which hardware databases have in brackets. */
static void write_model(const struct gpubroker_device *d, struct text *out)
{
	const char *open = strrchr(d->model, '['), *close = open ? strchr(open, ']') : NULL;
	char vendor[32];

	write_vendor(d->vendor_name, vendor);
	if (close && close > open + 1)
		say_in(out, TONE_PLAIN, "%.*s", (int)(close - open - 1), open + 1);
	else if (d->model[0])
		say_in(out, TONE_PLAIN, "%s%s%s", vendor, vendor[0] ? " " : "", d->model);
	else
		say_in(out, TONE_PLAIN, "%04x:%04x", d->vendor, d->device);
}

/* A word for what comes along. */
static const char *companion_word(uint32_t class_code)
{
	switch (class_code >> 8) {
	case 0x0403:
		return "audio";
	case 0x0c03:
		return "usb";
	default:
		return class_code >> 16 == 0x03	  ? "display"
		       : class_code >> 16 == 0x02 ? "network"
		       : class_code >> 16 == 0x01 ? "storage"
						  : "other";
	}
}

#define MODEL_MOST 24

/* Address, model, and what comes along with it: "02:00.0  A100 80GB +audio". */
static void write_gpu(const struct people *p, const struct gpubroker_device *d, struct text *out)
{
	const struct function *own = local_of(p, d);
	struct text model = { 0 };
	char along[64] = "";
	size_t len = 0;

	for (size_t i = 0; own && own->iommu_group != NO_GROUP && i < p->inventory.n; i++) {
		const struct function *f = &p->inventory.functions[i];

		if (f != own && f->iommu_group == own->iommu_group && !f->is_bridge &&
		    len < sizeof(along) - 16)
			len += (size_t)snprintf(along + len, sizeof(along) - len, " +%s",
						companion_word(f->class_code));
	}
	write_model(d, &model);
	/* The status must have room; --wide has the whole name. */
	if (model.text && strlen(model.text) > MODEL_MOST + 3)
		cut(model.text, MODEL_MOST);
	say_in(out, TONE_PLAIN, "%s%s  %s%s", d->physfn[0] ? "  " : "", short_address(d->address),
	       model.text ? model.text : "", along);
	free(model.text);
}

static void write_name(const struct people *p, const struct gpubroker_device *d, struct text *out)
{
	const struct function *f = local_of(p, d);
	struct policy_facts facts;
	char list[160] = "";
	size_t len = 0;

	if (f)
		facts = function_facts(f);
	for (uint32_t i = 0; f && i < p->policy.n_names && len < sizeof(list) - 40; i++)
		if (policy_name_matches(&p->policy, i, &facts, NULL))
			len += (size_t)snprintf(list + len, sizeof(list) - len, "%s%s",
						len ? "," : "", p->policy.names[i].text);
	say_in(out, len ? TONE_PLAIN : TONE_DIM, "%s", len ? list : "-");
}

/* "bob, 3h, until 06:05; 2 wait" */
static void write_leased(const struct held *held, struct text *out)
{
	char ago[MOMENT_TEXT], until[MOMENT_TEXT], wait[24] = "";
	const bool ends = held->ends && moment_clock(held->ends, until);

	moment_ago(held->since, ago);
	if (held->waiters)
		snprintf(wait, sizeof(wait), "; %u wait%s", held->waiters,
			 held->waiters == 1 ? "s" : "");
	say_in(out, TONE_PLAIN, "%s, %s%s%s%s", held->user, ago, ends ? ", until " : "",
	       ends ? until : "", wait);
}

/* Why the host keeps a device that nobody has. False: it does not. */
static bool write_kept(const struct people *p, const struct function *own, struct text *out)
{
	struct group_view *view = own ? calloc(1, sizeof(*view)) : NULL;
	enum guard guard = GUARD_NONE;
	size_t which = SIZE_MAX;

	if (!view)
		return false;
	inventory_group(&p->inventory, own, view);
	guard = group_guard(view, false, &which);
	if (guard == GUARD_NOT_VIABLE && view->not_viable[0])
		say_in(out, TONE_DIM, "cannot be lent: its group %s", view->not_viable);
	else if (guard == GUARD_BOOT_VGA)
		say_in(out, TONE_DIM, "the host's console");
	else if (guard == GUARD_IN_USE)
		say_in(out, TONE_MIND, "in use: %s", view->functions[which].in_use);
	else
		guard = GUARD_NONE;
	free(view);
	return guard != GUARD_NONE;
}

static void write_free(const struct people *p, const struct gpubroker_device *d, struct text *out)
{
	char node[320];

	if (write_kept(p, local_of(p, d), out))
		return;
	if (d->iommu_group >= 0 && holders_node_text((uint32_t)d->iommu_group, node, sizeof(node)))
		say_in(out, TONE_BAD, "not lent: %s", node);
	else
		say_in(out, TONE_GOOD, "free");
}

/* A device that is on its way back, or is stuck on it. */
static void write_returning(const struct gpubroker_device *d, const struct held *held,
			    struct text *out)
{
	char ago[MOMENT_TEXT];

	if (!held) {
		say_in(out, TONE_MIND, "%s",
		       d->status == GPUBROKER_STUCK ? "stuck" : "going back to the host");
		return;
	}
	moment_ago(held->asked_at ? held->asked_at : held->since, ago);
	if (d->status == GPUBROKER_STUCK)
		say_in(out, TONE_BAD, "stuck for %s: %s", ago, held->reason);
	else
		say_in(out, TONE_MIND, "%s from %s for %s%s%s",
		       held->is_asked ? "asked back" : "going back", held->user, ago,
		       held->reason[0] && !held->is_asked ? ": " : "",
		       held->is_asked ? "" : held->reason);
}

static unsigned count_free_vfs(const struct people *p, const struct gpubroker_device *pf)
{
	unsigned n = 0;

	for (size_t i = 0; i < p->n_devices; i++)
		n += !strcmp(p->devices[i]->physfn, pf->address) &&
		     (p->devices[i]->status == GPUBROKER_AVAILABLE ||
		      p->devices[i]->status == GPUBROKER_VFIO_READY);
	return n;
}

static void write_status(const struct people *p, const struct gpubroker_device *d, struct text *out)
{
	const struct held *held = find_held(p, d->lease);

	if (d->vfs && !held) {
		say_in(out, TONE_PLAIN, "%u/%u VFs free", count_free_vfs(p, d), (unsigned)d->vfs);
		return;
	}
	switch (d->status) {
	case GPUBROKER_LEASED:
		if (held)
			write_leased(held, out);
		else
			say_in(out, TONE_PLAIN, "leased");
		return;
	case GPUBROKER_RELEASING:
	case GPUBROKER_STUCK:
		write_returning(d, held, out);
		return;
	case GPUBROKER_IN_USE:
		say_in(out, TONE_MIND, "in use by another program, through VFIO");
		return;
	case GPUBROKER_NOT_VIABLE:
		if (d->iommu_group < 0)
			say_in(out, TONE_DIM, "no IOMMU group");
		else if (!write_kept(p, local_of(p, d), out))
			say_in(out, TONE_DIM, "cannot be lent");
		return;
	default:
		write_free(p, d, out);
	}
}

static void write_address(const struct people *p, const struct gpubroker_device *d,
			  struct text *out)
{
	(void)p;
	say_in(out, TONE_PLAIN, "%s", d->address);
}

static void write_only_model(const struct people *p, const struct gpubroker_device *d,
			     struct text *out)
{
	(void)p;
	write_model(d, out);
}

static void write_you(const struct people *p, const struct gpubroker_device *d, struct text *out)
{
	(void)p;
	say_in(out, d->allowed ? TONE_GOOD : TONE_DIM, d->allowed ? "yes" : "no");
}

static void write_driver(const struct people *p, const struct gpubroker_device *d, struct text *out)
{
	(void)p;
	say_in(out, TONE_PLAIN, "%s", d->driver[0] ? d->driver : "-");
}

static void write_group(const struct people *p, const struct gpubroker_device *d, struct text *out)
{
	(void)p;
	if (d->iommu_group < 0)
		say_in(out, TONE_DIM, "-");
	else
		say_in(out, TONE_PLAIN, "%" PRIi64, d->iommu_group);
}

static void write_path(const struct people *p, const struct gpubroker_device *d, struct text *out)
{
	const struct function *f = local_of(p, d);

	say_in(out, TONE_PLAIN, "%s", f && f->path[0] ? f->path : "-");
}

static void write_serial(const struct people *p, const struct gpubroker_device *d, struct text *out)
{
	const struct function *f = local_of(p, d);

	say_in(out, TONE_PLAIN, "%s", f && f->serial[0] ? f->serial : "-");
}

/* The NUMA node, for who pins a VM's processors. */
static void write_node(const struct people *p, const struct gpubroker_device *d, struct text *out)
{
	char path[64], number[16] = "-";
	cleanup_file FILE *file = NULL;

	(void)p;
	snprintf(path, sizeof(path), "/sys/bus/pci/devices/%s/numa_node", d->address);
	file = fopen(path, "re");
	if (file && fgets(number, sizeof(number), file))
		number[strcspn(number, "\n")] = '\0';
	say_in(out, TONE_PLAIN, "%s", number[0] == '-' ? "-" : number);
}

static const struct column {
	const char *name, *heading;
	double width; /* a hint of libsmartcols: below 1, a share of the terminal */
	int flags;
	void (*write)(const struct people *p, const struct gpubroker_device *d, struct text *out);
} columns[] = {
	{ "gpu", "GPU", 0.4, SCOLS_FL_TRUNC, write_gpu },
	{ "name", "NAME", 0.1, SCOLS_FL_TRUNC, write_name },
	{ "you", "YOU", 3, 0, write_you },
	{ "status", "STATUS", 0.4, SCOLS_FL_WRAP, write_status },
	{ "address", "ADDRESS", 12, 0, write_address },
	{ "model", "MODEL", 0.2, SCOLS_FL_TRUNC, write_only_model },
	{ "driver", "DRIVER", 8, 0, write_driver },
	{ "group", "GROUP", 5, SCOLS_FL_RIGHT, write_group },
	{ "node", "NODE", 4, SCOLS_FL_RIGHT, write_node },
	{ "path", "PATH", 9, 0, write_path },
	{ "serial", "SERIAL", 9, 0, write_serial },
};

/* ---- the table ---- */

static const struct column *find_column(const char *name)
{
	const char *names[ARRAY_SIZE(columns)];
	const char *near;

	for (size_t i = 0; i < ARRAY_SIZE(columns); i++) {
		names[i] = columns[i].name;
		if (!strcasecmp(name, names[i]))
			return &columns[i];
	}
	near = nearness_best(name, names, ARRAY_SIZE(names));
	cli_error(
		"list has no column '%s'%s%s%s; there are gpu, name, you, status, address, model, "
		"driver, group, node, path and serial",
		name, near ? "; did you mean '" : "", near ? near : "", near ? "'?" : "");
	return NULL;
}

static int add_columns(struct libscols_table *table, const char *list,
		       const struct column *chosen[ARRAY_SIZE(columns)], size_t *ret_n)
{
	cleanup_free char *copy = strdup(list);
	char *save = NULL;

	*ret_n = 0;
	if (!copy)
		return EXIT_SOFTWARE;
	for (char *name = strtok_r(copy, ",", &save); name; name = strtok_r(NULL, ",", &save)) {
		const struct column *column = find_column(name);
		struct libscols_column *made;

		if (!column || *ret_n == ARRAY_SIZE(columns))
			return EXIT_BAD_USAGE;
		made = scols_table_new_column(table, column->heading, column->width, column->flags);
		if (!made)
			return EXIT_SOFTWARE;
		scols_cell_set_color(scols_column_get_header(made), "bold");
		chosen[(*ret_n)++] = column;
	}
	return 0;
}

static int add_row_of(const struct people *p, const struct gpubroker_device *d,
		      const struct column *const *chosen, size_t n)
{
	struct libscols_line *line = scols_table_new_line(p->table, NULL);

	for (size_t i = 0; line && i < n; i++) {
		struct text text = { 0 };

		chosen[i]->write(p, d, &text);
		if (text.text && scols_line_refer_data(line, i, text.text)) {
			free(text.text);
			return EXIT_SOFTWARE;
		}
		if (tones[text.tone])
			scols_cell_set_color(scols_line_get_cell(line, i), tones[text.tone]);
	}
	return line ? 0 : EXIT_SOFTWARE;
}

static int print_table(struct people *p, const struct gpubroker_device *const *devices, size_t n,
		       const char *list)
{
	const struct column *chosen[ARRAY_SIZE(columns)];
	const bool terminal = isatty(STDOUT_FILENO);
	size_t n_columns;
	int r;

	scols_init_debug(0);
	p->table = scols_new_table();
	if (!p->table)
		return EXIT_SOFTWARE;
	scols_table_enable_colors(p->table, terminal && !getenv("NO_COLOR"));
	if (terminal) /* not by the library's own look, which takes COLUMNS first */
		scols_table_set_termwidth(p->table, (size_t)cli_columns(stdout));
	else
		scols_table_set_termforce(p->table, SCOLS_TERMFORCE_NEVER);
	r = add_columns(p->table, list, chosen, &n_columns);
	for (size_t i = 0; !r && i < n; i++)
		r = add_row_of(p, devices[i], chosen, n_columns);
	if (!r && scols_print_table(p->table))
		r = EXIT_SOFTWARE;
	scols_unref_table(p->table);
	return r;
}

/* Says below the table if something keeps all devices from being lent. */
static void print_footer(struct gpubroker *handle, const struct gpubroker_device *const *devices,
			 size_t n)
{
	struct gpubroker_policy state = { 0 };
	bool groups = !n;

	for (size_t i = 0; i < n; i++)
		groups = groups || devices[i]->iommu_group >= 0;
	if (!groups)
		puts("No IOMMU groups: nothing can be lent. gpubrokerd(8) says how to switch the "
		     "IOMMU on.");
	if (gpubroker_policy(handle, &state))
		return;
	if (state.refused)
		printf("The policy's files have %" PRIu64 " mistake%s and are not in force: "
		       "'gpubroker policy check' shows %s.\n",
		       state.mistakes, state.mistakes == 1 ? "" : "s",
		       state.mistakes == 1 ? "it" : "them");
	else if (!state.rules)
		puts("The policy is empty, so nobody may claim anything: 'gpubroker policy add "
		     "--help'.");
}

int list_people(struct gpubroker *handle, const struct gpubroker_device *const *devices, size_t n,
		const char *list)
{
	struct people p = { .devices = devices, .n_devices = n };
	int r;

	/* Without leases, or a policy that can be read, a column says less. */
	if (!gpubroker_leases(handle, add_held, &p))
		gpubroker_queue(handle, count_waiter, &p);
	inventory_read_local(&p.inventory);
	names_read(&p.policy);
	r = print_table(&p, devices, n, list ? list : "gpu,name,you,status");
	if (!r && isatty(STDOUT_FILENO))
		print_footer(handle, devices, n);
	policy_done(&p.policy);
	inventory_done(&p.inventory);
	free(p.leases);
	return r;
}
