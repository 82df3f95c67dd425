/* SPDX-License-Identifier: MIT */
/*
 * Subordinate ids: whose the uids in /etc/subuid are, and which groups a user with gids in
 * /etc/subgid cannot leave. For the loader (never the core) and for gpubroker(1). Only the files
 * are read, whatever `subid:` in nsswitch.conf(5) says: libsubid can answer whose one uid is, but
 * the core must know all owners before anybody asks.
 */
#pragma once

#include <stdbool.h>
#include <stddef.h>
#include <stdint.h>

#include "policy/policy.h"

#define SUBIDS_DIRECTORY "/etc"
#define SUBIDS_UIDS "subuid"
#define SUBIDS_GIDS "subgid"

/* The ids that a policy names, each list sorted and without duplicates. */
struct subids_named {
	uint32_t *users;   /* who must stay themselves */
	uint32_t *denied;  /* groups of deny rules */
	uint32_t *allowed; /* groups of allow rules */
	size_t n_users, n_denied, n_allowed;
};

/* Returns 0, or -ENOMEM. */
int subids_named_find(const struct policy *policy, struct subids_named *ret_named);
void subids_named_done(struct subids_named *named);

struct subids {
	const char *directory; /* has the files subuid, subgid, passwd and nsswitch.conf */
	/* of the policy, and of one that is still in force; either may be NULL */
	const struct subids_named *named[2];
	/* Called for each warning; the finding is valid only during the call. May be NULL. */
	void (*found)(void *userdata, const struct policy_finding *finding);
	void *userdata;
};

/*
 * Returns true if a file of that name in the directory is one of the files, or says who has
 * accounts and which groups they are in: after a change of it subids_load() may find other owners.
 */
bool subids_is_source(const char *name);

/*
 * Reads the files, and looks up their users with NSS. Returns 0 with owners that are valid for
 * policy_owners_valid(), and are the caller's; or -errno. A file that is missing is an empty one.
 */
int subids_load(const struct subids *request, struct policy_owners *ret_owners);
