/* SPDX-License-Identifier: MIT */
/*
 * Claims of parts (mediated devices and vGPUs): finds the parents that offer the profile, and which
 * of those the policy allows.
 */
#pragma once

#include "brokerd/claim/selecting.h"

/* The search for a part, with the current parent. */
struct part_search {
	const struct claims *claims;
	const struct claimant *claimant; /* the client that the part is for */
	const struct policy_subject *subject;
	const struct selector *selector;
	const struct policy_usage *usage;
	const struct lease *own; /* the searching lease, which does not count as held; or NULL */
	uint32_t name;		 /* a name of the policy, or POLICY_NO_NAME */
	struct part_choice *choice;
	struct wanted *wanted;
	uint64_t cost;			/* in the unit of state/users.h */
	struct message_refusal nearest; /* the nearest miss; reason 0: none */
	/* the parent */
	const char *parent;
	struct function function;
	bool is_pci, any_type;
};

/* Returns true if the selector means a part, not a whole device. */
bool parts_meant(const struct policy *policy, const struct selector *selector, uint64_t *cost);

/*
 * Finds the candidates for a part that the policy allows and that exist; changes nothing. Returns 0
 * with *ret_choice, which the caller frees, or the reason with *ret_refusal.
 */
int parts_select(struct selecting *selecting, const struct selector *selector,
		 struct part_choice **ret_choice, struct message_refusal *ret_refusal);

/* Returns true if the policy in force would grant the lease of a part. */
bool parts_allowed(const struct policy *policy, const struct devices *devices,
		   const struct lease *lease, const struct policy_subject *subject);

/* ---- for ask-vgpu.c, about one type of the search's parent ---- */

/* Returns a refusal about a profile of the parent. */
struct message_refusal part_search_refusal(const struct part_search *search, uint32_t reason,
					   const char *type);
/* Keeps a refusal if it is a nearer miss than the earlier ones. */
void part_search_miss(struct part_search *search, const struct message_refusal *refusal);
/* Asks the policy about a type. Returns 0; or the reason, and notes it as a miss. */
int part_search_decide(struct part_search *search, const char *type, const char *name,
		       struct policy_verdict *ret_verdict);
/* Returns true if the selector means this type of the parent. */
bool part_search_means(struct part_search *search, const char *type, const char *name);
/* Returns true, and notes the refusal, if the parent itself has a lease. */
bool part_search_is_held(struct part_search *search);
/* Fills a candidate with the terms that the policy has granted. */
void part_search_fill(const struct part_search *search, const char *type, const char *name,
		      const struct policy_verdict *verdict, struct part_candidate *candidate);
