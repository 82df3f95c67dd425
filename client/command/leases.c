/* SPDX-License-Identifier: MIT */
/*
 * gpubroker leases: who has which device since when, and who waits for one, as tables or JSON.
 * Reads only; prints each lease and each waiting claim as it arrives.
 */
#include "config.h"

#include "client/command/leases.h"
#include "client/command/cli.h"
#include "client/command/arguments.h"
#include "client/command/holders.h"
#include "client/command/json-out.h"
#include "client/command/leases-people.h"
#include "client/command/moments.h"
#include "client/command/taken.h"
#include "client/host/marked.h"

#include <inttypes.h>
#include <pwd.h>
#include <string.h>
#include <time.h>
#include <unistd.h>

struct output {
	struct json_object *array; /* NULL: a table */
	size_t n, n_waiting;
};

/*
 * How long ago, rounded down to the largest unit: "12s", "5m", "3h", "2d". The exact time is in
 * --json.
 */
static void print_end(uint64_t expires)
{
	const uint64_t now = (uint64_t)time(NULL);
	char text[24];

	if (moment_full(expires, text))
		printf("       %s at %s\n", expires > now ? "ends" : "was to end", text);
}

static void print_holder(const char *text)
{
	printf("       %s\n", text);
}

static void add_json(struct json_object *array, const struct gpubroker_lease *lease)
{
	struct json_object *o = json_object_new_object(), *devices = json_object_new_array();

	for (size_t i = 0; i < lease->n_devices; i++)
		json_object_array_add(devices, json_object_new_string(lease->devices[i]));
	json_object_object_add(o, "id", json_object_new_int64((int64_t)lease->id));
	json_object_object_add(o, "uid", json_object_new_int64(lease->uid));
	json_object_object_add(o, "user", json_out_user(lease->uid));
	json_object_object_add(o, "pid", json_object_new_int64(lease->pid));
	json_object_object_add(o, "devices", devices);
	json_object_object_add(o, "iommu_group",
			       lease->iommu_group == UINT32_MAX
				       ? NULL
				       : json_object_new_int64(lease->iommu_group));
	json_object_object_add(o, "state",
			       json_object_new_string(gpubroker_lease_state_name(lease->state)));
	json_object_object_add(o, "since", json_object_new_int64((int64_t)lease->since));
	json_object_object_add(o, "reason", json_out_text(lease->reason));
	json_object_object_add(o, "stuck_since", json_out_number(lease->stuck_since));
	json_object_object_add(o, "released_at", json_out_number(lease->released_at));
	json_object_object_add(o, "rule", json_out_text(lease->rule));
	json_object_object_add(o, "allowed", json_object_new_boolean(lease->allowed));
	json_object_object_add(o, "expires", json_out_number(lease->expires));
	json_object_object_add(o, "parent", json_out_text(lease->parent));
	json_object_object_add(o, "profile", json_out_text(lease->profile));
	json_object_object_add(o, "mdev", json_out_text(lease->uuid));
	json_object_object_add(o, "can_migrate",
			       lease->migration == GPUBROKER_MIGRATION_UNKNOWN
				       ? NULL
				       : json_object_new_boolean(lease->migration ==
								 GPUBROKER_MIGRATION_YES));
	json_object_object_add(o, "taken", taken_json(lease));
	json_object_object_add(o, "allotment", json_out_text(lease->label));
	json_object_array_add(array, o);
}

/*
 * Finds what goes on of the command's tree when the process that claimed has ended. Returns false
 * if it has not, or if nothing is found.
 */
static bool find_survivor(const struct gpubroker_lease *lease, struct marked *ret_survivor)
{
	char path[32], mark[48];

	snprintf(path, sizeof(path), "/proc/%" PRIu32, lease->pid);
	snprintf(mark, sizeof(mark), "GPUBROKER_LEASE=%" PRIu64, lease->id);
	return lease->state == GPUBROKER_LEASE_LEASED && access(path, F_OK) &&
	       marked_find(mark, (uid_t)lease->uid, ret_survivor, 1);
}

/* `survivor`: what keeps the lease when the process that claimed has ended; NULL: nothing. */
static void print_lease_notes(const struct gpubroker_lease *lease, const struct marked *survivor)
{
	if (survivor)
		printf("       process %" PRIu32 " has ended; %s (pid %" PRIu32
		       "), which it started, keeps the lease\n",
		       lease->pid, survivor->name, survivor->pid);
	if (lease->label[0])
		printf("       by the allotment %s\n", lease->label);
	if (lease->migration == GPUBROKER_MIGRATION_YES)
		puts("       can be migrated with its virtual machine");
	if (!lease->allowed)
		puts("       the policy in force would not grant this lease; it goes on "
		     "until it ends");
}

static int on_lease(void *userdata, const struct gpubroker_lease *lease)
{
	struct output *output = userdata;
	const struct passwd *user;
	struct marked survivor = { .pid = lease->pid };
	char held[24], uid[16], group[16] = "-", node[320];
	bool survives;

	output->n++;
	if (output->array) {
		add_json(output->array, lease);
		return 0;
	}
	survives = find_survivor(lease, &survivor);
	user = getpwuid((uid_t)lease->uid);
	snprintf(uid, sizeof(uid), "%" PRIu32, lease->uid);
	moment_ago(lease->since, held);
	if (lease->iommu_group != UINT32_MAX)
		snprintf(group, sizeof(group), "%" PRIu32, lease->iommu_group);
	if (output->n == 1)
		puts("LEASE  USER      PID      IOMMU  STATE      HELD  DEVICES");
	printf("%-5" PRIu64 "  %-8.16s  %-7" PRIu32 "  %-5s  %-9s  %-4s ", lease->id,
	       user ? user->pw_name : uid, survivor.pid, group,
	       gpubroker_lease_state_name(lease->state), held);
	for (size_t i = 0; i < lease->n_devices; i++)
		printf(" %s", lease->devices[i]);
	if (lease->parent[0]) {
		putchar(' ');
		cli_print_text(stdout, lease->parent, -1);
		putchar(' ');
		cli_print_text(stdout, lease->profile, -1);
	}
	putchar('\n');
	print_lease_notes(lease, survives ? &survivor : NULL);
	if (lease->expires)
		print_end(lease->expires);
	if (lease->reason[0]) {
		fputs("       ", stdout);
		if (lease->stuck_since || lease->released_at) {
			moment_ago(lease->stuck_since ? lease->stuck_since : lease->released_at,
				   held);
			printf("%s for %s: ",
			       lease->state == GPUBROKER_LEASE_ASKED ? "asked back"
			       : lease->stuck_since		     ? "stuck"
								     : "releasing",
			       held);
		}
		cli_print_text(stdout, lease->reason, -1);
		putchar('\n');
		holders_print(lease->iommu_group, print_holder);
	}
	if (lease->iommu_group != UINT32_MAX &&
	    holders_node_text(lease->iommu_group, node, sizeof(node)))
		print_holder(node);
	taken_print(lease->state, lease->devices, lease->n_devices, print_holder);
	return 0;
}

/* ---- claims that wait ---- */

static void add_waiting_json(struct json_object *array, const struct gpubroker_waiting *waiting)
{
	struct json_object *o = json_object_new_object(), *wanted = json_object_new_array();

	for (size_t i = 0; i < waiting->n_wanted; i++) {
		struct json_object *one = json_object_new_object();

		json_object_object_add(one, "device",
				       json_object_new_string(waiting->wanted[i].device));
		json_object_object_add(one, "profile", json_out_text(waiting->wanted[i].profile));
		json_object_array_add(wanted, one);
	}
	json_object_object_add(o, "id", json_object_new_int64((int64_t)waiting->id));
	json_object_object_add(o, "uid", json_object_new_int64(waiting->uid));
	json_object_object_add(o, "user", json_out_user(waiting->uid));
	json_object_object_add(o, "pid", json_object_new_int64(waiting->pid));
	json_object_object_add(o, "wanted", wanted);
	json_object_object_add(o, "since", json_object_new_int64((int64_t)waiting->since));
	json_object_object_add(o, "place", json_object_new_int64(waiting->place));
	json_object_object_add(o, "keeps", json_object_new_boolean(waiting->keeps));
	json_object_object_add(o, "lease", json_out_number(waiting->lease));
	json_object_object_add(o, "ends", json_out_number(waiting->ends));
	json_object_array_add(array, o);
}

/* Prints the lease that the claim waits for, and until when. */
static void print_reason(const struct gpubroker_waiting *waiting)
{
	const struct passwd *user = getpwuid((uid_t)waiting->holder_uid);
	char text[24];

	if (waiting->lease && user)
		printf("       waits for lease %" PRIu64 " of %s", waiting->lease, user->pw_name);
	else if (waiting->lease)
		printf("       waits for lease %" PRIu64 " of %" PRIu32, waiting->lease,
		       waiting->holder_uid);
	if (waiting->lease && waiting->ends && moment_full(waiting->ends, text))
		printf(", until %s at the latest", text);
	if (waiting->lease)
		putchar('\n');
	if (!waiting->keeps)
		puts("       keeps nothing from others: only its own user is in its way");
}

static int on_waiting(void *userdata, const struct gpubroker_waiting *waiting)
{
	const struct passwd *user = getpwuid((uid_t)waiting->uid);
	struct output *output = userdata;
	char held[24], uid[16];

	if (output->array) {
		add_waiting_json(output->array, waiting);
		return 0;
	}
	snprintf(uid, sizeof(uid), "%" PRIu32, waiting->uid);
	moment_ago(waiting->since, held);
	if (!output->n_waiting++)
		printf("%sCLAIM  USER      PID      PLACE  WAITS  WANTS\n", output->n ? "\n" : "");
	printf("%-5" PRIu64 "  %-8.16s  %-7" PRIu32 "  %-5" PRIu32 "  %-5s ", waiting->id,
	       user ? user->pw_name : uid, waiting->pid, waiting->place, held);
	for (size_t i = 0; i < waiting->n_wanted; i++) {
		putchar(' ');
		cli_print_text(stdout, waiting->wanted[i].device, -1);
		if (waiting->wanted[i].profile[0]) {
			putchar('/');
			cli_print_text(stdout, waiting->wanted[i].profile, -1);
		}
	}
	putchar('\n');
	print_reason(waiting);
	return 0;
}

struct asked {
	bool json, waiting, wide;
	const char *columns; /* of --columns, or NULL */
};

/* Parses the arguments. Returns ARGUMENTS_END, or the exit status. */
static int parse_arguments(int argc, char **argv, struct asked *ret_asked)
{
	static const struct option options[] = {
		{ "json", no_argument, NULL, 'j' },
		{ "waiting", no_argument, NULL, 'w' },
		{ "wide", no_argument, NULL, 'W' },
		{ "columns", required_argument, NULL, 'c' },
		{ NULL, 0, NULL, 0 },
	};
	struct arguments arguments = { .command = "leases", .mode = "" };
	int c;

	*ret_asked = (struct asked){ 0 };
	while ((c = arguments_next(&arguments, argc, argv, options)) != ARGUMENTS_END) {
		if (c == ARGUMENTS_STOP)
			return arguments.status;
		ret_asked->json = ret_asked->json || c == 'j';
		ret_asked->waiting = ret_asked->waiting || c == 'w';
		ret_asked->wide = ret_asked->wide || c == 'W';
		if (c == 'c')
			ret_asked->columns = optarg;
	}
	if (optind == argc)
		return ARGUMENTS_END;
	cli_error("leases takes no argument '%s'; it shows all leases", argv[optind]);
	return EXIT_BAD_USAGE;
}

int leases_show(struct gpubroker *handle, const char *columns)
{
	struct output output = { 0 };
	int r = leases_people(handle, columns, on_waiting, &output, &output.n);

	if (!r && !output.n && !output.n_waiting && cli_columns(stdout))
		puts("Nothing is leased.");
	return r ? r : cli_finish_output();
}

/* Prints for programs, and for a pipe. */
static int show_plainly(const struct cli *cli, struct gpubroker *handle, const struct asked *asked,
			struct output *output)
{
	int r = 0;

	if (asked->json)
		output->array = json_object_new_array();
	if (!asked->waiting)
		r = gpubroker_leases(handle, on_lease, output);
	/* An array has leases or waiting claims, so that a program need not tell them apart. */
	if (!r && (asked->waiting || !asked->json))
		r = gpubroker_queue(handle, on_waiting, output);
	if (r) {
		r = cli_failed(cli, handle, r);
		json_object_put(output->array);
		return r;
	}
	if (asked->json)
		json_out_print(output->array);
	else if (!output->n && !output->n_waiting && cli_columns(stdout))
		puts("No claim waits.");
	return cli_finish_output();
}

int cli_leases(const struct cli *cli, int argc, char **argv)
{
	struct output output = { 0 };
	struct gpubroker *handle;
	struct asked asked;
	int r = parse_arguments(argc, argv, &asked);

	if (r != ARGUMENTS_END)
		return r;
	r = cli_open(cli, &handle);
	if (r)
		return r;
	if (!asked.json && !asked.waiting && (asked.wide || asked.columns || isatty(STDOUT_FILENO)))
		r = leases_show(handle, asked.columns ? asked.columns
					: asked.wide  ? LEASES_WIDE
						      : NULL);
	else
		r = show_plainly(cli, handle, &asked, &output);
	gpubroker_close(handle);
	return r;
}
