/* SPDX-License-Identifier: MIT */
/*
 * gpubroker retract: root takes an allotment away. Asks the broker, which revokes the leases by it,
 * and looks until the host has all of its devices, or one does not come back. It decides nothing.
 */
#include "config.h"

#include "client/command/cli.h"
#include "client/command/arguments.h"
#include "client/command/holders.h"
#include "client/command/screen.h"
#include "client/common/util.h"

#include <errno.h>
#include <inttypes.h>
#include <string.h>
#include <time.h>

#define LOOK_EVERY 100000000 /* nanoseconds */

struct retract {
	const char *label;
	bool wait;	  /* also for what is stuck or asked back */
	uint64_t seconds; /* for so long at most; 0: without an end */
	/* what was seen last */
	bool there; /* the allotment, or a lease by it */
	bool was_there;
	uint32_t groups[16]; /* its IOMMU groups, while it is there */
	size_t n_groups;
	struct gpubroker_lease worst; /* the lease that keeps it longest; id 0: none */
	char device[32];
};

static int retract_on_allotment(void *userdata, const struct gpubroker_allotment *allotment)
{
	struct retract *retract = userdata;

	if (strcmp(allotment->label, retract->label) != 0)
		return 0;
	retract->there = true;
	for (size_t i = 0; i < allotment->n_devices && i < ARRAY_SIZE(retract->groups); i++)
		retract->groups[retract->n_groups++] = allotment->iommu_groups[i];
	return 0;
}

/* A lease whose record is damaged has no label: it is known by its group. */
static bool retract_keeps(const struct retract *retract, const struct gpubroker_lease *lease)
{
	if (!strcmp(lease->label, retract->label))
		return true;
	for (size_t i = 0; i < retract->n_groups; i++)
		if (!lease->label[0] && retract->groups[i] == lease->iommu_group)
			return true;
	return false;
}

static bool retract_is_overdue(enum gpubroker_lease_state state)
{
	return state == GPUBROKER_LEASE_STUCK || state == GPUBROKER_LEASE_ASKED;
}

static int retract_on_lease(void *userdata, const struct gpubroker_lease *lease)
{
	struct retract *retract = userdata;

	if (!retract_keeps(retract, lease))
		return 0;
	retract->there = true;
	if (retract->worst.id &&
	    (retract_is_overdue(retract->worst.state) || !retract_is_overdue(lease->state)))
		return 0;
	retract->worst = *lease;
	retract->worst.devices = NULL;
	snprintf(retract->device, sizeof(retract->device), "%s",
		 lease->n_devices ? lease->devices[0] : lease->parent);
	return 0;
}

/* Looks what is left. 0, or as gpubroker_leases(). */
static int retract_look(struct gpubroker *handle, struct retract *retract)
{
	int r;

	retract->there = false;
	retract->n_groups = 0;
	retract->worst = (struct gpubroker_lease){ 0 };
	r = gpubroker_allotments(handle, retract_on_allotment, retract);
	return r ? r : gpubroker_leases(handle, retract_on_lease, retract);
}

static time_t seconds_now(void)
{
	struct timespec now;

	clock_gettime(CLOCK_BOOTTIME, &now);
	return now.tv_sec;
}

/* Looks until all is the host's again, or there is no use in that. 0, or as gpubroker_leases(). */
static int retract_look_until(struct gpubroker *handle, struct retract *retract)
{
	const struct timespec pause = { .tv_nsec = LOOK_EVERY };
	const time_t begun = seconds_now();
	int r;

	while (!(r = retract_look(handle, retract)) && retract->there) {
		retract->was_there = true;
		if (!retract->wait && retract_is_overdue(retract->worst.state))
			return 0;
		if (retract->seconds && (uint64_t)(seconds_now() - begun) >= retract->seconds)
			return 0;
		nanosleep(&pause, NULL);
	}
	return r;
}

static void retract_holder(const char *text)
{
	cli_error("it is %s", text);
}

/* Prints how it ended. Returns the exit status. */
static int retract_outcome(const struct retract *retract)
{
	const struct gpubroker_lease *lease = &retract->worst;

	if (!retract->there) {
		if (!retract->was_there)
			cli_error("nothing is allotted under %s", retract->label);
		else if (cli_columns(stdout))
			printf("%s is retracted; the host has its devices.\n", retract->label);
		return cli_finish_output();
	}
	if (lease->state == GPUBROKER_LEASE_STUCK)
		cli_error("%s of %s is stuck (%s): it goes back to the host as soon as the kernel "
			  "lets go of it, and %s ends then",
			  retract->device, retract->label, lease->reason, retract->label);
	else if (lease->state == GPUBROKER_LEASE_ASKED)
		cli_error("%s of %s is asked back (%s): 'gpubroker revoke %" PRIu64
			  " --kill' ends the processes that have it, and %s ends then",
			  retract->device, retract->label, lease->reason, lease->id,
			  retract->label);
	else if (lease->id)
		cli_error("%s of %s is still on its way back to the host; 'gpubroker leases' shows "
			  "its state",
			  retract->device, retract->label);
	else
		cli_error("%s is not taken away yet; 'gpubroker allotments' shows what is left",
			  retract->label);
	if (lease->id)
		holders_print(lease->iommu_group, retract_holder);
	return EXIT_BUSY;
}

/* Parses the arguments. Returns ARGUMENTS_END, or the exit status. */
static int retract_arguments(int argc, char **argv, struct retract *ret_retract)
{
	static const struct option options[] = {
		{ "wait", optional_argument, NULL, 'w' },
		{ NULL, 0, NULL, 0 },
	};
	struct arguments arguments = { .command = "retract", .mode = "" };
	int c;

	*ret_retract = (struct retract){ 0 };
	while ((c = arguments_next(&arguments, argc, argv, options)) != ARGUMENTS_END) {
		if (c == ARGUMENTS_STOP)
			return arguments.status;
		ret_retract->wait = true;
		if (optarg && !cli_parse_time(optarg, &ret_retract->seconds)) {
			cli_error("--wait=%s: that is no time; give it as 30s, 10m or 1h30m",
				  optarg);
			return EXIT_BAD_USAGE;
		}
	}
	if (argc - optind == 1) {
		ret_retract->label = argv[optind];
		return ARGUMENTS_END;
	}
	cli_error("retract needs one LABEL, as in: gpubroker retract slurm-17; 'gpubroker "
		  "allotments' shows them");
	return EXIT_BAD_USAGE;
}

int cli_retract(const struct cli *cli, int argc, char **argv)
{
	struct gpubroker *handle = NULL;
	struct retract retract;
	int r = retract_arguments(argc, argv, &retract);

	if (r != ARGUMENTS_END)
		return r;
	/* A broker that has ended is asked again: to retract twice is to retract once. */
	r = -ECONNRESET;
	for (int i = 0; i < CLI_TRIES && r == -ECONNRESET; i++) {
		const int status = (gpubroker_close(handle), cli_open(cli, &handle));

		if (status)
			return status;
		r = retract_look(handle, &retract);
		retract.was_there = retract.was_there || retract.there;
		if (!r)
			r = gpubroker_retract(handle, retract.label);
		if (!r)
			r = retract_look_until(handle, &retract);
	}
	if (r == -EINVAL) {
		cli_error("'%s' is no label: it has 1 to 47 letters, digits or any of ._:@-",
			  retract.label);
		r = EXIT_BAD_USAGE;
	} else {
		r = r ? cli_failed(cli, handle, r) : retract_outcome(&retract);
	}
	gpubroker_close(handle);
	return r;
}
