/* SPDX-License-Identifier: MIT */
/*
 * What the `gpubroker policy` commands share: where the policy is read from.
 */
#pragma once

#include "client/host/policyfiles.h"

struct policy_sources {
	const char *given[16]; /* --policy DIR; none: the installed ones */
	size_t n_given;
	bool without_accounts; /* see policyfiles.h */
};

struct policy_count {
	unsigned mistakes, warnings;
};

void policy_sources_init(struct policy_sources *sources);
/* 0, or an exit status after saying why. */
int policy_sources_add(struct policy_sources *sources, const char *directory);
/* As policyfiles_load(); prints what is found and counts it where count is not NULL. */
int policy_sources_load(const struct policy_sources *sources, const char *const *files,
			size_t n_files, struct policy_count *count, struct policy *ret_policy);

int policy_explain(int argc, char **argv);
int policy_install(int argc, char **argv);
