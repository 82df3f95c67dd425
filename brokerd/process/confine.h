/* SPDX-License-Identifier: MIT */
/*
 * The stages in which each process is confined, in one place. A failure is always fatal to the
 * process. Every function returns 0, or -errno.
 */
#pragma once

#include <stdbool.h>
#include <sys/types.h>

#include "brokerd/process/filter.h"

/*
 * Stage 1, in a helper that was just forked and is still root. Should: become the helpers' account,
 * without groups, capabilities (but for the finder's two) or a bounding set, undumpable, never to
 * gain privilege, under the part's filter. Mustn't: be able to regain privilege. *ret_settled is
 * the filter for stage 1b.
 */
int confine_helper(enum confine_part part, uid_t uid, gid_t gid,
		   struct confine_filter **ret_settled);

/*
 * Stage 1, in a helper that its unit has started as the helpers' account. Should: the same as
 * confine_helper(), except for what only root can do and the unit must have done. Mustn't: continue
 * with a privilege that it cannot drop.
 *
 * Stage 1b, in a helper that has finished its start, is filter_apply() of *ret_settled: it takes
 * away the calls that only the start needed.
 */
int confine_own(enum confine_part part, struct confine_filter **ret_settled);

/*
 * Stage 2, in the core, when everything that needs privilege is open. Should: drop every capability
 * but CAP_SYS_RESOURCE, which is kept if the caller asks for it and the process has it; empty the
 * bounding set or, without the capability that this takes, check that it contains nothing else;
 * apply Landlock, with `state_dir` as the records' directory, and the core's filter, with the rows
 * for lending device nodes if `cdevs` is set. Mustn't: happen after a peer, a helper or a record
 * has been read.
 */
int confine_core(bool keep_sys_resource, bool cdevs, int state_dir, int history_dir,
		 int sockets_dir);

/* Stage 3, in the core, when the policy grants no locked memory: drops the last capability. */
int confine_drop_sys_resource(void);

/*
 * Stage 4, in a worker that was just forked, is filter_apply(): only `write`, `read` and
 * `exit_group` are left.
 */
