/* SPDX-License-Identifier: MIT */
/* The helpers' roles, and starting one. */
#pragma once

#include <stdbool.h>
#include <sys/types.h>

#include "brokerd/helper/helper.h"

/* "watcher", "loader" */
const char *helper_role_name(enum helper_role role);

struct helper_hello helper_hello(enum helper_role role);
/* Returns true if it is the greeting of a helper that this core understands. */
bool helper_hello_valid(const struct helper_hello *hello);

/* Forks the helper and confines it. 0, or -errno. */
int helper_start(struct helper *helper, enum helper_role role, uid_t uid, gid_t gid,
		 const void *argument);
/*
 * What gpubrokerd --helper does: connects to the core, confines itself and runs. Takes no
 * privilege, and refuses to run with any. Returns the exit status.
 */
int helper_run(enum helper_role role, const char *path, const void *argument);

/*
 * Looks up the helpers' account in /etc/passwd itself: NSS modules, which getpwnam() would load,
 * have no business in a root process. -ENOENT: there is no such account.
 */
int helper_account(const char *name, uid_t *ret_uid, gid_t *ret_gid);
