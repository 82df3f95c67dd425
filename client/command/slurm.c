/* SPDX-License-Identifier: MIT */
/*
 * gpubroker slurm check: whether the devices that Slurm counts on this node can be lent, for the
 * health check. Reads the map, asks the broker, and looks at the host for what the broker finds out
 * only when it is asked to allot; it changes nothing, and never asks Slurm.
 */
#include "config.h"

#include "client/command/slurm.h"
#include "client/command/arguments.h"
#include "client/command/cli.h"
#include "client/command/help.h"
#include "client/command/inventory.h"
#include "client/command/slurm-gres.h"
#include "client/command/slurm-job.h"
#include "client/common/address.h"
#include "client/common/util.h"

#include <errno.h>
#include <inttypes.h>
#include <stdlib.h>
#include <string.h>

struct counted {
	char address[20];
	bool listed; /* by the broker */
	enum gpubroker_status status;
	char why[256]; /* "": nothing is wrong with it */
};

struct node {
	struct counted devices[SLURM_MAX];
	size_t n;
};

/* Reads the map. 0, or an exit status after the reason was printed. */
static int read_map(const char *path, struct node *node)
{
	char line[128], address[20];
	struct pci_address parsed;
	FILE *file = fopen(path, "re");
	int r = 0;

	if (!file) {
		cli_error("cannot read %s: %s; 'gpubroker slurm gres --write' makes it", path,
			  strerror(errno));
		return EXIT_NO_DEVICE;
	}
	while (!r && fgets(line, sizeof(line), file)) {
		if (line[0] == '#' || line[0] == '\n')
			continue;
		if (node->n == SLURM_MAX || sscanf(line, "%*u %19s", address) != 1 ||
		    pci_address_parse(address, &parsed)) {
			cli_error("%s has a line that is no position with an address; 'gpubroker "
				  "slurm gres --write' makes it anew",
				  path);
			r = EXIT_BAD_POLICY;
			continue;
		}
		strcpy(node->devices[node->n++].address, address);
	}
	fclose(file);
	return r;
}

static struct counted *find_counted(struct node *node, const char *address)
{
	for (size_t i = 0; i < node->n; i++)
		if (!strcmp(node->devices[i].address, address))
			return &node->devices[i];
	return NULL;
}

static int note_counted(void *userdata, const struct gpubroker_device *device)
{
	struct counted *counted = find_counted(userdata, device->address);

	if (counted) {
		counted->listed = true;
		counted->status = device->status;
	}
	return 0;
}

static int note_fault(void *userdata, const struct gpubroker_lease *lease)
{
	struct node *node = userdata;

	for (size_t i = 0; i < lease->n_devices; i++) {
		struct counted *counted = find_counted(node, lease->devices[i]);

		if (counted && lease->state == GPUBROKER_LEASE_STUCK)
			snprintf(counted->why, sizeof(counted->why), "%s is stuck (%s)",
				 counted->address, lease->reason);
		else if (counted && !lease->label[0])
			snprintf(counted->why, sizeof(counted->why),
				 "%s is leased (%" PRIu64 "), and not by an allotment",
				 counted->address, lease->id);
	}
	return 0;
}

/* Asks the broker for all that may be wrong. 0, or as gpubroker_list(). */
static int ask_broker(struct gpubroker *handle, struct node *node)
{
	int r = gpubroker_list(handle, note_counted, node);

	return r ? r : gpubroker_leases(handle, note_fault, node);
}

/* Finds what the prolog would be refused for, in the group of a device that is not leased. */
static void find_guard(struct counted *counted, const struct function *function,
		       const struct group_view *view)
{
	const size_t asked = group_find(view, &function->address);
	enum guard guard;
	size_t which = 0;

	guard = group_guard(view, false, &which);
	if (guard == GUARD_BOOT_VGA && asked != SIZE_MAX && slurm_may_allot_console(view, asked))
		guard = group_guard(view, true, &which);
	if (guard == GUARD_NOT_VIABLE)
		snprintf(counted->why, sizeof(counted->why), "%s cannot be lent: its group %s",
			 counted->address, view->not_viable);
	else if (guard == GUARD_BOOT_VGA)
		snprintf(counted->why, sizeof(counted->why), "%s shows the host's console",
			 counted->address);
	else if (guard == GUARD_IN_USE)
		snprintf(counted->why, sizeof(counted->why), "%s is in use by the host: %s",
			 counted->address, view->functions[which].in_use);
	else if (counted->status == GPUBROKER_NOT_VIABLE)
		snprintf(counted->why, sizeof(counted->why),
			 "%s cannot be lent; 'gpubroker doctor %s' says why", counted->address,
			 counted->address);
}

static bool may_be_lent(enum gpubroker_status status)
{
	return status == GPUBROKER_AVAILABLE || status == GPUBROKER_VFIO_READY ||
	       status == GPUBROKER_BOOT_VGA || status == GPUBROKER_NOT_VIABLE;
}

/* Looks at those that are not leased, as the broker will. 0, or -errno. */
static int find_guards(struct node *node)
{
	cleanup_free struct group_view *view = calloc(1, sizeof(*view));
	struct inventory inventory = { 0 };
	int r = view ? inventory_read_local(&inventory) : -ENOMEM;

	for (size_t i = 0; !r && i < node->n; i++) {
		struct counted *counted = &node->devices[i];
		const struct function *function;
		struct pci_address address;

		if (!counted->listed || counted->why[0] || !may_be_lent(counted->status) ||
		    pci_address_parse(counted->address, &address))
			continue;
		function = inventory_find(&inventory, &address);
		if (!function)
			continue;
		inventory_group(&inventory, function, view);
		find_guard(counted, function, view);
	}
	inventory_done(&inventory);
	return r;
}

/* Prints a sentence for each device with a fault. Returns the exit status. */
static int print_faults(struct node *node)
{
	bool any = false;

	for (size_t i = 0; i < node->n; i++) {
		struct counted *counted = &node->devices[i];

		if (!counted->listed)
			snprintf(counted->why, sizeof(counted->why), "%s is not there any more",
				 counted->address);
		else if (!counted->why[0] && counted->status == GPUBROKER_IN_USE)
			snprintf(counted->why, sizeof(counted->why),
				 "%s is in use by another program", counted->address);
		if (!counted->why[0])
			continue;
		any = true;
		cli_print_text(stdout, counted->why, -1);
		putchar('\n');
	}
	return any ? EXIT_BUSY : 0;
}

static int check_devices(const struct cli *cli, int argc, char **argv)
{
	static const struct option options[] = {
		{ "map", required_argument, NULL, 'm' },
		{ NULL, 0, NULL, 0 },
	};
	struct arguments arguments = { .command = "slurm check", .mode = "" };
	cleanup_free struct node *node = calloc(1, sizeof(*node));
	struct gpubroker *handle = NULL;
	const char *map = SLURM_MAP;
	int c, r = -ECONNRESET, faults;

	while ((c = arguments_next(&arguments, argc, argv, options)) != ARGUMENTS_END) {
		if (c == ARGUMENTS_STOP)
			return arguments.status;
		map = optarg;
	}
	if (optind < argc || !node) {
		cli_error("slurm check takes no argument: it looks at the devices of %s", map);
		return EXIT_BAD_USAGE;
	}
	c = read_map(map, node);
	if (c)
		return c;
	for (int i = 0; i < CLI_TRIES && r == -ECONNRESET; i++) {
		gpubroker_close(handle);
		c = cli_open(cli, &handle);
		if (c)
			return c;
		r = ask_broker(handle, node);
	}
	if (!r)
		r = find_guards(node);
	faults = r ? cli_failed(cli, handle, r) : print_faults(node);
	gpubroker_close(handle);
	r = cli_finish_output();
	return r ? r : faults;
}

int cli_slurm(const struct cli *cli, int argc, char **argv)
{
	const char *given = argc > 1 ? argv[1] : "";

	if (!strcmp(given, "gres"))
		return slurm_gres(argc - 1, argv + 1);
	if (!strcmp(given, "check"))
		return check_devices(cli, argc - 1, argv + 1);
	if (!strcmp(given, "job"))
		return slurm_job(argc - 1, argv + 1);
	if (!strcmp(given, "--help") || !strcmp(given, "-h") || !strcmp(given, "help")) {
		help_print(stdout, "slurm");
		return cli_finish_output();
	}
	if (*given)
		cli_error(
			"there is no command 'slurm %s'; there are 'slurm gres', 'slurm check' and "
			"'slurm job'",
			given);
	else
		help_print(stderr, "slurm");
	return EXIT_BAD_USAGE;
}
