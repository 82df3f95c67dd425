/* SPDX-License-Identifier: MIT */
/*
 * gpubroker profiles: the parts of devices that drivers offer to make, as a table or JSON. Reads
 * sysfs, as any user may, and not the policy. A broker, if there is one, is only asked which mdevs
 * are its own.
 */
#include "config.h"

#include "client/command/cli.h"
#include "client/command/arguments.h"
#include "client/command/json-out.h"
#include "client/command/table.h"
#include "client/common/address.h"
#include "client/host/directory.h"
#include "client/host/profile.h"
#include "client/host/sysfs.h"
#include "client/common/util.h"

#include <fcntl.h>
#include <inttypes.h>
#include <string.h>

#define DESCRIPTION_MIN 20 /* columns; less than that says nothing */
#define NAME_MIN 8

enum { PARENT, TYPE, NAME, MEMORY, FREE, TOTAL, OTHERS, API, DESCRIPTION, N_COLUMNS };
static const struct table_column profile_columns[N_COLUMNS] = {
	[PARENT] = { .heading = "DEVICE" },
	[TYPE] = { .heading = "TYPE" },
	[NAME] = { .heading = "NAME" },
	[MEMORY] = { .heading = "MEMORY", .to_the_right = true },
	[FREE] = { .heading = "AVAILABLE", .to_the_right = true },
	[TOTAL] = { .heading = "TOTAL", .to_the_right = true },
	[OTHERS] = { .heading = "OTHERS", .to_the_right = true },
	[API] = { .heading = "API" },
	[DESCRIPTION] = { .heading = "DESCRIPTION" },
};

/* The broker's own mdevs. */
struct ours {
	bool is_known; /* a broker has answered */
	char (*uuids)[40];
	size_t n;
};

static int on_lease(void *userdata, const struct gpubroker_lease *lease)
{
	struct ours *ours = userdata;
	char(*uuids)[40];

	if (!lease->uuid[0])
		return 0;
	uuids = reallocarray(ours->uuids, ours->n + 1, sizeof(*uuids));
	if (!uuids)
		return -ENOMEM;
	ours->uuids = uuids;
	snprintf(uuids[ours->n++], sizeof(*uuids), "%s", lease->uuid);
	return 0;
}

static struct ours ask_for_ours(const struct cli *cli)
{
	struct gpubroker *handle = NULL;
	struct ours ours = { 0 };

	ours.is_known = !gpubroker_open(cli->socket, &handle) &&
			!gpubroker_leases(handle, on_lease, &ours);
	gpubroker_close(handle);
	return ours;
}

/* How many of the existing ones are not the broker's. */
static uint64_t others_of(int sys, const struct ours *ours, const struct profile *p)
{
	cleanup_fd int fd = -1;
	struct directory dir;
	const char *name;
	uint64_t n = 0;

	if (!ours->is_known || p->mechanism != PROFILE_MDEV)
		return PROFILE_UNKNOWN;
	fd = sysfs_open(sys, O_RDONLY | O_DIRECTORY,
			"class/mdev_bus/%s/mdev_supported_types/%s/devices", p->parent, p->type);
	if (fd < 0)
		return PROFILE_UNKNOWN;
	dir = (struct directory)DIRECTORY(fd);
	while ((name = directory_next(&dir))) {
		size_t i = 0;

		while (i < ours->n && strcmp(ours->uuids[i], name) != 0)
			i++;
		n += i == ours->n;
	}
	return dir.error ? PROFILE_UNKNOWN : n;
}

static void say_unreadable(void *userdata, const char *path, int error)
{
	(void)userdata;
	switch (error) {
	case EINVAL:
	case EBADMSG:
	case E2BIG:
		cli_error("/sys/%s: has not what should be there", path);
		break;
	default:
		cli_error("/sys/%s: cannot be read: %s", path, strerror(error));
	}
}

static uint64_t total_of(const struct profile *p)
{
	return p->available == PROFILE_UNKNOWN || p->instances == PROFILE_UNKNOWN
		       ? PROFILE_UNKNOWN
		       : p->available + p->instances;
}

/* Returns true if DEVICE means it: its device, or the physical function of that. */
static bool is_meant(const struct profile *p, const char *device)
{
	return !device || !strcmp(p->parent, device) || !strcmp(p->physfn, device);
}

static const char *number_text(uint64_t number, char out[TABLE_SCRATCH])
{
	if (number == PROFILE_UNKNOWN)
		return "-";
	snprintf(out, TABLE_SCRATCH, "%" PRIu64, number);
	return out;
}

static const char *profile_cell(const void *rows, size_t row, int column,
				char scratch[TABLE_SCRATCH])
{
	const struct profile *p = (const struct profile *)rows + row;

	switch (column) {
	case PARENT:
		return p->parent;
	case TYPE:
		return p->type;
	case NAME:
		return p->name[0] ? p->name : "-";
	case MEMORY:
		return p->memory ? cli_size_text(p->memory, scratch) : "-";
	case FREE:
		return number_text(p->available, scratch);
	case TOTAL:
		return number_text(total_of(p), scratch);
	case OTHERS:
		return number_text(p->others, scratch);
	case API:
		return p->device_api[0] ? p->device_api : "-";
	default:
		return p->description[0] ? p->description : "-";
	}
}

/*
 * Users copy types and devices, so these stay whole. The description becomes narrower first, or is
 * left out where only a few letters would be left; then the name.
 */
static void fit_profiles(int *widths, int room)
{
	int left = widths[DESCRIPTION] - (table_width(widths, N_COLUMNS) - room);

	widths[DESCRIPTION] = left >= DESCRIPTION_MIN ? left : 0;
	while (table_width(widths, N_COLUMNS) > room && widths[NAME] > NAME_MIN)
		widths[NAME]--;
}

static void print_profiles(const struct profiles *profiles)
{
	const struct table table = {
		.columns = profile_columns,
		.n_columns = N_COLUMNS,
		.n_rows = profiles->n,
		.rows = profiles->list,
		.cell = profile_cell,
		.fit = fit_profiles,
	};
	bool any_others = false;

	for (size_t i = 0; i < profiles->n; i++)
		any_others |= profiles->list[i].others &&
			      profiles->list[i].others != PROFILE_UNKNOWN;
	table_print(&table, any_others ? -1 : OTHERS);
}

static struct json_object *json_count(uint64_t count)
{
	return count == PROFILE_UNKNOWN ? NULL : json_object_new_int64((int64_t)count);
}

static void print_profiles_json(const struct profiles *profiles)
{
	struct json_object *array = json_object_new_array();

	for (size_t i = 0; i < profiles->n; i++) {
		const struct profile *p = &profiles->list[i];
		struct json_object *o = json_object_new_object();

		json_object_object_add(o, "device", json_out_text(p->parent));
		json_object_object_add(o, "physical_function", json_out_text(p->physfn));
		json_object_object_add(o, "mechanism",
				       json_out_text(p->mechanism == PROFILE_MDEV ? "mdev"
										  : "vendor-vfio"));
		json_object_object_add(o, "type", json_out_text(p->type));
		json_object_object_add(o, "name", json_out_text(p->name));
		json_object_object_add(o, "description", json_out_text(p->description));
		json_object_object_add(o, "memory", json_out_number(p->memory));
		json_object_object_add(o, "available", json_count(p->available));
		json_object_object_add(o, "instances", json_count(p->instances));
		json_object_object_add(o, "total", json_count(total_of(p)));
		json_object_object_add(o, "others", json_count(p->others));
		json_object_object_add(o, "device_api", json_out_text(p->device_api));
		json_object_array_add(array, o);
	}
	json_out_print(array);
}

/* Parses a PCI address, which becomes the kernel's spelling, or a name as in mdev_bus. */
static bool parse_device(const char *text, char out[PROFILE_NAME_MAX])
{
	struct pci_address address;

	if (!pci_address_parse(text, &address))
		pci_address_format(&address, out);
	else if (*text && *text != '.' && !strchr(text, '/') && strlen(text) < PROFILE_NAME_MAX)
		strcpy(out, text);
	else
		return false;
	return true;
}

static int say_nothing_for(int sys, const char *device)
{
	struct pci_address address;
	cleanup_fd int fd = pci_address_parse(device, &address)
				    ? sysfs_open(sys, O_PATH, "class/mdev_bus/%s", device)
				    : sysfs_function_open(sys, &address, O_PATH, "");

	if (fd >= 0)
		cli_error("%s has no profiles: its driver offers none, or it is not the vendor's; "
			  "'gpubroker profiles' shows all that there are",
			  device);
	else
		cli_error("there is no device %s: give a PCI address as 0000:01:00.0, or a name of "
			  "/sys/class/mdev_bus; 'gpubroker profiles' shows all that there are",
			  device);
	return EXIT_NO_DEVICE;
}

static int show_profiles(const struct cli *cli, int sys, const char *device, bool json)
{
	struct ours ours = ask_for_ours(cli);
	struct profiles profiles;
	size_t n = 0;
	int r = profiles_read(sys, say_unreadable, NULL, &profiles);

	for (size_t i = 0; i < profiles.n; i++)
		if (is_meant(&profiles.list[i], device))
			profiles.list[n++] = profiles.list[i];
	profiles.n = n;
	for (size_t i = 0; i < n; i++)
		profiles.list[i].others = others_of(sys, &ours, &profiles.list[i]);
	if (r) {
		cli_error("cannot read /sys: %s", strerror(-r));
		r = EXIT_KERNEL;
	} else if (device && !n) {
		r = say_nothing_for(sys, device);
	} else {
		if (json)
			print_profiles_json(&profiles);
		else if (n)
			print_profiles(&profiles);
		else
			cli_error("no device of this host offers profiles; the vendor's driver "
				  "offers them (NVIDIA's vGPU manager, i915 with kvmgt), for some "
				  "cards on virtual functions, which must be created first");
		r = cli_finish_output();
	}
	profiles_done(&profiles);
	free(ours.uuids);
	return r;
}

int cli_profiles(const struct cli *cli, int argc, char **argv)
{
	static const struct option options[] = {
		{ "json", no_argument, NULL, 'j' },
		{ NULL, 0, NULL, 0 },
	};
	char device[PROFILE_NAME_MAX];
	cleanup_fd int sys = -1;
	bool json = false;
	struct arguments arguments = { .command = "profiles", .mode = "" };
	int c;

	while ((c = arguments_next(&arguments, argc, argv, options)) != ARGUMENTS_END) {
		if (c == ARGUMENTS_STOP)
			return arguments.status;
		json = true;
	}
	if (argc - optind > 1) {
		cli_error("profiles takes at most one DEVICE, and '%s' is another",
			  argv[optind + 1]);
		return EXIT_BAD_USAGE;
	}
	if (optind < argc && !parse_device(argv[optind], device)) {
		cli_error("'%s' is no device: give a PCI address as 0000:01:00.0 or 01:00.0, or "
			  "a name of /sys/class/mdev_bus",
			  argv[optind]);
		return EXIT_BAD_USAGE;
	}
	sys = open("/sys", O_PATH | O_DIRECTORY | O_CLOEXEC);
	if (sys < 0) {
		cli_error("cannot open /sys: %s", strerror(errno));
		return EXIT_KERNEL;
	}
	return show_profiles(cli, sys, optind < argc ? device : NULL, json);
}
