/* SPDX-License-Identifier: MIT */
/* gpubroker-hooks: the command line of what runs the administrator's hooks, see runner.h. */
#include "config.h"

#include "brokerd/helper/helper.h"
#include "brokerd/hooks/runner.h"
#include "brokerd/process/log.h"

#include <getopt.h>
#include <stdio.h>
#include <sysexits.h>
#include <unistd.h>

static const char runner_usage[] =
	"usage: gpubroker-hooks [--socket PATH] [--hooks DIR]\n"
	"\n"
	"Runs the hooks of DIR for the daemon that listens for its helpers at "
	"PATH; for\ngpubroker-hooks.service. See gpubrokerd(8), HOOKS.\n";

int main(int argc, char **argv)
{
	static const struct option long_options[] = {
		{ "socket", required_argument, NULL, 's' },
		{ "hooks", required_argument, NULL, 'k' },
		{ "help", no_argument, NULL, 'h' },
		{ "version", no_argument, NULL, 'V' },
		{ NULL, 0, NULL, 0 },
	};
	struct runner_options options = { HELPER_SOCKET, GPUBROKER_HOOKS_DIR };
	int c;

	while ((c = getopt_long(argc, argv, "", long_options, NULL)) != -1) {
		if (c == 's') {
			options.socket = optarg;
		} else if (c == 'k') {
			options.directory = optarg;
		} else if (c == 'h' || c == 'V') {
			fputs(c == 'h' ? runner_usage : "gpubroker-hooks " PACKAGE_VERSION "\n",
			      stdout);
			return 0;
		} else {
			fputs(runner_usage, stderr);
			return EX_USAGE;
		}
	}
	if (optind < argc) {
		fputs(runner_usage, stderr);
		return EX_USAGE;
	}
	log_init();
	return runner_run(&options);
}
