/* SPDX-License-Identifier: MIT */
/*
 * The listings of libgpubroker: devices, leases and events, each handed to the caller's function as
 * it arrives. Keeps nothing.
 */
#include "config.h"

#include "client/gpubroker.h"
#include "client/library/connection.h"

#include <errno.h>

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
	};

	pci_address_format(&m->address, device.address);
	if (m->is_vf)
		pci_address_format(&m->physfn, device.physfn);
	ANSWER_TEXT(device.driver, m->driver);
	ANSWER_TEXT(device.vendor_name, m->vendor_name);
	ANSWER_TEXT(device.model, m->model);
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
	lease.migration = (enum gpubroker_migration)m->migration;
	return func(userdata, &lease);
}

/* Receives the next answer. True: it ended with a refusal or a fault, which is in *ret_r. */
static bool is_over(struct gpubroker *handle, union answer *answer, int *ret_r)
{
	*ret_r = connection_receive_wait(handle, answer);
	if (!*ret_r && answer->type == MESSAGE_REFUSAL)
		*ret_r = connection_refused(handle, &answer->refusal);
	return *ret_r != 0;
}

static int list_all(struct gpubroker *handle, enum message_type request_type,
		    gpubroker_device_func on_device, gpubroker_lease_func on_lease, void *userdata)
{
	const struct message_plain request = { .type = request_type };
	int r = connection_send(handle, &request, sizeof(request)), result = 0;
	union answer answer;

	while (!r && !is_over(handle, &answer, &r)) {
		if (answer.type == MESSAGE_END)
			return result;
		if (answer.type == MESSAGE_DEVICE && on_device)
			result = result ? result : hand_device(&answer.device, on_device, userdata);
		else if (answer.type == MESSAGE_LEASE && on_lease)
			result = result ? result : hand_lease(&answer.lease, on_lease, userdata);
		else
			r = -EPROTO;
	}
	return r;
}

int gpubroker_list(struct gpubroker *handle, gpubroker_device_func func, void *userdata)
{
	return list_all(handle, MESSAGE_LIST, func, NULL, userdata);
}

int gpubroker_leases(struct gpubroker *handle, gpubroker_lease_func func, void *userdata)
{
	return list_all(handle, MESSAGE_LEASES, NULL, func, userdata);
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
	};

	ANSWER_TEXT(event.parent, m->parent);
	answer_address(&m->address, event.parent, event.address);
	ANSWER_TEXT(event.reason, m->reason);
	return func(userdata, &event);
}

int gpubroker_watch(struct gpubroker *handle, gpubroker_event_func func, void *userdata)
{
	const struct message_plain request = { .type = MESSAGE_WATCH };
	int r = connection_send(handle, &request, sizeof(request));
	union answer answer;

	while (!r && !is_over(handle, &answer, &r))
		r = answer.type == MESSAGE_EVENT ? hand_event(&answer.event, func, userdata)
						 : -EPROTO;
	return r;
}
