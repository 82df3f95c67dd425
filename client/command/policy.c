/* SPDX-License-Identifier: MIT */
/*
 * gpubroker policy check: prints every mistake of policy files, with its line and a caret, before
 * they are in force. Runs as anybody, asks no daemon, changes nothing.
 */
#include "config.h"

#include "client/command/policy.h"
#include "client/command/arguments.h"
#include "client/command/cli.h"
#include "client/command/help.h"
#include "client/command/inventory.h"
#include "client/command/policy-sources.h"
#include "client/command/spared-check.h"
#include "client/common/nearness.h"
#include "client/common/util.h"

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
	if (facts)
		policy_lint_cards(policy, facts, inventory.n, policy_sources_print, report);
	spared_check(policy, &inventory, report);
	for (size_t i = 0; facts && i < inventory.n; i++)
		if (inventory.functions[i].in_use[0])
			policy_lint_in_use(policy, &facts[i], inventory.functions[i].in_use,
					   policy_sources_print, report);
	free(facts);
	inventory_done(&inventory);
	return 0;
}

/*
 * How many statements there are in the files that were given, or in all; *ret_files: in how many
 * files.
 */
static size_t count_statements(const struct policy *policy, const struct policy_report *report,
			       size_t *ret_files)
{
	size_t n = 0;

	*ret_files = report->n_files ? report->n_files : policy->n_files;
	for (size_t i = 0; i < policy->n_rules; i++)
		for (size_t k = 0; k < report->n_files; k++)
			n += !strcmp(policy->files[policy->rules[i].file].path, report->files[k]);
	return report->n_files ? n : policy->n_rules;
}

/* The last line: what was found. `r` as policy_sources_load() returned it. */
static void print_verdict(const struct policy *policy, int r, const struct policy_report *report)
{
	size_t n, files;

	if (report->mistakes) {
		printf("%u mistake%s", report->mistakes, report->mistakes == 1 ? "" : "s");
	} else if (r) {
		fputs("no mistake here", stdout);
	} else {
		n = count_statements(policy, report, &files);
		printf("%zu statement%s in %zu file%s, no mistake", n, n == 1 ? "" : "s", files,
		       files == 1 ? "" : "s");
	}
	printf(", %u warning%s\n", report->warnings, report->warnings == 1 ? "" : "s");
	if (report->caused)
		printf("With what is in the given files, others have %u mistake%s more.\n",
		       report->caused, report->caused == 1 ? "" : "s");
	else if (report->others)
		printf("The other files have %u mistake%s, so the policy cannot be "
		       "loaded; 'gpubroker policy check' shows %s.\n",
		       report->others, report->others == 1 ? "" : "s",
		       report->others == 1 ? "it" : "them");
	else if (!r && !report->n_files && !policy->n_files)
		puts("There is no policy file, so nobody may claim anything. 'gpubroker policy "
		     "check' reads /etc/gpubroker/policy.d/*.policy.");
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
	struct arguments arguments = { .command = "policy check", .mode = "" };
	int c, r;

	policy_sources_init(&sources);
	while ((c = arguments_next(&arguments, argc, argv, options)) != ARGUMENTS_END) {
		if (c == 'd') {
			devices = optarg;
			continue;
		}
		if (c == ARGUMENTS_STOP)
			return arguments.status;
		r = policy_sources_add(&sources, optarg);
		if (r)
			return r;
	}
	r = policy_sources_check(&sources, (const char *const *)argv + optind,
				 (size_t)(argc - optind), &report, &policy);
	if (r < 0) {
		cli_error("the policy cannot be read: %s", strerror(-r));
		return EXIT_SOFTWARE;
	}
	c = r ? 0 : lint_policy(&policy, devices, &report);
	if (c) {
		policy_done(&policy);
		return c;
	}
	print_verdict(&policy, r, &report);
	policy_done(&policy);
	r = (int)report.mistakes;
	c = cli_finish_output();
	return r ? EXIT_BAD_POLICY : c;
}

int cli_policy(const struct cli *cli, int argc, char **argv)
{
	static const struct {
		const char *name;
		int (*run)(int argc, char **argv);
		int (*ask)(const struct cli *cli, int argc, char **argv); /* the broker, too */
	} commands[] = {
		{ "check", check_policy, NULL },   { "explain", policy_explain, NULL },
		{ "add", NULL, policy_add },	   { "edit", NULL, policy_edit },
		{ "reload", NULL, policy_reload }, { "install", policy_install, NULL },
	};
	const char *names[ARRAY_SIZE(commands)];
	const char *given = argc > 1 ? argv[1] : "", *near;

	for (size_t i = 0; i < ARRAY_SIZE(commands); i++) {
		names[i] = commands[i].name;
		if (strcmp(given, names[i]))
			continue;
		return commands[i].run ? commands[i].run(argc - 1, argv + 1)
				       : commands[i].ask(cli, argc - 1, argv + 1);
	}
	if (!strcmp(given, "--help") || !strcmp(given, "-h") || !strcmp(given, "help")) {
		help_print(stdout, "policy");
		return cli_finish_output();
	}
	near = nearness_best(given, names, ARRAY_SIZE(names));
	if (near)
		cli_error("there is no command 'policy %s'; did you mean 'policy %s'?", given,
			  near);
	else if (*given)
		cli_error("there is no command 'policy %s'; see 'gpubroker policy --help'", given);
	else
		help_print(stderr, "policy");
	return EXIT_BAD_USAGE;
}
