/* SPDX-License-Identifier: MIT */
/*
 * gpubroker allotments: which devices root has promised to whom, and what each has of them, as a
 * table or JSON. Reads only.
 */
#include "config.h"

#include "client/command/cli.h"
#include "client/command/arguments.h"
#include "client/command/json-out.h"
#include "client/command/moments.h"
#include "client/command/screen.h"
#include "client/command/table.h"
#include "client/common/util.h"

#include <errno.h>
#include <inttypes.h>
#include <pwd.h>
#include <stdlib.h>
#include <string.h>
#include <unistd.h>

struct promised {
	struct gpubroker_allotment allotment; /* its devices are in `device` */
	char device[20];		      /* "": of a damaged record */
	uint32_t group;
	bool first; /* of its allotment */
	uint64_t lease;
	enum gpubroker_lease_state state;
};

struct promises {
	struct promised *list;
	size_t n;
};

static int add_promise(struct promises *p, const struct gpubroker_allotment *allotment, size_t at)
{
	struct promised *more = reallocarray(p->list, p->n + 1, sizeof(*more));
	struct promised *promised;

	if (!more)
		return -ENOMEM;
	p->list = more;
	promised = &more[p->n++];
	*promised = (struct promised){ .allotment = *allotment, .first = !at };
	promised->group = UINT32_MAX;
	if (at < allotment->n_devices) {
		memcpy(promised->device, allotment->devices[at], sizeof(promised->device));
		promised->group = allotment->iommu_groups[at];
	}
	promised->allotment.devices = NULL;
	promised->allotment.iommu_groups = NULL;
	return 0;
}

static int add_allotment(void *userdata, const struct gpubroker_allotment *allotment)
{
	int r = allotment->n_devices ? 0 : add_promise(userdata, allotment, 0);

	for (size_t i = 0; !r && i < allotment->n_devices; i++)
		r = add_promise(userdata, allotment, i);
	return r;
}

static int note_lease_of(void *userdata, const struct gpubroker_lease *lease)
{
	struct promises *p = userdata;

	for (size_t i = 0; lease->label[0] && i < p->n; i++) {
		struct promised *promised = &p->list[i];

		if (strcmp(promised->allotment.label, lease->label) != 0 ||
		    promised->group != lease->iommu_group)
			continue;
		promised->lease = lease->id;
		promised->state = lease->state;
	}
	return 0;
}

/* ---- output ---- */

static const char *promise_state(const struct promised *promised)
{
	return promised->allotment.damaged	? "damaged"
	       : promised->allotment.retracting ? "retracting"
	       : promised->lease		? gpubroker_lease_state_name(promised->state)
						: "free";
}

enum { LABEL, USER, DEVICE, IOMMU, SINCE, UNTIL, STATE, N_COLUMNS };
static const struct table_column allotment_columns[N_COLUMNS] = {
	{ .heading = "LABEL" },
	{ .heading = "USER" },
	{ .heading = "DEVICE" },
	{ .heading = "IOMMU", .to_the_right = true },
	{ .heading = "HELD", .to_the_right = true },
	{ .heading = "UNTIL" },
	{ .heading = "STATE" },
};

static const char *format_user(uint32_t uid, char scratch[TABLE_SCRATCH])
{
	const struct passwd *user = uid == UINT32_MAX ? NULL : getpwuid((uid_t)uid);

	if (uid == UINT32_MAX)
		return "nobody's";
	if (user)
		snprintf(scratch, TABLE_SCRATCH, "%.31s", user->pw_name);
	else
		snprintf(scratch, TABLE_SCRATCH, "%" PRIu32, uid);
	return scratch;
}

static const char *allotment_cell(const void *rows, size_t row, int column,
				  char scratch[TABLE_SCRATCH])
{
	const struct promised *promised = (const struct promised *)rows + row;
	const struct gpubroker_allotment *a = &promised->allotment;

	switch (column) {
	case LABEL:
		return a->label;
	case USER:
		return format_user(a->uid, scratch);
	case DEVICE:
		return promised->device[0] ? promised->device : "any";
	case IOMMU:
		if (promised->group == UINT32_MAX)
			return "-";
		snprintf(scratch, TABLE_SCRATCH, "%" PRIu32, promised->group);
		return scratch;
	case SINCE:
		if (!a->since)
			return "-";
		moment_ago(a->since, scratch);
		return scratch;
	case UNTIL:
		return a->until && moment_clock(a->until, scratch) ? scratch : "-";
	default:
		return promise_state(promised);
	}
}

/* Makes the label shorter, down to what still says something. */
static void fit_allotments(int *widths, int room)
{
	while (table_width(widths, N_COLUMNS) > room && widths[LABEL] > 12)
		widths[LABEL]--;
	while (table_width(widths, N_COLUMNS) > room && widths[USER] > 8)
		widths[USER]--;
}

/* An array with an object for each allotment. */
static void allotments_json(const struct promises *p)
{
	struct json_object *array = json_object_new_array(), *devices = NULL;
	char scratch[TABLE_SCRATCH];

	for (size_t i = 0; i < p->n; i++) {
		const struct promised *promised = &p->list[i];
		const struct gpubroker_allotment *a = &promised->allotment;
		struct json_object *o, *device;

		if (promised->first) {
			o = json_object_new_object();
			devices = json_object_new_array();
			json_object_object_add(o, "label", json_object_new_string(a->label));
			json_object_object_add(o, "uid",
					       a->damaged ? NULL
							  : json_object_new_int64((int64_t)a->uid));
			json_object_object_add(
				o, "user",
				a->damaged ? NULL
					   : json_object_new_string(format_user(a->uid, scratch)));
			json_object_object_add(o, "own", json_object_new_boolean(a->own));
			json_object_object_add(o, "since", json_out_number(a->since));
			json_object_object_add(o, "until", json_out_number(a->until));
			json_object_object_add(o, "retracting",
					       json_object_new_boolean(a->retracting));
			json_object_object_add(o, "damaged", json_object_new_boolean(a->damaged));
			json_object_object_add(o, "socket",
					       a->socket[0] ? json_object_new_string(a->socket)
							    : NULL);
			json_object_object_add(o, "listening", json_object_new_boolean(a->listens));
			json_object_object_add(o, "devices", devices);
			json_object_array_add(array, o);
		}
		if (!promised->device[0])
			continue;
		device = json_object_new_object();
		json_object_object_add(device, "address", json_object_new_string(promised->device));
		json_object_object_add(device, "iommu_group",
				       promised->group == UINT32_MAX
					       ? NULL
					       : json_object_new_int64(promised->group));
		json_object_object_add(device, "lease", json_out_number(promised->lease));
		json_object_object_add(device, "state",
				       promised->lease
					       ? json_object_new_string(gpubroker_lease_state_name(
							 promised->state))
					       : NULL);
		json_object_array_add(devices, device);
	}
	json_out_print(array);
}

static void allotments_table(const struct promises *p)
{
	const struct table table = {
		.columns = allotment_columns,
		.n_columns = N_COLUMNS,
		.n_rows = p->n,
		.rows = p->list,
		.cell = allotment_cell,
		.fit = fit_allotments,
	};

	if (p->n)
		table_print(&table, -1);
	else if (cli_columns(stdout))
		puts("Nothing is allotted.");
	for (size_t i = 0; i < p->n && isatty(STDOUT_FILENO); i++)
		if (p->list[i].allotment.damaged && p->list[i].first)
			printf("The record of %s is damaged, so its devices are nobody's; "
			       "'gpubroker retract %s', by root, settles that.\n",
			       p->list[i].allotment.label, p->list[i].allotment.label);
	for (size_t i = 0; i < p->n && isatty(STDOUT_FILENO); i++)
		if (p->list[i].allotment.socket[0] && p->list[i].first)
			printf("The socket of %s is %s%s.\n", p->list[i].allotment.label,
			       p->list[i].allotment.socket,
			       p->list[i].allotment.listens
				       ? ""
				       : ", which nobody serves; 'gpubroker allot' with the same "
					 "--socket makes it anew");
}

/* Parses the arguments. Returns ARGUMENTS_END, or the exit status. */
static int allotments_arguments(int argc, char **argv, bool *ret_json)
{
	static const struct option options[] = {
		{ "json", no_argument, NULL, 'j' },
		{ NULL, 0, NULL, 0 },
	};
	struct arguments arguments = { .command = "allotments", .mode = "" };
	int c;

	*ret_json = false;
	while ((c = arguments_next(&arguments, argc, argv, options)) != ARGUMENTS_END) {
		if (c == ARGUMENTS_STOP)
			return arguments.status;
		*ret_json = true;
	}
	if (optind == argc)
		return ARGUMENTS_END;
	cli_error("allotments takes no argument '%s'; it shows all allotments", argv[optind]);
	return EXIT_BAD_USAGE;
}

int cli_allotments(const struct cli *cli, int argc, char **argv)
{
	struct promises promises = { 0 };
	struct gpubroker *handle;
	bool json;
	int r = allotments_arguments(argc, argv, &json);

	if (r != ARGUMENTS_END)
		return r;
	r = cli_open(cli, &handle);
	if (r)
		return r;
	r = gpubroker_allotments(handle, add_allotment, &promises);
	if (!r)
		r = gpubroker_leases(handle, note_lease_of, &promises);
	if (!r && json)
		allotments_json(&promises);
	else if (!r)
		allotments_table(&promises);
	r = r ? cli_failed(cli, handle, r) : cli_finish_output();
	free(promises.list);
	gpubroker_close(handle);
	return r;
}
