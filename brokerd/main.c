/* SPDX-License-Identifier: MIT */
/* gpubrokerd: the command line. Everything else is in libbrokerd, so that tests can link it. */
#include "config.h"

#include "brokerd/daemon.h"
#include "brokerd/helper/loader.h"
#include "brokerd/helper/start.h"
#include "brokerd/process/log.h"
#include "client/common/util.h"
#include "client/host/policyfiles.h"

#include <getopt.h>
#include <string.h>
#include <sysexits.h>

#define DIRECTORIES_MAX 16

static const char usage[] =
	"usage: gpubrokerd [--policy DIR]... [--socket PATH] [--state DIR] [--history DIR]\n"
	"                  [--check]\n"
	"\n"
	"  --policy DIR   read *.policy there, instead of /etc/gpubroker/policy.d and\n"
	"                 /usr/lib/gpubroker/policy.d; may be repeated, the first masks\n"
	"  --socket PATH  listen there, where systemd passes no socket\n"
	"  --state DIR    keep lease records there\n"
	"  --history DIR  keep there what outlives a reboot: which lease numbers were used,\n"
	"                 and the usage of devices; with --state alone, it is there too\n"
	"  --check        say what is wrong with the policy, and end\n"
	"  --helper ROLE  be the watcher, loader, finder or ender of the daemon that listens for\n"
	"                 it at --socket; for gpubroker-watch.service, gpubroker-load.service,\n"
	"                 gpubroker-find.service, gpubroker-end.service\n";

static const struct loader_options installed = {
	.directories = policyfiles_directories,
	.n_directories = POLICYFILES_DIRECTORIES,
	.saved = policyfiles_saved,
	.saved_in = POLICYFILES_SAVED,
};

/* Returns the role of that name, or HELPER_ROLES. */
static enum helper_role role_of(const char *name)
{
	enum helper_role role = 0;

	while (role < HELPER_HOOKS && strcmp(name, helper_role_name(role)) != 0)
		role++;
	return role < HELPER_HOOKS ? role : HELPER_ROLES;
}

static void use_defaults(struct daemon_options *options)
{
	if (!options->socket)
		options->socket = "/run/gpubroker/socket";
	if (!options->state && !options->history)
		options->history = "/var/lib/gpubroker/history";
	if (!options->state)
		options->state = "/run/gpubroker/leases";
}

int main(int argc, char **argv)
{
	static const struct option long_options[] = {
		{ "policy", required_argument, NULL, 'p' },
		{ "socket", required_argument, NULL, 's' },
		{ "state", required_argument, NULL, 't' },
		{ "history", required_argument, NULL, 'y' },
		{ "check", no_argument, NULL, 'c' },
		{ "helper", required_argument, NULL, 'r' },
		{ "help", no_argument, NULL, 'h' },
		{ "version", no_argument, NULL, 'V' },
		{ NULL, 0, NULL, 0 },
	};
	static const char *directories[DIRECTORIES_MAX];
	struct daemon_options options = { .policy = installed };
	size_t n_given = 0;
	enum helper_role role = HELPER_ROLES;
	bool check = false;
	int c;

	while ((c = getopt_long(argc, argv, "", long_options, NULL)) != -1) {
		if (c == 'p' && n_given < DIRECTORIES_MAX) {
			directories[n_given++] = optarg; /* of these, none is saved */
			options.policy = (struct loader_options){ .directories = directories,
								  .n_directories = n_given };
		} else if (c == 's') {
			options.socket = optarg;
		} else if (c == 't' || c == 'y') {
			*(c == 't' ? &options.state : &options.history) = optarg;
		} else if (c == 'c') {
			check = true;
		} else if (c == 'r' && (role = role_of(optarg)) < HELPER_ROLES) {
			continue;
		} else if (c == 'h' || c == 'V') {
			fputs(c == 'h' ? usage : "gpubrokerd " PACKAGE_VERSION "\n", stdout);
			return 0;
		} else {
			fputs(usage, stderr);
			return EX_USAGE;
		}
	}
	if (optind < argc) {
		fputs(usage, stderr);
		return EX_USAGE;
	}
	log_init();
	if (check)
		return loader_check(&options.policy) ? EX_CONFIG : 0;
	if (role < HELPER_ROLES)
		return helper_run(role, options.socket ? options.socket : HELPER_SOCKET,
				  &options.policy);
	use_defaults(&options);
	return daemon_run(&options);
}
