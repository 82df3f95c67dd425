/* SPDX-License-Identifier: MIT */
/*
 * The table of allotments, see allotments.h. No I/O. It must never let a device that is reserved
 * be taken for a free one: where it is in doubt, nobody is served.
 */
#include "config.h"

#include "brokerd/state/allotments.h"
#include "brokerd/state/devices.h"
#include "brokerd/state/lease.h"
#include "brokerd/state/refuse.h"
#include "client/common/util.h"

#include <stdlib.h>
#include <string.h>

void allotments_init(struct allotments *table)
{
	*table = (struct allotments){ .list = TAILQ_HEAD_INITIALIZER(table->list) };
}

void allotments_done(struct allotments *table)
{
	struct allotment *allotment;

	while (table->n && (allotment = TAILQ_FIRST(&table->list)))
		allotments_remove(table, allotment);
}

/* Returns true if a field has one or more of these characters, and is filled up with NULs. */
static bool allotment_has_only(const char *text, size_t size, const char *may_be)
{
	const size_t len = strnlen(text, size);

	if (!len || len == size)
		return false;
	for (size_t i = 0; i < size; i++)
		if (i < len ? !strchr(may_be, text[i]) : text[i] != '\0')
			return false;
	return true;
}

#define ALNUM "ABCDEFGHIJKLMNOPQRSTUVWXYZabcdefghijklmnopqrstuvwxyz0123456789"

bool allotment_is_label(const char text[PROTOCOL_LABEL_MAX])
{
	return allotment_has_only(text, PROTOCOL_LABEL_MAX, ALNUM "._:@-");
}

bool allotment_is_socket(const char name[PROTOCOL_SOCKET_NAME])
{
	/* No ':', which systemd allows in no name of a descriptor. */
	return name[0] != '.' && allotment_has_only(name, PROTOCOL_SOCKET_NAME, ALNUM "._@-");
}

struct allotment *allotments_add(struct allotments *table, const struct allotment *allotment)
{
	struct allotment *added = malloc(sizeof(*added));

	if (!added)
		return NULL;
	*added = *allotment;
	added->number = ++table->last_number;
	TAILQ_INSERT_TAIL(&table->list, added, link);
	table->n++;
	return added;
}

/* Returns true if a was made before b; within a second, the label decides. */
static bool is_before(const struct allotment *a, const struct allotment *b)
{
	return a->since != b->since ? a->since < b->since : strcmp(a->label, b->label) < 0;
}

void allotments_sort(struct allotments *table)
{
	struct allotment_list sorted = TAILQ_HEAD_INITIALIZER(sorted);
	struct allotment *allotment, *before;

	while ((allotment = TAILQ_FIRST(&table->list))) {
		TAILQ_REMOVE(&table->list, allotment, link);
		TAILQ_FOREACH(before, &sorted, link)
			if (is_before(allotment, before))
				break;
		if (before)
			TAILQ_INSERT_BEFORE(before, allotment, link);
		else
			TAILQ_INSERT_TAIL(&sorted, allotment, link);
	}
	TAILQ_CONCAT(&table->list, &sorted, link);
	table->last_number = 0;
	TAILQ_FOREACH(allotment, &table->list, link)
		allotment->number = ++table->last_number;
}

void allotments_remove(struct allotments *table, struct allotment *allotment)
{
	TAILQ_REMOVE(&table->list, allotment, link);
	table->n--;
	free(allotment);
}

struct allotment *allotments_find(const struct allotments *table, const char *label)
{
	struct allotment *allotment;

	TAILQ_FOREACH(allotment, &table->list, link)
		if (!strcmp(allotment->label, label))
			return allotment;
	return NULL;
}

struct allotment *allotments_find_socket(const struct allotments *table, const char *name)
{
	struct allotment *allotment;

	TAILQ_FOREACH(allotment, &table->list, link)
		if (!strcmp(allotment->socket, name))
			return allotment;
	return NULL;
}

struct allotment *allotments_from(const struct allotments *table, uint64_t number)
{
	struct allotment *allotment;

	TAILQ_FOREACH(allotment, &table->list, link)
		if (allotment->number >= number)
			return allotment;
	return NULL;
}

static bool allotment_has_function(const struct allotment *allotment,
				   const struct pci_address *address)
{
	for (size_t i = 0; i < allotment->n_devices; i++)
		if (!pci_address_compare(&allotment->devices[i].address, address))
			return true;
	return false;
}

/*
 * Returns true if an allotted device is in the group. The number alone says nothing: the kernel
 * gives that of a device that has gone to the next one that comes.
 */
static bool allotments_in_group(const struct allotment *allotment, const struct devices *devices,
				uint32_t group)
{
	for (size_t i = 0; group != NO_GROUP && i < allotment->n_devices; i++) {
		const struct allotted_device *allotted = &allotment->devices[i];
		const struct device *device =
			allotted->group == group ? devices_find(devices, &allotted->address) : NULL;

		if (device && device->record.group == group)
			return true;
	}
	return false;
}

/*
 * Returns an allotment that may mean any device, or NULL. It means none that another one names:
 * a device was never in two.
 */
static const struct allotment *find_damaged(const struct allotments *table)
{
	const struct allotment *allotment;

	TAILQ_FOREACH(allotment, &table->list, link)
		if (allotment->all)
			return allotment;
	return NULL;
}

const struct allotment *allotments_of(const struct allotments *table, const struct devices *devices,
				      const struct pci_address *address, uint32_t group)
{
	const struct allotment *allotment;

	TAILQ_FOREACH(allotment, &table->list, link)
		if (allotment_has_function(allotment, address) ||
		    allotments_in_group(allotment, devices, group))
			return allotment;
	return find_damaged(table);
}

const struct allotment *allotments_of_view(const struct allotments *table,
					   const struct group_view *view)
{
	const struct allotment *allotment;

	TAILQ_FOREACH(allotment, &table->list, link)
		for (size_t i = 0; i < view->n_functions; i++)
			if (allotment_has_function(allotment, &view->functions[i].address))
				return allotment;
	return find_damaged(table);
}

/* Returns true if the devices of the group that were allotted are there, and are the same. */
static bool is_the_same(const struct allotment *allotment, const struct group_view *view)
{
	bool any = false;

	for (size_t i = 0; i < allotment->n_devices; i++) {
		const struct allotted_device *device = &allotment->devices[i];
		const size_t at = group_find(view, &device->address);

		if (at == SIZE_MAX && device->group != view->group)
			continue; /* another group's */
		if (at == SIZE_MAX || device->group != view->group ||
		    view->functions[at].vendor != device->vendor ||
		    view->functions[at].device != device->device)
			return false;
		any = true;
	}
	return any;
}

bool allotment_is_for(const struct allotment *allotment, const struct policy *policy, uint32_t uid)
{
	const uint32_t owner = policy_owner(policy, uid);

	return !allotment->damaged && owner != POLICY_NOBODY &&
	       owner == policy_owner(policy, allotment->uid);
}

bool allotment_serves(const struct allotment *allotment, const struct policy *policy, uint32_t uid,
		      const struct group_view *view)
{
	return allotment_is_for(allotment, policy, uid) && !allotment->retracting &&
	       is_the_same(allotment, view);
}

bool allotment_is_unchanged(const struct allotment *allotment, const struct devices *devices,
			    uint32_t group)
{
	for (size_t i = 0; i < allotment->n_devices; i++) {
		const struct allotted_device *was = &allotment->devices[i];
		const struct device *now = devices_find(devices, &was->address);

		if (was->group != group && (!now || now->record.group != group))
			continue; /* another group's */
		if (!now || now->record.group != was->group || now->record.vendor != was->vendor ||
		    now->record.device != was->device)
			return false;
	}
	return true;
}

bool allotment_is_of(const struct allotment *allotment, const struct lease *lease)
{
	return lease->label[0] && !strcmp(allotment->label, lease->label);
}

int refuse_allotted(struct message_refusal *ret_refusal, const struct allotment *allotment,
		    const struct pci_address *address, uint32_t group)
{
	refuse_address(ret_refusal, GPUBROKER_REFUSED_ALLOTTED, address);
	ret_refusal->group = group;
	ret_refusal->holder_uid = allotment->uid;
	ret_refusal->since = allotment->since;
	ret_refusal->detail = allotment->damaged      ? REFUSAL_DAMAGED
			      : allotment->retracting ? REFUSAL_RETRACTING
						      : REFUSAL_PLAIN;
	refusal_say(ret_refusal, "%s", allotment->label);
	return GPUBROKER_REFUSED_ALLOTTED;
}
