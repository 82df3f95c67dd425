/* SPDX-License-Identifier: MIT */
/* The policy that the core puts together from the loader's records, checked one by one. */
#pragma once

#include "brokerd/helper/helper.h"
#include "policy/policy.h"

struct policy_intake {
	struct policy policy;
	size_t names, files, rules, texts; /* announced */
};

enum intake_result {
	INTAKE_MORE,	  /* there is more to come */
	INTAKE_POLICY,	  /* a whole policy is there, and is the caller's */
	INTAKE_MISTAKES,  /* the loader found mistakes: there is no policy */
	INTAKE_NONSENSE,  /* the record makes no sense: the loader is not to be trusted further */
	INTAKE_NO_MEMORY, /* likewise of no use */
};

/* Takes a record. *ret_policy is set with INTAKE_POLICY only. */
enum intake_result intake_take(struct policy_intake *intake, const struct loader_record *record,
			       struct policy *ret_policy);
void intake_done(struct policy_intake *intake);
