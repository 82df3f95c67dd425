/* SPDX-License-Identifier: MIT */
/*
 * The stages in which each process is confined, in one place. Failing to confine is always fatal to
 * the process that failed; every function returns 0 or -errno.
 */
#pragma once

#include <stdbool.h>
#include <sys/types.h>

#include "brokerd/process/filter.h"

/*
 * Stage 1, in a helper just forked, still root. Should: become the helpers' account, without
 * groups, capabilities or a bounding set, undumpable, never to gain privilege, under the part's
 * filter. Mustn't: leave a way back. *ret_settled is the filter for stage 1b.
 */
int confine_helper(enum confine_part part, uid_t uid, gid_t gid,
		   struct confine_filter **ret_settled);

/*
 * Stage 1, in a helper that its unit has started as the helpers' account. Should: as
 * confine_helper(), but for what only root can do, which must be done already. Mustn't: go on with
 * a privilege that it cannot drop.
 *
 * Stage 1b, in a helper that has started, is filter_apply() of *ret_settled: it takes away the
 * calls that only the start needed.
 */
int confine_own(enum confine_part part, struct confine_filter **ret_settled);

/*
 * Stage 2, in the core, when everything that needs privilege is open. Should: drop every capability
 * but CAP_SYS_RESOURCE where asked to keep it (and there is one to keep), empty the bounding set
 * or, where that takes a capability that the process lacks, see that nothing else is in it; go
 * under Landlock, where `state_dir` is the records' directory, and under the core's filter, with
 * the rows that lending `cdevs` takes where the kernel has them. Mustn't: happen after a peer, a
 * helper or a record has been read.
 */
int confine_core(bool keep_sys_resource, bool cdevs, int state_dir);

/*
 * Stage 3, in the core, when the policy turns out to grant no locked memory: no capability is left.
 */
int confine_drop_sys_resource(void);

/*
 * Stage 4, in a worker just forked, is filter_apply(): `write`, `read` and `exit_group` are left.
 */
