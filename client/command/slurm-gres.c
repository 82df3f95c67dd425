/* SPDX-License-Identifier: MIT */
/*
 * gpubroker slurm gres: the devices that root may allot, as Slurm counts them: gres.conf, the map
 * from Slurm's positions to addresses, and nodes that stand for the devices. The three are made
 * together, from the policy and the devices of now. It must never write a map in another order than
 * gres.conf: a job would be given the device of another.
 */
#include "config.h"

#include "client/command/slurm-gres.h"
#include "client/command/arguments.h"
#include "client/command/cli.h"
#include "client/command/inventory.h"
#include "client/command/policy-sources.h"
#include "client/command/slurm.h"
#include "client/common/util.h"

#include <errno.h>
#include <stdlib.h>
#include <string.h>
#include <sys/stat.h>
#include <unistd.h>

#define GRES_CONF "/etc/slurm/gres.conf"
#define NODES_CONF "/etc/tmpfiles.d/gpubroker-slurm.conf"
#define MARK "# Made by 'gpubroker slurm gres'"
#define TYPES_MAX 64
#define MAJOR_UNUSED 120 /* for local use, by the kernel's list: no driver answers there */

/* A group, by the function that is asked for. */
struct resource {
	const struct function *function;
	const char *type; /* a name of the policy, "": none */
};

struct gres {
	struct policy_sources sources;
	struct policy policy;
	struct inventory inventory;
	const char *types[TYPES_MAX];
	uint32_t names[TYPES_MAX];
	size_t n_types;
	char node[256];
	struct resource *list;
	size_t n;
};

/* ---- which devices ---- */

/* The name that the first rule with `allotted` means the device by, "" if it means it by others. */
static const char *type_by_rule(const struct gres *gres, const struct policy_facts *facts)
{
	for (size_t i = 0; i < gres->policy.n_rules; i++) {
		const struct policy_rule *rule = &gres->policy.rules[i];

		if (rule->verb == POLICY_ALLOW && rule->who == POLICY_WHO_ALLOTTED &&
		    rule->name != POLICY_NO_NAME &&
		    policy_name_matches(&gres->policy, rule->name, facts, NULL))
			return gres->policy.names[rule->name].text;
	}
	return "";
}

/* NULL: none of the types that were asked for. */
static const char *type_of(const struct gres *gres, const struct policy_facts *facts)
{
	for (size_t i = 0; i < gres->n_types; i++)
		if (policy_name_matches(&gres->policy, gres->names[i], facts, NULL))
			return gres->types[i];
	return gres->n_types ? NULL : type_by_rule(gres, facts);
}

/* Returns true if the policy lets root allot the function, to users of whom no other rule is. */
static bool is_allowed(const struct policy *policy, const struct group_view *view, size_t asked,
		       const struct policy_facts *facts, bool *ret_console)
{
	const struct policy_subject nobody = { .uid = UINT32_MAX - 1,
					       .gid = UINT32_MAX - 1,
					       .allotted = true };
	struct policy_verdict verdict;

	policy_decide(policy, &nobody, facts, view->n_functions, asked, NULL, &verdict);
	*ret_console = verdict.boot_vga;
	return verdict.outcome == POLICY_ALLOWED && verdict.allotted;
}

/* Returns true if root may allot the function, and it can be lent. */
static bool is_allottable(const struct gres *gres, const struct group_view *view, size_t asked,
			  const struct policy_facts *facts)
{
	bool console;
	size_t which;

	return is_allowed(&gres->policy, view, asked, facts, &console) &&
	       group_guard(view, console, &which) == GUARD_NONE;
}

bool slurm_may_allot_console(const struct group_view *view, size_t asked)
{
	struct policy_report report = { .mistakes_only = true };
	struct policy_facts facts[FUNCTIONS_MAX];
	struct policy_sources sources;
	struct policy policy = { 0 };
	bool console = false;

	policy_sources_init(&sources);
	for (size_t i = 0; i < view->n_functions; i++)
		facts[i] = function_facts(&view->functions[i]);
	if (!policy_sources_load(&sources, NULL, 0, &report, &policy))
		console = is_allowed(&policy, view, asked, facts, &console) && console;
	policy_done(&policy);
	return console;
}

static struct resource *find_group(const struct gres *gres, uint32_t group)
{
	for (size_t i = 0; i < gres->n; i++)
		if (gres->list[i].function->iommu_group == group)
			return &gres->list[i];
	return NULL;
}

/* Adds a function, or has it stand for its group in the place of one that is no GPU. */
static void add(struct gres *gres, const struct function *function, struct group_view *view)
{
	struct resource *known = find_group(gres, function->iommu_group);
	struct policy_facts facts[FUNCTIONS_MAX];
	const char *type;
	size_t asked;

	if (function->is_bridge || function->iommu_group == NO_GROUP)
		return;
	inventory_group(&gres->inventory, function, view);
	asked = group_find(view, &function->address);
	if (asked == SIZE_MAX)
		return;
	for (size_t i = 0; i < view->n_functions; i++)
		facts[i] = function_facts(&view->functions[i]);
	type = type_of(gres, &facts[asked]);
	if (!type || !is_allottable(gres, view, asked, facts))
		return;
	if (!known && gres->n < SLURM_MAX)
		gres->list[gres->n++] = (struct resource){ function, type };
	else if (known && !class_is_gpu(known->function->class_code) &&
		 class_is_gpu(function->class_code))
		*known = (struct resource){ function, type };
}

static int compare(const void *a, const void *b)
{
	const struct resource *x = a, *y = b;
	const int order = strcmp(x->type, y->type);

	return order ? order : pci_address_compare(&x->function->address, &y->function->address);
}

/* Finds all of them, by type and then by address: so the order is that of each list of Slurm's. */
static int choose(struct gres *gres)
{
	cleanup_free struct group_view *view = calloc(1, sizeof(*view));

	gres->list = calloc(SLURM_MAX, sizeof(*gres->list));
	if (!view || !gres->list) {
		cli_error("no memory");
		return EXIT_SOFTWARE;
	}
	for (size_t i = 0; i < gres->inventory.n; i++)
		add(gres, &gres->inventory.functions[i], view);
	qsort(gres->list, gres->n, sizeof(*gres->list), compare);
	return 0;
}

/* ---- what is written ---- */

/* "gpu:a100:2,gpu:l40s:4" */
static void print_counts(const struct gres *gres, FILE *file)
{
	for (size_t i = 0, n; i < gres->n; i += n) {
		const char *type = gres->list[i].type;

		for (n = 1; i + n < gres->n && !strcmp(type, gres->list[i + n].type); n++)
			;
		fprintf(file, "%sgpu%s%s:%zu", i ? "," : "", *type ? ":" : "", type, n);
	}
}

static void print_gres(const struct gres *gres, FILE *file)
{
	fprintf(file,
		MARK ", with " SLURM_MAP " for the prolog.\n"
		     "# slurm.conf has for this node: NodeName=%s Gres=",
		gres->node);
	print_counts(gres, file);
	fputc('\n', file);
	for (size_t i = 0; i < gres->n; i++)
		fprintf(file, "NodeName=%s Name=gpu%s%s File=/dev/gpubroker/%zu\n", gres->node,
			*gres->list[i].type ? " Type=" : "", gres->list[i].type, i);
}

static void print_map(const struct gres *gres, FILE *file)
{
	char text[PCI_ADDRESS_TEXT];

	fputs(MARK ": Slurm's position of a GPU, its address and its type.\n", file);
	for (size_t i = 0; i < gres->n; i++)
		fprintf(file, "%zu %s%s%s\n", i,
			pci_address_format(&gres->list[i].function->address, text),
			*gres->list[i].type ? " " : "", gres->list[i].type);
}

/* Nobody can open them. They are there since slurmd waits for the files of gres.conf, and ends. */
static void print_nodes(const struct gres *gres, FILE *file)
{
	fputs(MARK ": nodes without a driver, which stand for the devices.\n"
		   "d /dev/gpubroker 0755 root root -\n",
	      file);
	for (size_t i = 0; i < gres->n; i++)
		fprintf(file, "c /dev/gpubroker/%zu 0000 root root - %d:%zu\n", i, MAJOR_UNUSED, i);
}

/* Returns true if it is not there, or one that this command has written. */
static bool may_replace(const char *path)
{
	char line[sizeof(MARK)] = "";
	FILE *file = fopen(path, "re");
	bool ours = !file && errno == ENOENT;

	if (file) {
		ours = !fgets(line, sizeof(line), file) || !strcmp(line, MARK);
		fclose(file);
	}
	return ours;
}

static int cannot_write(const char *path)
{
	cli_error("cannot write %s: %s", path, strerror(errno));
	return EXIT_CANNOT_CREATE;
}

/* Writes a file anew, whole or not at all. 0, or an exit status after the reason was printed. */
static int write_file(const struct gres *gres, const char *path,
		      void (*print)(const struct gres *gres, FILE *file))
{
	char draft[128];
	FILE *file;
	bool bad;

	snprintf(draft, sizeof(draft), "%s.new", path);
	unlink(draft);
	file = fopen(draft, "wxe");
	if (!file)
		return cannot_write(path);
	print(gres, file);
	bad = fflush(file) || ferror(file) || fchmod(fileno(file), 0644) || fsync(fileno(file));
	bad = fclose(file) || bad;
	if (!bad && !rename(draft, path))
		return 0;
	cannot_write(path);
	unlink(draft);
	return EXIT_CANNOT_CREATE;
}

static int write_gres(const struct gres *gres)
{
	const bool has_slurm = !access("/etc/slurm", F_OK);
	int r = 0;

	if (has_slurm && !may_replace(GRES_CONF)) {
		cli_error(GRES_CONF " has lines of others; remove it, or put what 'gpubroker slurm "
				    "gres' prints in their place");
		return EXIT_CANNOT_CREATE;
	}
	r = write_file(gres, NODES_CONF, print_nodes);
	if (!r)
		r = write_file(gres, SLURM_MAP, print_map);
	if (!r && has_slurm)
		r = write_file(gres, GRES_CONF, print_gres);
	if (r)
		return r;
	if (!gres->n)
		cli_error("no device of this node can be allotted, so Slurm gets none; "
			  "'gpubroker policy check' and gpubroker-slurm(7) say what it takes");
	printf("Written: " NODES_CONF ", " SLURM_MAP "%s.\n"
	       "For slurm.conf: NodeName=%s Gres=",
	       has_slurm ? ", " GRES_CONF : "", gres->node);
	print_counts(gres, stdout);
	puts("\nThen: systemd-tmpfiles --create gpubroker-slurm.conf && systemctl restart slurmd");
	if (!has_slurm)
		puts("There is no /etc/slurm: 'gpubroker slurm gres' prints the lines for the "
		     "gres.conf of slurmctld.");
	return cli_finish_output();
}

static int print_out(const struct gres *gres)
{
	if (!gres->n) {
		cli_error("no device can be allotted: the policy needs a rule as 'allow allotted "
			  "claim class display', and the device must be one that can be lent");
		return EXIT_NO_DEVICE;
	}
	print_gres(gres, stdout);
	return cli_finish_output();
}

/* ---- the command ---- */

/* 0, or an exit status after the reason was printed. */
static int load(struct gres *gres, const char *devices)
{
	struct policy_report report = { .mistakes_only = true };
	const char *why = NULL;
	int r;

	if (policy_sources_load(&gres->sources, NULL, 0, &report, &gres->policy)) {
		cli_error("nothing is known of the policy before its mistakes are corrected");
		return EXIT_BAD_POLICY;
	}
	for (size_t i = 0; i < gres->n_types; i++) {
		if (!policy_name_find(&gres->policy, gres->types[i], &gres->names[i]))
			continue;
		cli_error("--type %s: the policy has no device of that name", gres->types[i]);
		return EXIT_NO_NAME;
	}
	r = devices ? inventory_read_json(devices, &gres->inventory, &why)
		    : inventory_read_local(&gres->inventory);
	if (!r)
		return choose(gres);
	cli_error("%s: %s", devices ? devices : "the devices cannot be read",
		  why ? why : strerror(-r));
	return EXIT_BAD_POLICY;
}

/* Takes an option. 0, or an exit status after the reason was printed. */
static int take_gres_option(struct gres *gres, int c)
{
	if (c == 'p')
		return policy_sources_add(&gres->sources, optarg);
	if (c == 'n' &&
	    (!*optarg || strlen(optarg) >= sizeof(gres->node) || strpbrk(optarg, " \t\n=,#"))) {
		cli_error("--node '%s' is no name of a node", optarg);
		return EXIT_BAD_USAGE;
	}
	if (c == 'n')
		strcpy(gres->node, optarg);
	if (c == 't' && gres->n_types == TYPES_MAX) {
		cli_error("more than %d types", TYPES_MAX);
		return EXIT_BAD_USAGE;
	}
	if (c == 't')
		gres->types[gres->n_types++] = optarg;
	return 0;
}

int slurm_gres(int argc, char **argv)
{
	static const struct option options[] = {
		{ "write", no_argument, NULL, 'w' },
		{ "type", required_argument, NULL, 't' },
		{ "node", required_argument, NULL, 'n' },
		{ "policy", required_argument, NULL, 'p' },
		{ "devices", required_argument, NULL, 'd' },
		{ NULL, 0, NULL, 0 },
	};
	struct arguments arguments = { .command = "slurm gres", .mode = "" };
	struct gres gres = { 0 };
	const char *devices = NULL;
	bool writes = false;
	int c, r = 0;

	policy_sources_init(&gres.sources);
	gethostname(gres.node, sizeof(gres.node) - 1);
	gres.node[strcspn(gres.node, ".")] = '\0'; /* as slurmd does */
	while (!r && (c = arguments_next(&arguments, argc, argv, options)) != ARGUMENTS_END) {
		if (c == ARGUMENTS_STOP)
			return arguments.status;
		writes = writes || c == 'w';
		devices = c == 'd' ? optarg : devices;
		r = take_gres_option(&gres, c);
	}
	if (!r && (optind < argc || (writes && devices))) {
		cli_error("slurm gres takes options alone, and --write none of another host's "
			  "devices; see 'gpubroker slurm gres --help'");
		r = EXIT_BAD_USAGE;
	}
	if (!r)
		r = load(&gres, devices);
	if (!r)
		r = writes ? write_gres(&gres) : print_out(&gres);
	policy_done(&gres.policy);
	inventory_done(&gres.inventory);
	free(gres.list);
	return r;
}
