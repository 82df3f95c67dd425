/* SPDX-License-Identifier: MIT */
/*
 * Tells on the terminal of a supervised command about its leases: that one ends soon, that it was
 * taken back, and that the command has the device still.
 *
 * It owns the connection of the claim, over which the broker sends its events. A broker that is
 * started again knows nothing of that connection: then the end that was known last has to do, and
 * nobody tells of a revocation. It serves the supervisor, so it must never wait, and never allocate
 * once it has begun.
 */
#include "config.h"

#include "client/run/notice.h"
#include "client/common/util.h"

#include <inttypes.h>
#include <stdio.h>
#include <string.h>
#include <time.h>
#include <unistd.h>

#define WARN_SECONDS 60	    /* before the end, where the broker does not say when */
#define CLOCK_LOOK_MS 30000 /* the clock may be set, and the host may sleep */

static const char soon[] = "soon", over[] = "over", back[] = "back", kept[] = "kept";

static struct notice_lease *lease_of_id(struct notice *notice, uint64_t id)
{
	for (size_t i = 0; i < notice->n; i++)
		if (notice->leases[i].id == id)
			return &notice->leases[i];
	return NULL;
}

static int note_end(void *userdata, const struct gpubroker_lease *lease)
{
	struct notice_lease *ours = lease_of_id(userdata, lease->id);

	if (ours)
		ours->ends = lease->expires;
	return 0;
}

bool notice_begin(struct notice *notice, struct gpubroker *handle,
		  const struct gpubroker_claim *claim)
{
	const time_t now = time(NULL);
	struct tm tm;

	*notice = (struct notice){ .zone = localtime_r(&now, &tm) ? tm.tm_gmtoff : 0 };
	if (!isatty(STDERR_FILENO))
		return false;
	for (size_t i = 0; i < gpubroker_claim_groups(claim) && i < NOTICE_LEASES_MAX; i++) {
		const struct gpubroker_grant *grant = gpubroker_claim_grant(claim, i);
		struct notice_lease *lease = &notice->leases[notice->n++];

		lease->id = grant->lease;
		snprintf(lease->what, sizeof(lease->what), "%s (IOMMU group %" PRIu32 ")",
			 grant->uuid[0] ? grant->uuid : grant->address, grant->iommu_group);
	}
	if (gpubroker_leases(handle, note_end, notice) || gpubroker_watch_start(handle))
		return false;
	notice->handle = handle;
	return true;
}

void notice_done(struct notice *notice)
{
	notice->handle = gpubroker_close(notice->handle);
}

/* ---- the broker's events ---- */

static int take_event(void *userdata, const struct gpubroker_event *event)
{
	struct notice_lease *lease = lease_of_id(userdata, event->lease);
	uint64_t before;

	if (!lease || lease->said)
		return 0;
	before = lease->ends;
	lease->ends = event->ends;
	if (event->kind == GPUBROKER_EVENT_ENDING && !lease->over) {
		lease->warned = true;
		lease->said = soon;
	} else if (event->kind == GPUBROKER_EVENT_STATE &&
		   event->state == GPUBROKER_LEASE_RESTORING && !lease->over && event->ends &&
		   event->ends <= event->time) {
		/* If its holder has let go, it does not end at its end. */
		lease->over = true;
		lease->said = before == event->ends ? over : back;
	} else if (event->kind == GPUBROKER_EVENT_STATE && event->state == GPUBROKER_LEASE_ASKED &&
		   !lease->overdue) {
		lease->over = lease->overdue = true;
		lease->said = kept;
	} else if (event->kind == GPUBROKER_EVENT_STATE &&
		   event->state == GPUBROKER_LEASE_RELEASING) {
		lease->over = true; /* it was let go */
	}
	return lease->said != NULL; /* one at a time: the rest stays in the socket */
}

/* Without the broker, goes by the end that was known last. */
static void take_time(struct notice *notice)
{
	const uint64_t now = (uint64_t)time(NULL);

	for (size_t i = 0; i < notice->n; i++) {
		struct notice_lease *lease = &notice->leases[i];

		if (!lease->ends || lease->over || lease->said)
			continue;
		if (now >= lease->ends) {
			lease->over = true;
			lease->said = over;
		} else if (!lease->warned && now + WARN_SECONDS >= lease->ends) {
			lease->warned = true;
			lease->said = soon;
		}
	}
}

/* ---- sentences ---- */

static void write_left(uint64_t seconds, char *out, size_t size)
{
	if (seconds >= 90)
		snprintf(out, size, "%" PRIu64 " minutes", (seconds + 30) / 60);
	else if (seconds >= 55)
		snprintf(out, size, "1 minute");
	else
		snprintf(out, size, "%" PRIu64 " second%s", seconds, seconds == 1 ? "" : "s");
}

static void write_sentence(const struct notice *notice, const struct notice_lease *lease, char *out,
			   size_t size)
{
	const uint64_t now = (uint64_t)time(NULL);
	const uint64_t local = lease->ends + (uint64_t)notice->zone;
	char left[32];

	if (lease->said == soon) {
		write_left(lease->ends > now ? lease->ends - now : 0, left, sizeof(left));
		snprintf(out, size,
			 "gpubroker: lease %" PRIu64 " ends in %s, at %02u:%02u:%02u; %s is then "
			 "asked back.\n",
			 lease->id, left, (unsigned)(local / 3600 % 24),
			 (unsigned)(local / 60 % 60), (unsigned)(local % 60), lease->what);
	} else if (lease->said == kept) {
		snprintf(out, size,
			 "gpubroker: lease %" PRIu64 " is over, and this command has %s still; "
			 "nobody else gets it until this command lets go of it.\n",
			 lease->id, lease->what);
	} else {
		snprintf(out, size, "gpubroker: %s %" PRIu64 " %s; %s is asked back.\n",
			 lease->said == over ? "the time of lease" : "lease", lease->id,
			 lease->said == over ? "is over" : "was taken back", lease->what);
	}
}

/* ---- for the supervisor ---- */

static bool notice_next(void *userdata, char *text, size_t size)
{
	struct notice *notice = userdata;
	int r = notice->handle ? gpubroker_watch_continue(notice->handle, take_event, notice) : 0;

	if (r < 0 && r != -EAGAIN)
		notice_done(notice);
	if (!notice->handle)
		take_time(notice);
	for (size_t i = 0; i < notice->n; i++) {
		struct notice_lease *lease = &notice->leases[i];

		if (!lease->said)
			continue;
		write_sentence(notice, lease, text, size);
		lease->said = NULL;
		return true;
	}
	return false;
}

static int notice_fd(void *userdata)
{
	const struct notice *notice = userdata;

	return notice->handle ? gpubroker_fd(notice->handle) : -1;
}

/* Nobody wakes the supervisor for an end that only the clock tells. */
static int notice_wait(void *userdata)
{
	const struct notice *notice = userdata;
	const uint64_t now = (uint64_t)time(NULL);
	int wait = -1;

	for (size_t i = 0; !notice->handle && i < notice->n; i++) {
		const struct notice_lease *lease = &notice->leases[i];
		uint64_t next = lease->warned || lease->ends < WARN_SECONDS
					? lease->ends
					: lease->ends - WARN_SECONDS;
		int ms = CLOCK_LOOK_MS;

		if (!lease->ends || lease->over)
			continue;
		if (next <= now + CLOCK_LOOK_MS / 1000)
			ms = next > now ? (int)(next - now) * 1000 : 0;
		wait = wait < 0 || ms < wait ? ms : wait;
	}
	return wait;
}

struct supervise_notices notice_calls(struct notice *notice)
{
	return (struct supervise_notices){
		.fd = notice_fd,
		.next = notice_next,
		.wait = notice_wait,
		.userdata = notice,
	};
}
