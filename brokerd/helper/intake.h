/* SPDX-License-Identifier: MIT */
/* Puts a policy together from the loader's records, which are checked one by one. */
#pragma once

#include "brokerd/helper/helper.h"
#include "policy/policy.h"

struct policy_intake {
	struct policy policy;
	size_t names, files, rules, texts; /* the counts that LOADER_BEGIN announced */
};

enum intake_result {
	INTAKE_MORE,	  /* the policy is not complete yet */
	INTAKE_POLICY,	  /* the policy is complete, and the caller takes it over */
	INTAKE_MISTAKES,  /* the loader found mistakes, so there is no policy */
	INTAKE_NONSENSE,  /* the record is invalid, so the loader cannot be trusted */
	INTAKE_NO_MEMORY, /* there is no memory for the policy */
};

/* Takes a record. *ret_policy is set only with INTAKE_POLICY. */
enum intake_result intake_take(struct policy_intake *intake, const struct loader_record *record,
			       struct policy *ret_policy);
void intake_done(struct policy_intake *intake);
