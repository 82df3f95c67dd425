/* SPDX-License-Identifier: MIT */
/*
 * The daemon's answers as the library reads them, see answer.h. Pure. It must never believe that a
 * string of a message ends.
 */
#include "config.h"

#include "client/library/answer.h"

size_t answer_size(uint32_t type)
{
	switch (type) {
	case MESSAGE_WELCOME:
		return sizeof(struct message_hello);
	case MESSAGE_DEVICE:
		return sizeof(struct message_device);
	case MESSAGE_LEASE:
		return sizeof(struct message_lease);
	case MESSAGE_END:
	case MESSAGE_READY:
		return sizeof(struct message_plain);
	case MESSAGE_STEP:
		return sizeof(struct message_step);
	case MESSAGE_GRANT:
		return sizeof(struct message_grant);
	case MESSAGE_REFUSAL:
		return sizeof(struct message_refusal);
	case MESSAGE_WAITING:
		return sizeof(struct message_waiting);
	case MESSAGE_QUEUED:
		return sizeof(struct message_queued);
	case MESSAGE_POLICY_STATE:
		return sizeof(struct message_policy_state);
	case MESSAGE_USED:
		return sizeof(struct message_used);
	case MESSAGE_COUNTED:
		return sizeof(struct message_counted);
	case MESSAGE_ALLOTMENT:
		return sizeof(struct message_allotment);
	case MESSAGE_EVENT:
		return sizeof(struct message_event);
	default:
		return 0;
	}
}

void answer_address(const struct pci_address *address, const char *parent,
		    char out[PCI_ADDRESS_TEXT])
{
	struct pci_address own;

	if (*parent && (pci_address_parse(parent, &own) || pci_address_compare(&own, address)))
		out[0] = '\0';
	else
		pci_address_format(address, out);
}
