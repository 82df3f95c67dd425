/* SPDX-License-Identifier: MIT */
/*
 * gpubroker policy what: all that a user may have, by which rule and with which limits, and for
 * each device whether it is free or who has it. The rules come from the policy's files, so the
 * broker may have others: for oneself it is asked, and where it disagrees, that is said. Changes
 * nothing.
 */
#include "config.h"

#include "client/command/policy-what.h"
#include "client/command/account.h"
#include "client/command/arguments.h"
#include "client/command/inventory.h"
#include "client/command/list-people.h"
#include "client/command/parts.h"
#include "client/command/policy-sources.h"
#include "client/command/policy.h"
#include "client/command/screen.h"
#include "client/common/util.h"
#include "policy/units.h"

#include <errno.h>
#include <fcntl.h>
#include <inttypes.h>
#include <stdlib.h>
#include <string.h>
#include <unistd.h>

#define BY_BROKER SIZE_MAX /* no rule of the files: the broker alone allows it */

/* A device that the user may have, or a part of one. */
struct mine {
	struct gpubroker_device device;
	const struct profile *part; /* NULL: the device */
	size_t rule;		    /* or BY_BROKER */
	struct policy_verdict verdict;
	bool shown;
};

struct what {
	struct gpubroker *handle;
	const char *user; /* NULL: oneself */
	struct account account;
	struct policy policy;
	struct inventory inventory;
	struct profiles profiles;
	struct mine *list;
	size_t n;
	bool failed;	     /* no memory */
	unsigned allottable; /* devices that root could allot to the user */
	/* for count_by_rule() */
	size_t rule;
	unsigned leases;
};

static struct mine *add_mine(struct what *w)
{
	struct mine *more = reallocarray(w->list, w->n + 1, sizeof(*more));

	if (!more) {
		w->failed = true;
		return NULL;
	}
	w->list = more;
	more[w->n] = (struct mine){ .rule = BY_BROKER };
	return &more[w->n++];
}

/* Decides about a function by the files. Returns true if they allow it. */
static bool files_allow_function(const struct what *w, const struct function *f,
				 const struct policy_subject *subject,
				 struct policy_verdict *ret_verdict)
{
	struct group_view *view = calloc(1, sizeof(*view));
	struct policy_facts facts[FUNCTIONS_MAX];
	bool allowed = false;
	size_t asked;

	if (!view)
		return false;
	inventory_group(&w->inventory, f, view);
	asked = group_find(view, &f->address);
	for (size_t i = 0; i < view->n_functions; i++)
		facts[i] = function_facts(&view->functions[i]);
	if (asked != SIZE_MAX && w->policy.n_rules) {
		policy_decide(&w->policy, subject, facts, view->n_functions, asked, NULL,
			      ret_verdict);
		allowed = ret_verdict->outcome == POLICY_ALLOWED;
	}
	free(view);
	return allowed;
}

/* Returns true for a function that comes along with one that is listed already. */
static bool comes_along(const struct what *w, const struct gpubroker_device *device)
{
	for (size_t i = 0; i < w->n; i++)
		if (device->iommu_group >= 0 &&
		    w->list[i].device.iommu_group == device->iommu_group)
			return true;
	return false;
}

static bool is_allotted(const struct what *w, const struct gpubroker_device *device)
{
	return device->allotment[0] && policy_owner(&w->policy, device->allotted_uid) ==
					       policy_owner(&w->policy, w->account.subject.uid);
}

static int take_claimable(struct what *w, const struct gpubroker_device *device)
{
	const struct function *f = NULL;
	struct policy_subject subject = w->account.subject;
	struct policy_verdict verdict;
	struct pci_address address;
	struct mine *mine;
	bool by_files;

	if (!pci_address_parse(device->address, &address))
		f = inventory_find(&w->inventory, &address);
	subject.allotted = is_allotted(w, device);
	by_files = f && !f->is_bridge && files_allow_function(w, f, &subject, &verdict);
	if (f && !f->is_bridge && !by_files && !comes_along(w, device)) {
		subject.allotted = true;
		w->allottable += files_allow_function(w, f, &subject, &verdict);
	}
	if ((!by_files && (w->user || !device->allowed)) || comes_along(w, device))
		return 0;
	mine = add_mine(w);
	if (!mine)
		return -ENOMEM;
	mine->device = *device;
	if (by_files) {
		mine->rule = verdict.rule;
		mine->verdict = verdict;
	}
	return 0;
}

static int take_gpu(void *userdata, const struct gpubroker_device *device)
{
	return class_is_gpu(device->class_code) ? take_claimable(userdata, device) : 0;
}

static int take_other(void *userdata, const struct gpubroker_device *device)
{
	return class_is_gpu(device->class_code) ? 0 : take_claimable(userdata, device);
}

static void skip_problem(void *userdata, const char *path, int error)
{
	(void)userdata;
	(void)path;
	(void)error;
}

/* Adds the parts that drivers of this host offer, as far as the files allow them. */
static void take_parts(struct what *w)
{
	cleanup_fd int sys = open("/sys", O_PATH | O_DIRECTORY | O_CLOEXEC);
	struct policy_verdict verdict;
	struct policy_facts facts;
	struct mine *mine;

	if (sys >= 0)
		profiles_read(sys, skip_problem, NULL, &w->profiles);
	for (size_t i = 0; w->policy.n_rules && i < w->profiles.n; i++) {
		if (!part_facts(&w->inventory, &w->profiles.list[i], &facts))
			continue;
		policy_decide(&w->policy, &w->account.subject, &facts, 1, 0, NULL, &verdict);
		if (verdict.outcome != POLICY_ALLOWED || !(mine = add_mine(w)))
			continue;
		mine->part = &w->profiles.list[i];
		mine->rule = verdict.rule;
		mine->verdict = verdict;
	}
}

/* ---- printing ---- */

static int count_by_rule(void *userdata, const struct gpubroker_lease *lease)
{
	struct what *w = userdata;
	const struct policy_rule *r = &w->policy.rules[w->rule];
	char place[POLICY_FILE_MAX + 16];

	snprintf(place, sizeof(place), "%s:%" PRIu32, w->policy.files[r->file].path, r->line);
	w->leases += lease->uid == w->account.subject.uid && !strcmp(lease->rule, place);
	return 0;
}

/* "teaching (4)", "01:00.0", or "2 devices": what the rule is about. */
static void write_subject(const struct what *w, const struct mine *first, unsigned n, FILE *file)
{
	const struct policy_rule *r = first->rule == BY_BROKER ? NULL
							       : &w->policy.rules[first->rule];

	if (r && r->name != POLICY_NO_NAME)
		fprintf(file, "%s (%u)", w->policy.names[r->name].text, n);
	else if (n == 1 && !first->part)
		fputs(screen_address(first->device.address), file);
	else
		fprintf(file, "%u %s%s", n, first->part ? "part" : "device", n == 1 ? "" : "s");
}

/* "limit 1 (has 0), for 8h, memlock 64G, by 10-lab.policy:3" */
static void write_limits(struct what *w, const struct mine *first, FILE *file)
{
	const struct policy_rule *r = &w->policy.rules[first->rule];
	const char *path = w->policy.files[r->file].path, *name = strrchr(path, '/');
	char text[UNITS_TEXT];

	if (r->limit) {
		w->rule = first->rule;
		w->leases = 0;
		gpubroker_leases(w->handle, count_by_rule, w);
		fprintf(file, "limit %" PRIu32 " (has %u), ", r->limit, w->leases);
	}
	if (first->verdict.lifetime)
		fprintf(file, "for %s, ", units_time(first->verdict.lifetime, text));
	if (first->verdict.memlock)
		fprintf(file, "memlock %s, ", units_size(first->verdict.memlock, text));
	fprintf(file, "by %s:%" PRIu32, name ? name + 1 : path, r->line);
}

/* Prints a rule, and below it what the user may have by it. Returns the exit status. */
static int print_by_rule(struct what *w, struct mine *first)
{
	const struct gpubroker_device **devices = calloc(w->n, sizeof(*devices));
	static const struct list_look look = { .columns = "gpu,status", .bare = true };
	cleanup_free char *text = NULL;
	size_t size, n_devices = 0;
	FILE *file = open_memstream(&text, &size);
	unsigned n = 0;
	int r = 0;

	for (size_t i = 0; i < w->n; i++)
		n += w->list[i].rule == first->rule;
	if (!file || !devices) {
		free(devices);
		return EXIT_SOFTWARE;
	}
	fprintf(file, "%s may claim ", w->user ? w->user : "You");
	write_subject(w, first, n, file);
	fputs(": ", file);
	if (first->rule == BY_BROKER)
		fputs("by a rule of the broker's that cannot be read here", file);
	else
		write_limits(w, first, file);
	if (!fclose(file))
		screen_line(TONE_PLAIN, text);
	for (struct mine *m = first; m < w->list + w->n; m++) {
		if (m->rule != first->rule)
			continue;
		m->shown = true;
		if (!m->part)
			devices[n_devices++] = &m->device;
	}
	if (n_devices)
		r = list_people(w->handle, devices, n_devices, &look);
	for (struct mine *m = first; m < w->list + w->n; m++)
		if (m->rule == first->rule && m->part)
			part_print(m->part);
	free(devices);
	return r;
}

/* Says where the broker has another policy than the files. */
static void print_disagreement(const struct what *w)
{
	struct gpubroker_policy state = { 0 };
	unsigned refused = 0;

	if (!gpubroker_policy(w->handle, &state) && state.refused)
		screen_line(TONE_MIND, "The policy's files have mistakes, and what is in force is "
				       "older: 'gpubroker policy check' shows them.");
	for (size_t i = 0; !w->user && i < w->n; i++)
		refused += !w->list[i].part && !w->list[i].device.allowed;
	if (refused)
		screen_line(TONE_MIND,
			    "The broker does not allow you all of that: the policy in force is "
			    "older, or this session lacks a group. 'gpubroker run' says which.");
}

static int print_all(struct what *w)
{
	int r = 0;

	for (size_t i = 0; !r && i < w->n; i++)
		if (!w->list[i].shown)
			r = print_by_rule(w, &w->list[i]);
	if (r)
		return r;
	if (!w->n && w->user)
		printf("No rule allows %s anything.\n", w->user);
	else if (!w->n)
		puts("No rule allows you anything; ask the administrator for one.");
	if (w->allottable)
		printf("Root can allot %s %u %sdevice%s, see 'gpubroker allotments'.\n",
		       w->user ? w->user : "you", w->allottable, w->n ? "more " : "",
		       w->allottable == 1 ? "" : "s");
	print_disagreement(w);
	r = cli_finish_output();
	return r ? r : w->n ? 0 : EXIT_POLICY;
}

/* Reads what is decided by. 0, or an exit status after the reason was printed. */
static int read_what(struct what *w, const struct cli *cli)
{
	struct policy_report report = { .mistakes_only = true, .quiet = true };
	struct policy_sources sources;
	int r = 0;

	if (w->user)
		r = account_find(w->user, &w->account);
	else if (account_find_uid(geteuid(), &w->account))
		r = EXIT_NO_NAME;
	if (r)
		return r;
	policy_sources_init(&sources);
	if (policy_sources_load(&sources, NULL, 0, &report, &w->policy) && w->user) {
		cli_error("the policy's files cannot be read, or have mistakes; 'gpubroker policy "
			  "check' shows which");
		return EXIT_BAD_POLICY;
	}
	inventory_read_local(&w->inventory);
	r = cli_open(cli, &w->handle);
	if (r)
		return r;
	r = gpubroker_list(w->handle, take_gpu, w);
	if (!r)
		r = gpubroker_list(w->handle, take_other, w);
	take_parts(w);
	return r ? cli_failed(cli, w->handle, r) : w->failed ? EXIT_SOFTWARE : 0;
}

int policy_what_show(const struct cli *cli, const char *user)
{
	struct what w = { .user = user };
	int r = read_what(&w, cli);

	if (!r)
		r = print_all(&w);
	gpubroker_close(w.handle);
	profiles_done(&w.profiles);
	inventory_done(&w.inventory);
	policy_done(&w.policy);
	account_done(&w.account);
	free(w.list);
	return r;
}

int policy_what(const struct cli *cli, int argc, char **argv)
{
	static const struct option options[] = {
		{ "user", required_argument, NULL, 'u' },
		{ NULL, 0, NULL, 0 },
	};
	struct arguments arguments = { .command = "policy what", .mode = "" };
	const char *user = NULL;
	int c;

	while ((c = arguments_next(&arguments, argc, argv, options)) != ARGUMENTS_END) {
		if (c == ARGUMENTS_STOP)
			return arguments.status;
		user = optarg;
	}
	if (optind == argc)
		return policy_what_show(cli, user);
	cli_error("policy what takes no argument '%s'; for a device, 'gpubroker policy explain %s'",
		  argv[optind], argv[optind]);
	return EXIT_BAD_USAGE;
}
