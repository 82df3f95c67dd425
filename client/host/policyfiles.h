/* SPDX-License-Identifier: MIT */
/*
 * Policy files: which are read, whose they must be, and who is meant by a name. For the loader
 * (never the core) and for gpubroker(1), so that what the one checks is what the other takes.
 */
#pragma once

#include <stdbool.h>
#include <stddef.h>

#include "policy/policy.h"

struct policyfiles {
	/* Either directories, in order of precedence: the first one's namesake masks ... */
	const char *const *directories;
	size_t n_directories;
	/* ... or these files, whoever owns them: an administrator's drafts. */
	const char *const *files;
	size_t n_files;
	/*
	 * Asks NSS for nobody: users and groups may be anyone's. For a root process that wants what
	 * concerns no user, since NSS modules have no business in one.
	 */
	bool without_accounts;
	/*
	 * Called for each mistake and warning; those about a file as a whole have line 0. What it
	 * is handed lives only for the call. May be NULL.
	 */
	void (*found)(void *userdata, const struct policy_finding *finding);
	void *userdata;
};

/*
 * Reads all of them. 0 with the policy, which is the caller's; or the number of mistakes, and there
 * is no policy; or -errno. May take as long as NSS does.
 */
int policyfiles_load(const struct policyfiles *request, struct policy *ret_policy);
