/* SPDX-License-Identifier: MIT */
/*
 * gpubroker __complete: what may stand next on a command line, for the completion of shells, which
 * only pass it on. A line for each: the word, a tab, and what it is; or ":file", ":directory" where
 * the shell completes, ":command N" where the words from the N-th on are a command line of their
 * own. The options are those of help.c. Never fails: without a broker there are no devices.
 */
#include "config.h"

#include "client/command/cli.h"
#include "client/command/help.h"
#include "client/command/names.h"
#include "client/common/util.h"
#include "client/host/function.h"
#include "client/host/profile.h"

#include <fcntl.h>
#include <inttypes.h>
#include <pwd.h>
#include <stdbool.h>
#include <string.h>
#include <unistd.h>

struct line {
	const struct cli *cli;
	char **words; /* behind the command; the last, perhaps empty, is to be completed */
	int n;
	const char *last;
	const char *help; /* the text of the command's help */
};

static void offer(const struct line *line, const char *word, const char *what)
{
	if (strncmp(word, line->last, strlen(line->last)))
		return;
	cli_print_text(stdout, word, -1);
	putchar('\t');
	cli_print_text(stdout, what, -1);
	putchar('\n');
}

/* ---- lists ---- */

static int offer_device(void *userdata, const struct gpubroker_device *device)
{
	const struct line *line = userdata;
	char what[160];

	if (!class_is_gpu(device->class_code))
		return 0;
	snprintf(what, sizeof(what), "%s, %s", device->model[0] ? device->model : "GPU",
		 gpubroker_status_name(device->status));
	offer(line, device->address, what);
	if (!strncmp(device->address, "0000:", 5))
		offer(line, device->address + 5, what);
	return 0;
}

static void offer_names(const struct line *line)
{
	struct policy policy;

	names_read(&policy);
	for (size_t i = 0; i < policy.n_names; i++)
		offer(line, policy.names[i].text, "a name of the policy");
	policy_done(&policy);
}

static void offer_devices(struct line *line)
{
	struct gpubroker *handle = NULL;

	offer(line, "any", "any GPU that you may have");
	offer_names(line);
	if (!gpubroker_open(line->cli->socket, &handle))
		gpubroker_list(handle, offer_device, line);
	gpubroker_close(handle);
}

static void offer_number(const struct line *line, uint64_t id, uint32_t uid, const char *device)
{
	const struct passwd *user = getpwuid((uid_t)uid);
	char number[24], what[128];

	if (geteuid() && geteuid() != (uid_t)uid)
		return;
	snprintf(number, sizeof(number), "%" PRIu64, id);
	snprintf(what, sizeof(what), "%.32s: %s", user ? user->pw_name : "", device);
	offer(line, number, what);
}

static int offer_lease(void *userdata, const struct gpubroker_lease *lease)
{
	offer_number(userdata, lease->id, lease->uid,
		     lease->n_devices ? lease->devices[0] : lease->parent);
	return 0;
}

static int offer_waiting(void *userdata, const struct gpubroker_waiting *waiting)
{
	offer_number(userdata, waiting->id, waiting->uid,
		     waiting->n_wanted ? waiting->wanted[0].device : "waits");
	return 0;
}

static void offer_leases(struct line *line)
{
	struct gpubroker *handle = NULL;

	if (!gpubroker_open(line->cli->socket, &handle) &&
	    !gpubroker_leases(handle, offer_lease, line))
		gpubroker_queue(handle, offer_waiting, line);
	gpubroker_close(handle);
}

static int offer_allotment(void *userdata, const struct gpubroker_allotment *allotment)
{
	const struct passwd *user = getpwuid((uid_t)allotment->uid);

	if (!geteuid() || allotment->own)
		offer(userdata, allotment->label, user ? user->pw_name : "");
	return 0;
}

static void offer_labels(struct line *line)
{
	struct gpubroker *handle = NULL;

	if (!gpubroker_open(line->cli->socket, &handle))
		gpubroker_allotments(handle, offer_allotment, line);
	gpubroker_close(handle);
}

static void ignore_problem(void *userdata, const char *path, int error)
{
	(void)userdata;
	(void)path;
	(void)error;
}

static void offer_profiles(const struct line *line)
{
	cleanup_fd int sys = open("/sys", O_PATH | O_DIRECTORY | O_CLOEXEC);
	struct profiles profiles = { 0 };

	if (sys >= 0)
		profiles_read(sys, ignore_problem, NULL, &profiles);
	for (size_t i = 0; i < profiles.n; i++)
		offer(line, profiles.list[i].type, profiles.list[i].name);
	profiles_done(&profiles);
}

/* Local and other accounts that the name service enumerates. */
static void offer_users(const struct line *line)
{
	const struct passwd *user;

	setpwent();
	while ((user = getpwent()))
		offer(line, user->pw_name, user->pw_gecos ? user->pw_gecos : "");
	endpwent();
}

/* Commands whose names begin with `prefix`, "" or "policy ": the word behind it. */
static void offer_commands(const struct line *line, const char *prefix)
{
	const char *command;

	for (size_t i = 0; (command = help_command(i)); i++)
		if (!strncmp(command, prefix, strlen(prefix)) &&
		    !strchr(command + strlen(prefix), ' '))
			offer(line, command + strlen(prefix), help_what(command));
}

/* ---- what the help says ---- */

/* Finds the line of the help about an option. Returns what stands behind the option, or NULL. */
static const char *option_line(const char *help, const char *option)
{
	const size_t n = strlen(option);

	for (const char *at = help; at; at = strchr(at + 1, '\n')) {
		const char *word = at + strspn(at, "\n ");

		if (!strncmp(word, option, n) && strchr(" [=\n", word[n]))
			return word + n;
	}
	return NULL;
}

static void offer_options(const struct line *line)
{
	for (const char *at = strstr(line->help, "\n  --"); at; at = strstr(at + 1, "\n  --")) {
		const char *word = at + 3, *what = strstr(word, "  ");
		char option[32], text[96] = "";

		snprintf(option, sizeof(option), "%.*s", (int)strcspn(word, " [\n"), word);
		if (what) {
			what += strspn(what, " ");
			snprintf(text, sizeof(text), "%.*s", (int)strcspn(what, "\n"), what);
		}
		offer(line, option, text);
	}
	offer(line, "--help", "the options and examples of this command");
}

/* Returns the name of the value that an option must have, as "DEVICE", or NULL. */
static const char *value_of(const struct line *line, const char *option)
{
	const char *behind = strncmp(option, "--", 2) ? NULL : option_line(line->help, option);

	return behind && behind[0] == ' ' && behind[1] >= 'A' && behind[1] <= 'Z' &&
			       behind[2] >= 'A' && behind[2] <= 'Z'
		       ? behind + 1
		       : NULL;
}

static void offer_value(struct line *line, const char *value)
{
	if (!strncmp(value, "DEVICE", 6))
		offer_devices(line);
	else if (!strncmp(value, "PROFILE", 7))
		offer_profiles(line);
	else if (!strncmp(value, "USER", 4))
		offer_users(line);
	else if (!strncmp(value, "LEASE", 5))
		offer_leases(line);
	else if (!strncmp(value, "LABEL", 5))
		offer_labels(line);
	else if (!strncmp(value, "FILE", 4) || !strncmp(value, "SOCKET", 6))
		puts(":file");
	else if (!strncmp(value, "DIR", 3))
		puts(":directory");
}

/* Returns the index of the first word that is neither an option nor an option's value, or n. */
static int first_argument(const struct line *line)
{
	int i = 0;

	while (i < line->n && line->words[i][0] == '-' && strcmp(line->words[i], "--"))
		i += value_of(line, line->words[i]) ? 2 : 1;
	if (i < line->n && !strcmp(line->words[i], "--"))
		i++;
	return i < line->n ? i : line->n;
}

/* `offset`: how many words stand before the first of line->words, with "gpubroker". */
static void complete_command(struct line *line, const char *command, int offset)
{
	const char *value = line->n > 1 ? value_of(line, line->words[line->n - 2]) : NULL;
	const int first = first_argument(line);
	const bool runs = !strcmp(command, "run");

	if (runs && first < line->n && (first < line->n - 1 || line->words[first][0] != '-')) {
		printf(":command %d\n", offset + first);
	} else if (value) {
		offer_value(line, value);
	} else if (line->last[0] == '-') {
		offer_options(line);
	} else if (!strcmp(command, "release") || !strcmp(command, "revoke")) {
		offer_leases(line);
	} else if (!strcmp(command, "retract")) {
		offer_labels(line);
	} else if (!strcmp(command, "policy check")) {
		puts(":file");
	} else if (!strcmp(command, "drivers make") && first < line->n - 1) {
		puts(":directory");
	} else if (!strcmp(command, "restore") || !strcmp(command, "prepare") ||
		   !strcmp(command, "policy explain") || !strcmp(command, "profiles") ||
		   !strcmp(command, "doctor") || !strcmp(command, "attach") ||
		   !strcmp(command, "detach") || !strcmp(command, "allot") ||
		   (!strcmp(command, "vfs") && line->n == 1)) {
		offer_devices(line);
	}
}

int cli_complete(const struct cli *cli, int argc, char **argv)
{
	struct line line = { .cli = cli, .words = argv + 1, .n = argc - 1 };
	char command[64];
	bool has_two;
	int offset = 1;

	/* A shell waits for this: a broker that does not answer ends it. */
	alarm(3);
	/* The options before the command. */
	while (line.n > 2 && !strcmp(line.words[0], "--socket")) {
		line.words += 2;
		line.n -= 2;
		offset += 2;
	}
	if (line.n < 1)
		return cli_finish_output();
	line.last = line.words[line.n - 1];
	if (line.n == 1 || (line.n == 2 && !strcmp(line.words[0], "help"))) {
		offer_commands(&line, "");
		if (line.n == 1)
			offer(&line, "help", "the usage, or the help of a command");
		return cli_finish_output();
	}
	if (!strcmp(line.words[0], "policy") && line.n == 2) {
		offer_commands(&line, "policy ");
		return cli_finish_output();
	}
	if (!strcmp(line.words[0], "slurm") && line.n == 2) {
		offer_commands(&line, "slurm ");
		return cli_finish_output();
	}
	if (!strcmp(line.words[0], "drivers") && line.n == 2)
		offer_commands(&line, "drivers ");
	has_two = !strcmp(line.words[0], "policy") || !strcmp(line.words[0], "slurm") ||
		  (!strcmp(line.words[0], "drivers") && !strcmp(line.words[1], "make"));
	snprintf(command, sizeof(command), "%.24s%s%.24s", line.words[0], has_two ? " " : "",
		 has_two ? line.words[1] : "");
	line.help = help_text(command);
	if (line.help) {
		const int words = strchr(command, ' ') ? 2 : 1;

		line.words += words;
		line.n -= words;
		complete_command(&line, command, offset + words);
	}
	return cli_finish_output();
}
