/* SPDX-License-Identifier: MIT */
/*
 * Functions that come into a lent group, or vanish from it, see hotplug.h: plugged in or out, or
 * made and removed by another program.
 *
 * A function that comes is judged as a claim of the whole group by the lease's user would be, on
 * what sysfs shows now (state/verdict.c). If the verdict is yes, it is bound to VFIO, since a host
 * driver would make the group unusable to the holder. If it is no, the function stays as it is and
 * the lease is recalled: nothing isolates the functions of a group from each other, so the holder's
 * device could reach the one that the policy refuses. Besides, one of the two is of no use: if a
 * host driver has the function, the kernel lets the holder attach the group no more; if the holder
 * has attached it, the kernel binds no host driver to the function.
 *
 * It must never change a function before it is recorded, nor act on a helper's word: a record of
 * the watcher is only a reason to look.
 */
#include "config.h"

#include "brokerd/lease/hotplug.h"
#include "brokerd/lease/driver.h"
#include "brokerd/lease/ending.h"
#include "brokerd/lease/newcomers.h"
#include "brokerd/lease/restore.h"
#include "brokerd/lease/taken.h"
#include "brokerd/process/log.h"
#include "brokerd/record/audit.h"
#include "brokerd/state/refuse.h"
#include "client/common/util.h"
#include "client/host/function.h"
#include "client/host/sysfs.h"

#include <errno.h>
#include <inttypes.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

#define READS 3 /* of a group from which functions vanish while it is read */

static void report_function(const struct lease *lease, const struct pci_address *address, bool came)
{
	const struct lease_table *table = lease->table;
	struct audit_line line = audit_line_of(lease, came ? "arrived" : "vanished");

	line.level = LOG_WARNING;
	line.device = address;
	audit_write(&line);
	if (table->events)
		table->events->function(table->userdata, lease, address, came, NULL);
}

/* ---- the verdict is no ---- */

/* Writes why a function that came is not lent. */
static void say_why(const struct message_refusal *refusal, char *out, size_t size)
{
	switch (refusal->reason) {
	case GPUBROKER_REFUSED_POLICY:
		snprintf(out, size, "%s",
			 refusal->rule[0] ? "a rule denies it" : "no rule allows it");
		return;
	case GPUBROKER_REFUSED_IN_USE:
		snprintf(out, size, "the host is using it: %.80s", refusal->text);
		return;
	case GPUBROKER_REFUSED_BOOT_VGA:
		if (refusal->text[0])
			snprintf(out, size, "it is part of the console: %.80s", refusal->text);
		else
			snprintf(out, size, "it is the console's own display");
		return;
	case GPUBROKER_REFUSED_NOT_VIABLE:
		snprintf(out, size, "the group %.80s", refusal->text);
		return;
	default:
		snprintf(out, size, "%s", refusal_name(refusal->reason));
	}
}

static void report_refused(const struct lease *lease, const struct pci_address *address,
			   const struct message_refusal *refusal)
{
	const struct lease_table *table = lease->table;
	struct audit_line line = audit_line_of(lease, "not-lent");
	char text[PCI_ADDRESS_TEXT], why[112], reason[128];
	const bool other = refusal->has_other && pci_address_compare(&refusal->other, address);

	say_why(refusal, why, sizeof(why));
	/* One that comes with others may be refused for one of those. */
	if (other)
		snprintf(reason, sizeof(reason), "%s: %s",
			 pci_address_format(&refusal->other, text), why);
	else
		snprintf(reason, sizeof(reason), "%s", why);
	line.level = LOG_WARNING;
	line.device = address;
	line.rule = refusal->rule;
	line.reason = reason;
	audit_write(&line);
	if (table->events)
		table->events->function(table->userdata, lease, address, true, reason);
}

static void append_function(struct lease *lease, const struct function *function)
{
	lease->functions[lease->n_functions++] = (struct lease_function){
		.address = function->address,
		.vendor = function->vendor,
		.device = function->device,
		.driver = LEASE_DRIVER_UNKNOWN,
	};
}

/*
 * Adds the functions that came and are on VFIO already, as a prepare rule or root has them, to a
 * lease that is about to end: the group file lets its holder open them, so they too must be taken
 * off VFIO before anybody else may have the group.
 */
static void take_along(struct lease *lease, const struct group_view *view)
{
	const size_t before = lease->n_functions;
	int r = 0;

	for (size_t i = 0; i < view->n_functions; i++)
		if (driver_is_vfio(view->functions[i].driver) &&
		    !lease_has_function(lease, &view->functions[i].address) &&
		    lease->n_functions < PROTOCOL_FUNCTIONS_MAX)
			append_function(lease, &view->functions[i]);
	if (lease->n_functions > before)
		r = lease_record(lease);
	if (!r)
		return;
	lease->n_functions = before;
	log_error("lease %" PRIu64 ": a function that came on VFIO cannot be recorded: %s",
		  lease->id, strerror(-r));
}

/* Leaves what came as it is, and takes the lease back. The lease may be gone on return. */
static void refuse_newcomers(struct lease *lease, const struct pci_address *newcomers, size_t n,
			     const struct group_view *view, const struct message_refusal *refusal)
{
	for (size_t i = 0; i < n; i++)
		report_refused(lease, &newcomers[i], refusal);
	take_along(lease, view);
	lease_recall(lease, "recalled");
}

/* ---- the verdict is yes ---- */

/* Returns true if a host driver has a function of the lease, so that the group is of no use. */
static bool host_has_any(const struct lease *lease, struct pci_address *ret_address)
{
	char driver[FUNCTION_NAME_MAX];

	for (size_t i = 0; i < lease->n_functions; i++) {
		*ret_address = lease->functions[i].address;
		if (!sysfs_driver_read(leases_of(lease)->kernel->sys, ret_address, driver) &&
		    bridge_spoils_group(driver))
			return true;
	}
	return false;
}

/*
 * The worker that puts new functions of a lent group on VFIO has ended. The lease may have ended
 * meanwhile.
 */
static void on_kept(void *userdata, const struct work_result *result)
{
	struct lease *lease = userdata;
	char text[PCI_ADDRESS_TEXT];
	struct pci_address address;

	lease->late = false;
	if (lease->state == GPUBROKER_LEASE_STUCK) {
		lease_worker_ended(lease);
		return;
	}
	lease->work = NULL;
	lease->slow = NULL;
	if (result->error)
		log_error("lease %" PRIu64 ": a new function of its group cannot be bound: %s: %s",
			  lease->id, result->what, strerror(result->error));
	taken_note(lease);
	if (lease->state == GPUBROKER_LEASE_RELEASING) {
		lease_probe_holder(lease);
		return;
	}
	if (!lease->recall && host_has_any(lease, &address)) {
		log_error("lease %" PRIu64 ": its group cannot be used while the host has %s",
			  lease->id, pci_address_format(&address, text));
		lease->recall = "recalled";
	}
	/* A close that came meanwhile was not looked into, since a worker was at work. */
	if (!lease->recall && lease->group_file != GROUP_OPEN) {
		lease_probe_holder(lease);
		return;
	}
	lease_resume_pending(lease);
}

/*
 * The driver of what came hangs. Its holder can use the rest of the group, so the lease stays lent,
 * and says so; it cannot end before the worker has, so if it is to end it is stuck: see
 * lease_end_is_late().
 */
static void on_bind_late(void *userdata, const char *what, const struct pci_address *address)
{
	static const char slow[] = "the kernel is still binding a function that came into its "
				   "group, and the lease cannot end before";
	struct lease *lease = userdata;
	char text[PCI_ADDRESS_TEXT];

	(void)what;
	lease->late = true;
	if (lease->state == GPUBROKER_LEASE_LEASED && !lease->recall) {
		lease->slow = slow;
		log_warning("lease %" PRIu64 ", %s: %s", lease->id,
			    pci_address_format(address, text), slow);
		return;
	}
	lease_end_is_late(lease);
}

/* Starts the worker that binds the functions of the lease from `first` on. Returns 0, or -errno. */
static int start_binding(struct lease *lease, const struct group_view *view, size_t first)
{
	static const struct work_ops ops = { .done = on_kept, .late = on_bind_late };
	const struct leases *leases = leases_of(lease);
	struct work *work = work_new(&ops, lease);
	int r = work ? 0 : -ENOMEM;

	for (size_t i = first; !r && i < lease->n_functions; i++) {
		const struct pci_address *address = &lease->functions[i].address;

		r = driver_add_bind(leases->kernel, leases->devices, work, address,
				    view->functions[group_find(view, address)].driver, "");
	}
	if (!r && !work_steps(work)) { /* all are on VFIO already */
		work_free(work);
		return 0;
	}
	if (!r)
		r = workers_start(leases->workers, work);
	if (r)
		work_free(work);
	else
		lease->work = work;
	return r;
}

/*
 * Binds the functions that came to VFIO while the lease lasts; afterwards any driver that claims
 * them may have them.
 */
static void keep_newcomers(struct lease *lease, const struct group_view *view)
{
	const size_t before = lease->n_functions;
	int r;

	for (size_t i = 0; i < view->n_functions; i++)
		if (!lease_has_function(lease, &view->functions[i].address)) {
			append_function(lease, &view->functions[i]);
			report_function(lease, &view->functions[i].address, true);
		}
	r = lease_record(lease);
	if (!r)
		r = start_binding(lease, view, before);
	if (!r)
		return;
	lease->n_functions = before;
	log_error("lease %" PRIu64
		  ": what came into its group cannot be kept from host drivers: %s",
		  lease->id, strerror(-r));
	r = lease_record(lease);
	if (r)
		log_error("lease %" PRIu64 ": cannot be recorded: %s", lease->id, strerror(-r));
}

/* ---- judging what came ---- */

/* Reads the group whole. Reads it again if a function vanishes meanwhile. */
static int read_group(const struct lease *lease, struct group_view *view)
{
	const int sys = leases_of(lease)->kernel->sys;
	int r = sysfs_group_read(sys, lease->group, view);

	for (int i = 1; r == -ENODEV && i < READS; i++)
		r = sysfs_group_read(sys, lease->group, view);
	return r;
}

/* Judges the functions that came. The lease may be gone on return. */
static void judge_newcomers(struct lease *lease, const struct pci_address *newcomers, size_t n)
{
	const struct policy *policy = &leases_of(lease)->policy->policy;
	cleanup_free struct group_view *view = malloc(2 * sizeof(*view));
	struct message_refusal refusal;
	int r = view ? read_group(lease, view) : -ENOMEM;

	if (r == -E2BIG || (!r && lease->n_functions + n > PROTOCOL_FUNCTIONS_MAX)) {
		refusal = refusal_make(GPUBROKER_REFUSED_NOT_VIABLE);
		refusal_say(&refusal, "has more functions than can be lent together");
		if (r)
			view->n_functions = 0;
		refuse_newcomers(lease, newcomers, n, view, &refusal);
		return;
	}
	if (r) { /* the next event about the group, or the end of the lease, is a reason to look */
		log_error("lease %" PRIu64
			  ": a function came into its group, which cannot be read: %s",
			  lease->id, strerror(-r));
		return;
	}
	view[1] = view[0];
	if (group_decide_lent(&view[1], policy, lease, &refusal))
		refuse_newcomers(lease, newcomers, n, view, &refusal);
	else
		keep_newcomers(lease, view);
}

void hotplug_look(struct lease *lease)
{
	struct pci_address newcomers[PROTOCOL_FUNCTIONS_MAX];
	int n;

	/*
	 * Without a policy nothing can be judged: what came stays as it is, and is looked at when
	 * there is one. A lease that has a worker, or is about to be recalled, is looked at later.
	 */
	if (lease->state != GPUBROKER_LEASE_LEASED || lease->work || lease->recall ||
	    !leases_of(lease)->policy->good)
		return;
	n = lease_newcomers(lease, newcomers, ARRAY_SIZE(newcomers));
	if (n < 0)
		log_error("lease %" PRIu64 ": its group cannot be read: %s", lease->id,
			  strerror(-n));
	else if (n)
		judge_newcomers(lease, newcomers,
				n < (int)ARRAY_SIZE(newcomers) ? (size_t)n : ARRAY_SIZE(newcomers));
}

void hotplug_look_at_all(struct leases *leases)
{
	struct lease *lease, *next;

	for (lease = TAILQ_FIRST(&leases->table.list); lease; lease = next) {
		next = TAILQ_NEXT(lease, link); /* the lease may end at once */
		hotplug_look(lease);
	}
}

/* ---- what the watcher reports ---- */

/*
 * A function of a lent group is gone. The rest of the group is of no use to the holder, so the
 * lease is taken back.
 */
static void recall_without(struct lease *lease, const struct pci_address *address)
{
	char driver[FUNCTION_NAME_MAX];

	if (sysfs_driver_read(leases_of(lease)->kernel->sys, address, driver) != -ENODEV)
		return; /* it exists: an event is only a hint */
	report_function(lease, address, false);
	lease_recall(lease, "recalled");
}

void hotplug_device_seen(struct leases *leases, const struct watcher_record *record)
{
	struct lease *lease;

	if (record->type != WATCHER_DEVICE && record->type != WATCHER_GONE)
		return;
	TAILQ_FOREACH(lease, &leases->table.list, link) {
		bool member;

		if (lease->state != GPUBROKER_LEASE_LEASED)
			continue;
		member = lease->kind->needs(lease, &record->address);
		if (record->type == WATCHER_GONE && member) {
			recall_without(lease, &record->address);
			return; /* the list may have changed */
		}
		if (record->type == WATCHER_DEVICE && member)
			taken_look(lease, &record->address);
		if (record->type == WATCHER_DEVICE && !member && record->group == lease->group) {
			hotplug_look(lease);
			return;
		}
	}
}
