/* SPDX-License-Identifier: MIT */
/*
 * gpubroker policy check: prints every mistake of policy files, with its line and a caret, before
 * they are in force. Runs as anybody, asks no daemon, changes nothing.
 */
#include "config.h"

#include "client/command/policy.h"
#include "client/command/cli.h"
#include "client/command/inventory.h"
#include "client/command/policy-sources.h"
#include "client/command/spared-check.h"
#include "client/common/util.h"

#include <getopt.h>
#include <string.h>

/*
 * Warns of statements that no device of this host can match. A draft for another host has many of
 * those, so --devices names that host's list. Without any list there is nothing to warn of.
 */
static int lint_policy(const struct policy *policy, const char *devices,
		       struct policy_report *report)
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
		facts[i].profile = NULL; /* it may have any profile: drivers are not asked */
	}
	if (facts && inventory.n)
		policy_lint(policy, facts, inventory.n, policy_sources_print, report);
	spared_check(policy, &inventory, report);
	for (size_t i = 0; facts && i < inventory.n; i++)
		if (inventory.functions[i].in_use[0])
			policy_lint_in_use(policy, &facts[i], inventory.functions[i].in_use,
					   policy_sources_print, report);
	free(facts);
	inventory_done(&inventory);
	return 0;
}

static int check_policy(int argc, char **argv)
{
	static const struct option options[] = {
		{ "policy", required_argument, NULL, 'p' },
		{ "devices", required_argument, NULL, 'd' },
		{ NULL, 0, NULL, 0 },
	};
	const char *devices = NULL;
	struct policy_sources sources;
	struct policy_report report = { 0 };
	struct policy policy = { 0 };
	int c, r;

	policy_sources_init(&sources);
	while ((c = getopt_long(argc, argv, "", options, NULL)) != -1) {
		if (c == 'd') {
			devices = optarg;
			continue;
		}
		r = c == 'p' ? policy_sources_add(&sources, optarg) : EXIT_BAD_USAGE;
		if (r)
			return r;
	}
	r = policy_sources_load(&sources, (const char *const *)argv + optind,
				(size_t)(argc - optind), &report, &policy);
	if (r < 0) {
		cli_error("the policy cannot be read: %s", strerror(-r));
		return EXIT_SOFTWARE;
	}
	if (!r) {
		c = lint_policy(&policy, devices, &report);
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
	printf(", %u warning%s\n", report.warnings, report.warnings == 1 ? "" : "s");
	c = cli_finish_output();
	return r ? EXIT_BAD_POLICY : c;
}

static const char usage_of_policy[] =
	"usage: gpubroker policy check [--policy DIR]... [--devices FILE] [FILE...]\n"
	"       gpubroker policy explain [--policy DIR]... [--devices FILE | --profile PROFILE]\n"
	"                                --user USER DEVICE\n"
	"       gpubroker policy install [--policy DIR]... [--root DIR] [--devices FILE]\n"
	"                                [--keep]\n";

int cli_policy(const struct cli *cli, int argc, char **argv)
{
	(void)cli;
	if (argc > 1 && !strcmp(argv[1], "check"))
		return check_policy(argc - 1, argv + 1);
	if (argc > 1 && !strcmp(argv[1], "explain"))
		return policy_explain(argc - 1, argv + 1);
	if (argc > 1 && !strcmp(argv[1], "install"))
		return policy_install(argc - 1, argv + 1);
	fputs(usage_of_policy, stderr);
	return EXIT_BAD_USAGE;
}
