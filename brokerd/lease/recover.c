/* SPDX-License-Identifier: MIT */
/*
 * Recovery, see recover.h. Every recorded lease is taken up, however the earlier run ended; the
 * kernel shows whether it is held (ending.c). A record that cannot be read is set aside with a log
 * line, never guessed at, and the devices that it may be about are not lent.
 */
#include "config.h"

#include "brokerd/lease/recover.h"
#include "brokerd/lease/bringup.h"
#include "brokerd/lease/cdev.h"
#include "brokerd/lease/ending.h"
#include "brokerd/lease/functions.h"
#include "brokerd/lease/kill.h"
#include "brokerd/lease/restore.h"
#include "brokerd/process/log.h"
#include "brokerd/record/audit.h"
#include "brokerd/record/lease-record.h"
#include "client/common/util.h"
#include "client/host/function.h"
#include "client/host/sysfs.h"

#include <errno.h>
#include <inttypes.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <time.h>

/* ---- taking a lease up ---- */

/*
 * Takes up a lease: watches and probes its group. A mediated device or vGPU that does not exist may
 * still appear: the worker that was making it was killed, but may still be in the kernel. The
 * kernel shows the device before it calls the driver, which may take long; so it is looked for a
 * few times.
 */
static void take_up(struct lease *lease)
{
	uint32_t group = NO_GROUP;
	int watch;

	if (!lease->kind->group_of(lease, &group) && group != NO_GROUP) {
		lease->group = group;
		lease->tries = 0;
		/* Watch first, then probe, so that a close in between is noticed. */
		watch = kernel_group_watch(leases_of(lease)->kernel, group);
		lease->watch = watch >= 0 ? watch : -1;
		cdevs_watch(lease);
		kill_note_nodes(lease);
		lease->group_file = GROUP_UNKNOWN;
		lease_set_clock(lease);
		lease_probe_holder(lease);
		return;
	}
	if (lease_look_soon(lease, take_up) || !lease_transition(lease, LEASE_ABANDON))
		return;
	if (lease->kind->looks_after_restart)
		lease_restore_with(lease, lease->kind->looks_after_restart);
	else
		lease_restore(lease);
}

void recover_lease(struct lease *lease)
{
	uint32_t group = NO_GROUP;
	int watch;

	lease_set_kind(lease);
	/* It may have been sent to a holder, so it is treated as lent. */
	lease->recorded = lease->lent = true;
	if (lease->stuck_since) {
		/* The worker will wait in the kernel, as the earlier run's did. */
		lease_transition(lease, LEASE_LATE);
		lease->group_file = GROUP_UNKNOWN;
		if (lease->kind->group_of(lease, &group) || group == NO_GROUP) {
			lease_restore(lease);
			return;
		}
		lease->group = group;
		watch = kernel_group_watch(leases_of(lease)->kernel, group);
		lease->watch = watch >= 0 ? watch : -1;
		kill_note_nodes(lease);
		lease_look_and_restore(lease);
		return;
	}
	take_up(lease);
}

/* ---- reading the records ---- */

struct recovery {
	struct leases *leases;
	int error;
};

/*
 * Returns true if the record is about the cards that are present, not about others that have come
 * to their addresses since. A function that has the same ids in another group was removed and has
 * come back: it may be another lease's, and it is not what the holder of this group has.
 */
static bool same_functions(const struct lease *lease)
{
	for (size_t i = 0; i < lease->n_functions; i++) {
		const struct lease_function *was = &lease->functions[i];
		struct function now;

		if (!sysfs_function_read(leases_of(lease)->kernel->sys, &was->address, &now) &&
		    (now.vendor != was->vendor || now.device != was->device ||
		     now.iommu_group != lease->group))
			return false;
	}
	return true;
}

static void set_aside(const struct leases *leases, const char *name, const char *why)
{
	log_error("lease record %s: %s; it is set aside as %s.damaged", name, why, name);
	if (store_set_aside(leases->store, name))
		log_error("lease record %s: cannot be set aside", name);
}

/*
 * Returns true if no later record has the same group (or VF), and sets aside an earlier one. An
 * earlier record is one that could not be removed when its lease ended.
 */
static bool is_latest(struct leases *leases, const struct lease *read, const char *name)
{
	struct lease *other = read->mdev.vendor ? lease_find_vgpu(&leases->table, read->mdev.parent)
						: lease_find_group(&leases->table, read->group);
	char other_name[24];

	if (!other)
		return true;
	if (other->id > read->id) {
		set_aside(leases, name, "its group has a later one");
		return false;
	}
	snprintf(other_name, sizeof(other_name), "%" PRIu64, other->id);
	set_aside(leases, other_name, "its group has a later one");
	lease_free(other);
	return true;
}

static void copy_recorded(struct lease *lease, const struct lease *read)
{
	lease->uid = read->uid;
	lease->pid = read->pid;
	lease->gid = read->gid;
	lease->since = read->since;
	lease->terms = read->terms;
	lease->ends = read->ends;
	lease->stuck_since = read->stuck_since;
	lease->migration = read->migration;
	memcpy(lease->label, read->label, sizeof(lease->label));
	memcpy(lease->reason, read->reason, sizeof(lease->reason));
	lease->n_gids = read->n_gids;
	memcpy(lease->gids, read->gids, sizeof(lease->gids));
	lease->n_functions = read->n_functions;
	memcpy(lease->functions, read->functions, sizeof(lease->functions));
	lease->mdev = read->mdev;
	lease->asked = read->asked;
}

static void take_record(void *userdata, const char *name, const char *text, size_t len)
{
	struct recovery *recovery = userdata;
	struct leases *leases = recovery->leases;
	struct lease read, *lease;
	char own_name[24], why[64];
	unsigned line;

	if (lease_record_parse(text, len, &read, &line)) {
		snprintf(why, sizeof(why), "damaged in line %u", line);
		set_aside(leases, name, why);
		return;
	}
	snprintf(own_name, sizeof(own_name), "%" PRIu64, read.id);
	if (strcmp(own_name, name) != 0 || (!read.n_functions && !lease_is_made(&read))) {
		set_aside(leases, name, "it is another lease's");
		return;
	}
	if (!is_latest(leases, &read, name))
		return;
	lease = lease_new(&leases->table, read.id, read.group);
	if (lease)
		copy_recorded(lease, &read);
	else
		recovery->error = -ENOMEM;
}

int recover_leases(struct leases *leases)
{
	struct recovery recovery = { .leases = leases };
	struct lease *lease, *next;
	char name[24];
	int r = store_each(leases->store, STORE_LEASES, take_record, &recovery);

	if (!r)
		r = recovery.error;
	if (r) {
		log_error("the lease records cannot be read: %s; ending, to be started again",
			  strerror(-r));
		return r;
	}
	for (lease = TAILQ_FIRST(&leases->table.list); lease; lease = next) {
		next = TAILQ_NEXT(lease, link); /* the lease may end at once */
		/*
		 * Checked only now that all are read: such a record may still be the later one of
		 * its group.
		 */
		if (!same_functions(lease)) {
			snprintf(name, sizeof(name), "%" PRIu64, lease->id);
			set_aside(leases, name, "other devices are at its addresses now");
			lease_free(lease);
			continue;
		}
		audit_lease(lease, "taken-up", LOG_INFO, NULL);
		recover_lease(lease);
	}
	return 0;
}

/* ---- damaged records ---- */

#define GROUPS_LOOKED_AT 4096
#define ADDRESS_SHORTEST 12 /* "0000:01:00.0" */

static void note_empty_override(void *userdata, const struct pci_address *address, const char *text)
{
	struct lease *lease = userdata;

	for (size_t i = 0; i < lease->n_functions; i++)
		if (!pci_address_compare(&lease->functions[i].address, address) &&
		    !*functions_override_text(text))
			lease->as_recorded |= UINT64_C(1) << i;
}

/*
 * Ends the lease if each function is on a host driver and has no override: then no lease has the
 * group.
 */
static void on_looked(void *userdata, const struct work_result *result)
{
	struct lease *lease = userdata;
	bool hosts = !result->error;

	lease->work = NULL;
	for (size_t i = 0; hosts && i < lease->n_functions; i++) {
		struct function now;

		hosts = lease->as_recorded & UINT64_C(1) << i &&
			!sysfs_function_read(leases_of(lease)->kernel->sys,
					     &lease->functions[i].address, &now) &&
			now.driver[0] && !driver_is_vfio(now.driver);
	}
	if (hosts && lease_transition(lease, LEASE_ABANDON))
		lease_restore(lease); /* it has no record, so restore changes nothing */
}

/* Returns true if the function is a VF that a rule with vfs asks for. */
static bool is_vf_of_rule(const struct leases *leases, const struct function *f)
{
	struct policy_facts facts;
	struct function pf;
	size_t rule;

	if (!f->is_vf || sysfs_function_read(leases->kernel->sys, &f->physfn, &pf))
		return false;
	facts = function_facts(&pf);
	return policy_vfs(&leases->policy->policy, &facts, &rule);
}

/*
 * Returns true if the group is as the policy prepares it, on VFIO without any lease. If a process
 * holds it nevertheless, the next claim cannot open it and fails.
 */
static bool is_prepared(const struct leases *leases, const struct group_view *view)
{
	struct policy_facts facts[FUNCTIONS_MAX];
	size_t rule;

	for (size_t i = 0; i < view->n_functions; i++)
		facts[i] = function_facts(&view->functions[i]);
	for (size_t i = 0; i < view->n_functions; i++)
		if (driver_is_vfio(view->functions[i].driver) &&
		    !is_vf_of_rule(leases, &view->functions[i]) &&
		    !policy_prepares(&leases->policy->policy, &facts[i], facts, view->n_functions,
				     &rule))
			return false;
	return true;
}

/*
 * Starts a worker that checks whether the host has the functions. If it cannot be started, the
 * lease stays stuck.
 */
static void look_whether_hosts(struct lease *lease)
{
	static const struct work_ops ops = {
		.told = note_empty_override,
		.done = on_looked,
		.may_be_left = true,
	};
	struct work *work = work_new(&ops, lease);
	int r = work ? functions_add_override_reads(lease, work) : -ENOMEM;

	if (!r)
		r = workers_start(leases_of(lease)->workers, work);
	if (r)
		work_free(work);
	else
		lease->work = work;
}

/* Makes a stuck lease without a holder, for a group that must not be lent. */
static struct lease *make_stuck(struct leases *leases, const struct group_view *view,
				const char *name)
{
	struct lease *lease = lease_new(&leases->table, 0, view->group);
	char text[PCI_ADDRESS_TEXT];

	if (!lease)
		return NULL;
	lease_adopt_group(lease, view);
	lease_set_kind(lease);
	lease->uid = lease->gid = UINT32_MAX;
	lease->since = lease->stuck_since = (uint64_t)time(NULL);
	strcpy(lease->terms.rule, LEASE_RULE_NONE);
	snprintf(lease->damaged, sizeof(lease->damaged), "%s", name);
	snprintf(lease->reason, sizeof(lease->reason),
		 "its lease record is damaged (%.40s); root settles it with 'gpubroker restore %s'",
		 name, pci_address_format(&lease->asked, text));
	lease_transition(lease, LEASE_LATE);
	audit_lease(lease, "stuck", LOG_ERROR, lease->reason);
	return lease;
}

static void keep_from_lending(struct leases *leases, uint32_t group, const char *name, bool named)
{
	cleanup_free struct group_view *view = malloc(sizeof(*view));
	struct lease *lease;
	bool on_vfio = false;

	if (!view || lease_find_group(&leases->table, group) ||
	    sysfs_group_read(leases->kernel->sys, group, view) || !view->n_functions)
		return;
	for (size_t i = 0; i < view->n_functions; i++)
		on_vfio = on_vfio || driver_is_vfio(view->functions[i].driver);
	if ((!named && !on_vfio) || (on_vfio && is_prepared(leases, view)))
		return;
	lease = make_stuck(leases, view, name);
	if (lease && !on_vfio)
		look_whether_hosts(lease);
}

/* Parses the address that a text begins with; its domain may have more than four digits. */
static bool address_at(const char *text, size_t len, struct pci_address *ret_address)
{
	char copy[PCI_ADDRESS_TEXT];

	for (size_t n = ADDRESS_SHORTEST; n <= len && n < sizeof(copy); n++) {
		memcpy(copy, text, n);
		copy[n] = '\0';
		if (!pci_address_parse(copy, ret_address))
			return true;
	}
	return false;
}

/*
 * Makes stuck leases for the groups whose addresses can still be read in a damaged record, so that
 * they are not lent. Returns how many addresses there were.
 */
static size_t keep_named_groups(struct leases *leases, const char *name, const char *text,
				size_t len)
{
	static const char word[] = "function ";
	const size_t n = sizeof(word) - 1;
	size_t named = 0;
	uint32_t group;

	for (size_t i = 0; i + n + ADDRESS_SHORTEST <= len; i++) {
		struct pci_address address;

		if (memcmp(text + i, word, n) != 0 ||
		    !address_at(text + i + n, len - i - n, &address))
			continue;
		named++;
		if (!sysfs_group_of(leases->kernel->sys, &address, &group) && group != NO_GROUP)
			keep_from_lending(leases, group, name, true);
	}
	return named;
}

/*
 * Does so for every group that is on VFIO now: no address can be read, so the record may be about
 * any of them.
 */
static void keep_all_groups(struct leases *leases, const char *name)
{
	/* Not the heap's: without memory for it, a damaged record would protect nothing. */
	static uint32_t groups[GROUPS_LOOKED_AT];
	int n = sysfs_groups(leases->kernel->sys, groups, GROUPS_LOOKED_AT);

	for (int i = 0; i < n && i < GROUPS_LOOKED_AT; i++)
		keep_from_lending(leases, groups[i], name, false);
}

static void take_damaged(void *userdata, const char *name, const char *text, size_t len)
{
	struct leases *leases = userdata;
	const struct lease *lease;
	bool any = false;

	/*
	 * A mediated device or vGPU is in no group of functions. It stays as it is: its damaged
	 * UUID or type cannot be trusted.
	 */
	if (keep_named_groups(leases, name, text, len))
		;
	else if (memmem(text, len, "\nvgpu ", 6))
		log_notice("lease record %s: belonged to a vGPU; if the VF still has a vGPU type, "
			   "'gpubroker profiles' shows it, and root can clear it by its "
			   "nvidia/current_vgpu_type",
			   name);
	else if (memmem(text, len, "\nmdev ", 6))
		log_notice("lease record %s: belonged to an mdev; if it is still there, 'gpubroker "
			   "profiles' counts it, and root can remove it by /sys/bus/mdev/devices",
			   name);
	else
		keep_all_groups(leases, name);
	TAILQ_FOREACH(lease, &leases->table.list, link)
		any = any || !strcmp(lease->damaged, name);
	if (!any && !store_settle(leases->store, name))
		log_notice("lease record %s: settled, the host has its devices", name);
}

int recover_damaged(struct leases *leases)
{
	int r = store_each(leases->store, STORE_DAMAGED, take_damaged, leases);

	if (r)
		log_error("damaged lease records cannot be read: %s; ending, to be started again",
			  strerror(-r));
	return r;
}
