/* SPDX-License-Identifier: MIT */
/*
 * gpubroker(1): takes the options that stand before the command, and runs the command.
 */
#include "config.h"

#include "client/command/cli.h"
#include "client/common/util.h"

#include <getopt.h>
#include <stdio.h>
#include <string.h>

static const char usage_of_all[] =
	"usage: gpubroker [--socket PATH] COMMAND [...]\n"
	"\n"
	"  list [--all] [--json]        the GPUs (--all: every PCI function) and their status\n"
	"  run [--gpu DEVICE [--profile PROFILE | --memory SIZE]]... [--wait[=TIME]] [--force]\n"
	"      [--memlock SIZE] [--iommufd] [--qemu [--rom FILE] [--primary]]\n"
	"      -- COMMAND [ARG...]\n"
	"                               claim DEVICE and run COMMAND, a VMM, with it; --qemu: add\n"
	"                               the arguments that give it to QEMU\n"
	"  profiles [DEVICE] [--json]   parts of devices that drivers offer to make\n"
	"  leases [--waiting] [--json]  who has which device, and who waits for one\n"
	"  release LEASE                end a lease of your own, or a claim of yours that waits\n"
	"  watch [--json]               changes of leases and of the queue, as they happen\n"
	"  policy check [FILE...]       show every mistake in the policy, before it is in force\n"
	"  policy explain --user USER DEVICE [--profile PROFILE]\n"
	"                               whether USER may have DEVICE, by which rule and limits\n"
	"  policy install               set up what prepare rules need at boot (root)\n"
	"  revoke LEASE [--after TIME]  end anybody's lease, or waiting claim (root)\n"
	"  restore DEVICE               give a device back to its host driver (root)\n"
	"  vfs DEVICE N                 create N virtual functions of a physical one (root)\n"
	"  help, --version\n"
	"\n"
	"DEVICE is a PCI address, iommu-group:N, a name from the policy, or any.\n";

static const struct {
	const char *name;
	int (*run)(const struct cli *cli, int argc, char **argv);
} commands[] = {
	{ "list", cli_list },	    { "run", cli_run },		{ "leases", cli_leases },
	{ "policy", cli_policy },   { "release", cli_release }, { "revoke", cli_revoke },
	{ "restore", cli_restore }, { "watch", cli_watch },	{ "profiles", cli_profiles },
	{ "vfs", cli_vfs },
};

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
			fputs(usage_of_all, stdout);
			return cli_finish_output();
		case 'V':
			puts("gpubroker " PACKAGE_VERSION);
			return cli_finish_output();
		default:
			fputs(usage_of_all, stderr);
			return EXIT_BAD_USAGE;
		}
	}
	argc -= optind;
	argv += optind;
	if (!argc) {
		fputs(usage_of_all, stderr);
		return EXIT_BAD_USAGE;
	}
	if (!strcmp(argv[0], "help")) {
		fputs(usage_of_all, stdout);
		return cli_finish_output();
	}
	for (size_t i = 0; i < ARRAY_SIZE(commands); i++) {
		if (!strcmp(argv[0], commands[i].name)) {
			optind = 0; /* glibc: start again at argv[1] */
			return commands[i].run(&cli, argc, argv);
		}
	}
	cli_error("there is no command '%s'; see 'gpubroker help'", argv[0]);
	return EXIT_BAD_USAGE;
}
