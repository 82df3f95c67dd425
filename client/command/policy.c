/* SPDX-License-Identifier: MIT */
/*
 * gpubroker policy check: what is wrong with policy files, every mistake with its line and a caret,
 * before they are in force. Runs as anybody, asks no daemon, changes nothing.
 */
#include "config.h"

#include "client/command/cli.h"
#include "client/command/inventory.h"
#include "client/command/policy.h"
#include "client/common/util.h"

#include <getopt.h>
#include <string.h>

static const char *default_directories[] = { GPUBROKER_POLICY_DIR, GPUBROKER_VENDOR_POLICY_DIR };

void policy_sources_init(struct policy_sources *sources)
{
	*sources = (struct policy_sources){ 0 };
}

int policy_sources_add(struct policy_sources *sources, const char *directory)
{
	if (sources->n_given == ARRAY_SIZE(sources->given)) {
		cli_error("more than %zu policy directories", ARRAY_SIZE(sources->given));
		return EXIT_USAGE_;
	}
	sources->given[sources->n_given++] = directory;
	return 0;
}

/* The line, with its control characters out of the way, and a caret below the column. */
static void print_source(const struct policy_finding *f)
{
	const size_t width = 72;
	size_t column = f->column ? f->column - 1 : 0, from = 0, n;

	if (!f->source || !f->line)
		return;
	/* Of a long line, the part around the column. */
	if (column > width - 8)
		from = column - (width - 8);
	n = f->source_len > from ? f->source_len - from : 0;
	if (n > width)
		n = width;
	fputs("    ", stdout);
	for (size_t i = 0; i < n; i++) {
		unsigned char c = (unsigned char)f->source[from + i];

		putchar(c < ' ' || c >= 0x7f ? (c == '\t' ? ' ' : '?') : c);
	}
	printf("\n    %*s^\n", (int)(column - from), "");
}

static void print_finding(void *userdata, const struct policy_finding *f)
{
	struct policy_count *count = userdata;

	if (f->severity == POLICY_MISTAKE)
		count->mistakes++;
	else
		count->warnings++;
	cli_print_text(stdout, f->path, -1);
	if (f->line)
		printf(":%u:%u", (unsigned)f->line, (unsigned)f->column);
	fputs(f->severity == POLICY_MISTAKE ? ": error: " : ": warning: ", stdout);
	cli_print_text(stdout, f->text, -1);
	putchar('\n');
	print_source(f);
}

int policy_sources_load(const struct policy_sources *sources, const char *const *files,
			size_t n_files, struct policy_count *count, struct policy *ret_policy)
{
	struct policyfiles request = {
		.files = files,
		.n_files = n_files,
		.without_accounts = sources->without_accounts,
		.found = count ? print_finding : NULL,
		.userdata = count,
	};

	if (!n_files) {
		request.directories = sources->n_given ? sources->given : default_directories;
		request.n_directories = sources->n_given ? sources->n_given
							 : ARRAY_SIZE(default_directories);
	}
	return policyfiles_load(&request, ret_policy);
}

/*
 * Warns of statements that no device of this host can match. A draft for another host has many of
 * those: --devices names that host's list. Without any list there is nothing to warn of.
 */
static int lint(const struct policy *policy, const char *devices, struct policy_count *count)
{
	struct inventory inventory = { 0 };
	struct policy_facts *facts;
	const char *why = NULL;
	int r = devices ? inventory_read_json(devices, &inventory, &why)
			: inventory_read_local(&inventory);

	if (r) {
		if (devices)
			cli_error("%s: %s", devices, why ? why : strerror(-r));
		return devices ? EXIT_BAD_POLICY : 0;
	}
	facts = calloc(inventory.n + 1, sizeof(*facts));
	for (size_t i = 0; facts && i < inventory.n; i++) {
		facts[i] = function_facts(&inventory.functions[i]);
		facts[i].profile = NULL; /* of which it may have any: drivers are not asked */
	}
	if (facts && inventory.n)
		policy_lint(policy, facts, inventory.n, print_finding, count);
	free(facts);
	inventory_done(&inventory);
	return 0;
}

static int check(int argc, char **argv)
{
	static const struct option options[] = {
		{ "policy", required_argument, NULL, 'p' },
		{ "devices", required_argument, NULL, 'd' },
		{ NULL, 0, NULL, 0 },
	};
	const char *devices = NULL;
	struct policy_sources sources;
	struct policy_count count = { 0 };
	struct policy policy = { 0 };
	int c, r;

	policy_sources_init(&sources);
	while ((c = getopt_long(argc, argv, "", options, NULL)) != -1) {
		if (c == 'd') {
			devices = optarg;
			continue;
		}
		r = c == 'p' ? policy_sources_add(&sources, optarg) : EXIT_USAGE_;
		if (r)
			return r;
	}
	r = policy_sources_load(&sources, (const char *const *)argv + optind,
				(size_t)(argc - optind), &count, &policy);
	if (r < 0) {
		cli_error("the policy cannot be read: %s", strerror(-r));
		return EXIT_SOFTWARE;
	}
	if (!r) {
		c = lint(&policy, devices, &count);
		if (c) {
			policy_done(&policy);
			return c;
		}
		printf("%zu statement%s in %zu file%s, no mistake", policy.n_rules,
		       policy.n_rules == 1 ? "" : "s", policy.n_files,
		       policy.n_files == 1 ? "" : "s");
		policy_done(&policy);
	} else {
		printf("%d mistake%s", r, r == 1 ? "" : "s");
	}
	printf(", %u warning%s\n", count.warnings, count.warnings == 1 ? "" : "s");
	c = cli_finish_output();
	return r ? EXIT_BAD_POLICY : c;
}

static const char usage[] =
	"usage: gpubroker policy check [--policy DIR]... [--devices FILE] [FILE...]\n"
	"       gpubroker policy explain [--policy DIR]... [--devices FILE] [--profile PROFILE]\n"
	"                                --user USER DEVICE\n"
	"       gpubroker policy install [--policy DIR]... [--root DIR]\n";

int cli_policy(const struct cli *cli, int argc, char **argv)
{
	(void)cli;
	if (argc > 1 && !strcmp(argv[1], "check"))
		return check(argc - 1, argv + 1);
	if (argc > 1 && !strcmp(argv[1], "explain"))
		return policy_explain(argc - 1, argv + 1);
	if (argc > 1 && !strcmp(argv[1], "install"))
		return policy_install(argc - 1, argv + 1);
	fputs(usage, stderr);
	return EXIT_USAGE_;
}
