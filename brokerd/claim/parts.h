/* SPDX-License-Identifier: MIT */
/*
 * Claims of parts (mediated devices and vGPUs): which parents offer the profile, and which of those
 * the policy allows.
 */
#pragma once

#include "brokerd/claim/selecting.h"

/* The search for a part, at the parent that is looked at. */
struct part_search {
	const struct claims *claims;
	const struct claimant *claimant; /* NULL: nothing is reserved from it */
	const struct policy_subject *subject;
	const struct selector *selector;
	const struct policy_usage *usage;
	const struct lease *own; /* that does not stand in its own way */
	uint32_t name;		 /* of the policy, or POLICY_NO_NAME */
	struct part_choice *choice;
	struct wanted *wanted;
	struct message_refusal nearest; /* the nearest miss; its reason is 0 while there is none */
	/* the parent */
	const char *parent;
	struct function function;
	bool is_pci, any_type;
};

/* Returns true if the selector means a part, and not a device whole. */
bool parts_meant(const struct policy *policy, const struct selector *selector);

/*
 * Finds what the part may become, by policy and by what there is; changes nothing. 0 with
 * *ret_choice, the caller's to free, or the reason, with *ret_refusal.
 */
int parts_select(struct selecting *selecting, const struct selector *selector,
		 struct part_choice **ret_choice, struct message_refusal *ret_refusal);

/* Returns true if the policy in force would grant the lease of a part. */
bool parts_allowed(const struct policy *policy, const struct devices *devices,
		   const struct lease *lease, const struct policy_subject *subject);

/* ---- for ask-vgpu.c, about one type of the search's parent ---- */

/* Returns the refusal for a profile of the parent. */
struct message_refusal part_search_refusal(const struct part_search *search, uint32_t reason,
					   const char *type);
/* Remembers a refusal if it is a nearer miss than those before. */
void part_search_miss(struct part_search *search, const struct message_refusal *refusal);
/* Asks the policy about a type. 0, or the reason; then it is a miss. */
int part_search_decide(struct part_search *search, const char *type, const char *name,
		       struct policy_verdict *ret_verdict);
/* Returns true if this is the type that was asked for, of a device that was. */
bool part_search_means(const struct part_search *search, const char *type, const char *name);
/* Returns true, and it is a miss, if the parent itself is lent, or on its way. */
bool part_search_is_held(struct part_search *search);
/* Fills a candidate with what the policy has granted. */
void part_search_fill(const struct part_search *search, const char *type, const char *name,
		      const struct policy_verdict *verdict, struct part_candidate *candidate);
