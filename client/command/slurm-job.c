/* SPDX-License-Identifier: MIT */
/*
 * gpubroker slurm job: the GPUs that a job has on a node, for the prolog, from Slurm's own JSON on
 * standard input. Slurm tells a prolog only those of one type. Decides nothing beside that. It must
 * never take a user's text for Slurm's: only one field of the one job is read, and none if that is
 * not as it should be.
 */
#include "config.h"

#include "client/command/slurm-job.h"
#include "client/command/arguments.h"
#include "client/command/cli.h"
#include "client/command/inventory.h"
#include "client/command/slurm.h"
#include "client/common/util.h"

#include <ctype.h>
#include <json.h>
#include <string.h>

#define NODES_MAX 100000

struct job {
	long id;
	long node; /* which of the job's nodes, from 1 */
	const char *known;
	bool gpus[SLURM_MAX]; /* by Slurm's position */
};

/* Returns the number that the text begins with, and where it ends; -1 if it is none, or too big. */
static long take_digits(const char **text, long max)
{
	long number = 0;

	if (!isdigit((unsigned char)**text))
		return -1;
	for (; isdigit((unsigned char)**text); (*text)++) {
		number = number * 10 + (**text - '0');
		if (number > max)
			return -1;
	}
	return number;
}

/* Takes "0-1,4", up to `end`. Returns false if it is none. */
static bool take_positions(struct job *job, const char **text, char end)
{
	for (;; (*text)++) {
		const long first = take_digits(text, SLURM_MAX - 1);
		long last = first;

		if (first >= 0 && **text == '-') {
			(*text)++;
			last = take_digits(text, SLURM_MAX - 1);
		}
		if (first < 0 || last < first)
			return false;
		for (long i = first; i <= last; i++)
			job->gpus[i] = true;
		if (**text != ',')
			return **text == end;
	}
}

static bool means_gpu(const char *text)
{
	return !strncmp(text, "gpu:", 4) || !strncmp(text, "gpu(", 4);
}

/* Takes all GPUs of "gpu:a100:2(IDX:0-1),gpu:l40s:1(IDX:4),shard:0". False: it has another form. */
static bool take_gpus(struct job *job, const char *text)
{
	static const char index[] = "(IDX:";

	while (*text) {
		const bool gpu = means_gpu(text);

		text += strcspn(text, "(,");
		if (gpu) {
			if (strncmp(text, index, sizeof(index) - 1) != 0)
				return false;
			text += sizeof(index) - 1;
			if (!take_positions(job, &text, ')'))
				return false;
			text++;
		} else if (*text == '(') {
			text += strcspn(text, ")");
			text += *text == ')';
		}
		if (*text && *text++ != ',')
			return false;
	}
	return true;
}

/* Returns the job's object, or NULL: it is not there, or there are two. */
static struct json_object *find_job(struct json_object *root, long id)
{
	struct json_object *jobs, *found = NULL, *number;
	size_t n = 0;

	if (!json_object_is_type(root, json_type_object) ||
	    !json_object_object_get_ex(root, "jobs", &jobs) ||
	    !json_object_is_type(jobs, json_type_array))
		return NULL;
	for (size_t i = 0; i < json_object_array_length(jobs); i++) {
		struct json_object *job = json_object_array_get_idx(jobs, i);

		if (!json_object_is_type(job, json_type_object) ||
		    !json_object_object_get_ex(job, "job_id", &number) ||
		    !json_object_is_type(number, json_type_int) ||
		    json_object_get_int64(number) != id)
			continue;
		found = job;
		n++;
	}
	return n == 1 ? found : NULL;
}

/* Fills the positions. Returns NULL, or why there are none. */
static const char *read_job(struct job *job, struct json_object *root)
{
	struct json_object *found = find_job(root, job->id), *nodes, *text;
	struct job known = { 0 };
	const char *list = job->known;

	if (!found)
		return "it has no such job, or several";
	if (!json_object_object_get_ex(found, "gres_detail", &nodes) ||
	    !json_object_is_type(nodes, json_type_array))
		return "its job has no gres_detail; Slurm is too old, or another than is known";
	text = json_object_array_get_idx(nodes, (size_t)job->node - 1);
	if (!json_object_is_type(text, json_type_string))
		return "its job does not have so many nodes";
	if (!take_gpus(job, json_object_get_string(text)))
		return "its gres_detail has another form than is known";
	if (!list || !*list)
		return NULL;
	if (!take_positions(&known, &list, '\0'))
		return "--known is no list of positions";
	for (size_t i = 0; i < SLURM_MAX; i++)
		if (known.gpus[i] && !job->gpus[i])
			return "its job lacks one of --known";
	return NULL;
}

static int print_job(const struct job *job)
{
	const char *comma = "";

	for (size_t i = 0; i < SLURM_MAX; i++) {
		if (!job->gpus[i])
			continue;
		printf("%s%zu", comma, i);
		comma = ",";
	}
	putchar('\n');
	return cli_finish_output();
}

/* Takes an option's value. Returns false if it is none. */
static bool take_job_option(struct job *job, int c, const char *value)
{
	long number;

	if (c == 'k') {
		job->known = value;
		return true;
	}
	number = take_digits(&value, c == 'i' ? UINT32_MAX : NODES_MAX);
	if (c == 'i')
		job->id = number;
	else
		job->node = number;
	return number > 0 && !*value;
}

int slurm_job(int argc, char **argv)
{
	static const struct option options[] = {
		{ "id", required_argument, NULL, 'i' },
		{ "node", required_argument, NULL, 'n' },
		{ "known", required_argument, NULL, 'k' },
		{ NULL, 0, NULL, 0 },
	};
	struct arguments arguments = { .command = "slurm job", .mode = "" };
	struct json_object *root = NULL;
	struct job job = { 0 };
	const char *why = NULL;
	int c, r;

	while ((c = arguments_next(&arguments, argc, argv, options)) != ARGUMENTS_END) {
		if (c == ARGUMENTS_STOP)
			return arguments.status;
		if (take_job_option(&job, c, optarg))
			continue;
		cli_error("'%s' is no number of a %s", optarg, c == 'i' ? "job" : "node");
		return EXIT_BAD_USAGE;
	}
	if (optind < argc || !job.id || !job.node) {
		cli_error("slurm job takes --id and --node, and reads what 'scontrol show job "
			  "--json' prints; see 'gpubroker slurm job --help'");
		return EXIT_BAD_USAGE;
	}
	r = inventory_parse("-", &root, &why);
	if (!r)
		why = read_job(&job, root);
	json_object_put(root);
	if (!why && !r)
		return print_job(&job);
	cli_error("what Slurm says of job %ld is not understood: %s", job.id,
		  why ? why : strerror(-r));
	return EXIT_BAD_POLICY;
}
