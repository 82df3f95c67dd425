/* SPDX-License-Identifier: MIT */
/*
 * gpubroker list: the GPUs (or every PCI function) as a table for people or JSON for programs.
 * Reads only; owns the snapshot that it prints.
 */
#include "config.h"

#include "client/command/cli.h"
#include "client/host/function.h"
#include "client/host/pci.h"
#include "client/common/util.h"

#include <fcntl.h>
#include <getopt.h>
#include <json.h>
#include <string.h>

struct row {
	struct gpubroker_device device;
	char vendor[64];
	char model[96];
	char group[24];
	char address[24]; /* a VF's is indented below its PF */
	char status[48];
	uint32_t vfs_free; /* of a PF's */
	bool shown;	   /* to be */
};

struct table {
	struct row *rows;
	size_t n_rows;
	bool all;
};

static int add_row(void *userdata, const struct gpubroker_device *device)
{
	struct table *table = userdata;
	struct row *rows, *row;

	rows = reallocarray(table->rows, table->n_rows + 1, sizeof(*rows));
	if (!rows)
		return -ENOMEM;
	table->rows = rows;
	row = &rows[table->n_rows++];
	*row = (struct row){ .device = *device,
			     .shown = table->all || class_is_gpu(device->class_code) };
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

static struct row *row_of(const struct table *table, const char *address)
{
	for (size_t i = 0; i < table->n_rows; i++)
		if (!strcmp(table->rows[i].device.address, address))
			return &table->rows[i];
	return NULL;
}

static bool is_free(const struct gpubroker_device *device)
{
	return device->status == GPUBROKER_AVAILABLE || device->status == GPUBROKER_VFIO_READY;
}

static int compare_rows(const void *a, const void *b)
{
	const struct row *x = a, *y = b;
	/* A VF stands behind its PF, whatever its own address. */
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

/* Once all are known: what is counted, shown, and in which order. */
static void complete(struct table *table)
{
	size_t n = 0;

	for (size_t i = 0; i < table->n_rows; i++) {
		const struct gpubroker_device *d = &table->rows[i].device;
		struct row *pf = d->physfn[0] ? row_of(table, d->physfn) : NULL;

		if (pf)
			pf->vfs_free += is_free(d);
		/* A VF of a GPU has the class of its PF, but may be shown where that is not. */
		snprintf(table->rows[i].address, sizeof(table->rows[i].address), "%s%s",
			 pf && pf->shown ? "  " : "", d->address);
	}
	for (size_t i = 0; i < table->n_rows; i++) {
		struct row *row = &table->rows[i];
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
		if (row->shown)
			table->rows[n++] = *row;
	}
	table->n_rows = n;
}

static void add_text(struct json_object *object, const char *key, const char *text)
{
	json_object_object_add(object, key, *text ? json_object_new_string(text) : NULL);
}

/*
 * What the broker does not keep, since it changes without an event or no listing needs it, is read
 * from sysfs here: with it, `policy explain` on another machine can say all that it could say on
 * this one.
 */
static void add_local(struct json_object *object, int sys, const char *address)
{
	struct function f = { 0 };
	struct pci_address parsed;

	if (!pci_address_parse(address, &parsed))
		sysfs_function_read(sys, &parsed, &f);
	json_object_object_add(object, "boot_vga", json_object_new_boolean(f.boot_vga));
	add_text(object, "in_use", f.in_use);
	add_text(object, "path", f.path);
	add_text(object, "serial", f.serial);
}

/* NULL, which is null, of what has no SR-IOV. */
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

static void print_json(const struct table *table)
{
	cleanup_fd int sys = open("/sys", O_PATH | O_DIRECTORY | O_CLOEXEC);
	struct json_object *array = json_object_new_array();

	for (size_t i = 0; i < table->n_rows; i++) {
		const struct gpubroker_device *d = &table->rows[i].device;
		struct json_object *o = json_object_new_object();
		char hex[8];

		json_object_object_add(o, "address", json_object_new_string(d->address));
		snprintf(hex, sizeof(hex), "%04x", d->vendor);
		json_object_object_add(o, "vendor", json_object_new_string(hex));
		snprintf(hex, sizeof(hex), "%04x", d->device);
		json_object_object_add(o, "device", json_object_new_string(hex));
		snprintf(hex, sizeof(hex), "%04x", d->subsystem_vendor);
		json_object_object_add(o, "subsystem_vendor", json_object_new_string(hex));
		snprintf(hex, sizeof(hex), "%04x", d->subsystem_device);
		json_object_object_add(o, "subsystem_device", json_object_new_string(hex));
		json_object_object_add(o, "vendor_name",
				       d->vendor_name[0] ? json_object_new_string(d->vendor_name)
							 : NULL);
		json_object_object_add(o, "model",
				       d->model[0] ? json_object_new_string(d->model) : NULL);
		snprintf(hex, sizeof(hex), "%06x", d->class_code & 0xffffff);
		json_object_object_add(o, "class", json_object_new_string(hex));
		json_object_object_add(o, "driver",
				       d->driver[0] ? json_object_new_string(d->driver) : NULL);
		json_object_object_add(o, "iommu_group",
				       d->iommu_group < 0 ? NULL
							  : json_object_new_int64(d->iommu_group));
		json_object_object_add(o, "status",
				       json_object_new_string(gpubroker_status_name(d->status)));
		json_object_object_add(o, "allowed", json_object_new_boolean(d->allowed));
		json_object_object_add(o, "lease",
				       d->lease ? json_object_new_int64((int64_t)d->lease) : NULL);
		json_object_object_add(o, "holder_uid",
				       d->lease ? json_object_new_int64(d->holder_uid) : NULL);
		add_text(o, "physfn", d->physfn);
		json_object_object_add(o, "vfs", vfs_object(&table->rows[i]));
		add_local(o, sys, d->address);
		json_object_array_add(array, o);
	}
	puts(json_object_to_json_string_ext(array, JSON_C_TO_STRING_PRETTY |
							   JSON_C_TO_STRING_NOSLASHESCAPE));
	json_object_put(array);
}

enum { ADDRESS, VENDOR, MODEL, DRIVER, IOMMU, STATUS, N_COLUMNS };
static const char *const headings[N_COLUMNS] = { "PCI ADDRESS", "VENDOR", "MODEL",
						 "DRIVER",	"IOMMU",  "STATUS" };

static const char *cell(const struct row *row, int column)
{
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

/*
 * Takes columns from the two that hold prose until the line fits, down to what still says
 * something.
 */
static void fit(int widths[N_COLUMNS], int columns)
{
	int total = 2 * (N_COLUMNS - 1);

	for (int c = 0; c < N_COLUMNS; c++)
		total += widths[c];
	while (total > columns && (widths[VENDOR] > 6 || widths[MODEL] > 6)) {
		widths[widths[VENDOR] > widths[MODEL] ? VENDOR : MODEL]--;
		total--;
	}
}

static void print_table(const struct table *table)
{
	int widths[N_COLUMNS], columns = cli_columns(stdout);

	for (int c = 0; c < N_COLUMNS; c++) {
		widths[c] = (int)strlen(headings[c]);
		for (size_t i = 0; i < table->n_rows; i++) {
			int n = (int)strlen(cell(&table->rows[i], c));

			widths[c] = n > widths[c] ? n : widths[c];
		}
	}
	if (columns)
		fit(widths, columns);
	for (size_t i = 0; i <= table->n_rows; i++) {
		for (int c = 0; c < N_COLUMNS; c++) {
			cli_print_text(stdout, i ? cell(&table->rows[i - 1], c) : headings[c],
				       c == N_COLUMNS - 1 ? -1 : widths[c]);
			fputs(c == N_COLUMNS - 1 ? "\n" : "  ", stdout);
		}
	}
}

int cli_list(const struct cli *cli, int argc, char **argv)
{
	static const struct option options[] = {
		{ "all", no_argument, NULL, 'a' },
		{ "json", no_argument, NULL, 'j' },
		{ NULL, 0, NULL, 0 },
	};
	struct gpubroker *handle;
	struct table table = { 0 };
	bool json = false;
	int c, r;

	while ((c = getopt_long(argc, argv, "", options, NULL)) != -1) {
		if (c == 'a')
			table.all = true;
		else if (c == 'j')
			json = true;
		else
			return EXIT_USAGE_;
	}
	if (optind < argc) {
		cli_error(
			"list takes no argument '%s'; it shows all GPUs, with --all all PCI functions",
			argv[optind]);
		return EXIT_USAGE_;
	}

	r = cli_open(cli, &handle);
	if (r)
		return r;
	r = gpubroker_list(handle, add_row, &table);
	if (r) {
		r = cli_failed(cli, handle, r);
	} else {
		complete(&table);
		if (!json && table.n_rows)
			qsort(table.rows, table.n_rows, sizeof(*table.rows), compare_rows);
		if (json)
			print_json(&table);
		else if (table.n_rows)
			print_table(&table);
		else
			cli_error(
				"there is no GPU on this host; 'gpubroker list --all' shows every PCI function");
		r = cli_finish_output();
	}
	free(table.rows);
	gpubroker_close(handle);
	return r;
}
