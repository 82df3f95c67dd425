/* SPDX-License-Identifier: MIT */
/*
 * The devices of another host, see list-saved.h. Asks neither the broker nor this host, and must
 * take nothing of the file for granted.
 */
#include "config.h"

#include "client/command/list-saved.h"
#include "client/command/cli.h"
#include "client/command/facts.h"
#include "client/command/json-out.h"
#include "client/command/table.h"
#include "client/common/util.h"

#include <inttypes.h>
#include <stdlib.h>
#include <string.h>

struct saved_row {
	char address[PCI_ADDRESS_TEXT], model[96], driver[FUNCTION_NAME_MAX], group[24];
	char status[128];
};

enum { SAVED_ADDRESS, SAVED_MODEL, SAVED_DRIVER, SAVED_GROUP, SAVED_STATUS, N_SAVED };
static const struct table_column saved_columns[N_SAVED] = {
	{ .heading = "PCI ADDRESS" }, { .heading = "MODEL" },  { .heading = "DRIVER" },
	{ .heading = "IOMMU" },	      { .heading = "STATUS" },
};

static const char *saved_cell(const void *rows, size_t i, int column, char scratch[TABLE_SCRATCH])
{
	const struct saved_row *row = (const struct saved_row *)rows + i;
	const char *cells[N_SAVED] = { row->address, row->model, row->driver, row->group,
				       row->status };

	(void)scratch;
	return cells[column];
}

static void fit_saved(int *widths, int room)
{
	while (table_width(widths, N_SAVED) > room && widths[SAVED_MODEL] > 6)
		widths[SAVED_MODEL]--;
}

/* Says why it is not to be had, or else the status that the broker gave it. */
static void write_saved_status(const struct inventory *inventory, const struct function *f,
			       struct json_object *object, struct group_view *view,
			       struct saved_row *row)
{
	const char *opener = facts_text(object, "opened_by"),
		   *holder = facts_text(object, "holder");
	const char *status = facts_text(object, "status");
	size_t which;

	if (f->iommu_group == NO_GROUP) {
		snprintf(row->status, sizeof(row->status), "no IOMMU group");
		return;
	}
	inventory_group(inventory, f, view);
	switch (group_guard(view, false, &which)) {
	case GUARD_NOT_VIABLE:
		snprintf(row->status, sizeof(row->status), "its group %s", view->not_viable);
		return;
	case GUARD_BOOT_VGA:
		snprintf(row->status, sizeof(row->status), "the host's console");
		return;
	case GUARD_IN_USE:
		snprintf(row->status, sizeof(row->status), "in use: %s",
			 view->functions[which].in_use);
		return;
	case GUARD_NONE:
		break;
	}
	if (opener[0])
		snprintf(row->status, sizeof(row->status), "in use: %.100s", opener);
	else
		snprintf(row->status, sizeof(row->status), "%.32s%s%.64s",
			 status[0] ? status : "no broker answered", holder[0] ? ", " : "", holder);
}

/* A function as the file has it. */
struct saved {
	struct pci_address address;
	struct json_object *object;
};

static int compare_saved(const void *a, const void *b)
{
	return pci_address_compare(&((const struct saved *)a)->address,
				   &((const struct saved *)b)->address);
}

/*
 * Returns the file's objects in the order of the inventory, which has been made of them and has no
 * address twice. NULL: no memory.
 */
static struct saved *sort_saved(const struct inventory *inventory, struct json_object *array)
{
	struct saved *list = calloc(inventory->n + 1, sizeof(*list));

	for (size_t i = 0; list && i < inventory->n; i++) {
		list[i].object = json_object_array_get_idx(array, i);
		pci_address_parse(facts_text(list[i].object, "address"), &list[i].address);
	}
	if (list && inventory->n)
		qsort(list, inventory->n, sizeof(*list), compare_saved);
	return list;
}

/* Writes all of a row but its status. */
static void write_saved_row(const struct function *f, struct json_object *object,
			    struct saved_row *row)
{
	const char *model = facts_text(object, "model");

	pci_address_format(&f->address, row->address);
	if (model[0])
		snprintf(row->model, sizeof(row->model), "%s", model);
	else
		snprintf(row->model, sizeof(row->model), "%04x:%04x", f->vendor, f->device);
	snprintf(row->driver, sizeof(row->driver), "%s", f->driver[0] ? f->driver : "-");
	if (f->iommu_group == NO_GROUP)
		strcpy(row->group, "-");
	else
		snprintf(row->group, sizeof(row->group), "%" PRIu32, f->iommu_group);
}

static void print_saved(const struct inventory *inventory, struct json_object *array, bool all)
{
	struct saved_row *rows = calloc(inventory->n + 1, sizeof(*rows));
	struct group_view *view = calloc(1, sizeof(*view));
	struct saved *saved = sort_saved(inventory, array);
	struct table table = {
		.columns = saved_columns,
		.n_columns = N_SAVED,
		.rows = rows,
		.cell = saved_cell,
		.fit = fit_saved,
	};

	for (size_t i = 0; rows && view && saved && i < inventory->n; i++) {
		const struct function *f = &inventory->functions[i];

		if (!all && !class_is_gpu(f->class_code))
			continue;
		write_saved_row(f, saved[i].object, &rows[table.n_rows]);
		write_saved_status(inventory, f, saved[i].object, view, &rows[table.n_rows]);
		table.n_rows++;
	}
	if (table.n_rows)
		table_print(&table, -1);
	else
		cli_error("there is no GPU in it; 'gpubroker list --all --from' shows every PCI "
			  "function");
	free(rows);
	free(view);
	free(saved);
}

/* Prints the objects as they are in the file. */
static void print_saved_json(struct json_object *array, bool all)
{
	struct json_object *out = json_object_new_array();

	for (size_t i = 0; i < json_object_array_length(array); i++) {
		struct json_object *object = json_object_array_get_idx(array, i);

		if (all || class_is_gpu((uint32_t)strtoul(facts_text(object, "class"), NULL, 16)))
			json_object_array_add(out, json_object_get(object));
	}
	json_out_print(out);
}

int list_saved(const char *path, bool all, bool json)
{
	struct json_object *root = NULL, *array;
	struct inventory inventory = { 0 };
	const char *why = NULL;
	int r = inventory_parse(path, &root, &why);

	if (!r)
		r = inventory_take(root, &inventory, &why);
	if (r) {
		cli_error("%s: %s", path, why ? why : strerror(-r));
		json_object_put(root);
		return r == -EBADMSG ? EXIT_BAD_POLICY : EXIT_NO_DEVICE;
	}
	array = facts_list(root, "devices");
	array = array ? array : root;
	if (json)
		print_saved_json(array, all);
	else
		print_saved(&inventory, array, all);
	inventory_done(&inventory);
	json_object_put(root);
	return cli_finish_output();
}
