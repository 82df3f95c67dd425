/* SPDX-License-Identifier: MIT */
/*
 * gpubroker allot: root promises devices to a user, under a label. Asks the broker, which decides
 * by its policy. It changes nothing itself.
 */
#include "config.h"

#include "client/command/cli.h"
#include "client/command/account.h"
#include "client/command/allot-socket.h"
#include "client/command/arguments.h"
#include "client/common/util.h"

#include <errno.h>
#include <stdlib.h>
#include <string.h>
#include <time.h>

struct allot {
	const char *user, *label, *socket;
	uint64_t until;
};

/* Parses a day, a time of the day, or both. -1: it is none. */
static time_t parse_clock(const char *text, time_t now)
{
	static const char *const formats[] = { "%Y-%m-%d %H:%M:%S", "%Y-%m-%d %H:%M", "%Y-%m-%d",
					       "%Y-%m-%dT%H:%M:%S", "%H:%M:%S",	      "%H:%M" };
	struct tm tm;

	for (size_t i = 0; i < ARRAY_SIZE(formats); i++) {
		const bool is_day = formats[i][1] == 'Y';
		const char *end;
		time_t when;

		if (!localtime_r(&now, &tm))
			return -1;
		tm.tm_hour = tm.tm_min = tm.tm_sec = 0;
		end = strptime(text, formats[i], &tm);
		if (!end || *end)
			continue;
		tm.tm_isdst = -1;
		when = mktime(&tm);
		if (is_day || when > now)
			return when;
		tm.tm_mday++; /* mktime() knows how long the month is */
		tm.tm_isdst = -1;
		return mktime(&tm);
	}
	return -1;
}

/*
 * Parses a time that is to come: how long until then, "8h"; "18:30", today or tomorrow;
 * "2026-12-24", its beginning, or "2026-12-24 18:30"; "@1790000000". False: it is none, or it is
 * over.
 */
static bool parse_until(const char *text, uint64_t *ret_when)
{
	const time_t now = time(NULL);
	uint64_t seconds;
	time_t when;
	char *end;

	if (cli_parse_time(text, &seconds)) {
		*ret_when = (uint64_t)now + seconds;
		return true;
	}
	if (text[0] == '@' && text[1] >= '0' && text[1] <= '9') {
		when = (time_t)strtoll(text + 1, &end, 10);
		if (*end)
			return false;
	} else {
		when = parse_clock(text, now);
	}
	if (when <= now)
		return false;
	*ret_when = (uint64_t)when;
	return true;
}

/* Parses the options. Returns ARGUMENTS_END, or the exit status. */
static int allot_arguments(int argc, char **argv, struct allot *ret_allot)
{
	static const struct option options[] = {
		{ "user", required_argument, NULL, 'u' },
		{ "for", required_argument, NULL, 'f' },
		{ "until", required_argument, NULL, 't' },
		{ "socket", required_argument, NULL, 's' },
		{ NULL, 0, NULL, 0 },
	};
	struct arguments arguments = { .command = "allot", .mode = "" };
	int c;

	*ret_allot = (struct allot){ 0 };
	while ((c = arguments_next(&arguments, argc, argv, options)) != ARGUMENTS_END) {
		if (c == ARGUMENTS_STOP)
			return arguments.status;
		if (c == 'u')
			ret_allot->user = optarg;
		if (c == 'f')
			ret_allot->label = optarg;
		if (c == 's')
			ret_allot->socket = optarg;
		if (c == 't' && !parse_until(optarg, &ret_allot->until)) {
			cli_error("--until '%s' is no time to come: give how long, as 8h or 1h30m, "
				  "or when, as 18:30, '2026-12-24 18:30' or @1790000000",
				  optarg);
			return EXIT_BAD_USAGE;
		}
	}
	if (ret_allot->user && ret_allot->label && optind < argc)
		return ARGUMENTS_END;
	cli_error("allot needs a user, a label and a DEVICE, as in: gpubroker allot --user bob "
		  "--for slurm-17 01:00.0");
	return EXIT_BAD_USAGE;
}

/* Makes the request of the DEVICEs. 0, or an exit status after the reason was printed. */
static int allot_devices(char *const *devices, struct gpubroker_claim **ret_claim)
{
	int r = gpubroker_claim_new(ret_claim);

	if (r) {
		cli_error("%s", strerror(-r));
		return EXIT_SOFTWARE;
	}
	for (; *devices; devices++) {
		r = gpubroker_claim_add(*ret_claim, *devices);
		if (!r)
			continue;
		if (r == -E2BIG)
			cli_error("more than 16 devices in one allotment");
		else
			cli_error("'%s' is no device: give a PCI address as 0000:01:00.0 or "
				  "01:00.0, iommu-group:N, a name from the policy, or any",
				  *devices);
		return EXIT_BAD_USAGE;
	}
	return 0;
}

/* Asks the broker, once more if it has just ended: to allot twice is to allot once. */
static int ask_to_allot(const struct cli *cli, const struct allot *allot,
			const struct account *account, const struct gpubroker_claim *claim,
			struct allot_socket *socket)
{
	const struct gpubroker_user user = {
		.uid = account->subject.uid,
		.gid = account->subject.gid,
		.groups = account->groups,
		.n_groups = account->subject.n_groups,
	};
	struct gpubroker *handle = NULL;
	int r = -ECONNRESET, status;

	for (int i = 0; i < CLI_TRIES && r == -ECONNRESET; i++) {
		gpubroker_close(handle);
		status = cli_open(cli, &handle);
		if (status)
			return status;
		r = gpubroker_allot(handle, claim, allot->label, &user, allot->until);
		if (!r && allot->socket)
			r = allot_socket_give(handle, allot->label, &user, socket);
	}
	if (r == -ECANCELED) {
		r = EXIT_CANNOT_CREATE; /* the reason was printed */
	} else if (r == -EINVAL) {
		cli_error("--for '%s' is no label: give 1 to 47 letters, digits or any of ._:@-",
			  allot->label);
		r = EXIT_BAD_USAGE;
	} else if (r) {
		r = cli_failed(cli, handle, r);
	} else if (cli_columns(stdout)) {
		printf("%s is in force for %s%s%s.\n", allot->label, allot->user,
		       allot->socket ? ", at " : "", allot->socket ? socket->path : "");
	}
	gpubroker_close(handle);
	return r ? r : cli_finish_output();
}

int cli_allot(const struct cli *cli, int argc, char **argv)
{
	struct gpubroker_claim *claim = NULL;
	struct account account = { 0 };
	struct allot_socket socket = { .fd = -1 };
	struct allot allot;
	int r = allot_arguments(argc, argv, &allot);

	if (r != ARGUMENTS_END)
		return r;
	r = allot.socket ? allot_socket_parse(cli, allot.socket, &socket) : 0;
	if (!r)
		r = allot_devices(argv + optind, &claim);
	if (!r)
		r = account_find(allot.user, &account);
	if (!r)
		r = ask_to_allot(cli, &allot, &account, claim, &socket);
	fd_close(socket.fd);
	account_done(&account);
	gpubroker_claim_free(claim);
	return r;
}
