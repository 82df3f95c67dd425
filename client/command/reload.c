/* SPDX-License-Identifier: MIT */
/*
 * gpubroker policy reload: has the policy read again, and says what came of it. As root, through
 * the broker alone: what is in force is what the broker says.
 */
#include "config.h"

#include "client/command/policy.h"
#include "client/command/arguments.h"
#include "client/command/cli.h"
#include "client/command/json-out.h"
#include "client/command/policy-sources.h"
#include "client/command/refused.h"

#include <errno.h>
#include <inttypes.h>
#include <stdbool.h>
#include <time.h>
#include <unistd.h>

#define RESTART_TRIES 100 /* of 100 ms: a broker that starts again needs a moment */

/*
 * The broker has ended under the request, as it does to regain a capability: asks the one that
 * systemd starts, once it has read the files.
 */
static int ask_next(const struct cli *cli, struct gpubroker **handle,
		    struct gpubroker_policy *ret_policy)
{
	const struct timespec pause = { .tv_nsec = 100000000 };
	int r = -ECONNRESET;

	for (int i = 0; r < 0 && i < RESTART_TRIES; i++) {
		nanosleep(&pause, NULL);
		*handle = gpubroker_close(*handle);
		r = gpubroker_open(cli->socket, handle);
		if (!r)
			r = gpubroker_policy(*handle, ret_policy);
	}
	return r;
}

static void print_time(uint64_t seconds)
{
	const time_t when = (time_t)seconds;
	char text[32];
	struct tm tm;

	if (localtime_r(&when, &tm) && strftime(text, sizeof(text), "%Y-%m-%d %H:%M:%S", &tm))
		fputs(text, stdout);
}

/* Prints the mistakes, unless they are `shown`, and what is in force meanwhile. */
static int say_refused(const struct gpubroker_policy *state, bool shown)
{
	struct policy_report report = { .mistakes_only = true };
	struct policy_sources sources;
	struct policy policy = { 0 };

	policy_sources_init(&sources);
	if (!shown && !policy_sources_load(&sources, NULL, 0, &report, &policy))
		policy_done(&policy);
	printf("The policy has %" PRIu64 " mistake%s and was not loaded; ", state->mistakes,
	       state->mistakes == 1 ? "" : "s");
	if (state->in_force) {
		fputs(state->saved ? "the one saved at " : "the one of ", stdout);
		print_time(state->loaded);
		puts(" stays in force.");
	} else {
		puts("none is in force, so nothing is lent.");
	}
	cli_finish_output();
	return EXIT_BAD_POLICY;
}

static void print_state(const struct gpubroker_policy *state)
{
	struct json_object *o = json_object_new_object();

	json_object_object_add(o, "in_force", json_object_new_boolean(state->in_force));
	json_object_object_add(o, "loaded", json_out_number(state->loaded));
	json_object_object_add(o, "rules", json_object_new_int64((int64_t)state->rules));
	json_object_object_add(o, "files", json_object_new_int64((int64_t)state->files));
	json_object_object_add(o, "mistakes", json_object_new_int64((int64_t)state->mistakes));
	json_out_print(o);
}

int policy_reload_now(const struct cli *cli)
{
	char install[] = "install", keep[] = "--keep";
	char *const arguments[] = { install, keep, NULL };
	struct gpubroker *handle = NULL;
	struct gpubroker_policy state = { 0 };
	bool shown;
	int r;

	/* For what prepare rules do at the next boot, as systemctl reload does. */
	optind = 0;
	shown = policy_install(2, (char **)arguments) == EXIT_BAD_POLICY;
	r = cli_open(cli, &handle);
	if (r)
		return r;
	r = gpubroker_policy_reload(handle, &state);
	if (r == -ECONNRESET || r == -EPIPE)
		r = ask_next(cli, &handle, &state);
	r = r ? cli_failed(cli, handle, r) : 0;
	gpubroker_close(handle);
	if (r)
		return r;
	if ((state.refused || !state.in_force) && refused_is_json()) {
		cli_error("the policy has %" PRIu64
			  " mistake%s and was not loaded; 'gpubroker policy check' shows %s",
			  state.mistakes, state.mistakes == 1 ? "" : "s",
			  state.mistakes == 1 ? "it" : "them");
		return EXIT_BAD_POLICY;
	}
	if (state.refused || !state.in_force)
		return say_refused(&state, shown);
	if (refused_is_json())
		print_state(&state);
	else
		printf("The policy is in force: %" PRIu64 " statement%s in %" PRIu64 " file%s.\n",
		       state.rules, state.rules == 1 ? "" : "s", state.files,
		       state.files == 1 ? "" : "s");
	return cli_finish_output();
}

int policy_reload(const struct cli *cli, int argc, char **argv)
{
	static const struct option options[] = {
		{ "json", no_argument, NULL, 'j' },
		{ NULL, 0, NULL, 0 },
	};
	struct arguments arguments = { .command = "policy reload", .mode = "" };

	if (arguments_only_json(&arguments, argc, argv, options))
		return arguments.status;
	if (optind != argc) {
		cli_error("policy reload takes no argument '%s'; it reads all of the policy",
			  argv[optind]);
		return EXIT_BAD_USAGE;
	}
	if (geteuid()) {
		cli_error("policy reload takes root, as a change of the policy does");
		return EXIT_POLICY;
	}
	return policy_reload_now(cli);
}
