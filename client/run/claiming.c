/* SPDX-License-Identifier: MIT */
/*
 * Claims what `gpubroker run` was asked for, see claiming.h. It tries again where that may help:
 * another client was faster, or the device is just coming back. It never waits in the queue unless
 * the user asked for that.
 */
#include "config.h"

#include "client/run/claiming.h"
#include "client/command/screen.h"
#include "client/common/address.h"
#include "client/run/allotted.h"
#include "client/run/choose.h"
#include "client/run/hint.h"

#include <errno.h>
#include <poll.h>
#include <signal.h>
#include <stdlib.h>
#include <string.h>
#include <time.h>
#include <unistd.h>

#define CHOICES_MAX 3 /* so often, where another client claims the choice first */
#define LONG_TIME (100L * 365 * 24 * 3600) /* seconds: a wait without a limit */
#define REJOINS_MOST 100		   /* brokers that end on one claim; another would, too */
#define REJOIN_TRIES 300 /* of 100 ms, and the connection itself may take longer */

/*
 * The broker has ended while a claim waited, as for an update: waits for the next one, where the
 * claim has its place again. `end` is that of the wait, by CLOCK_BOOTTIME. 0, a refusal, or -errno.
 */
static int rejoin(struct gpubroker *handle, const struct gpubroker_claim *claim, time_t end,
		  struct progress *progress)
{
	static const char away[] = "the broker has ended; waiting for the next one, with the same "
				   "place in the queue";
	const struct timespec pause = { .tv_nsec = 100000000 };
	struct timespec now;
	int r = gpubroker_claim_rejoin(handle, claim);

	if (r == -EINVAL)
		return -ECONNRESET;
	if (r < 0 && !progress_say(progress, away) && cli_columns(stderr))
		cli_error("%s", away);
	for (int i = 0; r < 0 && i < REJOIN_TRIES; i++) {
		nanosleep(&pause, NULL);
		clock_gettime(CLOCK_BOOTTIME, &now);
		if (now.tv_sec >= end)
			return -ETIMEDOUT;
		r = gpubroker_claim_rejoin(handle, claim);
	}
	return r;
}

/* As gpubroker_claim_run(), but for at most so many seconds; 0: without an end. -ETIMEDOUT. */
static int claim_within(struct gpubroker *handle, struct gpubroker_claim *claim, uint64_t seconds,
			struct progress *progress)
{
	struct pollfd p = { .fd = gpubroker_fd(handle), .events = POLLIN };
	struct timespec now, end;
	unsigned joined = 0;
	int r;

	progress->begun = false;
	progress->n_bound = 0;
	clock_gettime(CLOCK_BOOTTIME, &end);
	end.tv_sec += seconds ? (time_t)seconds : LONG_TIME;
	r = gpubroker_claim_start(handle, claim);
	while (!r) {
		int64_t left;

		r = gpubroker_claim_continue(handle, claim, progress_step, progress);
		if (r == -ECONNRESET && !progress->begun && joined++ < REJOINS_MOST)
			r = rejoin(handle, claim, end.tv_sec, progress);
		else if (r != -EAGAIN)
			return r;
		if (r && r != -EAGAIN)
			return r;
		p.fd = gpubroker_fd(handle);
		clock_gettime(CLOCK_BOOTTIME, &now);
		left = (int64_t)(end.tv_sec - now.tv_sec) * 1000 +
		       (end.tv_nsec - now.tv_nsec) / 1000000;
		if (left <= 0 && !progress->begun)
			return -ETIMEDOUT;
		r = poll(&p, 1,
			 progress->begun    ? -1
			 : left < INT32_MAX ? (int)left
					    : INT32_MAX) < 0 &&
				    errno != EINTR
			    ? -errno
			    : 0;
	}
	return r;
}

/*
 * Returns true if another client may have claimed what was chosen, between the choice and the
 * claim.
 */
static bool came_late(const struct request *request, int r)
{
	return request_has_memory(request) && !request->wait &&
	       (r == GPUBROKER_REFUSED_BUSY || r == GPUBROKER_REFUSED_NONE_LEFT ||
		r == GPUBROKER_REFUSED_NO_DEVICE);
}

/* One of the DEVICEs is a name that the policy does not have. */
static void hint_names(const struct request *request)
{
	char hint[HINT_TEXT];
	struct pci_address address;

	for (size_t i = 0; i < request->n_devices; i++) {
		const char *name = request->devices[i].name;

		if (!strcmp(name, "any") || !pci_address_parse(name, &address) ||
		    !strncmp(name, "iommu-group:", 12))
			continue;
		if (hint_device(name, hint))
			cli_error("%s", hint);
		else
			cli_hint_name(name);
	}
}

/* ---- a device that is just coming back ---- */

#define PATIENCE 5000 /* ms for which a claim is tried again while a device comes back */
#define SAY_AFTER 2000
#define ASK_EVERY 250

struct leaving {
	const struct request *request;
	int refusal; /* by a limit only a lease of the caller's own is in the way */
	char what[32];
};

/* Returns true if a device that is asked for may be the lease's. */
static bool may_be_meant(const struct request *request, const struct gpubroker_lease *lease)
{
	struct pci_address wanted, own;

	for (size_t i = 0; i < request->n_devices; i++) {
		const char *name = request->devices[i].name;

		if (!strncmp(name, "iommu-group:", 12)) {
			if (strtoul(name + 12, NULL, 10) == lease->iommu_group)
				return true;
			continue;
		}
		if (pci_address_parse(name, &wanted))
			return true;
		for (size_t k = 0; k < lease->n_devices; k++)
			if (!pci_address_parse(lease->devices[k], &own) &&
			    !pci_address_compare(&own, &wanted))
				return true;
		if (!pci_address_parse(lease->parent, &own) && !pci_address_compare(&own, &wanted))
			return true;
	}
	return false;
}

/*
 * The broker has not seen yet that the holder has ended. Only one's own are waited for. The process
 * that claimed may have given the device to another, as `attach` does.
 */
static bool has_just_ended(const struct gpubroker_lease *lease)
{
	return lease->state == GPUBROKER_LEASE_LEASED && lease->uid == geteuid() &&
	       kill((pid_t)lease->pid, 0) && errno == ESRCH && !cli_has_holder(lease->iommu_group);
}

static int look_for_leaving(void *userdata, const struct gpubroker_lease *lease)
{
	struct leaving *leaving = userdata;

	if (lease->state != GPUBROKER_LEASE_RELEASING &&
	    lease->state != GPUBROKER_LEASE_RESTORING && !has_just_ended(lease))
		return 0;
	if (leaving->refusal == GPUBROKER_REFUSED_LIMIT ? lease->uid != geteuid()
							: !may_be_meant(leaving->request, lease))
		return 0;
	snprintf(leaving->what, sizeof(leaving->what), "%s",
		 lease->n_devices ? screen_address(lease->devices[0]) : lease->parent);
	return 1;
}

/* Returns true if the refusal may be over in a moment. */
static bool may_pass(int r)
{
	return r == GPUBROKER_REFUSED_BUSY || r == GPUBROKER_REFUSED_LIMIT ||
	       r == GPUBROKER_REFUSED_NONE_LEFT;
}

/*
 * Returns true when the claim may be tried again, after a while; false if nothing that is in its
 * way comes back. `other` is a connection of its own, so that the claim's keeps its reason.
 */
static bool comes_back(struct gpubroker *other, const struct gpubroker_claim *claim,
		       struct leaving *leaving, struct progress *progress)
{
	const uint64_t begun = progress_now();
	bool waited = false, said = false;
	char text[96];

	for (;; waited = true) {
		/* The broker does not ask the driver how many of a profile are left, for this. */
		if (leaving->refusal != GPUBROKER_REFUSED_NONE_LEFT &&
		    !may_pass(gpubroker_claim_ask(other, claim)))
			return true;
		if (gpubroker_leases(other, look_for_leaving, leaving) != 1)
			return waited;
		if (progress_now() - begun > PATIENCE)
			return true; /* for the refusal as it is by then */
		if (!said && progress_now() - begun >= SAY_AFTER) {
			snprintf(text, sizeof(text),
				 "%s is on its way back to the host; waiting for it, 5s at most",
				 leaving->what);
			if (!progress_say(progress, text))
				cli_error("%s", text);
			said = true;
		}
		poll(NULL, 0, ASK_EVERY);
	}
}

/*
 * Claims, and where the device is just coming back to the host, waits for that some seconds: a VM
 * that ended at once, by a mistake in its arguments, is started again a second later.
 */
static int claim_patiently(const struct cli *cli, struct gpubroker *handle,
			   struct gpubroker_claim *claim, const struct request *request,
			   struct progress *progress)
{
	struct leaving leaving = { .request = request };
	struct gpubroker *other = NULL;
	int r = claim_within(handle, claim, request->wait_seconds, progress);

	if (!may_pass(r) || request->wait || request_has_memory(request) ||
	    gpubroker_open(cli->socket, &other))
		return r;
	leaving.refusal = r;
	if (comes_back(other, claim, &leaving, progress))
		r = claim_within(handle, claim, 0, progress);
	gpubroker_close(other);
	return r;
}

int claiming_run(const struct cli *cli, struct gpubroker *handle, struct request *request,
		 struct progress *progress, struct gpubroker_claim **ret_claim)
{
	struct gpubroker_claim *claim = NULL;
	int r, status = allotted_take(cli, handle, request);

	if (status)
		return status;
	for (int tries = 1;; tries++) {
		status = request_has_memory(request) ? choose_devices(cli, handle, request) : 0;
		if (!status)
			status = request_claim(request, &claim);
		if (status)
			return status;
		r = claim_patiently(cli, handle, claim, request, progress);
		progress_end(progress);
		if (!r) {
			*ret_claim = claim;
			return 0;
		}
		claim = gpubroker_claim_free(claim);
		if (tries == CHOICES_MAX || !came_late(request, r))
			break;
	}
	if (r != -ETIMEDOUT) {
		status = cli_failed(cli, handle, r);
		if (r == GPUBROKER_REFUSED_BUSY)
			cli_print_foreign(handle);
		else if (r == GPUBROKER_REFUSED_NO_NAME)
			hint_names(request);
		else if (r == GPUBROKER_REFUSED_POLICY)
			cli_explain_denied(handle,
					   request->n_devices == 1 && !request->devices[0].profile
						   ? request->devices[0].name
						   : NULL);
		return status;
	}
	cli_error("the device was not free within the time; nothing was claimed, and the claim "
		  "has left the queue; 'gpubroker leases' shows who has what");
	return EXIT_BUSY;
}
