/* SPDX-License-Identifier: MIT */
/*
 * gpubroker list: the GPUs (or every PCI function) as a table for people or JSON for programs.
 * Reads only; owns the snapshot that it prints.
 */
#include "config.h"

#include "client/command/cli.h"
#include "client/command/arguments.h"
#include "client/command/holders.h"
#include "client/command/json-out.h"
#include "client/command/list-people.h"
#include "client/command/list-saved.h"
#include "client/command/screen.h"
#include "client/command/table.h"
#include "client/host/function.h"
#include "client/host/pci.h"
#include "client/common/util.h"

#include <fcntl.h>
#include <string.h>
#include <unistd.h>

struct row {
	struct gpubroker_device device;
	char vendor[64];
	char model[96];
	char group[24];
	char address[24]; /* that of a VF is indented below its PF */
	char status[128];
	uint32_t vfs_free; /* of a PF */
	bool shown;	   /* is printed */
};

struct listing {
	struct row *rows;
	size_t n_rows;
	bool all, json, wide, tree;
	const char *columns; /* of --columns, or NULL */
	const char *from;    /* of --from, or NULL */
};

static int add_row(void *userdata, const struct gpubroker_device *device)
{
	struct listing *listing = userdata;
	struct row *rows, *row;

	rows = reallocarray(listing->rows, listing->n_rows + 1, sizeof(*rows));
	if (!rows)
		return -ENOMEM;
	listing->rows = rows;
	row = &rows[listing->n_rows++];
	*row = (struct row){ .device = *device,
			     .shown = listing->all || class_is_gpu(device->class_code) };
	if (device->vendor_name[0])
		snprintf(row->vendor, sizeof(row->vendor), "%s", device->vendor_name);
	else
		snprintf(row->vendor, sizeof(row->vendor), "%04x", device->vendor);
	if (device->model[0])
		snprintf(row->model, sizeof(row->model), "%s", device->model);
	else
		snprintf(row->model, sizeof(row->model), "%04x", device->device);
	if (device->iommu_group < 0)
		strcpy(row->group, "-");
	else
		snprintf(row->group, sizeof(row->group), "%lld", (long long)device->iommu_group);
	return 0;
}

static struct row *row_of(const struct listing *listing, const char *address)
{
	for (size_t i = 0; i < listing->n_rows; i++)
		if (!strcmp(listing->rows[i].device.address, address))
			return &listing->rows[i];
	return NULL;
}

static bool is_free(const struct gpubroker_device *device)
{
	return device->status == GPUBROKER_AVAILABLE || device->status == GPUBROKER_VFIO_READY;
}

static int compare_rows(const void *a, const void *b)
{
	const struct row *x = a, *y = b;
	/* A VF comes after its PF, whatever its own address. */
	const char *px = x->device.physfn[0] ? x->device.physfn : x->device.address;
	const char *py = y->device.physfn[0] ? y->device.physfn : y->device.address;
	struct pci_address ax, ay;
	int order;

	if (pci_address_parse(px, &ax) || pci_address_parse(py, &ay))
		return strcmp(px, py);
	order = pci_address_compare(&ax, &ay);
	if (order)
		return order;
	if (!x->device.physfn[0] != !y->device.physfn[0])
		return x->device.physfn[0] ? 1 : -1;
	if (pci_address_parse(x->device.address, &ax) || pci_address_parse(y->device.address, &ay))
		return 0;
	return pci_address_compare(&ax, &ay);
}

/* Returns true for what comes along with a GPU, but for bridges, or is a VF of one. */
static bool is_below_shown(const struct listing *listing, const struct gpubroker_device *d)
{
	for (size_t i = 0; d->class_code >> 16 != 0x06 && i < listing->n_rows; i++) {
		const struct gpubroker_device *other = &listing->rows[i].device;

		if (class_is_gpu(other->class_code) &&
		    (!strcmp(d->physfn, other->address) ||
		     (d->iommu_group >= 0 && d->iommu_group == other->iommu_group)))
			return true;
	}
	return false;
}

/* Adds for whom the device is reserved, and under which label. */
static void say_allotment(struct row *row)
{
	const struct gpubroker_device *d = &row->device;
	const size_t len = strlen(row->status);
	char user[SCREEN_USER];

	if (!d->allotment[0])
		return;
	if (d->allotted_uid == UINT32_MAX)
		strcpy(user, "nobody");
	else
		screen_user(d->allotted_uid, user);
	snprintf(row->status + len, sizeof(row->status) - len, ", allotted to %s (%s)", user,
		 d->allotment);
}

/* Once all rows are known: counts VFs, and keeps the rows that are shown. */
static void complete_rows(struct listing *listing)
{
	size_t n = 0;

	for (size_t i = 0; listing->tree && i < listing->n_rows; i++)
		listing->rows[i].shown = listing->rows[i].shown ||
					 is_below_shown(listing, &listing->rows[i].device);
	for (size_t i = 0; i < listing->n_rows; i++) {
		const struct gpubroker_device *d = &listing->rows[i].device;
		struct row *pf = d->physfn[0] ? row_of(listing, d->physfn) : NULL;

		if (pf)
			pf->vfs_free += is_free(d);
		/* A VF of a GPU has the class of its PF, but may be shown where its PF is not. */
		snprintf(listing->rows[i].address, sizeof(listing->rows[i].address), "%s%s",
			 pf && pf->shown ? "  " : "", d->address);
	}
	for (size_t i = 0; i < listing->n_rows; i++) {
		struct row *row = &listing->rows[i];
		const struct gpubroker_device *d = &row->device;

		if (d->vfs)
			snprintf(row->status, sizeof(row->status), "%s, %u/%u VFs free",
				 gpubroker_status_name(d->status), (unsigned)row->vfs_free,
				 (unsigned)d->vfs);
		else if (d->vfs_total)
			snprintf(row->status, sizeof(row->status), "%s, no VFs of %u",
				 gpubroker_status_name(d->status), (unsigned)d->vfs_total);
		else
			snprintf(row->status, sizeof(row->status), "%s",
				 gpubroker_status_name(d->status));
		say_allotment(row);
		if (row->shown)
			listing->rows[n++] = *row;
	}
	listing->n_rows = n;
}

/*
 * Adds what the broker does not keep, since it changes without an event or no listing needs it.
 * With it, `policy explain` on another machine can explain all that it could explain on this one.
 */
static void add_local(struct json_object *object, int sys, const char *address)
{
	struct function f = { 0 };
	struct pci_address parsed;

	if (!pci_address_parse(address, &parsed))
		sysfs_function_read(sys, &parsed, &f);
	json_object_object_add(object, "boot_vga", json_object_new_boolean(f.boot_vga));
	json_object_object_add(object, "bridge", json_object_new_boolean(f.is_bridge));
	json_object_object_add(object, "console", json_out_text(f.console));
	json_object_object_add(object, "in_use", json_out_text(f.in_use));
	json_object_object_add(object, "path", json_out_text(f.path));
	json_object_object_add(object, "serial", json_out_text(f.serial));
}

/* The VFs of a PF; NULL, which becomes null, for a function without SR-IOV. */
static struct json_object *vfs_object(const struct row *row)
{
	struct json_object *vfs;

	if (!row->device.vfs_total)
		return NULL;
	vfs = json_object_new_object();
	json_object_object_add(vfs, "total", json_object_new_int64(row->device.vfs_total));
	json_object_object_add(vfs, "created", json_object_new_int64(row->device.vfs));
	json_object_object_add(vfs, "free", json_object_new_int64(row->vfs_free));
	return vfs;
}

static void print_json(const struct listing *listing)
{
	cleanup_fd int sys = open("/sys", O_PATH | O_DIRECTORY | O_CLOEXEC);
	struct json_object *array = json_object_new_array();

	for (size_t i = 0; i < listing->n_rows; i++) {
		const struct gpubroker_device *d = &listing->rows[i].device;
		struct json_object *o = json_object_new_object();
		char hex[8], node[320];

		json_object_object_add(o, "address", json_object_new_string(d->address));
		snprintf(hex, sizeof(hex), "%04x", d->vendor);
		json_object_object_add(o, "vendor", json_object_new_string(hex));
		snprintf(hex, sizeof(hex), "%04x", d->device);
		json_object_object_add(o, "device", json_object_new_string(hex));
		snprintf(hex, sizeof(hex), "%04x", d->subsystem_vendor);
		json_object_object_add(o, "subsystem_vendor", json_object_new_string(hex));
		snprintf(hex, sizeof(hex), "%04x", d->subsystem_device);
		json_object_object_add(o, "subsystem_device", json_object_new_string(hex));
		json_object_object_add(o, "vendor_name", json_out_text(d->vendor_name));
		json_object_object_add(o, "model", json_out_text(d->model));
		snprintf(hex, sizeof(hex), "%06x", d->class_code & 0xffffff);
		json_object_object_add(o, "class", json_object_new_string(hex));
		json_object_object_add(o, "driver", json_out_text(d->driver));
		json_object_object_add(o, "iommu_group",
				       d->iommu_group < 0 ? NULL
							  : json_object_new_int64(d->iommu_group));
		json_object_object_add(o, "status",
				       json_object_new_string(gpubroker_status_name(d->status)));
		json_object_object_add(o, "allowed", json_object_new_boolean(d->allowed));
		json_object_object_add(o, "lease", json_out_number(d->lease));
		json_object_object_add(o, "holder_uid",
				       d->lease ? json_object_new_int64(d->holder_uid) : NULL);
		json_object_object_add(o, "holder", d->lease ? json_out_user(d->holder_uid) : NULL);
		json_object_object_add(o, "allotment", json_out_text(d->allotment));
		json_object_object_add(o, "allotted_uid",
				       d->allotment[0] && d->allotted_uid != UINT32_MAX
					       ? json_object_new_int64(d->allotted_uid)
					       : NULL);
		json_object_object_add(o, "physfn", json_out_text(d->physfn));
		json_object_object_add(o, "vfs", vfs_object(&listing->rows[i]));
		json_object_object_add(o, "node",
				       d->iommu_group >= 0 &&
						       holders_node_text((uint32_t)d->iommu_group,
									 node, sizeof(node))
					       ? json_object_new_string(node)
					       : NULL);
		add_local(o, sys, d->address);
		json_object_array_add(array, o);
	}
	json_out_print(array);
}

enum { ADDRESS, VENDOR, MODEL, DRIVER, IOMMU, STATUS, N_COLUMNS };
static const struct table_column list_columns[N_COLUMNS] = {
	{ .heading = "PCI ADDRESS" }, { .heading = "VENDOR" }, { .heading = "MODEL" },
	{ .heading = "DRIVER" },      { .heading = "IOMMU" },  { .heading = "STATUS" },
};

static const char *device_cell(const void *rows, size_t i, int column, char scratch[TABLE_SCRATCH])
{
	const struct row *row = (const struct row *)rows + i;

	(void)scratch;
	switch (column) {
	case ADDRESS:
		return row->address;
	case VENDOR:
		return row->vendor;
	case MODEL:
		return row->model;
	case DRIVER:
		return row->device.driver[0] ? row->device.driver : "-";
	case IOMMU:
		return row->group;
	default:
		return row->status;
	}
}

/* The two columns that hold prose become narrower, down to what still says something. */
static void fit_devices(int *widths, int room)
{
	while (table_width(widths, N_COLUMNS) > room && (widths[VENDOR] > 6 || widths[MODEL] > 6))
		widths[widths[VENDOR] > widths[MODEL] ? VENDOR : MODEL]--;
}

static void print_holder(const char *text)
{
	cli_error("  %s", text);
}

/*
 * Says beside the table what it has no room for: nodes that others may open, and for root which
 * programs have what is in use.
 */
static void print_notes(const struct listing *listing)
{
	int64_t last = -1;
	char text[320];

	for (size_t i = 0; i < listing->n_rows; i++) {
		const struct gpubroker_device *d = &listing->rows[i].device;

		if (d->iommu_group < 0 || d->iommu_group == last)
			continue;
		last = d->iommu_group;
		if (holders_node_text((uint32_t)last, text, sizeof(text)))
			cli_error("%s: %s", d->address, text);
		if (d->status != GPUBROKER_IN_USE || geteuid())
			continue;
		cli_error("%s is", d->address);
		holders_print((uint32_t)last, print_holder);
	}
}

/* Says what the next step is if there is no rule at all, so that nobody may have any of them. */
static void print_next_step(struct gpubroker *handle, const struct listing *listing)
{
	struct gpubroker_policy policy = { 0 };
	const struct gpubroker_device *one = NULL;

	for (size_t i = 0; i < listing->n_rows; i++) {
		const struct gpubroker_device *d = &listing->rows[i].device;

		if (d->allowed)
			return;
		if (!one && d->status == GPUBROKER_AVAILABLE)
			one = d;
	}
	if (!listing->n_rows || gpubroker_policy(handle, &policy) || !policy.in_force ||
	    policy.rules)
		return;
	cli_error("the policy is empty, so nobody may have any of them; as root, "
		  "'gpubroker policy add --user USER %s' lets USER have one",
		  one ? one->address : "DEVICE");
}

static void print_devices(const struct listing *listing)
{
	const struct table table = {
		.columns = list_columns,
		.n_columns = N_COLUMNS,
		.n_rows = listing->n_rows,
		.rows = listing->rows,
		.cell = device_cell,
		.fit = fit_devices,
	};

	table_print(&table, -1);
}

/* Prints the table for people. Returns the exit status. */
static int print_for_people(struct gpubroker *handle, const struct listing *listing)
{
	const struct gpubroker_device **devices = calloc(listing->n_rows + 1, sizeof(*devices));
	const struct list_look look = {
		.tree = listing->tree,
		.columns = listing->columns ? listing->columns
			   : listing->wide  ? LIST_WIDE
					    : NULL,
	};
	int r;

	if (!devices)
		return EXIT_SOFTWARE;
	for (size_t i = 0; i < listing->n_rows; i++)
		devices[i] = &listing->rows[i].device;
	r = list_people(handle, devices, listing->n_rows, &look);
	free(devices);
	return r;
}

static int print_listing(struct gpubroker *handle, struct listing *listing)
{
	int r = 0;

	complete_rows(listing);
	if (!listing->json && listing->n_rows)
		qsort(listing->rows, listing->n_rows, sizeof(*listing->rows), compare_rows);
	if (listing->json)
		print_json(listing);
	else if (!listing->n_rows)
		cli_error("there is no GPU on this host; 'gpubroker list --all' shows "
			  "every PCI function");
	else if (listing->wide || listing->columns || listing->tree || isatty(STDOUT_FILENO))
		r = print_for_people(handle, listing);
	else
		print_devices(listing);
	if (!r)
		r = cli_finish_output();
	if (!listing->json)
		print_notes(listing);
	if (!r && !listing->json)
		print_next_step(handle, listing);
	return r;
}

int cli_list(const struct cli *cli, int argc, char **argv)
{
	static const struct option options[] = {
		{ "all", no_argument, NULL, 'a' },
		{ "json", no_argument, NULL, 'j' },
		{ "wide", no_argument, NULL, 'w' },
		{ "tree", no_argument, NULL, 't' },
		{ "columns", required_argument, NULL, 'c' },
		{ "from", required_argument, NULL, 'f' },
		{ NULL, 0, NULL, 0 },
	};
	struct gpubroker *handle;
	struct listing listing = { 0 };
	struct arguments arguments = { .command = "list", .mode = "" };
	int c, r;

	while ((c = arguments_next(&arguments, argc, argv, options)) != ARGUMENTS_END) {
		if (c == 'a')
			listing.all = true;
		else if (c == 'j')
			listing.json = true;
		else if (c == 'w')
			listing.wide = true;
		else if (c == 't')
			listing.tree = true;
		else if (c == 'c')
			listing.columns = optarg;
		else if (c == 'f')
			listing.from = optarg;
		else
			return arguments.status;
	}
	if (optind < argc) {
		cli_error("list takes no argument '%s'; it shows all GPUs, with --all all PCI "
			  "functions",
			  argv[optind]);
		return EXIT_BAD_USAGE;
	}
	if (listing.from && (listing.wide || listing.columns)) {
		cli_error("list --from has columns of its own, so it takes no --wide and no "
			  "--columns");
		return EXIT_BAD_USAGE;
	}
	if (listing.from)
		return list_saved(listing.from, listing.all, listing.json);

	listing.tree = listing.tree && !listing.json;
	r = cli_open(cli, &handle);
	if (r)
		return r;
	r = gpubroker_list(handle, add_row, &listing);
	r = r ? cli_failed(cli, handle, r) : print_listing(handle, &listing);
	free(listing.rows);
	gpubroker_close(handle);
	return r;
}
