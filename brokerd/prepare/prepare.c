/* SPDX-License-Identifier: MIT */
/*
 * Takes functions over that a prepare rule names, see prepare.h. What an event says is only a
 * reason to look: a group is read from sysfs and put before the policy and the guards, a little
 * later, since the kernel and udev are still at it when the event comes.
 *
 * It must never touch a function of a leased group or one that the host is using, never wait, and
 * never go on for ever: a group that cannot be had is tried three times, and its reason said once.
 */
#include "config.h"

#include "brokerd/record/audit.h"
#include "brokerd/lease/ending.h"
#include "brokerd/process/log.h"
#include "brokerd/prepare/prepare.h"
#include "brokerd/claim/queue.h"
#include "brokerd/prepare/sriov.h"
#include "brokerd/process/worker.h"
#include "client/host/sysfs.h"
#include "client/common/util.h"

#include <errno.h>
#include <inttypes.h>
#include <string.h>

#define TRIES 3
#define SETTLE_USEC 400000

/* A group at work. */
struct preparation {
	TAILQ_ENTRY(preparation) link;
	struct daemon *daemon;
	uint32_t group;
	size_t n;
	struct pci_address functions[FUNCTIONS_MAX];
	bool late;
};

/* Why a group was left as it is, and how often it was tried. */
struct note {
	TAILQ_ENTRY(note) link;
	uint32_t group;
	unsigned tries;
	bool left; /* root has given it back */
	char reason[192];
};

struct preparations {
	TAILQ_HEAD(, preparation) at_work;
	TAILQ_HEAD(, note) notes;
	uint32_t *pending; /* groups to look at, in any order and several times */
	size_t n_pending, room;
	struct event *timer;
	bool wanted; /* the policy has a prepare rule */
};

static void on_timer(evutil_socket_t fd, short what, void *userdata);

static struct preparations *preparations_of(struct daemon *daemon)
{
	struct preparations *p = daemon->preparations;

	if (p)
		return p;
	p = calloc(1, sizeof(*p));
	if (!p)
		return NULL;
	TAILQ_INIT(&p->at_work);
	TAILQ_INIT(&p->notes);
	p->timer = evtimer_new(daemon->base, on_timer, daemon);
	if (!p->timer) {
		free(p);
		return NULL;
	}
	daemon->preparations = p;
	return p;
}

/* ---- notes ---- */

static struct note *note_of(struct preparations *p, uint32_t group, bool make)
{
	struct note *note;

	TAILQ_FOREACH(note, &p->notes, link)
		if (note->group == group)
			return note;
	note = make ? calloc(1, sizeof(*note)) : NULL;
	if (!note)
		return NULL;
	note->group = group;
	TAILQ_INSERT_TAIL(&p->notes, note, link);
	return note;
}

static void note_drop(struct preparations *p, struct note *note)
{
	if (!note)
		return;
	TAILQ_REMOVE(&p->notes, note, link);
	free(note);
}

static void tell(const char *outcome, int level, const struct pci_address *address, uint32_t group,
		 const char *reason)
{
	const struct audit line = {
		.outcome = outcome,
		.level = level,
		.uid = AUDIT_NOBODY,
		.device = address,
		.group = group,
		.by = AUDIT_NOBODY,
		.reason = reason,
	};

	audit(&line);
}

static void leave(struct preparations *p, uint32_t group, const struct pci_address *address,
		  const char *why, const char *detail)
{
	struct note *note = note_of(p, group, true);
	char reason[sizeof(note->reason)];

	snprintf(reason, sizeof(reason), "%s%s%s", why, *detail ? ": " : "", detail);
	if (note && !strcmp(note->reason, reason))
		return;
	if (note)
		memcpy(note->reason, reason, sizeof(reason));
	tell("not-prepared", LOG_WARNING, address, group, reason);
}

void prepare_leave(struct daemon *daemon, uint32_t group)
{
	struct preparations *p = preparations_of(daemon);
	struct note *note = p ? note_of(p, group, true) : NULL;

	if (note)
		note->left = true;
	else
		log_error("group %" PRIu32 ": no memory to remember that it is the host's", group);
}

bool prepare_is_left(const struct daemon *daemon, uint32_t group)
{
	const struct note *note = daemon->preparations ? note_of(daemon->preparations, group, false)
						       : NULL;

	return note && note->left;
}

/* ---- at work ---- */

static struct preparation *find(const struct daemon *daemon, uint32_t group)
{
	struct preparation *p;

	if (daemon->preparations)
		TAILQ_FOREACH(p, &daemon->preparations->at_work, link)
			if (p->group == group)
				return p;
	return NULL;
}

bool prepare_has_group(const struct daemon *daemon, uint32_t group, bool *ret_late)
{
	const struct preparation *p = find(daemon, group);

	if (p)
		*ret_late = p->late;
	return p;
}

bool prepare_is_busy(const struct daemon *daemon)
{
	const struct preparation *p;

	if (daemon->preparations)
		TAILQ_FOREACH(p, &daemon->preparations->at_work, link)
			if (!p->late)
				return true;
	return false;
}

static void on_late(void *userdata, const char *what, const struct pci_address *address)
{
	struct preparation *preparation = userdata;
	char reason[64];

	preparation->late = true;
	snprintf(reason, sizeof(reason), "%s has not come back from the kernel", what);
	leave(preparation->daemon->preparations, preparation->group, address, reason, "");
	daemon_quit_if_idle(preparation->daemon);
}

/* sysfs says yes to writes that did nothing: what counts is which driver has it now. */
static void on_done(void *userdata, const struct work_result *result)
{
	struct preparation *preparation = userdata;
	struct daemon *daemon = preparation->daemon;
	struct preparations *p = daemon->preparations;
	struct function f = { 0 };
	char reason[96];
	size_t i;

	for (i = 0; i < preparation->n; i++)
		if (sysfs_function_read(daemon->kernel.sys, &preparation->functions[i], &f) ||
		    !driver_is_vfio(f.driver))
			break;
	if (i == preparation->n) {
		note_drop(p, note_of(p, preparation->group, false));
		snprintf(reason, sizeof(reason), "%zu function%s on %s", preparation->n,
			 preparation->n == 1 ? "" : "s", f.driver);
		tell("prepared", LOG_INFO, &preparation->functions[0], preparation->group, reason);
	} else if (result->error) {
		leave(p, preparation->group, &result->address, result->what,
		      strerror(result->error));
	} else {
		leave(p, preparation->group, &preparation->functions[i], "no VFIO driver took it",
		      "");
	}
	TAILQ_REMOVE(&p->at_work, preparation, link);
	free(preparation);
	queue_look(daemon); /* who waits for it may have it now */
	daemon_quit_if_idle(daemon);
}

/* The driver that a rule names for the function itself, if it is there; else "". */
static const char *driver_for(const struct daemon *daemon, const struct policy_facts *facts)
{
	const char *driver;
	size_t rule;
	int fd;

	if (!policy_prepares(&daemon->policy, facts, NULL, 0, &rule))
		return "";
	driver = policy_text(&daemon->policy, daemon->policy.rules[rule].vfio_driver);
	if (!driver)
		return "";
	fd = kernel_open_bind(&daemon->kernel, driver);
	fd_close(fd);
	return fd < 0 ? "" : driver;
}

static void take_over(struct daemon *daemon, const struct group_view *view)
{
	static const struct work_ops ops = { .done = on_done, .late = on_late };
	struct preparations *p = daemon->preparations;
	struct preparation *preparation = calloc(1, sizeof(*preparation));
	struct note *note = note_of(p, view->group, true);
	struct work *work = preparation ? work_new(&ops, preparation) : NULL;
	int r = work && note ? 0 : -ENOMEM;

	if (note && (note->left || note->tries >= TRIES)) {
		work_free(work);
		free(preparation);
		return;
	}
	for (size_t i = 0; !r && i < view->n_functions; i++) {
		const struct policy_facts facts = function_facts(&view->functions[i]);

		preparation->functions[preparation->n++] = view->functions[i].address;
		r = add_bind_steps(daemon, work, &view->functions[i].address,
				   view->functions[i].driver, driver_for(daemon, &facts));
	}
	if (note)
		note->tries++;
	if (!r)
		r = work_start(work, daemon->base, daemon->worker_filter, WORKER_SECONDS);
	if (r) {
		work_free(work);
		free(preparation);
		leave(p, view->group, &view->functions[0].address, "binding it", strerror(-r));
		return;
	}
	preparation->daemon = daemon;
	preparation->group = view->group;
	TAILQ_INSERT_TAIL(&p->at_work, preparation, link);
}

/* Keeps those that a rule means and that are not on VFIO yet. */
static void keep_prepared(const struct daemon *daemon, struct group_view *view)
{
	struct policy_facts facts[FUNCTIONS_MAX];
	size_t kept[FUNCTIONS_MAX], n = 0, rule;

	for (size_t i = 0; i < view->n_functions; i++)
		facts[i] = function_facts(&view->functions[i]);
	for (size_t i = 0; i < view->n_functions; i++)
		if (!driver_is_vfio(view->functions[i].driver) &&
		    policy_prepares(&daemon->policy, &facts[i], facts, view->n_functions, &rule))
			kept[n++] = i;
	for (size_t i = 0; i < n; i++)
		view->functions[i] = view->functions[kept[i]];
	view->n_functions = n;
}

static void look(struct daemon *daemon, uint32_t group)
{
	struct preparations *p = daemon->preparations;
	struct group_view *view;
	size_t which;
	int r;

	if (lease_find_group(&daemon->leases, group) || find(daemon, group))
		return;
	view = malloc(sizeof(*view));
	r = view ? sysfs_group_read(daemon->kernel.sys, group, view) : -ENOMEM;
	if (r) {
		if (r == -ENODEV) /* unplugged: another card may get its number */
			note_drop(p, note_of(p, group, false));
		else
			log_error("group %" PRIu32 ": cannot be read: %s", group, strerror(-r));
		free(view);
		return;
	}
	keep_prepared(daemon, view);
	if (view->n_functions && !vfs_has_group(daemon, view)) {
		const struct function *f = &view->functions[0];

		switch (group_guard(view, false, &which)) {
		case GUARD_NONE:
			take_over(daemon, view);
			break;
		case GUARD_NOT_VIABLE:
			leave(p, group, &f->address, "its IOMMU group cannot be lent",
			      view->not_viable);
			break;
		case GUARD_BOOT_VGA:
			leave(p, group, &view->functions[which].address,
			      "it is the console's own display", "");
			break;
		case GUARD_IN_USE:
			leave(p, group, &view->functions[which].address, "the host is using it",
			      view->functions[which].in_use);
			break;
		}
	}
	free(view);
}

/* ---- when to look ---- */

static void on_timer(evutil_socket_t fd, short what, void *userdata)
{
	struct daemon *daemon = userdata;
	struct preparations *p = daemon->preparations;
	size_t n = p->n_pending;

	(void)fd;
	(void)what;
	p->n_pending = 0;
	if (!daemon->serving || daemon->quitting || !daemon->policy_good)
		return;
	for (size_t i = 0; i < n; i++)
		look(daemon, p->pending[i]);
}

static void look_soon(struct daemon *daemon, uint32_t group)
{
	const struct timeval after = { .tv_usec = SETTLE_USEC };
	struct preparations *p = daemon->preparations;

	if (!p || !p->wanted || group == NO_GROUP || daemon->quitting)
		return;
	for (size_t i = p->n_pending; i--;)
		if (p->pending[i] == group)
			return;
	if (p->n_pending == p->room) {
		size_t room = p->room ? p->room * 2 : 64;
		uint32_t *pending = room > 4 * DEVICES_MAX
					    ? NULL
					    : reallocarray(p->pending, room, sizeof(*pending));

		if (!pending) {
			log_error("group %" PRIu32 ": too much at once to prepare it", group);
			return;
		}
		p->pending = pending;
		p->room = room;
	}
	p->pending[p->n_pending++] = group;
	if (!evtimer_pending(p->timer, NULL) && evtimer_add(p->timer, &after))
		log_error("group %" PRIu32 ": no memory for a timer", group);
}

void prepare_all(struct daemon *daemon)
{
	struct preparations *p;
	bool wanted = false;

	for (size_t i = 0; i < daemon->policy.n_rules && !wanted; i++)
		wanted = daemon->policy.rules[i].verb == POLICY_PREPARE;
	if (!daemon->preparations && !wanted)
		return;
	p = preparations_of(daemon);
	if (!p) {
		log_error("no memory to prepare devices");
		return;
	}
	p->wanted = wanted;
	while (!TAILQ_EMPTY(&p->notes))
		note_drop(p, TAILQ_FIRST(&p->notes));
	for (size_t i = 0; i < daemon->devices.n; i++)
		look_soon(daemon, daemon->devices.list[i].record.group);
}

void prepare_record(struct daemon *daemon, const struct watcher_record *record)
{
	const struct device *device;

	if (record->type == WATCHER_DEVICE) {
		look_soon(daemon, record->group);
	} else if (record->type == WATCHER_GONE) {
		device = devices_find(&daemon->devices, &record->address);
		if (device)
			look_soon(daemon, device->record.group);
	}
}

void prepare_done(struct daemon *daemon)
{
	struct preparations *p = daemon->preparations;

	if (!p)
		return;
	while (!TAILQ_EMPTY(&p->notes))
		note_drop(p, TAILQ_FIRST(&p->notes));
	/* Those at work are their workers' until the process ends. */
	event_free(p->timer);
	free(p->pending);
	free(p);
	daemon->preparations = NULL;
}
