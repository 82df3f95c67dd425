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
#include "client/command/screen.h"
#include "client/common/util.h"
#include "client/host/function.h"
#include "client/host/profile.h"

#include <errno.h>
#include <fcntl.h>
#include <inttypes.h>
#include <libsmartcols.h>
#include <stdbool.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <unistd.h>

/* A lease or a waiting claim, as far as the table needs it. */
struct held {
	uint64_t id;
	char user[SCREEN_USER];
	uint64_t since, ends, asked_at;
	bool is_asked;
	char reason[128];
	char label[48]; /* of its allotment, or "" */
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
	const struct list_look *look;
};

/* ---- who has what ---- */

static int add_held(void *userdata, const struct gpubroker_lease *lease)
{
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
	screen_user(lease->uid, held->user);
	memcpy(held->reason, lease->reason, sizeof(held->reason));
	memcpy(held->label, lease->label, sizeof(held->label));
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

/* Address, model, and what comes along with it: "02:00.0  A100 80GB +audio". */
static void write_gpu(const struct people *p, const struct gpubroker_device *d,
		      struct screen_text *out)
{
	const struct function *own = local_of(p, d);
	struct screen_text model = { 0 };
	char along[64] = "";
	size_t len = 0;

	for (size_t i = 0;
	     !p->look->tree && own && own->iommu_group != NO_GROUP && i < p->inventory.n; i++) {
		const struct function *f = &p->inventory.functions[i];

		if (f != own && f->iommu_group == own->iommu_group && !f->is_bridge &&
		    len < sizeof(along) - 16)
			len += (size_t)snprintf(along + len, sizeof(along) - len, " +%s",
						screen_companion(f->class_code));
	}
	screen_model(d, &model);
	screen_shorten(&model); /* the status must have room; --wide has the whole name */
	screen_say(out, TONE_PLAIN, "%s%s  %s%s", d->physfn[0] ? "  " : "",
		   screen_address(d->address), model.text ? model.text : "", along);
	free(model.text);
}

static void write_name(const struct people *p, const struct gpubroker_device *d,
		       struct screen_text *out)
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
	screen_say(out, len ? TONE_PLAIN : TONE_DIM, "%s", len ? list : "-");
}

/* "bob, 3h, until 06:05; 2 wait" */
static void write_leased(const struct held *held, struct screen_text *out)
{
	char ago[MOMENT_TEXT], until[MOMENT_TEXT], wait[24] = "";
	const bool ends = held->ends && moment_clock(held->ends, until);

	moment_ago(held->since, ago);
	if (held->waiters)
		snprintf(wait, sizeof(wait), "; %u wait%s", held->waiters,
			 held->waiters == 1 ? "s" : "");
	screen_say(out, TONE_PLAIN, "%s%s%s%s, %s%s%s%s", held->user, held->label[0] ? " (" : "",
		   held->label, held->label[0] ? ")" : "", ago, ends ? ", until " : "",
		   ends ? until : "", wait);
}

/* Why the host keeps a device that nobody has. False: it does not. */
static bool write_kept(const struct people *p, const struct function *own, struct screen_text *out)
{
	struct group_view *view = own ? calloc(1, sizeof(*view)) : NULL;
	enum guard guard = GUARD_NONE;
	size_t which = SIZE_MAX;

	if (!view)
		return false;
	inventory_group(&p->inventory, own, view);
	guard = group_guard(view, false, &which);
	if (guard == GUARD_NOT_VIABLE && view->not_viable[0])
		screen_say(out, TONE_DIM, "cannot be lent: its group %s", view->not_viable);
	else if (guard == GUARD_BOOT_VGA)
		screen_say(out, TONE_DIM, "the host's console");
	else if (guard == GUARD_IN_USE)
		screen_say(out, TONE_MIND, "in use: %s", view->functions[which].in_use);
	else
		guard = GUARD_NONE;
	free(view);
	return guard != GUARD_NONE;
}

/* "allotted to bob (slurm-17)" */
static void write_allotted(const struct gpubroker_device *d, struct screen_text *out)
{
	char user[SCREEN_USER] = "nobody";

	if (d->allotted_uid != UINT32_MAX)
		screen_user(d->allotted_uid, user);
	screen_say(out, d->allowed ? TONE_GOOD : TONE_DIM, "allotted to %s (%s)", user,
		   d->allotment);
}

static void write_free(const struct people *p, const struct gpubroker_device *d,
		       struct screen_text *out)
{
	char node[320];

	if (write_kept(p, local_of(p, d), out))
		return;
	if (d->iommu_group >= 0 && holders_node_text((uint32_t)d->iommu_group, node, sizeof(node)))
		screen_say(out, TONE_BAD, "not lent: %s", node);
	else if (d->allotment[0])
		write_allotted(d, out);
	else
		screen_say(out, TONE_GOOD, "free");
}

/* A device that is on its way back, or is stuck on it. */
static void write_returning(const struct gpubroker_device *d, const struct held *held,
			    struct screen_text *out)
{
	char ago[MOMENT_TEXT];

	if (!held) {
		screen_say(out, TONE_MIND, "%s",
			   d->status == GPUBROKER_STUCK ? "stuck" : "going back to the host");
		return;
	}
	moment_ago(held->asked_at ? held->asked_at : held->since, ago);
	if (d->status == GPUBROKER_STUCK)
		screen_say(out, TONE_BAD, "stuck for %s: %s", ago, held->reason);
	else
		screen_say(out, TONE_MIND, "%s from %s for %s%s%s",
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

static void write_status(const struct people *p, const struct gpubroker_device *d,
			 struct screen_text *out)
{
	const struct held *held = find_held(p, d->lease);

	if (d->vfs && !held) {
		screen_say(out, TONE_PLAIN, "%u/%u VFs free", count_free_vfs(p, d),
			   (unsigned)d->vfs);
		return;
	}
	switch (d->status) {
	case GPUBROKER_LEASED:
		if (held)
			write_leased(held, out);
		else
			screen_say(out, TONE_PLAIN, "leased");
		return;
	case GPUBROKER_RELEASING:
	case GPUBROKER_STUCK:
		write_returning(d, held, out);
		return;
	case GPUBROKER_IN_USE:
		screen_say(out, TONE_MIND, "in use by another program, through VFIO");
		return;
	case GPUBROKER_NOT_VIABLE:
		if (d->iommu_group < 0)
			screen_say(out, TONE_DIM, "no IOMMU group");
		else if (!write_kept(p, local_of(p, d), out))
			screen_say(out, TONE_DIM, "cannot be lent");
		return;
	default:
		write_free(p, d, out);
	}
}

static void write_address(const struct people *p, const struct gpubroker_device *d,
			  struct screen_text *out)
{
	(void)p;
	screen_say(out, TONE_PLAIN, "%s", d->address);
}

static void write_only_model(const struct people *p, const struct gpubroker_device *d,
			     struct screen_text *out)
{
	(void)p;
	screen_model(d, out);
}

static void write_you(const struct people *p, const struct gpubroker_device *d,
		      struct screen_text *out)
{
	(void)p;
	screen_say(out, d->allowed ? TONE_GOOD : TONE_DIM, d->allowed ? "yes" : "no");
}

static void write_driver(const struct people *p, const struct gpubroker_device *d,
			 struct screen_text *out)
{
	(void)p;
	screen_say(out, TONE_PLAIN, "%s", d->driver[0] ? d->driver : "-");
}

static void write_group(const struct people *p, const struct gpubroker_device *d,
			struct screen_text *out)
{
	(void)p;
	if (d->iommu_group < 0)
		screen_say(out, TONE_DIM, "-");
	else
		screen_say(out, TONE_PLAIN, "%" PRIi64, d->iommu_group);
}

static void write_path(const struct people *p, const struct gpubroker_device *d,
		       struct screen_text *out)
{
	const struct function *f = local_of(p, d);

	screen_say(out, TONE_PLAIN, "%s", f && f->path[0] ? f->path : "-");
}

static void write_serial(const struct people *p, const struct gpubroker_device *d,
			 struct screen_text *out)
{
	const struct function *f = local_of(p, d);

	screen_say(out, TONE_PLAIN, "%s", f && f->serial[0] ? f->serial : "-");
}

/* The NUMA node, for who pins a VM's processors. */
static void write_node(const struct people *p, const struct gpubroker_device *d,
		       struct screen_text *out)
{
	char path[64], number[16] = "-";
	cleanup_file FILE *file = NULL;

	(void)p;
	snprintf(path, sizeof(path), "/sys/bus/pci/devices/%s/numa_node", d->address);
	file = fopen(path, "re");
	if (file && fgets(number, sizeof(number), file))
		number[strcspn(number, "\n")] = '\0';
	screen_say(out, TONE_PLAIN, "%s", number[0] == '-' ? "-" : number);
}

static const struct people_column {
	struct screen_column column;
	void (*write)(const struct people *p, const struct gpubroker_device *d,
		      struct screen_text *out);
} columns[] = {
	{ { "gpu", "GPU", 0.4, SCOLS_FL_TRUNC }, write_gpu },
	{ { "name", "NAME", 0.1, SCOLS_FL_TRUNC }, write_name },
	{ { "you", "YOU", 3, 0 }, write_you },
	{ { "status", "STATUS", 0.4, SCOLS_FL_WRAP }, write_status },
	{ { "address", "ADDRESS", 12, 0 }, write_address },
	{ { "model", "MODEL", 0.2, SCOLS_FL_TRUNC }, write_only_model },
	{ { "driver", "DRIVER", 8, 0 }, write_driver },
	{ { "group", "GROUP", 5, SCOLS_FL_RIGHT }, write_group },
	{ { "node", "NODE", 4, SCOLS_FL_RIGHT }, write_node },
	{ { "path", "PATH", 9, 0 }, write_path },
	{ { "serial", "SERIAL", 9, 0 }, write_serial },
};

/* ---- the table ---- */

/* Finds the line that stands above a device in the tree. NULL: it is a root of it. */
static struct libscols_line *line_above(const struct people *p, struct libscols_line *const *lines,
					size_t at)
{
	const struct gpubroker_device *d = p->devices[at];
	const size_t slot = strcspn(d->address, ".");

	for (size_t i = 0; p->look->tree && i < at; i++) {
		const struct gpubroker_device *other = p->devices[i];

		if (d->physfn[0]
			    ? !strcmp(other->address, d->physfn)
			    : !other->physfn[0] && (!strncmp(other->address, d->address, slot) ||
						    (d->iommu_group >= 0 &&
						     d->iommu_group == other->iommu_group)))
			return lines[i];
	}
	return NULL;
}

static void ignore_unreadable(void *userdata, const char *path, int error)
{
	(void)userdata;
	(void)path;
	(void)error;
}

/* Adds the profiles that a device's driver offers, each with what is left of it. */
static int add_profile_lines(const struct people *p, const struct profiles *profiles,
			     const struct gpubroker_device *d, struct libscols_line *above,
			     const size_t *chosen, size_t n)
{
	for (size_t i = 0; i < profiles->n; i++) {
		const struct profile *profile = &profiles->list[i];
		struct screen_text cells[SCREEN_COLUMNS_MAX] = { 0 };

		if (strcmp(profile->parent, d->address))
			continue;
		for (size_t k = 0; k < n; k++) {
			if (columns[chosen[k]].write == write_gpu)
				screen_say(&cells[k], TONE_PLAIN, "%s%s%s", profile->type,
					   profile->name[0] ? "  " : "", profile->name);
			else if (columns[chosen[k]].write == write_status &&
				 profile->available != PROFILE_UNKNOWN)
				screen_say(&cells[k], profile->available ? TONE_GOOD : TONE_DIM,
					   "%" PRIu64 " left", profile->available);
		}
		if (!screen_table_line(p->table, above, cells, n))
			return EXIT_SOFTWARE;
	}
	return 0;
}

static int fill_lines(const struct people *p, const size_t *chosen, size_t n)
{
	struct libscols_line **lines = calloc(p->n_devices + 1, sizeof(struct libscols_line *));
	cleanup_fd int sys = open("/sys", O_PATH | O_DIRECTORY | O_CLOEXEC);
	struct profiles profiles = { 0 };
	int r = lines ? 0 : EXIT_SOFTWARE;

	if (p->look->tree && sys >= 0)
		profiles_read(sys, ignore_unreadable, NULL, &profiles);
	for (size_t i = 0; !r && i < p->n_devices; i++) {
		struct screen_text cells[SCREEN_COLUMNS_MAX] = { 0 };

		for (size_t k = 0; k < n; k++)
			columns[chosen[k]].write(p, p->devices[i], &cells[k]);
		lines[i] = screen_table_line(p->table, line_above(p, lines, i), cells, n);
		r = lines[i] ? add_profile_lines(p, &profiles, p->devices[i], lines[i], chosen, n)
			     : EXIT_SOFTWARE;
	}
	profiles_done(&profiles);
	free(lines);
	return r;
}

static int print_table(struct people *p)
{
	const char *list = p->look->columns ? p->look->columns : "gpu,name,you,status";
	const struct screen_column *all[ARRAY_SIZE(columns)];
	size_t chosen[SCREEN_COLUMNS_MAX], n;
	struct screen_column gpu = columns[0].column;
	int r;

	p->table = screen_table_new();
	if (!p->table)
		return EXIT_SOFTWARE;
	scols_table_enable_noheadings(p->table, p->look->bare);
	for (size_t i = 0; i < ARRAY_SIZE(columns); i++)
		all[i] = &columns[i].column;
	gpu.flags |= p->look->tree ? SCOLS_FL_TREE : 0;
	all[0] = &gpu;
	r = screen_table_columns(p->table, "list", all, ARRAY_SIZE(all), list, chosen, &n);
	if (!r)
		r = fill_lines(p, chosen, n);
	if (!r && p->look->bare)
		r = screen_table_indented(p->table);
	if (!r && !p->look->bare) {
		screen_table_mark_cut(p->table);
		r = scols_print_table(p->table) ? EXIT_SOFTWARE : 0;
	}
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
		puts("No IOMMU groups: nothing can be lent. 'gpubroker doctor' says how to switch "
		     "the IOMMU on.");
	if (gpubroker_policy(handle, &state))
		return;
	if (state.refused)
		printf("The policy's files have %" PRIu64 " mistake%s and are not in force%s: "
		       "'gpubroker policy check' shows %s.\n",
		       state.mistakes, state.mistakes == 1 ? "" : "s",
		       state.saved ? ", but a saved copy of before" : "",
		       state.mistakes == 1 ? "it" : "them");
	else if (!state.rules)
		puts("The policy is empty, so nobody may claim anything: 'gpubroker policy add "
		     "--help'.");
}

int list_people(struct gpubroker *handle, const struct gpubroker_device *const *devices, size_t n,
		const struct list_look *look)
{
	struct people p = { .devices = devices, .n_devices = n, .look = look };
	int r;

	/* Without leases, or a policy that can be read, a column says less. */
	if (!gpubroker_leases(handle, add_held, &p))
		gpubroker_queue(handle, count_waiter, &p);
	inventory_read_local(&p.inventory);
	names_read(&p.policy);
	r = print_table(&p);
	if (!r && !look->bare && isatty(STDOUT_FILENO))
		print_footer(handle, devices, n);
	policy_done(&p.policy);
	inventory_done(&p.inventory);
	free(p.leases);
	return r;
}
