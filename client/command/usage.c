/* SPDX-License-Identifier: MIT */
/*
 * gpubroker usage: who had which device for how long, as a table with totals or as JSON. Reads
 * only. The broker decides what the caller sees: root all, others their own.
 */
#include "config.h"

#include "client/command/cli.h"
#include "client/command/arguments.h"
#include "client/command/json-out.h"
#include "client/command/moments.h"
#include "client/command/used.h"
#include "client/common/util.h"

#include <inttypes.h>
#include <pwd.h>
#include <string.h>
#include <time.h>

#define USER_TEXT 40

struct question {
	uint64_t from; /* seconds since the epoch */
	bool json, of_user;
	uint32_t uid;
};

/* ---- arguments ---- */

/* Returns the start of the day that a time is in, in the caller's time zone; or -1. */
static time_t start_of_day(struct tm day)
{
	day.tm_hour = day.tm_min = day.tm_sec = 0;
	day.tm_isdst = -1;
	return mktime(&day);
}

/* Parses "today", "2026-11-01", "7d" or "8h". */
static bool parse_since(const char *text, uint64_t *ret_from)
{
	const time_t now = time(NULL);
	struct tm day = { 0 };
	const char *end;
	uint64_t seconds;
	time_t start;

	if (cli_parse_time(text, &seconds)) {
		*ret_from = (uint64_t)now > seconds ? (uint64_t)now - seconds : 0;
		return true;
	}
	if (!strcmp(text, "today")) {
		if (!localtime_r(&now, &day))
			return false;
	} else {
		/* strptime() takes blanks and short years. */
		if (strlen(text) != strlen("2026-11-01") ||
		    strspn(text, "0123456789-") != strlen(text))
			return false;
		end = strptime(text, "%Y-%m-%d", &day);
		if (!end || *end)
			return false;
	}
	start = start_of_day(day);
	if (start < 0)
		return false;
	/* The 31st of a month with 30 days is another day. */
	if (strcmp(text, "today") != 0) {
		char again[16];
		struct tm given;

		if (!localtime_r(&start, &given) ||
		    !strftime(again, sizeof(again), "%Y-%m-%d", &given) || strcmp(again, text) != 0)
			return false;
	}
	*ret_from = (uint64_t)start;
	return true;
}

/* Finds a user by name, or by uid. */
static bool parse_user(const char *text, uint32_t *ret_uid)
{
	const struct passwd *user = getpwnam(text);
	unsigned long long uid;
	char *end;

	if (user) {
		*ret_uid = (uint32_t)user->pw_uid;
		return true;
	}
	if (*text < '0' || *text > '9')
		return false;
	uid = strtoull(text, &end, 10);
	*ret_uid = (uint32_t)uid;
	return !*end && uid < UINT32_MAX;
}

static int take_user(const char *text, struct question *question)
{
	question->of_user = true;
	if (!parse_user(text, &question->uid)) {
		cli_error("there is no user '%s'", text);
		return EXIT_NO_NAME;
	}
	if (geteuid() && geteuid() != (uid_t)question->uid) {
		cli_error("only root sees the usage of other users");
		return EXIT_POLICY;
	}
	return ARGUMENTS_END;
}

/* Parses the arguments. Returns ARGUMENTS_END, or the exit status. */
static int usage_arguments(int argc, char **argv, struct question *question)
{
	static const struct option options[] = {
		{ "since", required_argument, NULL, 's' },
		{ "user", required_argument, NULL, 'u' },
		{ "json", no_argument, NULL, 'j' },
		{ NULL, 0, NULL, 0 },
	};
	struct arguments arguments = { .command = "usage", .mode = "" };
	int c, r = ARGUMENTS_END;

	while ((c = arguments_next(&arguments, argc, argv, options)) != ARGUMENTS_END) {
		if (c == ARGUMENTS_STOP)
			return arguments.status;
		if (c == 's' && !parse_since(optarg, &question->from)) {
			cli_error("'%s' is no time: give a day, as 2026-11-01 or today, or how "
				  "long ago, as 7d or 8h",
				  optarg);
			return EXIT_BAD_USAGE;
		}
		if (c == 'u')
			r = take_user(optarg, question);
		if (r != ARGUMENTS_END)
			return r;
		question->json = question->json || c == 'j';
	}
	if (optind == argc)
		return ARGUMENTS_END;
	cli_error("usage takes no argument '%s'; did you mean '--user %s'?", argv[optind],
		  argv[optind]);
	return EXIT_BAD_USAGE;
}

/* ---- output ---- */

static const char *usage_user(uint32_t uid, char out[USER_TEXT])
{
	const struct passwd *user = getpwuid((uid_t)uid);

	if (user)
		snprintf(out, USER_TEXT, "%s", user->pw_name);
	else
		snprintf(out, USER_TEXT, "%" PRIu32, uid);
	return out;
}

/* Writes "40s", "12m 03s", "5h 12m", "3d 05h". */
static const char *usage_span(uint64_t seconds, char out[32])
{
	const uint64_t minutes = seconds / 60, hours = minutes / 60;

	if (!minutes)
		snprintf(out, 32, "%" PRIu64 "s", seconds);
	else if (!hours)
		snprintf(out, 32, "%" PRIu64 "m %02" PRIu64 "s", minutes, seconds % 60);
	else if (hours < 48)
		snprintf(out, 32, "%" PRIu64 "h %02" PRIu64 "m", hours, minutes % 60);
	else
		snprintf(out, 32, "%" PRIu64 "d %02" PRIu64 "h", hours / 24, hours % 24);
	return out;
}

static void usage_print_row(const char *user, const char *device, size_t leases, uint64_t seconds,
			    const char *last)
{
	char text[32];

	cli_print_text(stdout, user, 12);
	fputs("  ", stdout);
	cli_print_text(stdout, device, 28);
	printf("  %6zu  %9s  %s\n", leases, usage_span(seconds, text), last);
}

static void usage_print_sum(const struct used_sum *sum, const char *user)
{
	char device[112], last[MOMENT_TEXT] = "-";

	snprintf(device, sizeof(device), "%s%s%s", sum->device, sum->profile[0] ? " " : "",
		 sum->profile);
	if (!sum->last)
		strcpy(last, "now");
	else if (!moment_clock(sum->last, last))
		strcpy(last, "-");
	usage_print_row(user, device, sum->leases, sum->seconds, last);
}

/*
 * Prints a user's devices, and their total if there are several. Returns how many sums that were.
 */
static size_t usage_print_user(const struct used_sum *sums, size_t n, struct used_sum *all)
{
	struct used_sum total = { 0 };
	char user[USER_TEXT];
	size_t i;

	usage_user(sums[0].uid, user);
	for (i = 0; i < n && sums[i].uid == sums[0].uid; i++) {
		usage_print_sum(&sums[i], user);
		total.leases += sums[i].leases;
		total.seconds += sums[i].seconds;
	}
	if (i > 1)
		usage_print_row(user, "all", total.leases, total.seconds, "");
	all->leases += total.leases;
	all->seconds += total.seconds;
	return i;
}

static int usage_print_table(const struct used_list *list, uint64_t from)
{
	struct used_sum all = { 0 };
	size_t n, users = 0;
	cleanup_free struct used_sum *sums = used_add_up(list, from, &n);

	if (!sums)
		return -ENOMEM;
	if (!n) {
		if (cli_columns(stdout))
			puts("No device was lent in this time.");
		return 0;
	}
	puts("USER          DEVICE                        LEASES       TIME  LAST");
	for (size_t i = 0; i < n; users++)
		i += usage_print_user(&sums[i], n - i, &all);
	if (users > 1)
		usage_print_row("all", "all", all.leases, all.seconds, "");
	return 0;
}

static void add_used_json(struct json_object *array, const struct used *used, uint64_t from)
{
	struct json_object *o = json_object_new_object();
	char user[USER_TEXT];

	json_object_object_add(o, "lease", json_object_new_int64((int64_t)used->lease));
	json_object_object_add(o, "user", json_object_new_string(usage_user(used->uid, user)));
	json_object_object_add(o, "uid", json_object_new_int64(used->uid));
	json_object_object_add(o, "device", json_out_text(used->device));
	json_object_object_add(o, "profile", json_out_text(used->profile));
	json_object_object_add(o, "since", json_object_new_int64((int64_t)used->since));
	json_object_object_add(o, "until",
			       used->running ? NULL : json_object_new_int64((int64_t)used->until));
	json_object_object_add(o, "seconds",
			       json_object_new_int64((int64_t)used_seconds(used, from)));
	json_object_array_add(array, o);
}

static void keep_user(struct used_list *list, uint32_t uid)
{
	size_t n = 0;

	for (size_t i = 0; i < list->n; i++)
		if (list->list[i].uid == uid)
			list->list[n++] = list->list[i];
	list->n = n;
}

static int print_usage(const struct used_list *list, const struct question *question)
{
	struct json_object *array;

	if (!question->json)
		return usage_print_table(list, question->from);
	array = json_object_new_array();
	for (size_t i = 0; i < list->n; i++)
		add_used_json(array, &list->list[i], question->from);
	json_out_print(array);
	return 0;
}

int cli_usage(const struct cli *cli, int argc, char **argv)
{
	struct question question = { 0 };
	struct gpubroker *handle;
	struct used_list list = { 0 };
	int r = usage_arguments(argc, argv, &question);

	if (r != ARGUMENTS_END)
		return r;
	r = cli_open(cli, &handle);
	if (r)
		return r;
	r = used_read(handle, question.from, &list);
	if (!r && question.of_user)
		keep_user(&list, question.uid);
	if (!r)
		r = print_usage(&list, &question);
	r = r ? cli_failed(cli, handle, r) : cli_finish_output();
	used_done(&list);
	gpubroker_close(handle);
	return r;
}
