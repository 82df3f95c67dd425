/* SPDX-License-Identifier: MIT */
/*
 * At start: the records of leases that an earlier run left. Each is taken up, whatever ended that
 * run; whether it is held is asked of the kernel (lending.c). What cannot be read is set aside with
 * a message, never guessed at, and what it may be about is not lent.
 */
#include "config.h"

#include "brokerd/record/audit.h"
#include "brokerd/lease/ending.h"
#include "brokerd/process/log.h"
#include "brokerd/record/lease-record.h"
#include "brokerd/process/worker.h"
#include "client/host/sysfs.h"
#include "client/common/util.h"

#include <errno.h>
#include <inttypes.h>
#include <string.h>
#include <time.h>

struct recovery {
	struct daemon *daemon;
	int error;
};

/* The record speaks of these very cards, not of others that came to their addresses since. */
static bool same_functions(const struct kernel *kernel, const struct lease *lease)
{
	for (size_t i = 0; i < lease->n_functions; i++) {
		const struct lease_function *was = &lease->functions[i];
		struct function now;

		if (!sysfs_function_read(kernel->sys, &was->address, &now) &&
		    (now.vendor != was->vendor || now.device != was->device))
			return false;
	}
	return true;
}

static void damaged(struct daemon *daemon, const char *name, const char *why)
{
	log_error("lease record %s: %s; it is set aside as %s.damaged", name, why, name);
	if (record_set_aside(daemon->state_dir, name))
		log_error("lease record %s: cannot be set aside", name);
}

static void found(void *userdata, const char *name, const char *text, size_t len)
{
	struct recovery *recovery = userdata;
	struct daemon *daemon = recovery->daemon;
	struct lease read, *lease, *other;
	char own_name[24], why[64];
	unsigned line;

	if (record_parse(text, len, &read, &line)) {
		snprintf(why, sizeof(why), "damaged in line %u", line);
		damaged(daemon, name, why);
		return;
	}
	snprintf(own_name, sizeof(own_name), "%" PRIu64, read.id);
	if (strcmp(own_name, name) != 0 || (!read.n_functions && !lease_is_mdev(&read))) {
		damaged(daemon, name, "it is another lease's");
		return;
	}
	/* Of two records of a group the older is one that could not be removed when its lease ended. */
	other = read.mdev.vendor ? lease_find_vgpu(&daemon->leases, read.mdev.parent)
				 : lease_find_group(&daemon->leases, read.group);
	if (other && other->id > read.id) {
		damaged(daemon, name, "its group has a later one");
		return;
	}
	if (other) {
		snprintf(own_name, sizeof(own_name), "%" PRIu64, other->id);
		damaged(daemon, own_name, "its group has a later one");
		lease_free(&daemon->leases, other);
	}
	lease = lease_new(&daemon->leases, read.id, read.group);
	if (!lease) {
		recovery->error = -ENOMEM;
		return;
	}
	lease->uid = read.uid;
	lease->pid = read.pid;
	lease->gid = read.gid;
	lease->since = read.since;
	lease->terms = read.terms;
	lease->ends = read.ends;
	lease->stuck_since = read.stuck_since;
	lease->migration = read.migration;
	memcpy(lease->reason, read.reason, sizeof(lease->reason));
	lease->n_gids = read.n_gids;
	memcpy(lease->gids, read.gids, sizeof(lease->gids));
	lease->n_functions = read.n_functions;
	memcpy(lease->functions, read.functions, sizeof(lease->functions));
	lease->mdev = read.mdev;
	lease->asked = read.asked;
}

int recover_leases(struct daemon *daemon)
{
	struct recovery recovery = { .daemon = daemon };
	struct lease *lease, *next;
	struct audit line;
	char name[24];
	int r = record_each(daemon->state_dir, RECORD_LEASES, found, &recovery);

	if (!r)
		r = recovery.error;
	if (r) {
		log_error("the lease records cannot be read: %s; ending, to be started again",
			  strerror(-r));
		return r;
	}
	for (lease = TAILQ_FIRST(&daemon->leases.list); lease; lease = next) {
		next = TAILQ_NEXT(lease, link); /* it may end at once */
		/* Not before all are read: it is the later one of its group all the same. */
		if (!same_functions(&daemon->kernel, lease)) {
			snprintf(name, sizeof(name), "%" PRIu64, lease->id);
			damaged(daemon, name, "other devices are at its addresses now");
			lease_free(&daemon->leases, lease);
			continue;
		}
		line = audit_of(lease, "taken-up");
		audit(&line);
		lending_take_up(daemon, lease);
	}
	return 0;
}

/* ---- damaged records ---- */

#define GROUPS_LOOKED_AT 4096

static void on_told(void *userdata, const struct pci_address *address, const char *text)
{
	struct lease *lease = userdata;

	for (size_t i = 0; i < lease->n_functions; i++)
		if (!pci_address_compare(&lease->functions[i].address, address) &&
		    (!*text || !strcmp(text, "(null)")))
			lease->as_recorded |= UINT64_C(1) << i;
}

/* Is each function with a host driver, and without an override? Then no lease has it. */
static void on_looked(void *userdata, const struct work_result *result)
{
	struct lease *lease = userdata;
	struct daemon *daemon = lease->owner;
	bool hosts = !result->error;

	lease->work = NULL;
	for (size_t i = 0; hosts && i < lease->n_functions; i++) {
		struct function now;

		hosts = lease->as_recorded & UINT64_C(1) << i &&
			!sysfs_function_read(daemon->kernel.sys, &lease->functions[i].address,
					     &now) &&
			now.driver[0] && !driver_is_vfio(now.driver);
	}
	if (hosts && lease_go(lease, LEASE_ABANDON))
		lease_restore(daemon, lease); /* nothing is recorded, so it just ends */
}

static void on_look_late(void *userdata, const char *what, const struct pci_address *address)
{
	(void)userdata;
	(void)what;
	(void)address;
}

/* A VF of those that the policy wants? */
static bool is_vf_of_rule(const struct daemon *daemon, const struct function *f)
{
	struct policy_facts facts;
	struct function pf;
	size_t rule;

	if (!f->is_vf || sysfs_function_read(daemon->kernel.sys, &f->physfn, &pf))
		return false;
	facts = function_facts(&pf);
	return policy_vfs(&daemon->policy, &facts, &rule);
}

/*
 * Does the kernel show what the policy wants without any lease: prepared, on VFIO? If somebody has
 * it all the same, opening it for the next one fails.
 */
static bool is_prepared(const struct daemon *daemon, const struct group_view *view)
{
	struct policy_facts facts[FUNCTIONS_MAX];
	size_t rule;

	for (size_t i = 0; i < view->n_functions; i++)
		facts[i] = function_facts(&view->functions[i]);
	for (size_t i = 0; i < view->n_functions; i++)
		if (driver_is_vfio(view->functions[i].driver) &&
		    !is_vf_of_rule(daemon, &view->functions[i]) &&
		    !policy_prepares(&daemon->policy, &facts[i], facts, view->n_functions, &rule))
			return false;
	return true;
}

static void keep_from_lending(struct daemon *daemon, uint32_t group, const char *name, bool named)
{
	static const struct work_ops ops = {
		.told = on_told,
		.done = on_looked,
		.late = on_look_late,
	};
	struct group_view *view = malloc(sizeof(*view));
	char text[PCI_ADDRESS_TEXT];
	struct lease *lease = NULL;
	struct audit line;
	struct work *work;
	bool on_vfio = false;
	int r = 0;

	if (!view || lease_find_group(&daemon->leases, group) ||
	    sysfs_group_read(daemon->kernel.sys, group, view) || !view->n_functions)
		goto out;
	for (size_t i = 0; i < view->n_functions; i++)
		on_vfio = on_vfio || driver_is_vfio(view->functions[i].driver);
	if ((!named && !on_vfio) || (on_vfio && is_prepared(daemon, view)))
		goto out;
	lease = lease_new(&daemon->leases, 0, group);
	if (!lease)
		goto out;
	lease_of_unknown(lease, view);
	lease->owner = daemon;
	lease->uid = lease->gid = UINT32_MAX;
	lease->since = lease->stuck_since = (uint64_t)time(NULL);
	strcpy(lease->terms.rule, "-");
	snprintf(lease->damaged, sizeof(lease->damaged), "%s", name);
	snprintf(lease->reason, sizeof(lease->reason),
		 "its lease record is damaged (%.40s); root settles it with 'gpubroker restore %s'",
		 name, pci_address_format(&lease->asked, text));
	lease_go(lease, LEASE_LATE);
	line = audit_of(lease, "stuck");
	line.level = LOG_ERROR;
	line.reason = lease->reason;
	audit(&line);
	if (on_vfio)
		goto out;
	work = work_new(&ops, lease);
	r = work ? 0 : -ENOMEM;
	for (size_t i = 0; !r && i < lease->n_functions; i++)
		r = work_add_read(work,
				  kernel_open_override_read(&daemon->kernel,
							    &lease->functions[i].address),
				  "reading driver_override", &lease->functions[i].address);
	if (!r)
		r = work_start(work, daemon->base, daemon->worker_filter, WORKER_SECONDS);
	if (r)
		work_free(work);
	else
		lease->work = work;
out:
	free(view);
}

#define ADDRESS_SHORTEST 12 /* "0000:01:00.0" */

/* The whole address that a text begins with, of whatever domain. */
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
 * The addresses that can still be read in it say which groups. Where none can, it may be any group
 * that is on VFIO now.
 */
static void found_damaged(void *userdata, const char *name, const char *text, size_t len)
{
	static const char word[] = "function ";
	static uint32_t groups[GROUPS_LOOKED_AT];
	struct daemon *daemon = userdata;
	const struct lease *lease;
	size_t named = 0;
	uint32_t group;
	bool any = false;
	int n;

	for (size_t i = 0; i + sizeof(word) - 1 + ADDRESS_SHORTEST <= len; i++) {
		struct pci_address address;

		if (memcmp(text + i, word, sizeof(word) - 1) != 0 ||
		    !address_at(text + i + sizeof(word) - 1, len - i - (sizeof(word) - 1),
				&address))
			continue;
		named++;
		if (!sysfs_group_of(daemon->kernel.sys, &address, &group) && group != NO_GROUP)
			keep_from_lending(daemon, group, name, true);
	}
	/* An mdev's, which is in no group of functions. It stays, since its number cannot be believed. */
	if (!named && memmem(text, len, "\nvgpu ", 6)) {
		log_notice(
			"lease record %s: was a vGPU's; if its virtual function is one still, 'gpubroker "
			"profiles' shows it, and root can clear it by its nvidia/current_vgpu_type",
			name);
	} else if (!named && memmem(text, len, "\nmdev ", 6)) {
		log_notice(
			"lease record %s: was an mdev's; if it is still there, 'gpubroker profiles' counts "
			"it, and root can remove it by /sys/bus/mdev/devices",
			name);
	} else if (!named) {
		n = sysfs_groups(daemon->kernel.sys, groups, GROUPS_LOOKED_AT);
		for (int i = 0; i < n && i < GROUPS_LOOKED_AT; i++)
			keep_from_lending(daemon, groups[i], name, false);
	}
	TAILQ_FOREACH(lease, &daemon->leases.list, link)
		any = any || !strcmp(lease->damaged, name);
	if (!any && !record_settle(daemon->state_dir, name))
		log_notice("lease record %s: settled, no device is as a lease would leave it",
			   name);
}

int recover_damaged(struct daemon *daemon)
{
	int r = record_each(daemon->state_dir, RECORD_DAMAGED, found_damaged, daemon);

	if (r)
		log_error("damaged lease records cannot be read: %s; ending, to be started again",
			  strerror(-r));
	return r;
}
