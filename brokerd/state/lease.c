/* SPDX-License-Identifier: MIT */
/*
 * The table of leases, and the one table of their states. No I/O, no clock, no libevent, so a test
 * can drive it. A lease must never leave the table before the host has everything back.
 */
#include "config.h"

#include "brokerd/state/lease.h"
#include "client/common/util.h"
#include "client/host/function.h"

#include <string.h>

#define HOST GPUBROKER_LEASE_HOST
#define PREPARING GPUBROKER_LEASE_PREPARING
#define READY GPUBROKER_LEASE_READY
#define LEASED GPUBROKER_LEASE_LEASED
#define RELEASING GPUBROKER_LEASE_RELEASING
#define RESTORING GPUBROKER_LEASE_RESTORING
#define STUCK GPUBROKER_LEASE_STUCK
#define ASKED GPUBROKER_LEASE_ASKED

/*
 * 0: the event means nothing in that state. A lease that comes to HOST is over, and the caller
 * frees it. tests/model/ is made from this very table and searches every run of it.
 */
static const enum gpubroker_lease_state transitions[][LEASE_N_EVENTS] = {
	[HOST] = {
		[LEASE_CLAIMED] = PREPARING,
	},
	[PREPARING] = {
		[LEASE_BOUND] = READY,
		[LEASE_ABANDON] = RESTORING,
		[LEASE_LATE] = STUCK,
		/* a lease from the records: a holder has it, or nobody */
		[LEASE_SENT] = LEASED,
		[LEASE_REGAINED] = RESTORING,
	},
	[READY] = {
		[LEASE_SENT] = LEASED,
		[LEASE_ABANDON] = RESTORING,
	},
	[LEASED] = {
		[LEASE_CLOSED] = RELEASING,
		[LEASE_RECALLED] = RESTORING,
		[LEASE_REGAINED] = RESTORING,
		[LEASE_ABANDON] = RESTORING, /* the grant could not be sent after all */
		/* it is to end, and a worker still binds what came into its group */
		[LEASE_LATE] = STUCK,
	},
	[RELEASING] = {
		[LEASE_REGAINED] = RESTORING,
		[LEASE_RECALLED] = RESTORING, /* a process has it still, or again */
		/* its holder has closed the group only, and uses a device by an iommufd */
		[LEASE_SENT] = LEASED,
		[LEASE_FAILED] = STUCK, /* the group cannot be looked at */
		[LEASE_LATE] = STUCK,
	},
	[RESTORING] = {
		[LEASE_RESTORED] = HOST,
		[LEASE_FAILED] = STUCK,
		[LEASE_LATE] = STUCK,
		[LEASE_WAITS] = ASKED,
	},
	[ASKED] = {
		[LEASE_ABANDON] = RESTORING, /* what did not go back is tried again */
		[LEASE_RESTORED] = HOST,
		[LEASE_FAILED] = STUCK,
		[LEASE_LATE] = STUCK, /* its holder has let go, and the kernel goes on waiting */
	},
	[STUCK] = {
		[LEASE_ABANDON] = RESTORING, /* its worker has ended, or restore is tried again */
		[LEASE_RESTORED] = HOST,
		[LEASE_FAILED] = STUCK,
		[LEASE_WAITS] = ASKED, /* taken up from its record, and a process has it still */
	},
};

void lease_table_init(struct lease_table *table, const struct lease_events *events, void *userdata)
{
	TAILQ_INIT(&table->list);
	table->next_id = 1;
	table->end = UINT64_MAX;
	table->n = 0;
	table->events = events;
	table->userdata = userdata;
}

static bool advance(struct lease *lease, enum lease_event event)
{
	enum gpubroker_lease_state next = 0;

	if ((size_t)lease->state < ARRAY_SIZE(transitions) && event < LEASE_N_EVENTS)
		next = transitions[lease->state][event];
	if (!next)
		return false;
	lease->state = next;
	return true;
}

struct lease *lease_new(struct lease_table *table, uint64_t id, uint32_t group)
{
	struct lease *lease = calloc(1, sizeof(*lease)), *after;

	if (!id)
		id = lease_take_id(table);
	if (!lease || !id || id == UINT64_MAX) { /* the ids are used up: the next would be 0 */
		free(lease);
		return NULL;
	}
	if (id >= table->next_id)
		table->next_id = id + 1;
	lease->table = table;
	lease->id = id;
	lease->group = group;
	lease->state = HOST;
	advance(lease, LEASE_CLAIMED);
	lease->watch = -1;
	after = lease_find_from(table, id);
	if (after)
		TAILQ_INSERT_BEFORE(after, lease, link);
	else
		TAILQ_INSERT_TAIL(&table->list, lease, link);
	table->n++;
	return lease;
}

uint64_t lease_take_id(struct lease_table *table)
{
	const uint64_t id = lease_has_id(table) ? table->next_id++ : 0;

	if (table->end != UINT64_MAX && table->events && table->events->few_numbers &&
	    (table->next_id >= table->end || table->end - table->next_id < LEASE_NUMBERS_FEW))
		table->events->few_numbers(table->userdata);
	return id;
}

bool lease_has_id(const struct lease_table *table)
{
	return table->next_id < table->end;
}

struct lease *lease_free(struct lease *lease)
{
	if (lease) {
		TAILQ_REMOVE(&lease->table->list, lease, link);
		lease->table->n--;
		free(lease);
	}
	return NULL;
}

struct lease *lease_find_group(const struct lease_table *table, uint32_t group)
{
	struct lease *lease;

	if (group == UINT32_MAX)
		return NULL;
	TAILQ_FOREACH(lease, &table->list, link)
		if (lease->group == group)
			return lease;
	return NULL;
}

struct lease *lease_find_vgpu(const struct lease_table *table, const char *vf)
{
	struct lease *lease;

	TAILQ_FOREACH(lease, &table->list, link)
		if (lease->mdev.vendor && !strcmp(lease->mdev.parent, vf))
			return lease;
	return NULL;
}

struct lease *lease_find_id(const struct lease_table *table, uint64_t id)
{
	struct lease *lease = lease_find_from(table, id);

	return lease && lease->id == id ? lease : NULL;
}

struct lease *lease_find_from(const struct lease_table *table, uint64_t id)
{
	struct lease *lease;

	TAILQ_FOREACH(lease, &table->list, link)
		if (lease->id >= id)
			return lease;
	return NULL;
}

struct lease *lease_find_watch(const struct lease_table *table, int watch)
{
	struct lease *lease;

	TAILQ_FOREACH(lease, &table->list, link) {
		if (lease->watch == watch)
			return lease;
		for (size_t i = 0; i < lease->n_cdev_watches; i++)
			if (lease->cdev_watches[i] == watch)
				return lease;
	}
	return NULL;
}

bool lease_transition(struct lease *lease, enum lease_event event)
{
	const struct lease_table *table = lease->table;
	enum gpubroker_lease_state before = lease->state;

	if (!advance(lease, event))
		return false;
	if (lease->state != before && !lease_is_overdue(lease) && table->events)
		table->events->state(table->userdata, lease);
	return true;
}

bool lease_is_made(const struct lease *lease)
{
	return lease->mdev.parent[0];
}

bool lease_has_address(const struct lease *lease)
{
	struct pci_address address;

	return !lease_is_made(lease) || !pci_address_parse(lease->mdev.parent, &address);
}

bool lease_is_leaving(const struct lease *lease)
{
	return lease->state == RELEASING || lease->state == RESTORING || lease->state == ASKED;
}

bool lease_is_overdue(const struct lease *lease)
{
	return lease->state == STUCK || lease->state == ASKED;
}

bool lease_has_holder(const struct lease *lease)
{
	return lease->lent &&
	       ((lease->watch >= 0 && lease->group_file == GROUP_OPEN) || lease->busy);
}

bool lease_function_comes(const struct lease *lease, const struct lease_function *function)
{
	return lease->state == LEASED && !function->binding &&
	       !strcmp(function->driver, LEASE_DRIVER_UNKNOWN) &&
	       pci_address_compare(&function->address, &lease->asked) != 0;
}

bool lease_has_function(const struct lease *lease, const struct pci_address *address)
{
	for (size_t i = 0; i < lease->n_functions; i++)
		if (!pci_address_compare(&lease->functions[i].address, address))
			return true;
	return false;
}

struct lease *lease_find_below(const struct lease_table *table, const struct group_view *view)
{
	struct lease *lease;

	TAILQ_FOREACH(lease, &table->list, link)
		if (lease_is_made(lease) && lease_has_address(lease) &&
		    group_find(view, &lease->asked) != SIZE_MAX)
			return lease;
	return NULL;
}

uint32_t lease_count_by_rule(const struct lease_table *table, const struct policy *policy,
			     uint32_t uid, const char *rule, const struct lease *own)
{
	const uint32_t owner = policy_owner(policy, uid);
	const struct lease *lease;
	uint32_t n = 0;

	TAILQ_FOREACH(lease, &table->list, link)
		n += lease != own && policy_owner(policy, lease->uid) == owner &&
		     !strcmp(lease->terms.rule, rule);
	return n;
}

void lease_adopt_group(struct lease *lease, const struct group_view *view)
{
	lease->n_functions = view->n_functions;
	for (size_t i = 0; i < view->n_functions; i++)
		lease->functions[i] = (struct lease_function){
			.address = view->functions[i].address,
			.vendor = view->functions[i].vendor,
			.device = view->functions[i].device,
			.driver = LEASE_DRIVER_UNKNOWN,
		};
	lease->asked = lease->functions[0].address;
}

void lease_report_progress(struct lease *lease, enum gpubroker_step step,
			   const struct pci_address *address, uint32_t index, uint32_t total)
{
	if (lease->follower)
		lease->follower->ops->progress(lease->follower, lease, step, address, index, total);
}

void lease_report_settled(struct lease *lease)
{
	if (lease->follower)
		lease->follower->ops->settled(lease->follower, lease);
}

void lease_fail(struct lease *lease, const struct pci_address *address, const char *what, int error)
{
	if (lease->failure.what)
		return;
	/* A failure without a name would pass for none. */
	lease->failure = (struct lease_failure){ .what = what ? what : "a step", .error = error };
	if (address) {
		lease->failure.address = *address;
		lease->failure.has_address = true;
	}
}
