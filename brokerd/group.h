/* SPDX-License-Identifier: MIT */
/*
 * An IOMMU group as sysfs shows it at one moment, and the verdict on lending it. Pure: kernel.h reads, here it is
 * decided.
 */
#pragma once

#include <stdbool.h>
#include <stddef.h>
#include <stdint.h>

#include "client/protocol.h"
#include "policy/policy.h"

struct function {
	struct policy_facts facts; /* address, ids, class, group */
	char driver[PROTOCOL_NAME_MAX];	  /* "": none */
	char override[PROTOCOL_NAME_MAX]; /* driver_override, "": none */
	bool boot_vga;
	char in_use[96]; /* by what the host is using it, "": it is not */
};

struct group_view {
	uint32_t group;
	size_t n_functions; /* of those that go along with a lease; bridges do not */
	struct function functions[PROTOCOL_FUNCTIONS_MAX];
	char not_viable[96]; /* why the group can never be lent, "": it can */
	bool has_blocker;
	struct pci_address blocker; /* the function that spoils it */
};

/* True for vfio-pci and the variant drivers, none of which needs to be unbound before lending. */
bool driver_is_vfio(const char *driver);

/* The index of an address in a view, or SIZE_MAX. */
size_t group_find(const struct group_view *view, const struct pci_address *address);

/* A refusal that names nothing yet. */
struct message_refusal refusal_make(uint32_t reason);

/*
 * May this subject have this group, asking for functions[asked]? Policy first, so that who may not have it learns
 * nothing else; then the boot VGA and what the host is using. 0, with the policy's verdict; or the refusal's
 * reason, with *ret_refusal filled.
 */
int group_decide(const struct group_view *view, const struct policy *policy,
		 const struct policy_subject *subject, size_t asked, uint32_t claim_flags,
		 struct policy_verdict *ret_verdict, struct message_refusal *ret_refusal);

/* A refusal's reason as the log names it, "no-group". Static. */
const char *refusal_name(uint32_t reason);

/* "/etc/gpubroker/policy.d/10-lab.policy:7" of a rule's index; "" for none. */
void rule_origin(const struct policy *policy, size_t rule, char out[288]);
