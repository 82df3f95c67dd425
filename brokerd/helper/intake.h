/* SPDX-License-Identifier: MIT */
/* Puts a policy together from the loader's records, which are checked one by one. */
#pragma once

#include "brokerd/helper/helper.h"
#include "policy/policy.h"

struct policy_intake {
	struct policy policy;
	size_t names, files, rules, texts; /* the counts that LOADER_BEGIN announced */
	struct policy_owners owners;
	size_t ranges, members; /* the counts that LOADER_OWNERS announced */
};

enum intake_result {
	INTAKE_MORE,	  /* the policy is not complete yet */
	INTAKE_POLICY,	  /* the policy is complete, and the caller takes it over */
	INTAKE_MISTAKES,  /* the loader found mistakes, so there is no policy */
	INTAKE_NONSENSE,  /* the record is invalid, so the loader cannot be trusted */
	INTAKE_NO_MEMORY, /* there is no memory for the policy */
	INTAKE_OWNERS,	  /* the owners are complete, and the caller takes them over */
};

/*
 * Takes a record. *ret_policy, which has an index and no owners, is set only with INTAKE_POLICY,
 * and *ret_owners only with INTAKE_OWNERS.
 */
enum intake_result intake_take(struct policy_intake *intake, const struct loader_record *record,
			       struct policy *ret_policy, struct policy_owners *ret_owners);
void intake_done(struct policy_intake *intake);
