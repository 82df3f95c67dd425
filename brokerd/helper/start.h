/* SPDX-License-Identifier: MIT */
/* The helpers' roles, and how a helper is started. */
#pragma once

#include <stdbool.h>
#include <sys/types.h>

#include "brokerd/helper/helper.h"

/* Returns the role's name, "watcher", "loader", "finder" or "runner of hooks". */
const char *helper_role_name(enum helper_role role);

struct helper_hello helper_hello(enum helper_role role);
/* Returns true if the greeting is that of a helper that this core understands. */
bool helper_hello_valid(const struct helper_hello *hello);

/* Forks a helper, which confines itself and runs. Returns 0, or -errno. */
int helper_start(struct helper *helper, enum helper_role role, uid_t uid, gid_t gid,
		 const void *argument);
/*
 * Runs a helper for gpubrokerd --helper: connects to the core and confines itself. Refuses to run
 * with any privilege but the finder's. Returns the exit status.
 */
int helper_run(enum helper_role role, const char *path, const void *argument);

/*
 * Looks up the helpers' account in /etc/passwd itself: getpwnam() would load NSS modules, which
 * must not run in a root process. Returns 0, or -errno; -ENOENT if there is no such account.
 */
int helper_account(const char *name, uid_t *ret_uid, gid_t *ret_gid);
