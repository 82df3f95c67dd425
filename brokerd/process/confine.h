/* SPDX-License-Identifier: MIT */
/*
 * What each process may do, stated in one place (confine.c). Failing to confine is always fatal to
 * the process that failed; every function returns 0 or -errno.
 */
#pragma once

#include <stdbool.h>
#include <sys/types.h>

enum confine_part { CONFINE_CORE, CONFINE_WATCHER, CONFINE_LOADER };

/* A worker's filter as bytes, made once at start: a child after fork must not allocate. */
struct confine_filter;

int confine_filter_new(struct confine_filter **ret_filter);
struct confine_filter *confine_filter_free(struct confine_filter *filter);

/*
 * Stage 1, in a helper just forked, still root. Should: become the helpers' account, without
 * groups, capabilities or a bounding set, undumpable, never to gain privilege, under the part's
 * filter. Mustn't: leave a way back.
 */
int confine_helper(enum confine_part part, uid_t uid, gid_t gid);

/*
 * Stage 1, in a helper that its unit has started as the helpers' account. Should: as
 * confine_helper(), but for what only root can do, which must be done already. Mustn't: go on with
 * a privilege that it cannot drop.
 */
int confine_own(enum confine_part part);

/* Stage 1b, in a helper that has started: what it needed for that alone is no longer allowed. */
int confine_settled(void);

/*
 * Stage 2, in the core, when everything that needs privilege is open. Should: drop every capability
 * but CAP_SYS_RESOURCE where asked to keep it (and there is one to keep), empty the bounding set
 * or, where that takes a capability that it has not, see that nothing else is in it; go under
 * Landlock, where `state_dir` is its records' directory, and under the core's filter, with what
 * lending `cdevs` takes where the kernel has them. Mustn't:
 * happen after a peer, a helper or a record has been read.
 */
int confine_core(bool keep_sys_resource, bool cdevs, int state_dir);

/*
 * Stage 3, in the core, when the policy turns out to grant no locked memory: no capability is left.
 */
int confine_drop_sys_resource(void);

/* Stage 4, in a worker just forked: only `read`, `write` and `exit_group` are left. */
int confine_worker(const struct confine_filter *filter);
