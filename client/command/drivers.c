/* SPDX-License-Identifier: MIT */
/*
 * gpubroker drivers: the bundles of drivers that `run --drivers` chooses from, and what is wrong
 * with others. Reads only; `drivers make` is in drivers-make.c.
 */
#include "config.h"

#include "client/command/drivers.h"
#include "client/command/arguments.h"
#include "client/command/cli.h"
#include "client/command/inventory.h"
#include "client/command/json-out.h"
#include "client/command/table.h"
#include "client/common/util.h"
#include "client/host/bundle.h"

#include <errno.h>
#include <string.h>

enum { NAME, RELEASE, KERNEL, FORMAT, SIZE, HERE, DEVICES, N_COLUMNS };
#define DEVICES_MIN 12

static const struct table_column drivers_columns[N_COLUMNS] = {
	[NAME] = { "NAME", false },	  [RELEASE] = { "VERSION", false },
	[KERNEL] = { "KERNEL", false },	  [FORMAT] = { "FORMAT", false },
	[SIZE] = { "SIZE", true },	  [HERE] = { "HERE", true },
	[DEVICES] = { "DEVICES", false },
};

/* A bundle as a row. */
struct drivers_row {
	const struct bundle *bundle;
	char *devices; /* all of its ids */
	size_t here;   /* GPUs of this host for which it has drivers */
	bool verified; /* its image is what the manifest says */
};

struct drivers_list {
	struct bundles bundles;
	struct drivers_row rows[BUNDLES_MAX];
	size_t n;
	struct inventory inventory;
};

static void print_found(void *userdata, const char *path, unsigned line, const char *text)
{
	(void)userdata;
	if (line)
		cli_error("%s:%u: %s", path, line, text);
	else
		cli_error("%s: %s", path, text);
}

/* ---- rows ---- */

static bool is_for(const struct bundle *bundle, const struct function *f)
{
	return class_is_gpu(f->class_code) && manifest_has(&bundle->manifest, f->vendor, f->device);
}

static char *format_devices(const struct manifest *manifest)
{
	char *text = malloc(manifest->n_devices * (MANIFEST_DEVICE_TEXT + 1) + 1), *at = text;

	for (size_t i = 0; text && i < manifest->n_devices; i++) {
		char one[MANIFEST_DEVICE_TEXT];

		at += sprintf(at, "%s%s", i ? " " : "",
			      manifest_device_format(&manifest->devices[i], one));
	}
	return text;
}

static void fill_rows(struct drivers_list *list)
{
	for (size_t i = 0; i < list->bundles.n; i++) {
		struct drivers_row *row = &list->rows[list->n++];

		*row = (struct drivers_row){ .bundle = &list->bundles.list[i] };
		row->devices = format_devices(&row->bundle->manifest);
		for (size_t f = 0; f < list->inventory.n; f++)
			row->here += is_for(row->bundle, &list->inventory.functions[f]);
	}
}

/* Reads each image. Returns how many are not what their manifest says. */
static size_t verify_rows(const struct bundles_source *source, struct drivers_list *list)
{
	size_t bad = 0;

	for (size_t i = 0; i < list->n; i++) {
		cleanup_fd int fd = -1;
		int r = bundle_open_image(source, list->rows[i].bundle, &fd);

		if (r < 0)
			cli_error("%s: %s", list->rows[i].bundle->name, strerror(-r));
		list->rows[i].verified = !r;
		bad += r != 0;
	}
	return bad;
}

/* ---- the table ---- */

static const char *drivers_cell(const void *rows, size_t at, int column,
				char scratch[TABLE_SCRATCH])
{
	const struct drivers_row *row = (const struct drivers_row *)rows + at;
	const struct manifest *manifest = &row->bundle->manifest;

	switch (column) {
	case NAME:
		return row->bundle->name;
	case RELEASE:
		return manifest->version;
	case KERNEL:
		return manifest->kernel;
	case FORMAT:
		return manifest_format_name(manifest->format);
	case SIZE:
		/* In whole MiB, as people compare them; less is told to the byte. */
		if (manifest->size >> 20)
			snprintf(scratch, TABLE_SCRATCH, "%lluM",
				 (unsigned long long)(manifest->size >> 20));
		else
			snprintf(scratch, TABLE_SCRATCH, "%llu",
				 (unsigned long long)manifest->size);
		return scratch;
	case HERE:
		snprintf(scratch, TABLE_SCRATCH, "%zu", row->here);
		return scratch;
	default:
		return row->devices ? row->devices : "";
	}
}

/* A user copies the name and compares the rest, so the devices alone become narrower. */
static void fit_drivers(int *widths, int room)
{
	int left = widths[DEVICES] - (table_width(widths, N_COLUMNS) - room);

	widths[DEVICES] = left >= DEVICES_MIN ? left : DEVICES_MIN;
}

static void print_drivers(const struct drivers_list *list)
{
	const struct table table = {
		.columns = drivers_columns,
		.n_columns = N_COLUMNS,
		.n_rows = list->n,
		.rows = list->rows,
		.cell = drivers_cell,
		.fit = fit_drivers,
	};

	table_print(&table, -1);
}

static struct json_object *row_object(const struct drivers_list *list,
				      const struct drivers_row *row, const char *directory,
				      bool verify)
{
	const struct manifest *manifest = &row->bundle->manifest;
	struct json_object *o = json_object_new_object(), *devices = json_object_new_array(),
			   *here = json_object_new_array();
	char path[BUNDLE_PATH], sum[SHA256_TEXT], text[PCI_ADDRESS_TEXT];

	snprintf(path, sizeof(path), "%s/%s/%s", directory, row->bundle->name, manifest->image);
	json_object_object_add(o, "name", json_out_text(row->bundle->name));
	json_object_object_add(o, "version", json_out_text(manifest->version));
	json_object_object_add(o, "kernel", json_out_text(manifest->kernel));
	json_object_object_add(o, "format", json_out_text(manifest_format_name(manifest->format)));
	json_object_object_add(o, "image", json_out_text(path));
	json_object_object_add(o, "size", json_out_number(manifest->size));
	json_object_object_add(o, "sha256",
			       json_out_text(manifest_sum_text(manifest->sha256, sum)));
	json_object_object_add(o, "verified",
			       verify ? json_object_new_boolean(row->verified) : NULL);
	for (size_t i = 0; i < manifest->n_devices; i++)
		json_object_array_add(devices, json_out_text(manifest_device_format(
						       &manifest->devices[i], text)));
	json_object_object_add(o, "devices", devices);
	for (size_t i = 0; i < list->inventory.n; i++)
		if (is_for(row->bundle, &list->inventory.functions[i]))
			json_object_array_add(
				here, json_out_text(pci_address_format(
					      &list->inventory.functions[i].address, text)));
	json_object_object_add(o, "here", here);
	return o;
}

/* ---- the command ---- */

struct drivers_options {
	const char *directory;
	bool json, verify;
};

static int list_drivers(const struct drivers_options *options)
{
	const struct bundles_source source = { .directory = options->directory,
					       .found = print_found };
	struct drivers_list list = { 0 };
	size_t bad;
	int r = bundles_read(&source, &list.bundles);

	inventory_read_local(&list.inventory);
	fill_rows(&list);
	bad = list.bundles.n_bad + (options->verify ? verify_rows(&source, &list) : 0);
	if (options->json) {
		struct json_object *array = json_object_new_array();

		for (size_t i = 0; i < list.n; i++)
			json_object_array_add(array,
					      row_object(&list, &list.rows[i], options->directory,
							 options->verify));
		json_out_print(array);
	} else if (list.n) {
		print_drivers(&list);
	} else if (!r && !bad) {
		cli_error("there are no drivers in %s; 'gpubroker drivers make --help' shows how "
			  "to make some",
			  options->directory);
	}
	for (size_t i = 0; i < list.n; i++)
		free(list.rows[i].devices);
	bundles_done(&list.bundles);
	inventory_done(&list.inventory);
	if (r) {
		cli_error("%s: %s", options->directory, strerror(-r));
		return EXIT_KERNEL;
	}
	r = cli_finish_output();
	return r ? r : bad ? EXIT_BAD_POLICY : 0;
}

int cli_drivers(const struct cli *cli, int argc, char **argv)
{
	static const struct option options[] = {
		{ "json", no_argument, NULL, 'j' },
		{ "verify", no_argument, NULL, 'v' },
		{ "directory", required_argument, NULL, 'd' },
		{ NULL, 0, NULL, 0 },
	};
	struct drivers_options chosen = { .directory = bundles_installed };
	struct arguments arguments = { .command = "drivers", .mode = "+" };
	int c;

	(void)cli;
	if (argc > 1 && !strcmp(argv[1], "make"))
		return drivers_make(argc - 1, argv + 1);
	while ((c = arguments_next(&arguments, argc, argv, options)) != ARGUMENTS_END) {
		if (c == ARGUMENTS_STOP)
			return arguments.status;
		chosen.json |= c == 'j';
		chosen.verify |= c == 'v';
		chosen.directory = c == 'd' ? optarg : chosen.directory;
	}
	if (optind < argc) {
		cli_error("drivers takes no argument '%s'; 'gpubroker drivers make NAME DIRECTORY' "
			  "makes a bundle",
			  argv[optind]);
		return EXIT_BAD_USAGE;
	}
	return list_drivers(&chosen);
}
