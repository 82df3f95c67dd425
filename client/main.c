/* SPDX-License-Identifier: MIT */
/*
 * gpubroker(1): takes the options that stand before the command, and runs the command.
 */
#include "config.h"

#include "client/command/cli.h"
#include "client/command/help.h"
#include "client/command/refused.h"
#include "client/common/util.h"
#include "client/serve/serve.h"

#include <getopt.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

static const struct {
	const char *name;
	int (*run)(const struct cli *cli, int argc, char **argv);
} commands[] = {
	{ "list", cli_list },	      { "run", cli_run },
	{ "leases", cli_leases },     { "policy", cli_policy },
	{ "release", cli_release },   { "revoke", cli_revoke },
	{ "restore", cli_restore },   { "watch", cli_watch },
	{ "profiles", cli_profiles }, { "doctor", cli_doctor },
	{ "vfs", cli_vfs },	      { "__complete", cli_complete },
	{ "usage", cli_usage },	      { "metrics", cli_metrics },
	{ "attach", cli_attach },     { "detach", cli_detach },
	{ "drivers", cli_drivers },   { "allot", cli_allot },
	{ "retract", cli_retract },   { "allotments", cli_allotments },
	{ "prepare", cli_prepare },   { "slurm", cli_slurm },
	{ "serve", cli_serve },
};

static bool is_command(const char *given)
{
	for (size_t i = 0; i < ARRAY_SIZE(commands); i++)
		if (!strcmp(commands[i].name, given))
			return true;
	return false;
}

static int say_no_command(const char *given)
{
	const char *meant = help_meant(given);

	if (meant)
		cli_error("there is no command '%s'; did you mean 'gpubroker %s'?", given, meant);
	else
		cli_error("there is no command '%s'; see 'gpubroker help'", given);
	return EXIT_BAD_USAGE;
}

/* gpubroker help [COMMAND [SUBCOMMAND]] */
static int help(int argc, char **argv)
{
	char command[64];

	if (argc < 2) {
		help_print_all(stdout);
		return cli_finish_output();
	}
	snprintf(command, sizeof(command), "%.24s%s%.24s", argv[1], argc > 2 ? " " : "",
		 argc > 2 ? argv[2] : "");
	if (!help_text(command))
		return say_no_command(command);
	help_print(stdout, command);
	return cli_finish_output();
}

int main(int argc, char **argv)
{
	static const struct option options[] = {
		{ "socket", required_argument, NULL, 's' },
		{ "help", no_argument, NULL, 'h' },
		{ "version", no_argument, NULL, 'V' },
		{ NULL, 0, NULL, 0 },
	};
	struct cli cli = { 0 };
	int c;

	while ((c = getopt_long(argc, argv, "+", options, NULL)) != -1) {
		switch (c) {
		case 's':
			cli.socket = optarg;
			break;
		case 'h':
			help_print_all(stdout);
			return cli_finish_output();
		case 'V':
			puts("gpubroker " PACKAGE_VERSION);
			return cli_finish_output();
		default:
			if (argv[optind] && is_command(argv[optind]))
				cli_error("did you mean 'gpubroker %s %s'?", argv[optind],
					  argv[optind - 1]);
			else
				help_print_all(stderr);
			return EXIT_BAD_USAGE;
		}
	}
	/* A container with the socket of an allotment is given this. */
	if (!cli.socket && (cli.socket = getenv("GPUBROKER_SOCKET")) && !*cli.socket)
		cli.socket = NULL;
	argc -= optind;
	argv += optind;
	if (!argc) {
		help_print_all(stderr);
		return EXIT_BAD_USAGE;
	}
	if (!strcmp(argv[0], "help"))
		return help(argc, argv);
	for (size_t i = 0; i < ARRAY_SIZE(commands); i++) {
		if (!strcmp(argv[0], commands[i].name)) {
			optind = 0; /* glibc: start again at argv[1] */
			return refused_end(commands[i].run(&cli, argc, argv));
		}
	}
	return say_no_command(argv[0]);
}
