/* SPDX-License-Identifier: MIT */
/*
 * gpubroker metrics: what a monitoring system collects, as OpenMetrics text. Reads only; with
 * --output the file is whole at any time, as node_exporter's textfile collector needs it. Root
 * alone gets what other users do, but for what the listings show to everybody.
 */
#include "config.h"

#include "client/command/cli.h"
#include "client/command/arguments.h"
#include "client/command/used.h"
#include "client/common/util.h"
#include "client/host/function.h"

#include <errno.h>
#include <inttypes.h>
#include <pwd.h>
#include <string.h>
#include <sys/stat.h>

#define STATES 16 /* of a later broker too */
#define STATUSES (GPUBROKER_IN_USE + 1)

/* The broker's answers. */
struct metrics {
	size_t leases[STATES], waiting, devices[STATUSES];
	struct gpubroker_policy policy;
	struct gpubroker_counters counters;
	struct used_list used;
};

/* ---- what is asked ---- */

static int count_lease(void *userdata, const struct gpubroker_lease *lease)
{
	struct metrics *metrics = userdata;

	if (lease->state < STATES)
		metrics->leases[lease->state]++;
	return 0;
}

static int count_waiting(void *userdata, const struct gpubroker_waiting *waiting)
{
	struct metrics *metrics = userdata;

	(void)waiting;
	metrics->waiting++;
	return 0;
}

static int count_device(void *userdata, const struct gpubroker_device *device)
{
	struct metrics *metrics = userdata;

	if (class_is_gpu(device->class_code) && device->status < STATUSES)
		metrics->devices[device->status]++;
	return 0;
}

static int metrics_ask(struct gpubroker *handle, struct metrics *metrics)
{
	int r = gpubroker_policy(handle, &metrics->policy);

	if (!r)
		r = gpubroker_list(handle, count_device, metrics);
	if (!r)
		r = gpubroker_leases(handle, count_lease, metrics);
	if (!r)
		r = gpubroker_queue(handle, count_waiting, metrics);
	if (!r)
		r = gpubroker_counters(handle, &metrics->counters);
	if (!r)
		r = used_read(handle, 0, &metrics->used);
	return r;
}

/* ---- what is written ---- */

/* Begins a family of samples. */
static void metrics_family(FILE *out, const char *name, const char *type, const char *unit,
			   const char *help)
{
	fprintf(out, "# TYPE %s %s\n", name, type);
	if (unit)
		fprintf(out, "# UNIT %s %s\n", name, unit);
	fprintf(out, "# HELP %s %s\n", name, help);
}

/* Writes a label's value. Other bytes than printable ASCII would have to be valid UTF-8. */
static void metrics_label(FILE *out, const char *name, const char *value)
{
	fprintf(out, "%s=\"", name);
	for (; *value; value++) {
		if (*value == '"' || *value == '\\')
			fputc('\\', out);
		fputc(*value >= ' ' && *value < 0x7f ? *value : '?', out);
	}
	fputc('"', out);
}

static void write_leases(FILE *out, const struct metrics *metrics)
{
	metrics_family(out, "gpubroker_leases", "gauge", NULL, "Leases, by their state.");
	for (unsigned state = GPUBROKER_LEASE_PREPARING; state < STATES; state++) {
		const char *name = gpubroker_lease_state_name((enum gpubroker_lease_state)state);

		/* One that is over is no lease, and the name of what is no state is that of 0. */
		if (state != GPUBROKER_LEASE_HOST &&
		    strcmp(name, gpubroker_lease_state_name((enum gpubroker_lease_state)0)) != 0)
			fprintf(out, "gpubroker_leases{state=\"%s\"} %zu\n", name,
				metrics->leases[state]);
	}
	metrics_family(out, "gpubroker_waiting_claims", "gauge", NULL,
		       "Claims that wait in the queue.");
	fprintf(out, "gpubroker_waiting_claims %zu\n", metrics->waiting);
}

static void write_devices(FILE *out, const struct metrics *metrics)
{
	const size_t *n = metrics->devices;
	const struct {
		const char *status;
		size_t n;
	} samples[] = {
		{ "free", n[GPUBROKER_AVAILABLE] + n[GPUBROKER_VFIO_READY] },
		{ "lent", n[GPUBROKER_LEASED] },
		{ "releasing", n[GPUBROKER_RELEASING] },
		{ "stuck", n[GPUBROKER_STUCK] },
		{ "unavailable",
		  n[GPUBROKER_BOOT_VGA] + n[GPUBROKER_NOT_VIABLE] + n[GPUBROKER_IN_USE] },
	};

	metrics_family(out, "gpubroker_gpus", "gauge", NULL,
		       "GPUs, by what the broker does with them.");
	for (size_t i = 0; i < ARRAY_SIZE(samples); i++)
		fprintf(out, "gpubroker_gpus{status=\"%s\"} %zu\n", samples[i].status,
			samples[i].n);
}

static void write_policy(FILE *out, const struct metrics *metrics)
{
	metrics_family(out, "gpubroker_policy_in_force", "gauge", NULL,
		       "1 if there is a policy; otherwise nothing is lent.");
	fprintf(out, "gpubroker_policy_in_force %d\n", metrics->policy.in_force);
	metrics_family(out, "gpubroker_policy_mistakes", "gauge", NULL,
		       "Mistakes in the policy's files, which are not in force then.");
	fprintf(out, "gpubroker_policy_mistakes %" PRIu64 "\n",
		metrics->policy.refused ? metrics->policy.mistakes : 0);
	metrics_family(out, "gpubroker_policy_loaded_timestamp_seconds", "gauge", "seconds",
		       "When the policy in force was read.");
	fprintf(out, "gpubroker_policy_loaded_timestamp_seconds %" PRIu64 "\n",
		metrics->policy.loaded);
	metrics_family(out, "gpubroker_start_timestamp_seconds", "gauge", "seconds",
		       "When the broker began to serve; the counters count from then on.");
	fprintf(out, "gpubroker_start_timestamp_seconds %" PRIu64 "\n", metrics->counters.started);
}

static void write_counter(FILE *out, const char *name, const char *help, uint64_t value)
{
	metrics_family(out, name, "counter", NULL, help);
	fprintf(out, "%s_total %" PRIu64 "\n", name, value);
}

static void write_counters(FILE *out, const struct gpubroker_counters *counters)
{
	static const struct {
		unsigned number;
		const char *word;
	} reasons[] = {
#define REASON(reason, number, word, status) { number, word },
		GPUBROKER_REFUSALS(REASON)
#undef REASON
	};

	if (!counters->all)
		return;
	write_counter(out, "gpubroker_leases_granted", "Leases that were granted.",
		      counters->granted);
	write_counter(out, "gpubroker_leases_ended", "Leases that have ended.", counters->ended);
	write_counter(out, "gpubroker_usage_lost", "Leases whose usage could not be written.",
		      counters->lost);
	metrics_family(out, "gpubroker_refusals", "counter", NULL,
		       "Refused requests, by their reason.");
	for (size_t i = 0; i < ARRAY_SIZE(reasons); i++)
		if (reasons[i].number < ARRAY_SIZE(counters->refused))
			fprintf(out, "gpubroker_refusals_total{reason=\"%s\"} %" PRIu64 "\n",
				reasons[i].word, counters->refused[reasons[i].number]);
}

static int write_usage(FILE *out, const struct used_list *used)
{
	size_t n;
	cleanup_free struct used_sum *sums = used_add_up(used, 0, &n);

	if (!sums)
		return -ENOMEM;
	/* No counter: what is no longer kept makes it smaller, which is no restart of anything. */
	metrics_family(out, "gpubroker_lent_seconds", "gauge", "seconds",
		       "How long a user had a device, in the usage that is kept.");
	for (size_t i = 0; i < n; i++) {
		const struct passwd *user = getpwuid((uid_t)sums[i].uid);
		char uid[16];

		snprintf(uid, sizeof(uid), "%" PRIu32, sums[i].uid);
		fputs("gpubroker_lent_seconds{", out);
		metrics_label(out, "user", user ? user->pw_name : uid);
		fputc(',', out);
		metrics_label(out, "device", sums[i].device);
		fputc(',', out);
		metrics_label(out, "profile", sums[i].profile);
		fprintf(out, "} %" PRIu64 "\n", sums[i].seconds);
	}
	return 0;
}

/* Writes everything; `metrics` NULL: the broker does not answer. Returns 0, or -errno. */
static int write_metrics(FILE *out, const struct metrics *metrics)
{
	int r = 0;

	metrics_family(out, "gpubroker_up", "gauge", NULL, "1 if the broker answers.");
	fprintf(out, "gpubroker_up %d\n", metrics != NULL);
	if (metrics) {
		metrics_family(out, "gpubroker_build", "info", NULL, "The version of gpubroker.");
		fputs("gpubroker_build_info{version=\"" PACKAGE_VERSION "\"} 1\n", out);
		write_leases(out, metrics);
		write_devices(out, metrics);
		write_policy(out, metrics);
		write_counters(out, &metrics->counters);
		r = write_usage(out, &metrics->used);
	}
	fputs("# EOF\n", out);
	return r ? r : fflush(out) || ferror(out) ? -errno : 0;
}

/*
 * Writes a file beside `path`, and puts it in its place when it is whole. It replaces only a file,
 * and not /dev/null or a link: -EEXIST. Returns 0, or -errno.
 */
static int write_whole(const char *path, const struct metrics *metrics)
{
	cleanup_free char *temporary = NULL;
	cleanup_file FILE *file = NULL;
	struct stat st;
	int fd, r;

	if (!lstat(path, &st) && !S_ISREG(st.st_mode))
		return -EEXIST;
	if (asprintf(&temporary, "%s.XXXXXX", path) < 0) {
		temporary = NULL;
		return -ENOMEM;
	}
	fd = mkstemp(temporary);
	if (fd < 0)
		return -errno;
	file = fdopen(fd, "w");
	if (!file) {
		close(fd);
		unlink(temporary);
		return -ENOMEM;
	}
	r = write_metrics(file, metrics);
	/* Another account, that of node_exporter, reads it. */
	if (!r && (fchmod(fd, 0644) || rename(temporary, path)))
		r = -errno;
	if (r)
		unlink(temporary);
	return r;
}

/* Parses the arguments. Returns ARGUMENTS_END, or the exit status. */
static int metrics_arguments(int argc, char **argv, const char **ret_output)
{
	static const struct option options[] = {
		{ "output", required_argument, NULL, 'o' },
		{ NULL, 0, NULL, 0 },
	};
	struct arguments arguments = { .command = "metrics", .mode = "" };
	int c;

	while ((c = arguments_next(&arguments, argc, argv, options)) != ARGUMENTS_END) {
		if (c == ARGUMENTS_STOP)
			return arguments.status;
		*ret_output = optarg;
	}
	if (optind == argc)
		return ARGUMENTS_END;
	cli_error("metrics takes no argument '%s'; '--output FILE' names a file", argv[optind]);
	return EXIT_BAD_USAGE;
}

int cli_metrics(const struct cli *cli, int argc, char **argv)
{
	struct metrics metrics = { 0 };
	struct gpubroker *handle = NULL;
	const char *output = NULL;
	int status = 0, r = metrics_arguments(argc, argv, &output);

	if (r != ARGUMENTS_END)
		return r;
	status = cli_open(cli, &handle);
	r = status ? 0 : metrics_ask(handle, &metrics);
	if (r)
		status = cli_failed(cli, handle, r);
	/* A file that stays as it was would look as if nothing had changed. */
	r = output ? write_whole(output, status ? NULL : &metrics)
		   : write_metrics(stdout, status ? NULL : &metrics);
	used_done(&metrics.used);
	gpubroker_close(handle);
	if (r && output) {
		cli_error("%s: %s", output,
			  r == -EEXIST ? "it is there and is no regular file, so it is not replaced"
				       : strerror(-r));
		return status ? status : EXIT_CANNOT_CREATE;
	}
	r = cli_finish_output();
	return status ? status : r;
}
