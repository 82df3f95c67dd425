/* SPDX-License-Identifier: MIT */
/*
 * gpubroker serve, see serve.h: its options, and the order in which it begins. First the sockets,
 * then the process that executes orders, then the filter; only then the first connection is taken.
 * It must never serve unconfined.
 */
#include "config.h"

#include "client/serve/serve.h"
#include "client/command/arguments.h"
#include "client/common/util.h"
#include "client/serve/confine.h"
#include "client/serve/listen.h"
#include "client/serve/spawn.h"

#include <json.h>
#include <signal.h>
#include <string.h>
#include <unistd.h>

struct serve_options {
	const char *path; /* --http, or NULL */
	unsigned port;	  /* 0: no loopback */
};

static int parse_port(const char *text, unsigned *ret_port)
{
	const size_t n = strspn(text, "0123456789");
	const unsigned long port = strtoul(text, NULL, 10);

	if (!n || n > 5 || text[n] || !port || port > 65535) {
		cli_error("--port '%s' is no port: give a number from 1 to 65535", text);
		return EXIT_BAD_USAGE;
	}
	*ret_port = (unsigned)port;
	return 0;
}

/* Parses the arguments. Returns ARGUMENTS_END, or the exit status. */
static int parse_options(int argc, char **argv, struct serve_options *ret_options)
{
	static const struct option options[] = {
		{ "http", required_argument, NULL, 'H' },
		{ "port", required_argument, NULL, 'p' },
		{ NULL, 0, NULL, 0 },
	};
	struct arguments arguments = { .command = "serve", .mode = "" };
	int c, r;

	*ret_options = (struct serve_options){ 0 };
	while ((c = arguments_next(&arguments, argc, argv, options)) != ARGUMENTS_END) {
		if (c == ARGUMENTS_STOP)
			return arguments.status;
		if (c == 'H')
			ret_options->path = optarg;
		r = c == 'p' ? parse_port(optarg, &ret_options->port) : 0;
		if (r)
			return r;
	}
	if (optind == argc)
		return ARGUMENTS_END;
	cli_error("serve takes no argument '%s'", argv[optind]);
	return EXIT_BAD_USAGE;
}

static int begin_listening(struct server_setup *setup, const struct serve_options *options,
			   const char *directory, const char **ret_unlink)
{
	static char path[520], token[520];
	int inherited = listen_inherited(setup), r = 0;

	*ret_unlink = NULL;
	if (inherited < 0)
		return EXIT_BAD_USAGE;
	snprintf(path, sizeof(path), "%s/http", directory);
	snprintf(token, sizeof(token), "%s/token", directory);
	if (!inherited) {
		*ret_unlink = options->path ? options->path : path;
		r = listen_unix(setup, *ret_unlink);
	}
	if (!r && options->port) {
		r = listen_loopback(setup, options->port, token);
		if (r && *ret_unlink)
			unlink(*ret_unlink);
	}
	if (!r && cli_columns(stderr)) {
		fprintf(stderr, "gpubroker serves you at %s",
			inherited ? "systemd's socket" : *ret_unlink);
		if (options->port)
			fprintf(stderr, " and http://127.0.0.1:%u, with the token in %s",
				options->port, token);
		fputs("; ^C ends it\n", stderr);
	}
	return r;
}

int cli_serve(const struct cli *cli, int argc, char **argv)
{
	const char *runtime = getenv("XDG_RUNTIME_DIR");
	struct server_setup setup = { .uid = geteuid() };
	struct spawn_setup spawn = { .socket = cli->socket };
	struct serve_options options;
	char directory[500];
	int r = parse_options(argc, argv, &options);

	if (r != ARGUMENTS_END)
		return r;
	if (!runtime || *runtime != '/') {
		cli_error("XDG_RUNTIME_DIR is not set, which a session of yours has; as in: "
			  "XDG_RUNTIME_DIR=/run/user/%u gpubroker serve",
			  (unsigned)geteuid());
		return EXIT_NO_BROKER;
	}
	snprintf(directory, sizeof(directory), "%.480s/gpubroker", runtime);
	spawn.directory = directory;
	r = listen_directory(directory);
	if (!r)
		r = begin_listening(&setup, &options, directory, &spawn.unlink);
	if (r)
		return r;
	signal(SIGPIPE, SIG_IGN);
	spawn.listeners = setup.listeners;
	spawn.n_listeners = setup.n_listeners;
	r = spawn_begin(&spawn, &setup.spawner);
	if (r) {
		cli_error("cannot start the process that executes commands: %s", strerror(-r));
		return EXIT_SOFTWARE;
	}
	json_object_put(json_tokener_parse("{\"seed\":1}")); /* which may open a file, once */
	r = confine_serve();
	if (r) {
		cli_error("cannot install the seccomp filter: %s", strerror(-r));
		return EXIT_SOFTWARE;
	}
	return server_run(&setup);
}
