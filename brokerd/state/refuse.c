/* SPDX-License-Identifier: MIT */
/* Fills refusals, see refuse.h. No I/O. The sentences are in client/library/refusal.c. */
#include "config.h"

#include "brokerd/state/refuse.h"
#include "client/common/util.h"
#include "client/gpubroker.h"

#include <stdarg.h>
#include <stdio.h>
#include <string.h>

struct message_refusal refusal_make(uint32_t reason)
{
	return (struct message_refusal){
		.type = MESSAGE_REFUSAL,
		.reason = reason,
		.group = UINT32_MAX,
	};
}

const char *refusal_name(uint32_t reason)
{
	static const char *const names[] = {
#define NAME_OF(reason, number, name, status) [number] = name,
		GPUBROKER_REFUSALS(NAME_OF)
#undef NAME_OF
	};

	return reason < ARRAY_SIZE(names) && names[reason] ? names[reason] : "unknown";
}

bool refusal_is_others(int reason)
{
	return reason == GPUBROKER_REFUSED_BUSY || reason == GPUBROKER_REFUSED_ALLOTTED;
}

int refuse_address(struct message_refusal *ret_refusal, uint32_t reason,
		   const struct pci_address *address)
{
	*ret_refusal = refusal_make(reason);
	ret_refusal->address = *address;
	ret_refusal->has_address = 1;
	return (int)reason;
}

void refusal_say(struct message_refusal *refusal, const char *format, ...)
{
	va_list args;

	va_start(args, format);
	vsnprintf(refusal->text, sizeof(refusal->text), format, args);
	va_end(args);
}

int refuse_fault(struct message_refusal *ret_refusal, const struct pci_address *address,
		 const char *what, int error)
{
	refuse_address(ret_refusal, GPUBROKER_REFUSED_FAILED, address);
	refusal_say(ret_refusal, "%s", what);
	ret_refusal->error = error;
	return GPUBROKER_REFUSED_FAILED;
}

void refusal_set_other(struct message_refusal *refusal, const struct pci_address *other)
{
	refusal->other = *other;
	refusal->has_other = 1;
}

void refusal_name_lease(struct message_refusal *refusal, const struct lease *lease)
{
	refusal->group = lease->group;
	refusal->has_address = lease_has_address(lease);
	if (refusal->has_address)
		refusal->address = lease->asked;
	else
		memcpy(refusal->parent, lease->mdev.parent, sizeof(refusal->parent));
	memcpy(refusal->profile, lease->mdev.type, sizeof(refusal->profile));
}

int refuse_held(struct message_refusal *ret_refusal, const struct lease *lease,
		const struct pci_address *address)
{
	const bool stuck = lease->state == GPUBROKER_LEASE_STUCK;
	struct message_refusal r =
		refusal_make(stuck ? GPUBROKER_REFUSED_STUCK : GPUBROKER_REFUSED_BUSY);

	refusal_name_lease(&r, lease);
	if (r.has_address)
		r.address = *address;
	r.holder_uid = lease->uid;
	r.holder_pid = lease->pid;
	r.since = lease->since;
	r.lease = lease->id;
	if (stuck)
		refusal_say(&r, "%s", lease->reason);
	else if (lease->state == GPUBROKER_LEASE_ASKED)
		r.detail = REFUSAL_ASKED;
	else if (lease_is_leaving(lease))
		r.detail = REFUSAL_RELEASING;
	*ret_refusal = r;
	return (int)r.reason;
}

int refuse_held_for_root(struct message_refusal *ret_refusal, const struct lease *lease,
			 const struct pci_address *address)
{
	int reason = refuse_held(ret_refusal, lease, address);

	if (lease->state == GPUBROKER_LEASE_LEASED)
		ret_refusal->detail = REFUSAL_LEASED;
	return reason;
}

int refuse_reserved(struct message_refusal *ret_refusal, const struct pci_address *address,
		    uint32_t group)
{
	refuse_address(ret_refusal, GPUBROKER_REFUSED_BUSY, address);
	ret_refusal->group = group;
	ret_refusal->detail = REFUSAL_RESERVED;
	return GPUBROKER_REFUSED_BUSY;
}

int refuse_foreign(struct message_refusal *ret_refusal, const struct pci_address *address,
		   uint32_t group)
{
	refuse_address(ret_refusal, GPUBROKER_REFUSED_BUSY, address);
	ret_refusal->group = group;
	ret_refusal->detail = REFUSAL_FOREIGN;
	return GPUBROKER_REFUSED_BUSY;
}

int refuse_node(struct message_refusal *ret_refusal, const struct pci_address *address,
		uint32_t group, const char *path, uint32_t uid, uint32_t mode)
{
	refuse_address(ret_refusal, GPUBROKER_REFUSED_NODE, address);
	ret_refusal->group = group;
	refusal_say(ret_refusal, "%s", path);
	ret_refusal->holder_uid = uid;
	ret_refusal->limit = mode;
	return GPUBROKER_REFUSED_NODE;
}
