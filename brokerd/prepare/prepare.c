/* SPDX-License-Identifier: MIT */
/*
 * Binds functions that a prepare rule names to VFIO, see prepare.h. An event is only a reason to
 * look. A little later, when the kernel and udev have finished, the group is read from sysfs and
 * checked against the policy and the guards.
 *
 * It must never touch a function of a leased group or one that the host is using, never wait, and
 * never retry for ever: a group that cannot be prepared is tried three times, and the reason is
 * logged once.
 */
#include "config.h"

#include "brokerd/prepare/prepare.h"
#include "brokerd/lease/driver.h"
#include "brokerd/process/log.h"
#include "brokerd/record/audit.h"
#include "client/common/util.h"
#include "client/host/function.h"
#include "client/host/sysfs.h"

#include <errno.h>
#include <event2/event.h>
#include <inttypes.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

#define TRIES 3
#define SETTLE_USEC 400000

/* A group that a worker is binding. */
struct preparation {
	TAILQ_ENTRY(preparation) link;
	struct prepare *prepare;
	struct preparing *preparing; /* for whom, or NULL: for a rule */
	struct hold hold;	     /* the group, and whether the worker is late */
	size_t n;
	struct pci_address functions[FUNCTIONS_MAX];
};

/* Notes why a group was left as it is, and how often it was tried. */
struct note {
	TAILQ_ENTRY(note) link;
	uint32_t group;
	unsigned tries;
	bool left; /* root has given the group back to the host */
	char reason[192];
};

/* ---- notes ---- */

static struct note *note_find(const struct prepare *prepare, uint32_t group)
{
	struct note *note;

	TAILQ_FOREACH(note, &prepare->notes, link)
		if (note->group == group)
			return note;
	return NULL;
}

static struct note *note_make(struct prepare *prepare, uint32_t group)
{
	struct note *note = note_find(prepare, group);

	if (note)
		return note;
	note = calloc(1, sizeof(*note));
	if (!note)
		return NULL;
	note->group = group;
	TAILQ_INSERT_TAIL(&prepare->notes, note, link);
	return note;
}

static void note_drop(struct prepare *prepare, struct note *note)
{
	if (!note)
		return;
	TAILQ_REMOVE(&prepare->notes, note, link);
	free(note);
}

static void log_group(const char *outcome, int level, const struct pci_address *address,
		      uint32_t group, const char *reason)
{
	const struct audit_line line = {
		.outcome = outcome,
		.level = level,
		.uid = AUDIT_NOBODY,
		.device = address,
		.group = group,
		.by = AUDIT_NOBODY,
		.reason = reason,
	};

	audit_write(&line);
}

/* Logs once why a group stays as it is. */
static void leave_group(struct prepare *prepare, uint32_t group, const struct pci_address *address,
			const char *why, const char *detail)
{
	struct note *note = note_make(prepare, group);
	char reason[sizeof(note->reason)];

	snprintf(reason, sizeof(reason), "%s%s%s", why, *detail ? ": " : "", detail);
	if (note && !strcmp(note->reason, reason))
		return;
	if (note)
		memcpy(note->reason, reason, sizeof(reason));
	log_group("not-prepared", LOG_WARNING, address, group, reason);
}

void prepare_leave(struct prepare *prepare, uint32_t group)
{
	struct note *note = note_make(prepare, group);

	if (note)
		note->left = true;
	else
		log_error("group %" PRIu32 ": no memory to remember that it is the host's", group);
}

void prepare_return(struct prepare *prepare, uint32_t group)
{
	note_drop(prepare, note_find(prepare, group));
}

bool prepare_is_left(const struct prepare *prepare, uint32_t group)
{
	const struct note *note = note_find(prepare, group);

	return note && note->left;
}

/* ---- the worker ---- */

static void on_preparation_late(void *userdata, const char *what, const struct pci_address *address)
{
	struct preparation *preparation = userdata;
	char reason[64];

	preparation->hold.late = true;
	snprintf(reason, sizeof(reason), "%s has not come back from the kernel", what);
	leave_group(preparation->prepare, preparation->hold.group, address, reason, "");
	if (preparation->preparing)
		preparation->preparing->late(preparation->preparing, what, address);
}

/* Ends a preparation for somebody. `i`: the first function that is on no VFIO driver. */
static void tell_ended(struct preparation *preparation, const struct work_result *result, size_t i)
{
	struct preparing *preparing = preparation->preparing;

	if (i == preparation->n)
		preparing->ended(preparing, NULL, &preparation->functions[0], 0);
	else if (result->error)
		preparing->ended(preparing, result->what, &result->address, result->error);
	else
		preparing->ended(preparing, driver_why_not_bound(preparation->prepare->kernel),
				 &preparation->functions[i], 0);
}

/* Reads which drivers the functions have now, since sysfs accepts writes that do nothing. */
static void on_prepared(void *userdata, const struct work_result *result)
{
	struct preparation *preparation = userdata;
	struct prepare *prepare = preparation->prepare;
	const uint32_t group = preparation->hold.group;
	struct function f = { 0 };
	char reason[96];
	size_t i;

	for (i = 0; i < preparation->n; i++)
		if (sysfs_function_read(prepare->kernel->sys, &preparation->functions[i], &f) ||
		    !driver_is_vfio(f.driver))
			break;
	if (i == preparation->n) {
		note_drop(prepare, note_find(prepare, group));
		snprintf(reason, sizeof(reason), "%zu function%s on %s", preparation->n,
			 preparation->n == 1 ? "" : "s", f.driver);
		log_group("prepared", LOG_INFO, &preparation->functions[0], group, reason);
	} else if (result->error) {
		leave_group(prepare, group, &result->address, result->what,
			    strerror(result->error));
	} else {
		leave_group(prepare, group, &preparation->functions[i], "no VFIO driver took it",
			    "");
	}
	TAILQ_REMOVE(&prepare->at_work, preparation, link);
	holds_remove(prepare->holds, &preparation->hold);
	if (preparation->preparing)
		tell_ended(preparation, result, i);
	free(preparation);
	if (prepare->freed)
		prepare->freed(prepare->userdata); /* a claim may wait for the group */
}

/* Returns the driver that a rule names for this very function, if the kernel has it; else "". */
static const char *driver_of_rule(const struct prepare *prepare, const struct function *function)
{
	const struct policy *policy = &prepare->policy->policy;
	const struct policy_facts facts = function_facts(function);
	size_t rule;

	if (!policy_prepares(policy, &facts, NULL, 0, &rule))
		return "";
	return driver_or_any(prepare->kernel, policy_text(policy, policy->rules[rule].vfio_driver));
}

/*
 * Starts the worker. Returns 0, or -errno; then nothing has begun, and the caller still owns the
 * preparation.
 */
static int start_preparation(struct prepare *prepare, struct preparation *preparation,
			     const struct group_view *view)
{
	static const struct work_ops ops = { .done = on_prepared, .late = on_preparation_late };
	struct work *work = work_new(&ops, preparation);
	int r = work ? 0 : -ENOMEM;

	for (size_t i = 0; !r && i < view->n_functions; i++) {
		const struct function *f = &view->functions[i];

		preparation->functions[preparation->n++] = f->address;
		r = driver_add_bind(prepare->kernel, prepare->devices, work, &f->address, f->driver,
				    driver_of_rule(prepare, f));
	}
	if (!r)
		r = workers_start(prepare->workers, work);
	if (r)
		work_free(work);
	return r;
}

int prepare_group(struct prepare *prepare, const struct group_view *view,
		  struct preparing *preparing)
{
	struct preparation *preparation = calloc(1, sizeof(*preparation));
	int r = preparation ? start_preparation(prepare, preparation, view) : -ENOMEM;

	if (r) {
		free(preparation);
		return r;
	}
	preparation->prepare = prepare;
	preparation->preparing = preparing;
	preparation->hold = (struct hold){ .kind = HOLD_PREPARING, .group = view->group };
	holds_add(prepare->holds, &preparation->hold);
	TAILQ_INSERT_TAIL(&prepare->at_work, preparation, link);
	return 0;
}

static void take_over(struct prepare *prepare, const struct group_view *view)
{
	struct note *note = note_make(prepare, view->group);
	int r;

	if (note && (note->left || note->tries >= TRIES))
		return;
	if (note)
		note->tries++;
	r = note ? prepare_group(prepare, view, NULL) : -ENOMEM;
	if (r == -ENOENT)
		leave_group(prepare, view->group, &view->functions[0].address,
			    driver_why_not_bound(prepare->kernel), "");
	else if (r)
		leave_group(prepare, view->group, &view->functions[0].address, "binding it",
			    strerror(-r));
}

/*
 * Finds the functions of the view that a prepare rule means and that are not on VFIO yet. Returns
 * how many there are.
 */
static size_t find_prepared(const struct policy *policy, const struct group_view *view,
			    size_t ret_kept[FUNCTIONS_MAX])
{
	struct policy_facts facts[FUNCTIONS_MAX];
	size_t n = 0, rule;

	for (size_t i = 0; i < view->n_functions; i++)
		facts[i] = function_facts(&view->functions[i]);
	for (size_t i = 0; i < view->n_functions; i++)
		if (!driver_is_vfio(view->functions[i].driver) &&
		    policy_prepares(policy, &facts[i], facts, view->n_functions, &rule))
			ret_kept[n++] = i;
	return n;
}

/*
 * Returns true if nothing in the group forbids that any of it is prepared; otherwise logs which
 * guard does. As for a claim, the guards are about the whole group, also about functions that no
 * prepare rule means: nobody could be lent what is prepared beside them.
 */
static bool guards_pass(struct prepare *prepare, const struct group_view *view, size_t meant)
{
	const struct function *f;
	size_t which;

	switch (group_guard(view, false, &which)) {
	case GUARD_NONE:
		return true;
	case GUARD_NOT_VIABLE:
		leave_group(prepare, view->group, &view->functions[meant].address,
			    "its IOMMU group cannot be lent", view->not_viable);
		return false;
	case GUARD_BOOT_VGA:
		f = &view->functions[which];
		leave_group(prepare, view->group, &f->address,
			    f->boot_vga ? "it is the console's own display"
					: "it is part of the host's console",
			    f->console);
		return false;
	case GUARD_IN_USE:
		f = &view->functions[which];
		leave_group(prepare, view->group, &f->address, "the host is using it", f->in_use);
		return false;
	}
	return false;
}

static void look_at_group(struct prepare *prepare, uint32_t group)
{
	cleanup_free struct group_view *view = NULL;
	size_t kept[FUNCTIONS_MAX], n;
	int r;

	if (lease_find_group(prepare->leases, group) || holds_find_group(prepare->holds, group))
		return;
	view = malloc(sizeof(*view));
	r = view ? sysfs_group_read(prepare->kernel->sys, group, view) : -ENOMEM;
	if (r == -ENODEV) { /* unplugged; another card may get the group's number */
		note_drop(prepare, note_find(prepare, group));
		return;
	}
	if (r) {
		log_error("group %" PRIu32 ": %s%s", group,
			  r == -E2BIG ? view->not_viable : "cannot be read: ",
			  r == -E2BIG ? "" : strerror(-r));
		return;
	}
	n = find_prepared(&prepare->policy->policy, view, kept);
	if (!n || holds_find_sriov(prepare->holds, view) || !guards_pass(prepare, view, kept[0]))
		return;
	for (size_t i = 0; i < n; i++)
		view->functions[i] = view->functions[kept[i]];
	view->n_functions = n;
	take_over(prepare, view);
}

/* ---- when to look ---- */

static void on_settled_timer(evutil_socket_t fd, short what, void *userdata)
{
	struct prepare *prepare = userdata;
	size_t n = prepare->n_pending;

	(void)fd;
	(void)what;
	prepare->n_pending = 0;
	if (!prepare->open || !prepare->policy->good)
		return;
	for (size_t i = 0; i < n; i++)
		look_at_group(prepare, prepare->pending[i]);
}

static bool make_pending_room(struct prepare *prepare)
{
	size_t room = prepare->room ? prepare->room * 2 : 64;
	uint32_t *pending;

	if (prepare->n_pending < prepare->room)
		return true;
	pending = room > 4 * DEVICES_MAX ? NULL
					 : reallocarray(prepare->pending, room, sizeof(*pending));
	if (!pending)
		return false;
	prepare->pending = pending;
	prepare->room = room;
	return true;
}

static void look_soon(struct prepare *prepare, uint32_t group)
{
	const struct timeval after = { .tv_usec = SETTLE_USEC };

	if (!prepare->wanted || !prepare->open || group == NO_GROUP)
		return;
	for (size_t i = prepare->n_pending; i--;)
		if (prepare->pending[i] == group)
			return;
	if (!make_pending_room(prepare)) {
		log_error("group %" PRIu32 ": too many groups at once to prepare it", group);
		return;
	}
	prepare->pending[prepare->n_pending++] = group;
	if (!evtimer_pending(prepare->timer, NULL) && evtimer_add(prepare->timer, &after))
		log_error("group %" PRIu32 ": no memory for a timer", group);
}

void prepare_look_at_all(struct prepare *prepare)
{
	const struct policy *policy = &prepare->policy->policy;

	prepare->wanted = false;
	for (size_t i = 0; i < policy->n_rules && !prepare->wanted; i++)
		prepare->wanted = policy->rules[i].verb == POLICY_PREPARE;
	while (!TAILQ_EMPTY(&prepare->notes))
		note_drop(prepare, TAILQ_FIRST(&prepare->notes));
	for (size_t i = 0; i < prepare->devices->n; i++)
		look_soon(prepare, prepare->devices->list[i].record.group);
}

void prepare_device_seen(struct prepare *prepare, const struct watcher_record *record)
{
	const struct device *device;

	if (record->type == WATCHER_DEVICE) {
		look_soon(prepare, record->group);
	} else if (record->type == WATCHER_GONE) {
		device = devices_find(prepare->devices, &record->address);
		if (device)
			look_soon(prepare, device->record.group);
	}
}

/* ---- start and stop ---- */

int prepare_init(struct prepare *prepare)
{
	TAILQ_INIT(&prepare->at_work);
	TAILQ_INIT(&prepare->notes);
	prepare->timer = evtimer_new(prepare->base, on_settled_timer, prepare);
	return prepare->timer ? 0 : -ENOMEM;
}

void prepare_done(struct prepare *prepare)
{
	if (!prepare->timer)
		return;
	while (!TAILQ_EMPTY(&prepare->notes))
		note_drop(prepare, TAILQ_FIRST(&prepare->notes));
	/* The preparations with a worker stay until the process ends. */
	event_free(TAKE_PTR(prepare->timer));
	free(TAKE_PTR(prepare->pending));
	prepare->n_pending = prepare->room = 0;
}
