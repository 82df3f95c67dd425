/* SPDX-License-Identifier: MIT */
/*
 * The listings of libgpubroker: devices, leases, waiting claims and events, each handed to the
 * caller's function as it arrives. Keeps nothing.
 */
#include "config.h"

#include "client/gpubroker.h"
#include "client/library/connection.h"

#include <errno.h>
#include <inttypes.h>
#include <stdio.h>
#include <string.h>

static int hand_device(const struct message_device *m, gpubroker_device_func func, void *userdata)
{
	struct gpubroker_device device = {
		.vendor = m->vendor,
		.device = m->device,
		.subsystem_vendor = m->subsystem_vendor,
		.subsystem_device = m->subsystem_device,
		.class_code = m->class_code,
		.iommu_group = m->group == UINT32_MAX ? -1 : (int64_t)m->group,
		.status = (enum gpubroker_status)m->status,
		.allowed = m->allowed,
		.lease = m->lease,
		.holder_uid = m->holder_uid,
		.vfs_total = m->vfs_total,
		.vfs = m->vfs,
		.allotted_uid = m->allotted_uid,
	};

	pci_address_format(&m->address, device.address);
	if (m->is_vf)
		pci_address_format(&m->physfn, device.physfn);
	ANSWER_TEXT(device.driver, m->driver);
	ANSWER_TEXT(device.vendor_name, m->vendor_name);
	ANSWER_TEXT(device.model, m->model);
	ANSWER_TEXT(device.allotment, m->allotment);
	return func(userdata, &device);
}

static int hand_lease(const struct message_lease *m, gpubroker_lease_func func, void *userdata)
{
	char addresses[PROTOCOL_FUNCTIONS_MAX][PCI_ADDRESS_TEXT];
	struct gpubroker_lease lease = {
		.id = m->id,
		.iommu_group = m->group,
		.uid = m->uid,
		.pid = m->pid,
		.since = m->since,
		.state = (enum gpubroker_lease_state)m->state,
		.n_devices = m->n_functions,
		.devices = addresses,
	};

	if (m->n_functions > PROTOCOL_FUNCTIONS_MAX)
		return -EPROTO;
	for (size_t i = 0; i < m->n_functions; i++)
		pci_address_format(&m->functions[i], addresses[i]);
	lease.allowed = m->allowed;
	lease.expires = m->expires;
	lease.stuck_since = m->stuck_since;
	lease.released_at = m->released_at;
	ANSWER_TEXT(lease.reason, m->reason);
	ANSWER_TEXT(lease.rule, m->rule);
	ANSWER_TEXT(lease.parent, m->mdev.parent);
	ANSWER_TEXT(lease.profile, m->mdev.profile);
	ANSWER_TEXT(lease.uuid, m->mdev.uuid);
	ANSWER_TEXT(lease.label, m->label);
	lease.migration = (enum gpubroker_migration)m->migration;
	return func(userdata, &lease);
}

/* Writes what a selector asks for, as gpubroker_claim_add_profile() takes it. */
static void name_wanted(const struct selector *s, struct gpubroker_wanted *out)
{
	*out = (struct gpubroker_wanted){ 0 };
	if (s->kind == SELECT_ADDRESS)
		pci_address_format(&s->address, out->device);
	else if (s->kind == SELECT_GROUP)
		snprintf(out->device, sizeof(out->device), "iommu-group:%" PRIu32, s->group);
	else if (s->kind == SELECT_NAME)
		snprintf(out->device, sizeof(out->device), "%.*s", (int)sizeof(s->name), s->name);
	else
		strcpy(out->device, "any");
	ANSWER_TEXT(out->profile, s->profile);
}

static int hand_waiting(const struct message_waiting *m, gpubroker_waiting_func func,
			void *userdata)
{
	struct gpubroker_wanted wanted[PROTOCOL_SELECTORS_MAX];
	const struct gpubroker_waiting waiting = {
		.id = m->id,
		.uid = m->uid,
		.pid = m->pid,
		.since = m->since,
		.place = m->place,
		.n_wanted = m->n_selectors,
		.wanted = wanted,
		.lease = m->lease,
		.holder_uid = m->holder_uid,
		.holder_pid = m->holder_pid,
		.ends = m->ends,
		.keeps = m->keeps,
	};

	if (m->n_selectors > PROTOCOL_SELECTORS_MAX)
		return -EPROTO;
	for (size_t i = 0; i < m->n_selectors; i++)
		name_wanted(&m->selectors[i], &wanted[i]);
	return func(userdata, &waiting);
}

static int hand_used(const struct message_used *m, gpubroker_used_func func, void *userdata)
{
	struct gpubroker_used used = {
		.lease = m->lease,
		.uid = m->uid,
		.since = m->since,
		.seconds = m->seconds,
	};

	ANSWER_TEXT(used.device, m->device);
	ANSWER_TEXT(used.profile, m->profile);
	return func(userdata, &used);
}

static int hand_allotment(const struct message_allotment *m, gpubroker_allotment_func func,
			  void *userdata)
{
	char addresses[PROTOCOL_SELECTORS_MAX][PCI_ADDRESS_TEXT];
	struct gpubroker_allotment allotment = {
		.uid = m->uid,
		.own = m->flags & ALLOTMENT_OWN,
		.since = m->since,
		.until = m->until,
		.retracting = m->flags & ALLOTMENT_RETRACTING,
		.damaged = m->flags & ALLOTMENT_DAMAGED,
		.n_devices = m->n_devices,
		.devices = (const char(*)[PCI_ADDRESS_TEXT])addresses,
		.iommu_groups = m->groups,
	};

	if (m->n_devices > PROTOCOL_SELECTORS_MAX)
		return -EPROTO;
	for (size_t i = 0; i < m->n_devices; i++)
		pci_address_format(&m->devices[i], addresses[i]);
	ANSWER_TEXT(allotment.label, m->label);
	ANSWER_TEXT(allotment.socket, m->socket);
	allotment.listens = m->flags & ALLOTMENT_LISTENS;
	return func(userdata, &allotment);
}

/* Receives the next answer. True: it ended with a refusal or a fault, which is in *ret_r. */
static bool is_over(struct gpubroker *handle, union answer *answer, int *ret_r)
{
	*ret_r = connection_receive_wait(handle, answer);
	if (!*ret_r && answer->type == MESSAGE_REFUSAL)
		*ret_r = connection_refused(handle, &answer->refusal);
	return *ret_r != 0;
}

/* The caller's function, of one of these types. */
struct listing {
	gpubroker_device_func device;
	gpubroker_lease_func lease;
	gpubroker_waiting_func waiting;
	gpubroker_used_func used;
	gpubroker_allotment_func allotment;
};

static int list_all(struct gpubroker *handle, enum message_type request_type,
		    const struct listing *on, void *userdata)
{
	const struct message_plain request = { .type = request_type };
	int r = connection_send(handle, &request, sizeof(request)), result = 0;
	union answer answer;

	while (!r && !is_over(handle, &answer, &r)) {
		if (answer.type == MESSAGE_END)
			return result;
		if (answer.type == MESSAGE_DEVICE && on->device)
			result = result ? result
					: hand_device(&answer.device, on->device, userdata);
		else if (answer.type == MESSAGE_LEASE && on->lease)
			result = result ? result : hand_lease(&answer.lease, on->lease, userdata);
		else if (answer.type == MESSAGE_WAITING && on->waiting)
			result = result ? result
					: hand_waiting(&answer.waiting, on->waiting, userdata);
		else if (answer.type == MESSAGE_USED && on->used)
			result = result ? result : hand_used(&answer.used, on->used, userdata);
		else if (answer.type == MESSAGE_ALLOTMENT && on->allotment)
			result =
				result ? result
				       : hand_allotment(&answer.allotment, on->allotment, userdata);
		else
			r = -EPROTO;
	}
	return r;
}

int gpubroker_list(struct gpubroker *handle, gpubroker_device_func func, void *userdata)
{
	return list_all(handle, MESSAGE_LIST, &(struct listing){ .device = func }, userdata);
}

int gpubroker_leases(struct gpubroker *handle, gpubroker_lease_func func, void *userdata)
{
	return list_all(handle, MESSAGE_LEASES, &(struct listing){ .lease = func }, userdata);
}

int gpubroker_queue(struct gpubroker *handle, gpubroker_waiting_func func, void *userdata)
{
	return list_all(handle, MESSAGE_QUEUE, &(struct listing){ .waiting = func }, userdata);
}

int gpubroker_usage(struct gpubroker *handle, gpubroker_used_func func, void *userdata)
{
	return list_all(handle, MESSAGE_USAGE, &(struct listing){ .used = func }, userdata);
}

int gpubroker_allotments(struct gpubroker *handle, gpubroker_allotment_func func, void *userdata)
{
	return list_all(handle, MESSAGE_ALLOTMENTS, &(struct listing){ .allotment = func },
			userdata);
}

int gpubroker_counters(struct gpubroker *handle, struct gpubroker_counters *ret_counters)
{
	const struct message_plain request = { .type = MESSAGE_COUNTERS };
	union answer answer;
	int r = connection_send(handle, &request, sizeof(request));

	if (r || is_over(handle, &answer, &r))
		return r;
	if (answer.type != MESSAGE_COUNTED)
		return -EPROTO;
	*ret_counters = (struct gpubroker_counters){
		.all = answer.counted.all,
		.started = answer.counted.started,
		.granted = answer.counted.granted,
		.ended = answer.counted.ended,
		.lost = answer.counted.lost,
	};
	_Static_assert(sizeof(ret_counters->refused) == sizeof(answer.counted.refused),
		       "wire and public counters differ");
	memcpy(ret_counters->refused, answer.counted.refused, sizeof(answer.counted.refused));
	return 0;
}

static int hand_event(const struct message_event *m, gpubroker_event_func func, void *userdata)
{
	struct gpubroker_event event = {
		.kind = (enum gpubroker_event_kind)m->event,
		.time = m->time,
		.lease = m->lease,
		.state = (enum gpubroker_lease_state)m->state,
		.uid = m->uid,
		.pid = m->pid,
		.iommu_group = m->group,
		.ends = m->ends,
		.lost = m->lost,
		.place = m->place,
		.n_wanted = m->n_selectors,
	};

	ANSWER_TEXT(event.parent, m->parent);
	answer_address(&m->address, event.parent, event.address);
	ANSWER_TEXT(event.reason, m->reason);
	ANSWER_TEXT(event.label, m->label);
	if (event.n_wanted) {
		name_wanted(&m->first, &event.wanted);
		if (!m->has_address)
			event.address[0] = '\0';
	}
	return func(userdata, &event);
}

int gpubroker_watch_start(struct gpubroker *handle)
{
	const struct message_plain request = { .type = MESSAGE_WATCH };

	return connection_send(handle, &request, sizeof(request));
}

int gpubroker_watch_continue(struct gpubroker *handle, gpubroker_event_func func, void *userdata)
{
	union answer answer;
	size_t n_fds;
	int r = 0;

	while (!r) {
		r = connection_receive(handle, &answer, NULL, 0, &n_fds);
		if (!r && answer.type == MESSAGE_REFUSAL)
			r = connection_refused(handle, &answer.refusal);
		else if (!r)
			r = answer.type == MESSAGE_EVENT ? hand_event(&answer.event, func, userdata)
							 : -EPROTO;
	}
	return r;
}

int gpubroker_watch(struct gpubroker *handle, gpubroker_event_func func, void *userdata)
{
	int r = gpubroker_watch_start(handle);

	while (!r) {
		r = gpubroker_watch_continue(handle, func, userdata);
		if (r == -EAGAIN)
			r = connection_wait(handle);
	}
	return r;
}
