/* SPDX-License-Identifier: MIT */
/*
 * gpubroker watch: prints each change of a lease and of the queue as it happens, a line each, or
 * with --json an object a line for programs. Reads only.
 */
#include "config.h"

#include "client/command/cli.h"
#include "client/command/arguments.h"
#include "client/command/json-out.h"

#include <inttypes.h>
#include <pwd.h>
#include <string.h>
#include <time.h>

static const char *kind_name(enum gpubroker_event_kind kind)
{
	switch (kind) {
	case GPUBROKER_EVENT_STATE:
		return "state";
	case GPUBROKER_EVENT_ENDING:
		return "ending";
	case GPUBROKER_EVENT_ARRIVED:
		return "arrived";
	case GPUBROKER_EVENT_VANISHED:
		return "vanished";
	case GPUBROKER_EVENT_WAITING:
		return "waiting";
	case GPUBROKER_EVENT_WAITED:
		return "waited";
	}
	return "unknown";
}

static bool is_of_claim(const struct gpubroker_event *event)
{
	return event->kind == GPUBROKER_EVENT_WAITING || event->kind == GPUBROKER_EVENT_WAITED;
}

/* An event of a claim that waits, or waits no longer; it has no lease. */
static void print_claim_json(const struct gpubroker_event *event)
{
	struct json_object *o = json_object_new_object();

	json_object_object_add(o, "event", json_object_new_string(kind_name(event->kind)));
	json_object_object_add(o, "time", json_object_new_int64((int64_t)event->time));
	json_object_object_add(o, "claim", json_object_new_int64((int64_t)event->lease));
	json_object_object_add(o, "uid", json_object_new_int64(event->uid));
	json_object_object_add(o, "pid", json_object_new_int64(event->pid));
	json_object_object_add(o, "place", json_object_new_int64(event->place));
	json_object_object_add(o, "device", json_object_new_string(event->wanted.device));
	json_object_object_add(o, "profile", json_out_text(event->wanted.profile));
	json_object_object_add(o, "n_devices", json_object_new_int64(event->n_wanted));
	json_object_object_add(o, "lost", json_object_new_int64(event->lost));
	json_out_line(o);
}

static void print_event_json(const struct gpubroker_event *event)
{
	struct json_object *o = json_object_new_object();

	json_object_object_add(o, "event", json_object_new_string(kind_name(event->kind)));
	json_object_object_add(o, "time", json_object_new_int64((int64_t)event->time));
	json_object_object_add(o, "lease", json_object_new_int64((int64_t)event->lease));
	json_object_object_add(o, "state",
			       json_object_new_string(gpubroker_lease_state_name(event->state)));
	json_object_object_add(o, "uid", json_object_new_int64(event->uid));
	json_object_object_add(o, "pid", json_object_new_int64(event->pid));
	json_object_object_add(o, "iommu_group", json_object_new_int64(event->iommu_group));
	json_object_object_add(o, "device",
			       json_object_new_string(event->address[0] ? event->address
									: event->parent));
	json_object_object_add(o, "ends", json_out_number(event->ends));
	json_object_object_add(o, "reason", json_out_text(event->reason));
	json_object_object_add(o, "lost", json_object_new_int64(event->lost));
	json_out_line(o);
}

static void print_claim(const struct gpubroker_event *event, const char *clock, const char *user)
{
	printf("%s  claim %" PRIu64 " of %s, ", clock, event->lease, user);
	cli_print_text(stdout, event->wanted.device, -1);
	if (event->wanted.profile[0]) {
		putchar(' ');
		cli_print_text(stdout, event->wanted.profile, -1);
	}
	if (event->n_wanted > 1)
		printf(" and %" PRIu32 " more", event->n_wanted - 1);
	if (event->kind == GPUBROKER_EVENT_WAITING)
		printf(": waits, at place %" PRIu32 " of the queue\n", event->place);
	else
		puts(": waits no longer");
}

static void print_text(const struct gpubroker_event *event)
{
	const struct passwd *user = getpwuid((uid_t)event->uid);
	time_t when = (time_t)event->time, ends = (time_t)event->ends;
	char clock[16] = "", uid[16];
	struct tm tm;

	if (event->lost)
		printf("(%" PRIu32 " events were lost)\n", event->lost);
	if (localtime_r(&when, &tm))
		strftime(clock, sizeof(clock), "%H:%M:%S", &tm);
	snprintf(uid, sizeof(uid), "%" PRIu32, event->uid);
	if (is_of_claim(event)) {
		print_claim(event, clock, user ? user->pw_name : uid);
		return;
	}
	printf("%s  lease %" PRIu64 " of %s, %s: ", clock, event->lease, user ? user->pw_name : uid,
	       event->address[0] ? event->address : event->parent);
	switch (event->kind) {
	case GPUBROKER_EVENT_ENDING:
		if (localtime_r(&ends, &tm))
			strftime(clock, sizeof(clock), "%H:%M:%S", &tm);
		printf("will be taken back at %s", clock);
		break;
	case GPUBROKER_EVENT_ARRIVED:
		fputs(event->reason[0]
			      ? "the function appeared in the leased group, whose user may "
				"not have it, so the lease ends"
			      : "the function appeared in the leased group, and no host "
				"driver gets it",
		      stdout);
		break;
	case GPUBROKER_EVENT_VANISHED:
		fputs("the function is gone, so the lease ends", stdout);
		break;
	default:
		fputs(gpubroker_lease_state_name(event->state), stdout);
	}
	if (event->reason[0]) {
		fputs(" (", stdout);
		cli_print_text(stdout, event->reason, -1);
		putchar(')');
	}
	putchar('\n');
}

static int on_event(void *userdata, const struct gpubroker_event *event)
{
	const bool *json = userdata;

	if (*json && is_of_claim(event))
		print_claim_json(event);
	else if (*json)
		print_event_json(event);
	else
		print_text(event);
	return fflush(stdout) || ferror(stdout) ? EXIT_SOFTWARE : 0;
}

/* Parses the arguments. Returns ARGUMENTS_END, or the exit status. */
static int take_arguments(int argc, char **argv, bool *ret_json)
{
	static const struct option options[] = {
		{ "json", no_argument, NULL, 'j' },
		{ NULL, 0, NULL, 0 },
	};
	struct arguments arguments = { .command = "watch", .mode = "" };
	int c;

	*ret_json = false;
	while ((c = arguments_next(&arguments, argc, argv, options)) != ARGUMENTS_END) {
		if (c == ARGUMENTS_STOP)
			return arguments.status;
		*ret_json = true;
	}
	if (optind == argc)
		return ARGUMENTS_END;
	cli_error("watch takes no argument '%s'; it shows all events", argv[optind]);
	return EXIT_BAD_USAGE;
}

int cli_watch(const struct cli *cli, int argc, char **argv)
{
	struct gpubroker *handle;
	bool json;
	int r = take_arguments(argc, argv, &json);

	if (r != ARGUMENTS_END)
		return r;
	r = cli_open(cli, &handle);
	if (r)
		return r;
	r = gpubroker_watch(handle, on_event, &json);
	if (ferror(stdout))
		r = cli_finish_output();
	else
		r = cli_failed(cli, handle, r);
	gpubroker_close(handle);
	return r;
}
