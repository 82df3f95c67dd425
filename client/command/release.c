/* SPDX-License-Identifier: MIT */
/*
 * gpubroker release, revoke and restore: ends a lease before its holder lets go, or a claim that
 * waits, or gives a device back to its host driver. Asks the broker, then looks until it can print
 * the result: given back, or who still holds it. It decides nothing.
 */
#include "config.h"

#include "client/command/cli.h"
#include "client/command/arguments.h"
#include "client/command/holders.h"
#include "client/command/json-out.h"
#include "client/command/refused.h"
#include "client/common/address.h"
#include "client/common/util.h"

#include <inttypes.h>
#include <string.h>
#include <time.h>

/* Longer than the broker waits for its worker before it calls a lease stuck. */
#define LOOK_SECONDS 15
#define KILL_SECONDS 10	 /* after the second signal */
#define GRACE_DEFAULT 30 /* between the two */
#define GRACE_MAX 86400

struct look {
	uint64_t id; /* the lease, or 0: the one of `address` */
	const char *address;
	bool waits; /* it is a claim that waits */
	bool found;
	enum gpubroker_lease_state state;
	uint64_t lease;
	uint32_t group;
	uint64_t ends;
	char reason[128];
	uint64_t grace; /* its holder is ended; 0: it is not */
	char shown[128];
	bool json;
};

/* For programs: what was ended, or will be. Returns the exit status. */
static int print_result(const struct look *look)
{
	struct json_object *o = json_object_new_object();

	json_object_object_add(o, "lease", look->waits ? NULL : json_out_number(look->id));
	json_object_object_add(o, "claim", look->waits ? json_out_number(look->id) : NULL);
	json_object_object_add(o, "device",
			       look->address ? json_object_new_string(look->address) : NULL);
	json_object_object_add(
		o, "state",
		look->waits ? NULL
			    : json_object_new_string(gpubroker_lease_state_name(
				      look->found ? look->state : GPUBROKER_LEASE_HOST)));
	json_object_object_add(o, "ends", look->found ? json_out_number(look->ends) : NULL);
	json_out_print(o);
	return cli_finish_output();
}

static int on_lease(void *userdata, const struct gpubroker_lease *lease)
{
	struct look *look = userdata;
	bool is = look->id == lease->id;

	for (size_t i = 0; !look->id && i < lease->n_devices; i++)
		is = is || !strcmp(lease->devices[i], look->address);
	if (!is)
		return 0;
	look->found = true;
	look->id = lease->id; /* the next holder has another one */
	look->state = lease->state;
	look->lease = lease->id;
	look->group = lease->iommu_group;
	look->ends = lease->expires;
	snprintf(look->reason, sizeof(look->reason), "%s", lease->reason);
	return 0;
}

static bool is_overdue(const struct look *look)
{
	return look->state == GPUBROKER_LEASE_STUCK || look->state == GPUBROKER_LEASE_ASKED;
}

/* Shows what was done to the holder, when that is news. */
static void show_reason(struct look *look)
{
	if (!is_overdue(look) || !strcmp(look->shown, look->reason))
		return;
	memcpy(look->shown, look->reason, sizeof(look->shown));
	fprintf(stderr, "%s\n", look->reason);
}

/*
 * Looks until the lease is gone, stuck or asked; if its holder is ended, until that should have
 * helped. 0, or the result of gpubroker_leases().
 */
static int look_until(struct gpubroker *handle, struct look *look)
{
	const struct timespec pause = { .tv_nsec = 200000000 };
	const uint64_t seconds = LOOK_SECONDS + (look->grace ? look->grace + KILL_SECONDS : 0);
	int r;

	for (uint64_t i = 0; i < seconds * 5; i++) {
		look->found = false;
		r = gpubroker_leases(handle, on_lease, look);
		if (r || !look->found || (!look->grace && is_overdue(look)))
			return r;
		if (look->grace && cli_columns(stderr))
			show_reason(look);
		nanosleep(&pause, NULL);
	}
	return 0;
}

static void print_holder(const char *text)
{
	cli_error("it is %s", text);
}

/* Prints the result. Returns the exit status. */
static int print_outcome(const struct cli *cli, struct gpubroker *handle, struct look *look,
			 const char *what)
{
	int r = look_until(handle, look);

	if (r)
		return cli_failed(cli, handle, r);
	if (!look->found) {
		if (look->json)
			return print_result(look);
		if (cli_columns(stdout))
			printf("%s is the host's again.\n", what);
		return cli_finish_output();
	}
	if (look->state == GPUBROKER_LEASE_ASKED)
		cli_error("%s is not the host's again yet: a process that was asked for it has it "
			  "still (%s); it goes back by itself as soon as that lets go of it",
			  what, look->reason);
	else if (look->state == GPUBROKER_LEASE_STUCK)
		cli_error("%s is not the host's again yet (%s); it goes back by itself as soon "
			  "as the kernel lets go of it",
			  what, look->reason);
	else if (look->state == GPUBROKER_LEASE_RELEASING)
		cli_error("%s is still held by a process; it goes back to the host when that lets "
			  "go of it",
			  what);
	else
		cli_error("%s is on its way back to the host; 'gpubroker leases' shows its state",
			  what);
	holders_print(look->group, print_holder);
	return EXIT_BUSY;
}

static int print_end(struct look *look, struct gpubroker *handle)
{
	char text[24];
	struct tm tm;
	time_t end;

	/* No end: it was stuck, or not granted yet, and ends at once. */
	if (gpubroker_leases(handle, on_lease, look) || look->json)
		return look->json ? print_result(look) : cli_finish_output();
	if (!look->found || !look->ends)
		return cli_finish_output();
	end = (time_t)look->ends;
	if (localtime_r(&end, &tm) && strftime(text, sizeof(text), "%F %H:%M:%S", &tm))
		printf("lease %" PRIu64 " will be taken back at %s.\n", look->lease, text);
	return cli_finish_output();
}

static int on_waiting(void *userdata, const struct gpubroker_waiting *waiting)
{
	struct look *look = userdata;

	look->waits = look->waits || look->id == waiting->id;
	return 0;
}

static int print_ended(const struct look *look)
{
	if (look->json)
		return print_result(look);
	if (cli_columns(stdout))
		printf("claim %" PRIu64 " waits no longer.\n", look->id);
	return cli_finish_output();
}

/* Says that text is no lease's number; where it is a device, which lease has that. */
static void say_which_lease(const struct cli *cli, const char *text)
{
	struct gpubroker *handle = NULL;
	struct pci_address address;
	char formatted[PCI_ADDRESS_TEXT];
	struct look look = { .address = formatted };

	if (!pci_address_parse(text, &address) && !gpubroker_open(cli->socket, &handle)) {
		pci_address_format(&address, formatted);
		gpubroker_leases(handle, on_lease, &look);
	}
	gpubroker_close(handle);
	if (look.found)
		cli_error("'%s' is no lease; did you mean %" PRIu64 ", which has it?", text,
			  look.lease);
	else
		cli_error("'%s' is no lease: give its number from 'gpubroker leases'", text);
}

static int parse_lease(const struct cli *cli, const char *text, uint64_t *ret_id)
{
	unsigned long long id;
	char *end;

	errno = 0;
	id = strtoull(text, &end, 10);
	if (errno || *end || *text < '0' || *text > '9' || !id) {
		say_which_lease(cli, text);
		return EXIT_BAD_USAGE;
	}
	*ret_id = id;
	return 0;
}

static int end_lease(const struct cli *cli, const char *text, bool revoke, uint64_t after,
		     uint64_t grace)
{
	struct look look = { .grace = grace, .json = refused_is_json() };
	struct gpubroker *handle;
	char what[32];
	int r = parse_lease(cli, text, &look.id);

	if (!r)
		r = cli_open(cli, &handle);
	if (r)
		return r;
	r = gpubroker_queue(handle, on_waiting, &look);
	if (!r)
		r = grace    ? gpubroker_revoke_kill(handle, look.id, after, grace)
		    : revoke ? gpubroker_revoke(handle, look.id, after)
			     : gpubroker_release(handle, look.id);
	snprintf(what, sizeof(what), "lease %" PRIu64, look.id);
	if (r)
		r = cli_failed(cli, handle, r);
	else if (look.waits)
		r = print_ended(&look);
	else if (!after)
		r = print_outcome(cli, handle, &look, what);
	else if (look.json || cli_columns(stdout))
		r = print_end(&look, handle);
	gpubroker_close(handle);
	return r;
}

int cli_release(const struct cli *cli, int argc, char **argv)
{
	static const struct option options[] = {
		{ "json", no_argument, NULL, 'j' },
		{ NULL, 0, NULL, 0 },
	};
	struct arguments arguments = { .command = "release", .mode = "" };

	if (arguments_only_json(&arguments, argc, argv, options))
		return arguments.status;
	if (argc - optind != 1) {
		cli_error("release needs one LEASE, as in: gpubroker release 3; 'gpubroker leases' "
			  "shows them");
		return EXIT_BAD_USAGE;
	}
	return end_lease(cli, argv[optind], false, 0, 0);
}

int cli_revoke(const struct cli *cli, int argc, char **argv)
{
	static const struct option options[] = {
		{ "after", required_argument, NULL, 'a' },
		{ "kill", optional_argument, NULL, 'k' },
		{ "json", no_argument, NULL, 'j' },
		{ NULL, 0, NULL, 0 },
	};
	uint64_t after = 0, grace = 0;
	int c;
	struct arguments arguments = { .command = "revoke", .mode = "" };

	while ((c = arguments_next(&arguments, argc, argv, options)) != ARGUMENTS_END) {
		if (c == ARGUMENTS_STOP)
			return arguments.status;
		if (c == 'j')
			continue;
		if (c == 'k') {
			grace = GRACE_DEFAULT;
			if (optarg &&
			    (!cli_parse_time(optarg, &grace) || !grace || grace > GRACE_MAX)) {
				cli_error("--kill='%s' is no time from 1s to 1d between the two "
					  "signals: give it as --kill=30s",
					  optarg);
				return EXIT_BAD_USAGE;
			}
			continue;
		}
		if (!cli_parse_time(optarg, &after)) {
			cli_error("--after '%s' is no time: give it as 30s, 10m or 1h30m", optarg);
			return EXIT_BAD_USAGE;
		}
	}
	if (argc - optind != 1) {
		cli_error("revoke needs one LEASE, as in: gpubroker revoke 3 --after 10m; "
			  "'gpubroker leases' shows them");
		return EXIT_BAD_USAGE;
	}
	return end_lease(cli, argv[optind], true, after, grace);
}

int cli_restore(const struct cli *cli, int argc, char **argv)
{
	static const struct option options[] = {
		{ "json", no_argument, NULL, 'j' },
		{ NULL, 0, NULL, 0 },
	};
	struct gpubroker *handle;
	struct look look = { 0 };
	char address[20];
	int r;
	struct arguments arguments = { .command = "restore", .mode = "" };

	if (arguments_only_json(&arguments, argc, argv, options))
		return arguments.status;
	look.json = refused_is_json();
	if (argc - optind != 1) {
		cli_error("restore needs one DEVICE, a PCI address, as in: gpubroker restore "
			  "01:00.0");
		return EXIT_BAD_USAGE;
	}
	r = cli_open(cli, &handle);
	if (r)
		return r;
	r = gpubroker_restore(handle, argv[optind], address);
	if (r) {
		r = cli_failed_for(cli, handle, r, argv[optind]);
	} else {
		look.address = address;
		r = print_outcome(cli, handle, &look, address);
	}
	gpubroker_close(handle);
	return r;
}
