/* SPDX-License-Identifier: MIT */
/*
 * Questions to the runner of hooks, see hooks.h; each is kept in its lease. A bind without its
 * hooks could hang, since the program that they stop still uses the device, so it fails if there is
 * no runner or if the runner is lost. A restore goes on: no hook keeps a device from its host. Its
 * hooks may run twice, or without those of a bind before them, but they run at least once if there
 * is a runner.
 *
 * It must never wait, never keep a lease for longer than the limits below, and never run anything.
 */
#include "config.h"

#include "brokerd/lease/hooks.h"
#include "brokerd/process/log.h"
#include "client/common/util.h"
#include "client/host/function.h"

#include <errno.h>
#include <event2/event.h>
#include <inttypes.h>
#include <string.h>
#include <time.h>

/*
 * Seconds within which a runner that has questions answers one of them: each takes at most
 * HOOKS_SECONDS, and as long as it takes to end what does not end by itself.
 */
#define RUNNER_SECONDS (HOOKS_SECONDS + 15)
#define MISSING_SECONDS 10 /* that a runner is waited for: systemd starts it again */
#define RESTORE_TRIES 2	   /* runners that are asked for the hooks of one restore */

static time_t hooks_now(void)
{
	struct timespec now;

	clock_gettime(CLOCK_MONOTONIC, &now);
	return now.tv_sec;
}

/* ---- the limit ---- */

static bool is_pending(const struct lease *lease)
{
	return lease->hook.event && !lease->hook.due;
}

/* Sets the timer for what is waited for now: an answer, a runner, or nothing. */
static void set_hooks_limit(struct leases *leases)
{
	const struct hooks *hooks = &leases->hooks;
	struct timeval after = { .tv_sec = RUNNER_SECONDS };
	const struct lease *lease;
	bool any = false;

	TAILQ_FOREACH(lease, &leases->table.list, link)
		any = any || is_pending(lease);
	evtimer_del(hooks->limit);
	if (!any)
		return;
	if (!hooks->connected) {
		after.tv_sec = hooks->missing_since + MISSING_SECONDS - hooks_now();
		if (after.tv_sec < 0)
			after.tv_sec = 0;
	}
	if (evtimer_add(hooks->limit, &after))
		log_error("no memory for a timer: the runner of hooks is waited for");
}

/* ---- questions ---- */

/* Returns true if the host drivers had, or have, anything of the lease. */
static bool is_of_host(const struct lease *lease)
{
	for (size_t i = 0; !lease_is_made(lease) && i < lease->n_functions; i++)
		if (lease->functions[i].driver[0] && !driver_is_vfio(lease->functions[i].driver))
			return true;
	return false;
}

/* Asks the runner. Returns false if it cannot be asked now. */
static bool ask_runner(struct hooks *hooks, struct lease *lease)
{
	struct hook_question question = {
		.id = hooks->last_id + 1,
		.lease = lease->id,
		.event = lease->hook.event,
		.group = lease->group,
		.uid = lease->uid,
		.n = (uint32_t)lease->n_functions,
	};

	for (size_t i = 0; i < lease->n_functions; i++)
		question.functions[i] = lease->functions[i].address;
	if (hooks->ask(hooks->userdata, &question))
		return false;
	lease->hook.id = hooks->last_id = question.id;
	lease->hook.tries++;
	hooks->n_asked++;
	return true;
}

/* Asks for the leases that are not asked for yet, as many at a time as the runner takes. */
static void ask_waiting(struct leases *leases)
{
	struct hooks *hooks = &leases->hooks;
	struct lease *lease;

	TAILQ_FOREACH(lease, &leases->table.list, link) {
		if (!hooks->connected || hooks->n_asked == HOOKS_ASKED_MAX)
			return;
		if (is_pending(lease) && !lease->hook.id && !ask_runner(hooks, lease))
			return; /* it is asked at the next answer, or its end is read next */
	}
}

bool hooks_run(struct lease *lease, enum hook_event event,
	       void (*done)(struct lease *lease, const struct hook_answer *answer))
{
	struct leases *leases = leases_of(lease);

	if (!leases->hooks.expected || !is_of_host(lease))
		return false;
	lease->hook = (struct lease_hook){ .event = event, .done = done };
	/* The daemon's end waits for it, as it waits for a worker. */
	workers_enter(leases->workers);
	ask_waiting(leases);
	if (!evtimer_pending(leases->hooks.limit, NULL))
		set_hooks_limit(leases);
	return true;
}

/* ---- answers ---- */

static void mark_hook_due(struct lease *lease, const struct hook_answer *answer)
{
	lease->hook.answer = *answer;
	lease->hook.due = true;
}

/* Marks all that is not answered. */
static void mark_hooks_due(struct leases *leases, enum hook_result result)
{
	const struct hook_answer answer = { .result = result };
	struct lease *lease;

	TAILQ_FOREACH(lease, &leases->table.list, link)
		if (is_pending(lease))
			mark_hook_due(lease, &answer);
}

static struct lease *next_hook_due(struct leases *leases)
{
	struct lease *lease;

	TAILQ_FOREACH(lease, &leases->table.list, link)
		if (lease->hook.due)
			return lease;
	return NULL;
}

/*
 * Reports what has been answered, and asks for what waits. The list is looked through anew each
 * time, since a lease may be gone afterwards, and others with it.
 */
static void report_hooks(struct leases *leases)
{
	struct lease *lease;

	while ((lease = next_hook_due(leases))) {
		const struct lease_hook hook = lease->hook;

		lease->hook = (struct lease_hook){ .event = HOOK_NONE };
		hook.done(lease, &hook.answer);
		workers_leave(leases->workers);
	}
	ask_waiting(leases);
	set_hooks_limit(leases);
}

bool hooks_answered(struct leases *leases, const struct hook_answer *answer)
{
	struct lease *lease;

	if (answer->result == HOOK_COUNT) {
		hooks_expect(leases, answer->value);
		return true;
	}
	TAILQ_FOREACH(lease, &leases->table.list, link)
		if (is_pending(lease) && lease->hook.id == answer->id)
			break;
	if (!lease)
		return false;
	leases->hooks.n_asked--;
	mark_hook_due(lease, answer);
	report_hooks(leases);
	return true;
}

void hooks_expect(struct leases *leases, bool any)
{
	struct hooks *hooks = &leases->hooks;
	const struct hook_answer none = { .result = HOOK_DONE };
	struct lease *lease;

	if (any != hooks->expected)
		log_notice(any ? "there are hooks: they run before a device is taken from its host "
				 "driver, and after"
			       : "there are no hooks any more");
	hooks->expected = any;
	TAILQ_FOREACH(lease, &leases->table.list, link) /* what is asked is answered */
		if (!any && is_pending(lease) && !lease->hook.id)
			mark_hook_due(lease, &none);
	report_hooks(leases);
}

void hooks_came(struct leases *leases)
{
	leases->hooks.connected = true;
	leases->hooks.reported_missing = false;
	leases->hooks.n_asked = 0;
	ask_waiting(leases);
	set_hooks_limit(leases);
}

void hooks_left(struct leases *leases)
{
	struct hooks *hooks = &leases->hooks;
	const struct hook_answer lost = { .result = hooks->expected ? HOOK_LOST : HOOK_DONE };
	struct lease *lease;

	hooks->connected = false;
	hooks->missing_since = hooks_now();
	hooks->n_asked = 0;
	TAILQ_FOREACH(lease, &leases->table.list, link) {
		if (!is_pending(lease) || !lease->hook.id)
			continue;
		lease->hook.id = 0;
		if (!hooks->expected || lease->hook.event == HOOK_BIND ||
		    lease->hook.tries == RESTORE_TRIES)
			mark_hook_due(lease, &lost);
	}
	report_hooks(leases);
}

static void on_hooks_limit(evutil_socket_t fd, short what, void *userdata)
{
	struct leases *leases = userdata;
	struct hooks *hooks = &leases->hooks;

	(void)fd;
	(void)what;
	if (hooks->connected && hooks->n_asked) {
		log_error("the runner of hooks has not answered in %d s; its connection is closed",
			  RUNNER_SECONDS);
		hooks->drop(hooks->userdata); /* which calls hooks_left() */
		return;
	}
	if (!hooks->reported_missing)
		log_error("there are hooks, and the process that runs them is missing: see "
			  "'systemctl status gpubroker-hooks'");
	hooks->reported_missing = true;
	mark_hooks_due(leases, HOOK_MISSING);
	report_hooks(leases);
}

int hooks_init(struct leases *leases)
{
	leases->hooks.missing_since = hooks_now();
	leases->hooks.limit = evtimer_new(leases->base, on_hooks_limit, leases);
	return leases->hooks.limit ? 0 : -ENOMEM;
}

void hooks_done(struct leases *leases)
{
	if (leases->hooks.limit)
		event_free(TAKE_PTR(leases->hooks.limit));
}
