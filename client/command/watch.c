/* SPDX-License-Identifier: MIT */
/*
 * gpubroker watch: prints each change of a lease and of the queue as it happens, a line each, or
 * with --json an object a line for programs. On a terminal it begins with what there is. Reads
 * only.
 */
#include "config.h"

#include "client/command/cli.h"
#include "client/command/arguments.h"
#include "client/command/json-out.h"
#include "client/command/leases.h"
#include "client/command/moments.h"
#include "client/command/screen.h"
#include "client/common/util.h"

#include <inttypes.h>
#include <pwd.h>
#include <string.h>
#include <time.h>
#include <unistd.h>

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
	case GPUBROKER_EVENT_ALLOTTED:
		return "allotted";
	case GPUBROKER_EVENT_RETRACTING:
		return "retracting";
	case GPUBROKER_EVENT_RETRACTED:
		return "retracted";
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
	json_object_object_add(o, "user", json_out_user(event->uid));
	json_object_object_add(o, "pid", json_object_new_int64(event->pid));
	json_object_object_add(o, "place", json_object_new_int64(event->place));
	json_object_object_add(o, "device", json_object_new_string(event->wanted.device));
	json_object_object_add(o, "profile", json_out_text(event->wanted.profile));
	json_object_object_add(o, "n_devices", json_object_new_int64(event->n_wanted));
	json_object_object_add(o, "lost", json_object_new_int64(event->lost));
	json_out_line(o);
}

static bool is_of_allotment(const struct gpubroker_event *event)
{
	return event->kind == GPUBROKER_EVENT_ALLOTTED ||
	       event->kind == GPUBROKER_EVENT_RETRACTING ||
	       event->kind == GPUBROKER_EVENT_RETRACTED;
}

static void print_allotment_json(const struct gpubroker_event *event)
{
	struct json_object *o = json_object_new_object();

	json_object_object_add(o, "event", json_object_new_string(kind_name(event->kind)));
	json_object_object_add(o, "time", json_object_new_int64((int64_t)event->time));
	json_object_object_add(o, "allotment", json_object_new_string(event->label));
	json_object_object_add(o, "uid", json_object_new_int64(event->uid));
	json_object_object_add(o, "iommu_group", json_object_new_int64(event->iommu_group));
	json_object_object_add(o, "device", json_object_new_string(event->address));
	json_object_object_add(o, "ends", json_out_number(event->ends));
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
	json_object_object_add(o, "user", json_out_user(event->uid));
	json_object_object_add(o, "pid", json_object_new_int64(event->pid));
	json_object_object_add(o, "iommu_group", json_object_new_int64(event->iommu_group));
	json_object_object_add(o, "device",
			       json_object_new_string(event->address[0] ? event->address
									: event->parent));
	json_object_object_add(o, "ends", json_out_number(event->ends));
	json_object_object_add(o, "reason", json_out_text(event->reason));
	json_object_object_add(o, "allotment", json_out_text(event->label));
	json_object_object_add(o, "lost", json_object_new_int64(event->lost));
	json_out_line(o);
}

struct watch {
	bool json, people;
	int year, day; /* of the date line that was printed last */
};

/* Prints the date where it is another one than that of the line before. */
static void print_date(struct watch *watch, uint64_t now)
{
	const time_t when = (time_t)now;
	char date[48];
	struct tm tm;

	if (!localtime_r(&when, &tm) || (tm.tm_year == watch->year && tm.tm_yday == watch->day))
		return;
	watch->year = tm.tm_year;
	watch->day = tm.tm_yday;
	if (strftime(date, sizeof(date), "%A, %F", &tm))
		screen_line(TONE_DIM, date);
}

static void write_claim(FILE *file, const struct gpubroker_event *event, const char *user)
{
	fprintf(file, "claim %" PRIu64 " of %s, ", event->lease, user);
	cli_print_text(file, event->wanted.device, -1);
	if (event->wanted.profile[0]) {
		fputc(' ', file);
		cli_print_text(file, event->wanted.profile, -1);
	}
	if (event->n_wanted > 1)
		fprintf(file, " and %" PRIu32 " more", event->n_wanted - 1);
	if (event->kind == GPUBROKER_EVENT_WAITING)
		fprintf(file, ": waits, at place %" PRIu32 " of the queue", event->place);
	else
		fputs(": waits no longer", file);
}

/* When a lease ends: for people with the day, where that is not today. */
static void write_ending(FILE *file, const struct gpubroker_event *event, bool people)
{
	const time_t ends = (time_t)event->ends;
	char clock[MOMENT_TEXT] = "";
	struct tm tm;

	if (people)
		moment_clock(event->ends, clock);
	else if (localtime_r(&ends, &tm))
		strftime(clock, sizeof(clock), "%H:%M:%S", &tm);
	fprintf(file, "will be taken back at %s", clock);
}

static void write_lease_event(FILE *file, const struct gpubroker_event *event, const char *user,
			      bool people)
{
	fprintf(file, "lease %" PRIu64 " of %s, %s: ", event->lease, user,
		event->address[0] ? event->address : event->parent);
	switch (event->kind) {
	case GPUBROKER_EVENT_ENDING:
		write_ending(file, event, people);
		break;
	case GPUBROKER_EVENT_ARRIVED:
		fputs(event->reason[0]
			      ? "the function appeared in the leased group, whose user may "
				"not have it, so the lease ends"
			      : "the function appeared in the leased group, and no host "
				"driver gets it",
		      file);
		break;
	case GPUBROKER_EVENT_VANISHED:
		fputs("the function is gone, so the lease ends", file);
		break;
	default:
		fputs(gpubroker_lease_state_name(event->state), file);
	}
	if (event->reason[0]) {
		fputs(" (", file);
		cli_print_text(file, event->reason, -1);
		fputc(')', file);
	}
}

/* "slurm-17 of bob, 0000:01:00.0: allotted, will be taken back at 18:30" */
static void write_allotment_event(FILE *file, const struct gpubroker_event *event, const char *user,
				  bool people)
{
	fprintf(file, "%s of %s, %s: %s", event->label, user, event->address,
		kind_name(event->kind));
	if (event->kind == GPUBROKER_EVENT_ALLOTTED && event->ends) {
		fputs(", ", file);
		write_ending(file, event, people);
	}
}

static enum tone tone_of(const struct gpubroker_event *event)
{
	if (is_of_claim(event) || is_of_allotment(event))
		return TONE_PLAIN;
	if (event->kind != GPUBROKER_EVENT_STATE)
		return TONE_MIND;
	switch (event->state) {
	case GPUBROKER_LEASE_STUCK:
		return TONE_BAD;
	case GPUBROKER_LEASE_LEASED:
	case GPUBROKER_LEASE_HOST:
		return TONE_GOOD;
	default:
		return TONE_PLAIN;
	}
}

static void print_text(struct watch *watch, const struct gpubroker_event *event)
{
	const struct passwd *user = getpwuid((uid_t)event->uid);
	const time_t when = (time_t)event->time;
	cleanup_free char *text = NULL;
	char clock[16] = "", uid[16];
	size_t size;
	FILE *file;
	struct tm tm;

	if (watch->people)
		print_date(watch, event->time);
	if (event->lost)
		printf("(%" PRIu32 " events were lost)\n", event->lost);
	if (localtime_r(&when, &tm))
		strftime(clock, sizeof(clock), "%H:%M:%S", &tm);
	snprintf(uid, sizeof(uid), "%" PRIu32, event->uid);
	file = open_memstream(&text, &size);
	if (!file)
		return;
	fprintf(file, "%s  ", clock);
	if (is_of_claim(event))
		write_claim(file, event, user ? user->pw_name : uid);
	else if (is_of_allotment(event))
		write_allotment_event(file, event, user ? user->pw_name : uid, watch->people);
	else
		write_lease_event(file, event, user ? user->pw_name : uid, watch->people);
	if (!fclose(file))
		screen_line(tone_of(event), text);
}

static int on_event(void *userdata, const struct gpubroker_event *event)
{
	struct watch *watch = userdata;

	if (watch->json && is_of_claim(event))
		print_claim_json(event);
	else if (watch->json && is_of_allotment(event))
		print_allotment_json(event);
	else if (watch->json)
		print_event_json(event);
	else
		print_text(watch, event);
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

/* For people: what there is, before what changes. Returns the exit status. */
static int begin_with_leases(struct watch *watch, struct gpubroker *handle)
{
	int r = leases_show(handle, NULL);

	if (r)
		return r;
	print_date(watch, (uint64_t)time(NULL));
	return cli_finish_output();
}

int cli_watch(const struct cli *cli, int argc, char **argv)
{
	struct watch watch = { .day = -1, .people = isatty(STDOUT_FILENO) };
	struct gpubroker *handle;
	int r = take_arguments(argc, argv, &watch.json);

	if (r != ARGUMENTS_END)
		return r;
	r = cli_open(cli, &handle);
	if (r)
		return r;
	/* A change between the two is missed: the broker has one request at a time. */
	if (watch.people && !watch.json && (r = begin_with_leases(&watch, handle)) != 0)
		goto out;
	r = gpubroker_watch(handle, on_event, &watch);
	if (ferror(stdout))
		r = cli_finish_output();
	else
		r = cli_failed(cli, handle, r);
out:
	gpubroker_close(handle);
	return r;
}
